//! TODO stage
