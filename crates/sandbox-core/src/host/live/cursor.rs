//! A place in a tree that is moved from directory to directory, a name at a time.

use std::{
    io,
    path::{Component, Path, PathBuf},
};

use rustix::io::Errno;

use super::{directory::Directory, stack::Stack};

/// The place. Directories that are visited one after the other in the order of their paths cost few calls each.
#[derive(Debug)]
pub struct Cursor {
    stack: Stack,
    at: PathBuf,
}

impl Cursor {
    /// Begins at a tree's top.
    #[must_use]
    pub fn new(top: Directory) -> Self {
        Self { stack: Stack::new(top), at: PathBuf::new() }
    }

    /// Goes to the directory that a walk saw at a path: each name is opened from the handle of the one before, none
    /// may be a link. Which directory stands there now is not compared: what is opened in it is.
    ///
    /// # Errors
    /// Where a name of it is no directory any more.
    pub fn go(&mut self, directory: &Path) -> io::Result<&Directory> {
        // most often it is where it was: the bytes are compared, which costs less than the parts
        if self.at.as_os_str() != directory.as_os_str() {
            while !directory.starts_with(&self.at) {
                self.at.pop();
                if let Err(error) = self.stack.pop() {
                    self.at = PathBuf::new();
                    if !super::vanished(&error) {
                        return Err(error);
                    }
                }
            }
            let rest = directory.strip_prefix(&self.at).map_err(io::Error::other)?.to_owned();
            for part in rest.components() {
                let Component::Normal(name) = part else { return Err(Errno::ISDIR.into()) };
                let next = self.stack.here().child(name)?;
                self.stack.push(next)?;
                self.at.push(name);
            }
        }
        Ok(self.stack.here())
    }
}
