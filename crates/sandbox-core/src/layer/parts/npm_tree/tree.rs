//! Which packages a package needs, and where each stands: as npm does for a tree that is not there yet.
//!
//! Breadth first; each dependency goes as far up as nothing is in its way: nothing of its name in another
//! version, and nobody below who has been given another one from further up.
//!
//! **Source**: npm-install(1), "Algorithm"; Node.js, "Loading from node_modules folders".

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::{
    TreeError,
    range::{Range, Version},
    registry::{Manifest, Packument, Registry},
};

/// The most packages of a tree.
const PACKAGES: usize = 20_000;

/// A package in its place.
#[derive(Debug)]
pub(super) struct Placed {
    /// `node_modules/a/node_modules/b`.
    pub path: String,
    /// Its own name, which an alias may hide.
    pub name: String,
    /// What the registry says of it.
    pub manifest: Manifest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Needed,
    Optional,
    Peer,
    OptionalPeer,
}

/// A dependency: the folder's name, the package's, and what will do.
#[derive(Clone, Debug)]
struct Edge {
    folder: String,
    name: String,
    wanted: String,
    kind: Kind,
}

struct Node {
    folder: String,
    name: String,
    manifest: Manifest,
    above: Option<usize>,
    below: BTreeMap<String, usize>,
}

/// Makes the tree of a package.
pub(super) fn of(
    package: &str,
    version: &str,
    architecture: &str,
    registry: &mut Registry<'_>,
) -> Result<Vec<Placed>, TreeError> {
    let root = Node {
        folder: String::new(),
        name: String::new(),
        manifest: Manifest {
            dependencies: BTreeMap::from([(package.to_owned(), version.to_owned())]),
            ..Manifest::default()
        },
        above: None,
        below: BTreeMap::new(),
    };
    let mut tree = Tree { nodes: vec![root], met: Vec::new(), architecture };
    let mut queue = VecDeque::from([0]);
    while !queue.is_empty() {
        let level: Vec<usize> = queue.drain(..).collect();
        let names =
            level.iter().flat_map(|&at| edges(&tree.nodes[at].manifest)).map(|edge| edge.name).collect();
        registry.learn(names)?;
        for at in level {
            for edge in edges(&tree.nodes[at].manifest) {
                queue.extend(tree.meet(at, edge, registry)?);
            }
        }
    }
    Ok(tree.placed())
}

/// Lists what a version depends on, by name; what its own tarball has is not fetched.
fn edges(manifest: &Manifest) -> Vec<Edge> {
    let mut edges: BTreeMap<&String, (Kind, &String)> = BTreeMap::new();
    for (name, wanted) in &manifest.peer_dependencies {
        let kind = if manifest.is_optional_peer(name) { Kind::OptionalPeer } else { Kind::Peer };
        edges.insert(name, (kind, wanted));
    }
    for (name, wanted) in &manifest.dependencies {
        edges.insert(name, (Kind::Needed, wanted));
    }
    for (name, wanted) in &manifest.optional_dependencies {
        edges.insert(name, (Kind::Optional, wanted));
    }
    let own = edges.into_iter().filter(|(name, _)| !manifest.bundles(name));
    own.map(|(folder, (kind, wanted))| {
        let (name, wanted) = aliased(folder, wanted);
        Edge { folder: folder.clone(), name, wanted, kind }
    })
    .collect()
}

/// Takes `npm:name@range` apart.
fn aliased(folder: &str, wanted: &str) -> (String, String) {
    let Some(other) = wanted.strip_prefix("npm:") else {
        return (folder.to_owned(), wanted.trim().to_owned());
    };
    match other.char_indices().skip(1).find(|(_, one)| *one == '@') {
        Some((at, _)) => (other[..at].to_owned(), other[at + 1..].to_owned()),
        None => (other.to_owned(), "*".to_owned()),
    }
}

struct Tree<'a> {
    nodes: Vec<Node>,
    /// Dependencies that were met: whose, what, by whom.
    met: Vec<(usize, Edge, usize)>,
    architecture: &'a str,
}

