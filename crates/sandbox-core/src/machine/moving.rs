//! A machine goes to another backend: the same tree, name and volumes.

use super::{
    Kind,
    journal::Change,
    life::{LifeError, Machines, word},
    snapshot::SnapshotError,
};
use crate::{Result, error::Context as _, name::MachineName};

impl Machines<'_> {
    /// Gives a stopped machine another backend. Its tree goes to the place that the backend has for trees, by rename
    /// where it can; everything else is the same.
    ///
    /// # Errors
    /// Where it runs, the backend cannot have it, or something is in its place there; then it is as it was.
    pub fn move_to(&self, name: &MachineName, kind: Kind, holder: &str) -> Result<()> {
        let subject = || format!("machine `{name}`");
        let (mut claim, from) = self.claim(name, holder, "move")?;
        let old = self.backend(from.definition.backend).during("move", subject())?;
        let new = self.backend(kind).during("move", subject())?;
        if from.definition.backend == kind {
            return Err(LifeError::There { backend: word(kind) }).during("move", subject());
        }
        if old.leader(name)?.is_some() {
            let running = SnapshotError::Running { name: name.clone(), verb: "move" };
            return Err(running).during("move", subject());
        }
        let mut to = from.clone();
        to.definition.backend = kind;
        to.definition.tree = new.tree(name);
        to.definition.needs.check().during("move", subject())?;
        new.admit(&to.definition)?;
        let moves = self.moves(&from, &to).during("move", subject())?;
        let change = Change { verb: "move".to_owned(), from, to, moves, failed: false };
        self.change(&mut claim, change)
    }
}
