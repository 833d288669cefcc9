//! Wishes that cannot be met, with the advice that the image's other pockets make possible.

use std::fmt;

use crate::{
    error::{Cause, Class, Hint},
    resolve,
    spec::Spec,
};

/// What resolving says, and pockets that were not asked.
#[derive(Debug)]
pub struct Unmet {
    error: resolve::Error,
    hint: Option<Hint>,
}

impl Unmet {
    /// Adds the pockets that an image has beside those that were opened.
    pub fn new(error: resolve::Error, spec: &Spec, opened: &[&str]) -> Self {
        let all: Vec<&str> = spec.layer.pocket.iter().map(|pocket| pocket.name.as_str()).collect();
        let more: Vec<&str> = all.iter().filter(|name| !opened.contains(name)).copied().collect();
        let list: Vec<&str> = all.into_iter().filter(|name| *name != "release").collect();
        let hint = (!more.is_empty() && error.class() == Class::Unavailable).then(|| {
            Hint::run(format!("look in {} too", more.join(" and ")), format!("--pocket {}", list.join(",")))
        });
        Self { error, hint }
    }
}

impl std::error::Error for Unmet {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Cause for Unmet {
    fn class(&self) -> Class {
        self.error.class()
    }

    fn hints(&self) -> Vec<Hint> {
        self.error.hints().into_iter().chain(self.hint.clone()).collect()
    }
}
