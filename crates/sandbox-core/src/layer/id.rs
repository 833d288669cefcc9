//! What a layer is called: the digest of all that makes it what it is, and of nothing else.
//!
//! **Shape**: lines of text, in this order: the format of this text, the layer below, the architecture, the packages
//! by name, the parts, then what the file says. See [decision 10](../../../../docs/design/0010-layers.md).

use super::{Order, kept::Id, parts::fetched};
use crate::{digest::Sha256, lock::Lock, spec::Layer};

/// To be raised when the same text makes another tree.
const FORMAT: u32 = 1;

/// What a file may say that changes nothing in its tree: words for people, and what is of the machine.
const ELSEWHERE: &[&str] = &[
    "schema",
    "name",
    "summary",
    "requires",
    "unset",
    "costs",
    "machine",
    "ports",
    "health",
    // where packages come from: what came of it is in the lock, and the tree is told in each machine
    "release",
    "architectures",
    "components",
    "keyring",
    "archive",
    "pocket",
    "apt",
    "source",
];

/// What the whole stack makes: the last layer's tree gets it in each machine.
const OF_THE_STACK: &[&str] = &["agent", "mcp", "skills"];

/// A layer that an order has, with what its name is the digest of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub id: Id,
    /// What its name is the digest of.
    pub of: String,
}

/// Names the layers of an order: the image's, then each profile's.
#[must_use]
pub fn ids(order: &Order, lock: &Lock) -> Vec<Named> {
    let files = order.stack();
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let groups = crate::lock::grouped(lock, &names);
    let mut named: Vec<Named> = Vec::new();
    for (at, file) in files.iter().enumerate() {
        let below = named.last().map(|below| below.id);
        let packages = lock.packages.iter().zip(&groups).filter(|(_, group)| **group == at);
        let mut lines: Vec<String> = packages
            .map(|(package, _)| {
                let by = if package.reason.is_automatic() { "automatic" } else { "wanted" };
                format!(
                    "package {} {} {} {} {by}",
                    package.name, package.architecture, package.version, package.sha256
                )
            })
            .collect();
        lines.sort();
        lines.extend(fetched::of(lock, &file.layer).into_iter().map(|part| format!("part {}", json(part))));
        let mut text = format!("sandbox layer {FORMAT}\n");
        text += &format!("on {}\n", below.map_or_else(|| "nothing".to_owned(), |id| id.to_string()));
        text += &format!("for {} {}\n", order.spec.distribution, order.architecture);
        text += &lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        text += &format!("says {}\n", said(&file.layer));
        named.push(Named { id: Id(Sha256::of(text.as_bytes())), of: text });
    }
    named
}

/// What a file says of its tree, as JSON whose keys are in the schema's order.
fn said(layer: &Layer) -> String {
    let mut value = serde_json::to_value(layer).unwrap_or_default();
    if let Some(table) = value.as_object_mut() {
        table.retain(|key, value| {
            let empty = match value {
                serde_json::Value::Null => true,
                serde_json::Value::Array(list) => list.is_empty(),
                serde_json::Value::Object(table) => table.is_empty(),
                _ => false,
            };
            // an empty one is as one that this version of the schema did not have
            !empty && !ELSEWHERE.contains(&key.as_str()) && !OF_THE_STACK.contains(&key.as_str())
        });
    }
    value.to_string()
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lock::{LockedPackage, Reason},
        spec::{Catalogue, stack},
    };

    const FILES: &[(&str, &str)] = &[
        (
            "images/i.toml",
            "schema = 1\nname = \"i\"\ndistribution = \"debian\"\nkeyring = \"k\"\n\
             [archive.main]\nmirror = \"http://m\"\n\
             [[pocket]]\nname = \"release\"\narchive = \"main\"\nsuite = \"i\"\nsigners = []\n\
             [apt]\nsources = \"debian.sources\"\nsigned-by = \"/k\"\n",
        ),
        (
            "profiles/a.toml",
            "schema = 1\nname = \"a\"\nsummary = \"A\"\n[[files]]\npath = \"/a\"\ncontent = \"1\"\n",
        ),
        ("profiles/b.toml", "schema = 1\nname = \"b\"\n[[links]]\npath = \"/b\"\ntarget = \"a\"\n"),
        ("profiles/c.toml", "schema = 1\nname = \"c\"\n"),
    ];

    fn order(files: &'static [(&'static str, &'static str)], profiles: &[&str]) -> Order {
        let catalogue = Catalogue { folders: Vec::new(), embedded: files };
        let profiles: Vec<String> = profiles.iter().map(|name| (*name).to_owned()).collect();
        crate::layer::sources::test_order(stack(&catalogue, "i", &profiles).unwrap(), "amd64")
    }

    fn package(name: &str, layer: &str) -> LockedPackage {
        LockedPackage {
            name: name.to_owned(),
            version: "1".to_owned(),
            architecture: "amd64".to_owned(),
            source: "release".to_owned(),
            path: format!("pool/{name}"),
            size: 1,
            sha256: Sha256::of(name.as_bytes()),
            reason: Reason::Requested("x".to_owned()),
            depends: String::new(),
            provides: String::new(),
            layer: layer.to_owned(),
        }
    }

    fn lock() -> Lock {
        Lock {
            architecture: "amd64".to_owned(),
            packages: vec![package("z", "i"), package("y", "i"), package("x", "b")],
            ..Lock::default()
        }
    }

    fn short(order: &Order, lock: &Lock) -> Vec<String> {
        ids(order, lock).iter().map(|named| named.id.short()).collect()
    }

    #[test]
    fn layers_are_shared_as_far_as_stacks_are_the_same() {
        let one = short(&order(FILES, &["a", "b"]), &lock());
        let mut without = lock();
        without.packages.pop();
        let other = short(&order(FILES, &["a", "c"]), &without);
        assert!(one[..2] == other[..2] && one[2] != other[2]);
        // the same profile upon another is another layer
        assert_ne!(one[2], short(&order(FILES, &["b"]), &lock())[1]);
    }

    #[test]
    fn what_changes_a_tree_changes_its_name_and_those_above() {
        let before = short(&order(FILES, &["a", "b"]), &lock());
        let mut newer = lock();
        newer.packages[2].sha256 = Sha256::of(b"newer");
        let after = short(&order(FILES, &["a", "b"]), &newer);
        assert!(before[..2] == after[..2] && before[2] != after[2]);
        newer.packages[0].version = "2".to_owned();
        let after = short(&order(FILES, &["a", "b"]), &newer);
        assert!(before.iter().zip(&after).all(|(one, other)| one != other));
    }

    #[test]
    fn what_does_not_reach_the_tree_changes_nothing() {
        let before = short(&order(FILES, &["a", "b"]), &lock());
        let mut same = lock();
        same.epoch = 1;
        same.packages.swap(0, 1);
        same.packages[0].path = "elsewhere".to_owned();
        let mut order = order(FILES, &["a", "b"]);
        order.hostname = "other".to_owned();
        order.spec.files[1].layer.summary = "a better one".to_owned();
        order.spec.files[1].layer.costs = vec!["much".to_owned()];
        assert_eq!(short(&order, &same), before);
        order.spec.files[1].layer.files[0].content = "2".to_owned();
        assert_ne!(short(&order, &same)[1], before[1]);
    }
}
