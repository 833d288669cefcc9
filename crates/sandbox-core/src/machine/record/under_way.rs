//! Machines that a process is making or removing at the moment.

use super::{Error, Note, RECORD, Records, is_abandoned, read_intent};
use crate::{
    machine::{Definition, journal::Intent},
    name::MachineName,
};

/// What another process does with a machine that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It makes it: there is no whole machine yet.
    Making,
    /// It changes or copies a whole one.
    Changing,
    /// It removes it: there is no whole machine any more.
    Removing,
}

impl Doing {
    /// Returns the participle: `made`.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Making => "made",
            Self::Changing => "changed",
            Self::Removing => "removed",
        }
    }
}

/// A machine that a process is making or removing.
#[derive(Clone, Debug)]
pub struct UnderWay {
    /// What its backend is told.
    pub definition: Definition,
    /// It is removed; otherwise it is made.
    pub removing: bool,
    /// The process and its verb: `process 12 (sandbox create)`.
    pub holder: String,
}

impl Records {
    /// Returns the machine of a name where a process that lives is making or removing it.
    #[must_use]
    pub fn under_way(&self, name: &MachineName) -> Option<UnderWay> {
        let folder = self.folder(name);
        if !folder.exists() || folder.join(RECORD).exists() || is_abandoned(&folder) {
            return None;
        }
        let intent = read_intent(&folder).ok().flatten()?;
        let removing = matches!(intent, Intent::Remove(_));
        let definition = intent.definition()?.clone();
        Some(UnderWay { definition, removing, holder: Note::read(&folder).named() })
    }

    /// Lists the machines that processes are making or removing, by name.
    ///
    /// # Errors
    /// Where the directory cannot be read.
    pub fn all_under_way(&self) -> Result<Vec<UnderWay>, Error> {
        Ok(self.names()?.iter().filter_map(|name| self.under_way(name)).collect())
    }

    /// Says of a machine that another process holds it, and what that does with it.
    pub(super) fn busy(&self, name: &MachineName) -> Error {
        let folder = self.folder(name);
        let doing = if folder.join(RECORD).exists() {
            Doing::Changing
        } else if matches!(read_intent(&folder), Ok(Some(Intent::Remove(_)))) {
            Doing::Removing
        } else {
            Doing::Making
        };
        Error::Busy { name: name.clone(), holder: Note::read(&folder).named(), doing }
    }
}
