//! Which layers there are, who needs them, and removing those that nobody needs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use super::{Id, LayerError, Layers, Made, read_made, remove};
use crate::digest::Sha256;

/// Who needs which layers, in words.
#[derive(Clone, Debug, Default)]
pub struct Needs(BTreeMap<Id, BTreeSet<String>>);

impl Needs {
    /// Adds somebody: ``machine `lab` ``.
    pub fn add(&mut self, who: &str, ids: impl IntoIterator<Item = Id>) {
        for id in ids {
            self.0.entry(id).or_default().insert(who.to_owned());
        }
    }
}

/// A layer and who needs it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Listed {
    /// What it is.
    #[serde(flatten)]
    pub made: Made,
    /// What it takes on disk.
    pub disk: u64,
    /// Who needs it: machines, locks, builds.
    pub used_by: Vec<String>,
    /// The layers that stand on it.
    pub children: Vec<Id>,
}

/// A lock file that was built from.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Uses {
    /// Where it is.
    pub path: PathBuf,
    /// The layers that it needs.
    pub layers: Vec<Id>,
}

impl Layers {
    /// Lists the layers, each after that which it stands on.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn list(&self, needs: &Needs) -> Result<Vec<Listed>, LayerError> {
        let mut all = Vec::new();
        for id in self.names("")? {
            // a damaged one is for whoever uses it
            if let Ok(Some(made)) = read_made(&self.place(id).join("layer.json"), id) {
                all.push(made);
            }
        }
        all.sort_by_key(|made| (made.created, made.id));
        let mut children: BTreeMap<Id, Vec<Id>> = BTreeMap::new();
        for made in &all {
            if let Some(parent) = made.parent {
                children.entry(parent).or_default().push(made.id);
            }
        }
        let mut sorted = Vec::new();
        let known: BTreeSet<Id> = all.iter().map(|made| made.id).collect();
        let mut next: Vec<&Made> = all
            .iter()
            .rev()
            .filter(|made| made.parent.is_none_or(|parent| !known.contains(&parent)))
            .collect();
        while let Some(made) = next.pop() {
            let own = children.remove(&made.id).unwrap_or_default();
            next.extend(all.iter().rev().filter(|child| own.contains(&child.id)));
            let mut used_by: Vec<String> = needs.0.get(&made.id).into_iter().flatten().cloned().collect();
            if self.in_use(made.id) {
                used_by.push("a build".to_owned());
            }
            sorted.push(Listed {
                disk: disk(&self.place(made.id)),
                used_by,
                children: own,
                made: made.clone(),
            });
        }
        Ok(sorted)
    }

    /// Finds a layer by the beginning of its name, or by the name of its image or profile.
    ///
    /// # Errors
    /// [`LayerError::Missing`], [`LayerError::Ambiguous`].
    pub fn find(&self, wanted: &str) -> Result<Made, LayerError> {
        let listed = self.list(&Needs::default())?;
        let fits = |made: &Made| {
            made.name == wanted || (wanted.len() >= 4 && made.id.to_string().starts_with(wanted))
        };
        let mut found: Vec<Made> = listed.into_iter().map(|one| one.made).filter(fits).collect();
        match (found.pop(), found.is_empty()) {
            (Some(made), true) => Ok(made),
            (Some(made), false) => {
                found.push(made);
                let found = found.iter().map(|made| made.id.short()).collect();
                Err(LayerError::Ambiguous { wanted: wanted.to_owned(), found })
            }
            (None, _) => Err(LayerError::Missing { wanted: wanted.to_owned() }),
        }
    }

    /// Removes a layer that nobody needs and none stands on.
    ///
    /// # Errors
    /// [`LayerError::Needed`], with all who need it.
    pub fn remove(&self, made: &Made, needs: &Needs) -> Result<(), LayerError> {
        let needed = |by| LayerError::Needed { id: made.id.short(), name: made.name.clone(), by };
        let listed = self.list(needs)?;
        if let Some(one) = listed.iter().find(|one| one.made.id == made.id) {
            let named = |id: &Id| {
                let name = listed.iter().find(|other| other.made.id == *id).map(|other| &other.made.name);
                format!("layer {} (`{}`)", id.short(), name.map_or("", String::as_str))
            };
            let by: Vec<String> = one.used_by.iter().cloned().chain(one.children.iter().map(named)).collect();
            if !by.is_empty() {
                return Err(needed(by));
            }
        }
        let place = self.place(made.id);
        let path = place.join("layer.json");
        let lock = match File::open(&path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(LayerError::io(&path, "opening the file")(error)),
        };
        if flock(lock.as_fd(), FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(needed(vec!["a build".to_owned()]));
        }
        // from here on it is not there; a remover that dies leaves what the next command removes
        let partial = self.partial(made.id);
        self.make("partial")?;
        remove(&partial)?;
        fs::rename(&place, &partial).map_err(LayerError::io(&place, "moving the layer away"))?;
        remove(&partial)?;
        self.remove_spare(made.id)
    }

    /// Removes every layer that nobody needs, with those on it first, and that is older than a moment; with `dry` it
    /// only says which.
    ///
    /// # Errors
    /// Where one cannot be removed.
    pub fn prune(&self, needs: &Needs, before: i64, dry: bool) -> Result<Vec<Listed>, LayerError> {
        let listed = self.list(needs)?;
        let mut kept: BTreeSet<Id> = BTreeSet::new();
        let mut gone = Vec::new();
        // what stands on others comes after them
        for one in listed.into_iter().rev() {
            let needed = !one.used_by.is_empty()
                || one.children.iter().any(|child| kept.contains(child))
                || one.made.created > before;
            if needed {
                kept.insert(one.made.id);
                continue;
            }
            if !dry && let Err(problem) = self.remove(&one.made, needs) {
                match problem {
                    // a build took it in the meantime
                    LayerError::Needed { .. } => {
                        kept.insert(one.made.id);
                        continue;
                    }
                    problem => return Err(problem),
                }
            }
            gone.push(one);
        }
        Ok(gone)
    }

    /// Writes down that a lock file needs layers.
    ///
    /// # Errors
    /// [`LayerError::Io`].
    pub fn note_lock(&self, path: &Path, layers: &[Id]) -> Result<(), LayerError> {
        use std::os::unix::ffi::OsStrExt as _;
        let folder = self.make("locks")?;
        let place = folder.join(Sha256::of(path.as_os_str().as_bytes()).to_string());
        let uses = Uses { path: path.to_owned(), layers: layers.to_vec() };
        let write = || {
            let text = serde_json::to_vec_pretty(&uses)?;
            let mut temporary = tempfile::NamedTempFile::new_in(&folder)?;
            io::Write::write_all(&mut temporary, &text)?;
            temporary.persist(&place)?;
            Ok(())
        };
        write().map_err(LayerError::io(&place, "writing the file"))
    }

    /// Lists the lock files that were built from and are still there; what is known of others is forgotten.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn noted_locks(&self) -> Result<Vec<Uses>, LayerError> {
        let mut found = Vec::new();
        for id in self.names("locks")? {
            let place = self.folder.join("locks").join(id.to_string());
            let uses = fs::read(&place).ok().and_then(|bytes| serde_json::from_slice::<Uses>(&bytes).ok());
            match uses {
                Some(uses) if uses.path.exists() => found.push(uses),
                _ => drop(fs::remove_file(&place)),
            }
        }
        Ok(found)
    }

    /// Tells whether a build uses a layer, or builds it.
    fn in_use(&self, id: Id) -> bool {
        let Ok(file) = File::open(self.place(id).join("layer.json")) else { return false };
        let used = flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive).is_err();
        let _ = flock(file.as_fd(), FlockOperation::Unlock);
        used
    }
}

/// What a layer takes on disk. That of a subvolume is shared with others, and is not known without quotas.
fn disk(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let of = |name: &str| fs::metadata(folder.join(name)).map_or(0, |found| found.blocks() * 512);
    of("manifest") + of("data") + of("layer.json")
}
