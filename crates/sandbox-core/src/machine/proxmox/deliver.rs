//! A tree becomes a container: its template brought to a storage, the container made of it, its wall put up.

use std::{fs, io, io::Read as _, path::Path};

use super::{
    cluster::{self, Cluster},
    config::{Container, MountPoint, Wish, Without},
    error::ProxmoxError,
    firewall::{self, Rule},
    place::{Place, Reach},
    resident::{self, Whose},
    rights::Target,
};
use crate::{
    Result,
    error::Context as _,
    host::foreign::NATIVE,
    layer::kept::Layers,
    machine::{
        Definition, Kind,
        export::{Options, To, template_name},
        journal::{Intent, Partial},
        life::Machines,
        record::{Claim, Record},
        settle::Unsettled,
    },
    name::MachineName,
};

/// What is chosen for a container.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// How its cluster is reached.
    pub reach: Reach,
    /// The node; none is the only one.
    pub node: Option<String>,
    /// The storage of its template.
    pub storage: String,
    /// Where its tree goes and how large it is, in gigabytes.
    pub rootfs: String,
    /// The node's bridge.
    pub bridge: String,
    /// Its disks beside the tree.
    pub mounts: Vec<MountPoint>,
    /// What it is made without.
    pub without: Vec<Without>,
    /// Its number; none is the next free one.
    pub id: Option<u32>,
    /// Whether it is started.
    pub start: bool,
    /// Seconds since 1970.
    pub now: i64,
}

/// A container that was made.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Delivered {
    /// Its number.
    pub container: u32,
    /// Its node.
    pub node: String,
    /// Its template: `local:vztmpl/…`; none where it was removed again.
    pub template: Option<String>,
}

/// A container that can be made, as far as could be seen.
pub struct Goods {
    cluster: Box<dyn Cluster>,
    container: Container,
    wall: Option<Vec<Rule>>,
    storage: String,
    wanted: Option<u32>,
    likely: u32,
    start: bool,
    now: i64,
    /// Where it will be; without a number yet.
    pub place: Place,
}

impl Delivery {
    /// Sees that all of it can be had; nothing is made.
    ///
    /// # Errors
    /// What cannot be had.
    pub fn admit(&self, definition: &Definition) -> Result<Goods, ProxmoxError> {
        let mark = mark().map_err(|source| ProxmoxError::Read { path: RANDOM.into(), source })?;
        let wish = Wish {
            // known once the tree is
            ostype: "unmanaged",
            architecture: NATIVE,
            rootfs: &self.rootfs,
            bridge: &self.bridge,
            mounts: self.mounts.clone(),
            without: self.without.clone(),
            mark: &mark,
        };
        let container = Container::of(definition, &wish)?;
        let cluster = cluster::open(&self.reach, self.node.as_deref())?;
        let likely = cluster.free(self.id)?;
        let walled = container.link.as_ref().is_some_and(|link| link.firewall);
        cluster.check(&container, Target { id: likely, storage: &self.storage, walled })?;
        let wall = match walled {
            true => Some(firewall::rules(&definition.exceptions, &cluster.neighbours()?)),
            false => None,
        };
        let (reach, node) = (self.reach.clone(), cluster.node().to_owned());
        Ok(Goods {
            container,
            wall,
            storage: self.storage.clone(),
            wanted: self.id,
            likely,
            start: self.start,
            now: self.now,
            place: Place { reach, node, id: None, mark, template: None },
            cluster,
        })
    }
}

/// What a delivery asks of whoever orders it.
pub(in crate::machine) struct Steps<'a> {
    /// The tree.
    pub tree: &'a Path,
    /// Where a template that has to be brought is written first.
    pub scratch: &'a Path,
    /// Whether the template stays.
    pub keep: bool,
    /// Writes the template into a file.
    pub pack: &'a mut dyn FnMut(&Path) -> Result<()>,
    /// Writes down where it is, before anything is there.
    pub note: &'a mut dyn FnMut(&Place) -> Result<()>,
}

impl Goods {
    /// Makes the container. What is left where it fails is what was noted last.
    ///
    /// # Errors
    /// Where a step fails.
    pub(in crate::machine) fn deliver(&mut self, steps: Steps<'_>) -> Result<Delivered> {
        let subject = || "the container".to_owned();
        let name = template_name(steps.tree, &self.container.name, self.now);
        // one that goes again is in nobody's way
        let name = if steps.keep { name } else { format!("{}-{name}", self.place.mark) };
        super::config::ostype(steps.tree).clone_into(&mut self.container.ostype);
        let direct = self.cluster.template(&self.storage, &name).during("make", subject())?;
        let file = direct.clone().unwrap_or_else(|| steps.scratch.join(&name));
        let volume = format!("{}:vztmpl/{name}", self.storage);
        self.place.template = Some(volume.clone());
        (steps.note)(&self.place)?;
        (steps.pack)(&file)?;
        if direct.is_none() {
            let brought = self.cluster.upload(&self.storage, &file);
            let removed = fs::remove_file(&file);
            brought.during("bring", format!("template {volume}"))?;
            removed.map_err(|source| ProxmoxError::Write { path: file, source }).during("make", subject())?;
        }
        let id = match (self.cluster.free(Some(self.likely)), self.wanted) {
            // somebody was faster
            (Err(ProxmoxError::Taken { .. }), None) => self.cluster.free(None),
            (free, _) => free,
        };
        let id = id.during("make", subject())?;
        self.place.id = Some(id);
        (steps.note)(&self.place)?;
        let made = self.cluster.create(id, &volume, &self.container, self.wall.as_deref());
        made.during("make", format!("container {id}"))?;
        if !steps.keep {
            self.cluster.remove_template(&volume).during("remove", format!("template {volume}"))?;
            self.place.template = None;
            (steps.note)(&self.place)?;
        }
        if self.start {
            self.cluster.start(id).during("start", format!("container {id}"))?;
        }
        Ok(Delivered { container: id, node: self.place.node.clone(), template: self.place.template.clone() })
    }
}

