//! The directories from the top of a tree to one in it, with a bounded number of handles.

use std::io;

use super::directory::{Directory, Identity};

/// How many directories are open at once, beside the top.
const HANDLES: usize = 16;

#[derive(Debug)]
enum Slot {
    Open(Directory),
    /// It stays open: what was entered from it is not below it, and `..` would lead elsewhere.
    Pinned(Directory),
    /// Closed meanwhile: it is opened again by `..` of the one below it, and must be the same.
    Closed(Identity),
}

/// The way down.
#[derive(Debug)]
pub struct Stack {
    top: Directory,
    slots: Vec<Slot>,
    /// The first of the slots that is open.
    open: usize,
}

impl Stack {
    /// Begins at a tree's top.
    #[must_use]
    pub const fn new(top: Directory) -> Self {
        Self { top, slots: Vec::new(), open: 0 }
    }

    /// Returns the innermost directory.
    #[must_use]
    pub fn here(&self) -> &Directory {
        match self.slots.last() {
            Some(Slot::Open(directory) | Slot::Pinned(directory)) => directory,
            // the innermost slot is always open: see `pop`
            _ => &self.top,
        }
    }

    /// Counts the handles beside the top's.
    #[cfg(test)]
    pub(super) fn handles(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, Slot::Open(_))).count()
    }

    /// Goes into a directory of the innermost one.
    ///
    /// # Errors
    /// What fstat(2) says.
    pub fn push(&mut self, directory: Directory) -> io::Result<()> {
        if self.slots.len() - self.open == HANDLES
            && let Some(slot) = self.slots.get_mut(self.open)
        {
            if let Slot::Open(oldest) = slot {
                let identity = Identity::from(&oldest.own()?);
                *slot = Slot::Closed(identity);
            }
            self.open += 1;
        }
        self.slots.push(Slot::Open(directory));
        Ok(())
    }

    /// Goes into a directory that stands in the place of one in the innermost one.
    ///
    /// # Errors
    /// What fstat(2) says.
    pub fn push_instead(&mut self, directory: Directory) -> io::Result<()> {
        let last = match self.slots.pop() {
            Some(Slot::Open(last)) => Some(Slot::Pinned(last)),
            last => last,
        };
        self.slots.extend(last);
        self.push(directory)
    }

    /// Goes back to the directory above.
    ///
    /// # Errors
    /// Where a closed one cannot be found again, because another process moved the one below it: then the way down
    /// is as long as the top alone.
    pub fn pop(&mut self) -> io::Result<()> {
        let Some(popped) = self.slots.pop() else { return Ok(()) };
        let Some(Slot::Closed(expected)) = self.slots.last() else {
            self.open = self.open.min(self.slots.len());
            return Ok(());
        };
        let (Slot::Open(below) | Slot::Pinned(below)) = popped else {
            self.reset();
            return Err(rustix::io::Errno::STALE.into());
        };
        match below.above(*expected) {
            Ok(again) => {
                self.slots.pop();
                self.open = self.slots.len();
                self.slots.push(Slot::Open(again));
                Ok(())
            }
            Err(error) => {
                self.reset();
                Err(error)
            }
        }
    }

    fn reset(&mut self) {
        self.slots.clear();
        self.open = 0;
    }
}