impl Tree<'_> {
    /// Meets one dependency; gives what was added for it.
    fn meet(&mut self, of: usize, edge: Edge, registry: &Registry<'_>) -> Result<Option<usize>, TreeError> {
        let is_peer = matches!(edge.kind, Kind::Peer | Kind::OptionalPeer);
        // what a peer is, is for who uses it to say
        let from = if is_peer { self.nodes[of].above.unwrap_or(0) } else { of };
        if let Some(found) = self.find(from, &edge.folder)
            && (self.does(found, &edge) || edge.kind == Kind::OptionalPeer)
        {
            self.met.push((of, edge, found));
            return Ok(None);
        }
        if edge.kind == Kind::OptionalPeer {
            return Ok(None);
        }
        let by = || match self.nodes[of].name.as_str() {
            "" => "the profile".to_owned(),
            name => format!("`{name}` {}", self.nodes[of].manifest.version),
        };
        let picked = registry
            .of(&edge.name)
            .and_then(|known: Arc<Packument>| known.pick(&edge.wanted, &registry.engines).cloned());
        let Some(manifest) = picked else {
            if edge.kind == Kind::Optional {
                return Ok(None);
            }
            let foreign = edge.wanted.contains(['/', ':']);
            let (package, wanted, by) = (edge.name, edge.wanted, by());
            return Err(if foreign {
                TreeError::Foreign { package, wanted, by }
            } else {
                TreeError::NoVersion { package, wanted, by }
            });
        };
        if !manifest.runs_on(self.architecture) {
            if edge.kind == Kind::Optional {
                return Ok(None);
            }
            let architecture = self.architecture.to_owned();
            return Err(TreeError::Platform {
                package: edge.name,
                version: manifest.version,
                architecture,
                by: by(),
            });
        }
        let Some(place) = self.place(from, &edge, &manifest) else {
            if edge.kind == Kind::Optional {
                return Ok(None);
            }
            return Err(TreeError::Peers { package: edge.name, wanted: edge.wanted, by: by() });
        };
        if self.nodes.len() > PACKAGES {
            return Err(TreeError::Many { limit: PACKAGES });
        }
        let node = Node {
            folder: edge.folder.clone(),
            name: edge.name.clone(),
            manifest,
            above: Some(place),
            below: BTreeMap::new(),
        };
        let at = self.nodes.len();
        self.nodes.push(node);
        self.nodes[place].below.insert(edge.folder.clone(), at);
        self.met.push((of, edge, at));
        Ok(Some(at))
    }

    /// Finds what a package gets that asks for a name, as Node.js does.
    fn find(&self, from: usize, folder: &str) -> Option<usize> {
        let mut at = Some(from);
        while let Some(here) = at {
            if let Some(found) = self.nodes[here].below.get(folder) {
                return Some(*found);
            }
            at = self.nodes[here].above;
        }
        None
    }

    fn does(&self, node: usize, edge: &Edge) -> bool {
        let Node { name, manifest, .. } = &self.nodes[node];
        *name == edge.name && meets(&manifest.version, &edge.wanted)
    }

    /// Finds the highest place that a package may have.
    fn place(&self, from: usize, edge: &Edge, manifest: &Manifest) -> Option<usize> {
        let mut best = None;
        let mut at = Some(from);
        while let Some(here) = at {
            if !self.is_free(here, edge, manifest) {
                break;
            }
            best = Some(here);
            at = self.nodes[here].above;
        }
        best
    }

    fn is_free(&self, at: usize, edge: &Edge, manifest: &Manifest) -> bool {
        let below = &self.nodes[at].below;
        let peers = manifest.peer_dependencies.iter().filter(|(name, _)| !manifest.is_optional_peer(name));
        let mut beside = peers.filter_map(|(name, wanted)| Some((below.get(name)?, wanted)));
        !below.contains_key(&edge.folder)
            && beside.all(|(node, wanted)| {
                let (name, wanted) = aliased(&self.nodes[*node].folder, wanted);
                self.nodes[*node].name == name && meets(&self.nodes[*node].manifest.version, &wanted)
            })
            && self.met.iter().filter(|(_, met, _)| met.folder == edge.folder).all(|(of, met, by)| {
                // who is below and was given one from further up would be given this one now
                let shadowed =
                    self.is_below(*of, at) && self.is_below(at, self.nodes[*by].above.unwrap_or(0));
                !shadowed || (met.name == edge.name && meets(&manifest.version, &met.wanted))
            })
    }

    /// Tells whether a node is another, or stands somewhere below it.
    fn is_below(&self, node: usize, other: usize) -> bool {
        let mut at = Some(node);
        while let Some(here) = at {
            if here == other {
                return true;
            }
            at = self.nodes[here].above;
        }
        false
    }

    fn placed(self) -> Vec<Placed> {
        let paths: Vec<String> = (0..self.nodes.len()).map(|at| self.path(at)).collect();
        let nodes = self.nodes.into_iter().zip(paths).skip(1);
        let mut placed: Vec<Placed> =
            nodes.map(|(node, path)| Placed { path, name: node.name, manifest: node.manifest }).collect();
        placed.sort_by(|a, b| a.path.cmp(&b.path));
        placed
    }

    fn path(&self, at: usize) -> String {
        let mut folders = Vec::new();
        let mut at = at;
        while let Some(above) = self.nodes[at].above {
            folders.push(format!("node_modules/{}", self.nodes[at].folder));
            at = above;
        }
        folders.reverse();
        folders.join("/")
    }
}

/// Tells whether a version will do; a tag was said when it was picked.
pub(super) fn meets(version: &str, wanted: &str) -> bool {
    let (_, wanted) = aliased("", wanted);
    match (Version::parse(version), Range::parse(&wanted)) {
        (Some(parsed), Some(range)) => range.admits(&parsed) || version == wanted || wanted == "*",
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_has_the_name_of_another() {
        let own = |(name, wanted): (&str, &str)| (name.to_owned(), wanted.to_owned());
        assert_eq!(aliased("a", "^1"), own(("a", "^1")));
        assert_eq!(aliased("a", "npm:b@^1"), own(("b", "^1")));
        assert_eq!(aliased("a", "npm:@s/b@1.0.0"), own(("@s/b", "1.0.0")));
        assert_eq!(aliased("a", "npm:@s/b"), own(("@s/b", "*")));
    }
}