/// Takes away what there is of a container and its template; what is not there, and what is somebody else's, is left
/// as it is.
///
/// # Errors
/// Where the cluster cannot be asked, or something is left.
pub(super) fn undo(place: &Place) -> Result<(), ProxmoxError> {
    if place.id.is_none() && place.template.is_none() {
        return Ok(());
    }
    let cluster = cluster::open(&place.reach, Some(&place.node))?;
    if let Some(id) = place.id {
        match resident::whose(&*cluster, id, &place.mark)? {
            Whose::Ours => {
                if cluster.runs(id)? {
                    cluster.shut_down(id, 0)?;
                }
                cluster.destroy(id)?;
            }
            Whose::Nobody => cluster.forget(id, &place.mark)?,
            Whose::Another => {}
        }
    }
    match &place.template {
        Some(template) => cluster.remove_template(template),
        None => Ok(()),
    }
}

/// Removes a template that was not brought, whole or not.
pub(in crate::machine) fn remove_scratch(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".tar.zst") || name.ends_with(".tar.zst.sandbox-partial") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

const RANDOM: &str = "/dev/urandom";

/// Makes a word that no other container's description has.
fn mark() -> io::Result<String> {
    let mut bytes = [0; 6];
    fs::File::open(RANDOM)?.read_exact(&mut bytes)?;
    Ok(format!("sandbox-{}", crate::digest::hex(&bytes)))
}

impl Machines<'_> {
    /// Makes a container of a new machine's tree, and writes down in its record which; its template goes again.
    pub(in crate::machine) fn settle_elsewhere(
        &self,
        mut goods: Goods,
        record: &mut Record,
        (claim, partial): (&Claim, &mut Partial),
    ) -> Result<()> {
        let subject = format!("machine `{}`", record.definition.name);
        let scratch = self.records.folder(&record.definition.name);
        let building = partial.building.clone();
        let mut built = record.clone();
        built.definition.tree.clone_from(&building);
        goods.deliver(Steps {
            tree: &building,
            scratch: &scratch,
            keep: false,
            pack: &mut |path: &Path| self.pack_new(&built, path).map(drop),
            note: &mut |place: &Place| {
                partial.definition.place = Some(place.clone());
                claim.begin(&Intent::Create(partial.clone())).during("create", subject.clone())
            },
        })?;
        record.definition.place = Some(goods.place);
        Ok(())
    }

    /// Makes a container of a machine, which stays as it is. It is there whole, or not at all: an error undoes all,
    /// and what a killed one left the next command undoes.
    ///
    /// # Errors
    /// Where it cannot be had, or any part fails.
    pub fn deliver(
        &self,
        name: &MachineName,
        delivery: &Delivery,
        (options, layers): (Options, &Layers),
        holder: &str,
    ) -> Result<Delivered> {
        let subject = || format!("machine `{name}`");
        let (claim, record) = self.claim(name, holder, "export")?;
        let mut goods = delivery.admit(&record.definition).during("export", subject())?;
        let scratch = self.records.folder(name);
        let begin = |place: &Place| {
            let mut definition = record.definition.clone();
            (definition.backend, definition.place) = (Kind::Proxmox, Some(place.clone()));
            claim.begin(&Intent::Deliver(Box::new(definition))).during("export", subject())
        };
        begin(&goods.place)?;
        // recovery thaws a machine with this intent
        let frozen = if options.live { self.freeze(&record, &|_| Ok(()))? } else { None };
        let made = goods.deliver(Steps {
            tree: &record.definition.tree,
            scratch: &scratch,
            keep: true,
            pack: &mut |path: &Path| self.pack(&record, options, To::Path(path), layers).map(drop),
            note: &mut |place: &Place| begin(place),
        });
        drop(frozen);
        match made {
            Ok(made) => {
                claim.end().during("export", subject())?;
                Ok(made)
            }
            Err(problem) => {
                // the first error is the one to show; what cannot be undone now is undone by the next command
                let _: Result<_, Unsettled> = self.settle(claim);
                Err(problem)
            }
        }
    }
}
