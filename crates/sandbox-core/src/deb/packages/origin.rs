//! Where an index comes from, as far as choosing versions asks for it.

/// The source of an index: what it is called, and how much apt prefers its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The source's id: `release`, `backports`.
    pub id: String,
    /// What else its suite is called: `trixie-backports`, `stable-backports`.
    pub names: Vec<String>,
    /// What apt calls the pin priority: 500, or less where the Release file says so.
    pub priority: u16,
    /// Whether it is beside the distribution's own pockets: a stanza that cannot be read is left out there.
    pub is_foreign: bool,
}

impl Origin {
    /// Makes one of the ordinary priority, called by its id only.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), names: Vec::new(), priority: crate::deb::release::AUTOMATIC, is_foreign: false }
    }

    /// Tells whether a wish for a version of `name/suite` means it.
    #[must_use]
    pub fn is_called(&self, suite: &str) -> bool {
        self.id == suite || self.names.iter().any(|name| name == suite)
    }
}
