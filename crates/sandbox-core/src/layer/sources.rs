//! Where a build's packages come from: the image's pockets and the archives of others, and what the tree's own apt is
//! told of them.

use std::collections::BTreeMap;

use super::{Order, OrderError};
use crate::{
    archive, configure,
    deb::packages::{self, Catalog},
    keyring::{Fingerprint, Keyring, shipped},
    lock::{FOREIGN, Lock, LockedSource},
    report::{Event, Reporter},
    spec::{Pocket, Trusted, is_armored},
};

/// Tells whether a source's id is that of an archive beside the image's.
pub(super) fn is_foreign(id: &str) -> bool {
    id.contains(FOREIGN)
}

/// Says which stanzas of foreign archives are left out: of each archive how many, and the first.
pub(super) fn report_left_out(catalog: &Catalog, reporter: &dyn Reporter) {
    let mut left: BTreeMap<&str, Vec<&packages::Error>> = BTreeMap::new();
    for problem in catalog.left_out() {
        if let packages::Error::Stanza { pocket, .. } = problem {
            left.entry(pocket).or_default().push(problem);
        }
    }
    for problems in left.values() {
        let more = match problems.len() {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        let text = format!("left out a package that cannot be read: {}{more}", problems[0]);
        reporter.report(Event::Notice { text });
    }
}

/// Finds why a package was left out.
pub(super) fn left_out(catalog: &Catalog, name: &str) -> Option<packages::Error> {
    let is_it = |problem: &&packages::Error| matches!(problem, packages::Error::Stanza { package, .. } if package == name);
    catalog.left_out().iter().find(is_it).cloned()
}

/// Makes sources of the image's pockets and of the archives beside it.
pub(super) fn sources(order: &Order) -> Result<Vec<archive::Source>, OrderError> {
    let layer = &order.spec.layer;
    let image = || order.spec.image.clone();
    if !layer.architectures.contains(&order.architecture) {
        return Err(OrderError::Architecture {
            image: image(),
            architecture: order.architecture.clone(),
            known: layer.architectures.clone(),
        });
    }
    for pocket in order.pockets.iter().flatten() {
        if !layer.pocket.iter().any(|known| known.name == *pocket) {
            return Err(OrderError::Pocket {
                image: image(),
                pocket: pocket.clone(),
                known: layer.pocket.iter().map(|known| known.name.clone()).collect(),
            });
        }
    }
    let name = &order.spec.keyring;
    let bytes = shipped(name).ok_or_else(|| OrderError::Keyring { name: name.clone() })?;
    let wanted = |pocket: &&Pocket| match &order.pockets {
        Some(pockets) => pocket.name == "release" || pockets.contains(&pocket.name),
        None => !pocket.optional,
    };
    let pockets = layer.pocket.iter().filter(wanted).map(|pocket| source(order, pocket, bytes));
    let fits = |extra: &&Trusted| {
        let architectures = &extra.source.architectures;
        architectures.is_empty() || architectures.contains(&order.architecture)
    };
    let extras = order
        .spec
        .sources
        .iter()
        .filter(fits)
        .flat_map(|extra| extra.source.suites.iter().map(move |suite| extra_source(order, extra, suite)));
    pockets.chain(extras).collect()
}

/// Makes a source of one suite of somebody else's archive: its own key is the only one that may sign it.
fn extra_source(order: &Order, extra: &Trusted, suite: &str) -> Result<archive::Source, OrderError> {
    let keyring = Keyring::read(&extra.key).map_err(|source| {
        let (name, path) = (extra.source.name.clone(), extra.origin.clone());
        OrderError::Key { name, path, source }
    })?;
    Ok(archive::Source {
        id: format!("{}{FOREIGN}{suite}", extra.source.name),
        mirrors: extra.source.uris.clone(),
        guesses: Vec::new(),
        suite: suite.to_owned(),
        expect_codename: None,
        expect_suite: None,
        components: extra.source.components.clone(),
        architecture: order.architecture.clone(),
        keyring,
        is_foreign: true,
        snapshot: None,
    })
}

fn source(order: &Order, pocket: &Pocket, keyring: &[u8]) -> Result<archive::Source, OrderError> {
    let layer = &order.spec.layer;
    let mut mirrors = order.mirrors.get(&pocket.archive).cloned().unwrap_or_default();
    if mirrors.is_empty() {
        let archive = layer.archive.get(&pocket.archive);
        mirrors.extend(archive.map(|archive| archive.mirror_of(&order.architecture).to_owned()));
    }
    Ok(archive::Source {
        id: pocket.name.clone(),
        mirrors,
        guesses: order.guesses.get(&pocket.archive).cloned().unwrap_or_default(),
        suite: pocket.suite.clone(),
        expect_codename: pocket.codename.clone(),
        expect_suite: pocket.release_suite.clone(),
        components: order.components.clone().unwrap_or_else(|| layer.components.clone()),
        architecture: order.architecture.clone(),
        keyring: trust(order, pocket, keyring)?,
        is_foreign: false,
        snapshot: layer.archive.get(&pocket.archive).and_then(|archive| archive.snapshot.clone()),
    })
}

/// Collects the certificates that may sign a pocket: the image's signers among the shipped ones and every one of
/// the keyrings that are added, or those of the keyrings that replace them alone.
fn trust(order: &Order, pocket: &Pocket, shipped: &[u8]) -> Result<Keyring, OrderError> {
    let certificates = |source| OrderError::Certificates { source };
    let mut keyring = Keyring::default();
    let mut signers = Vec::new();
    if order.keyrings_only.is_empty() {
        keyring = Keyring::read(shipped).map_err(certificates)?;
        for signer in &pocket.signers {
            let fingerprint: Fingerprint = signer
                .parse()
                .map_err(|_| OrderError::Signer { pocket: pocket.name.clone(), signer: signer.clone() })?;
            signers.push(fingerprint);
        }
        if signers.is_empty() {
            signers = keyring.fingerprints();
        }
    }
    for bytes in order.keyrings_only.iter().chain(&order.keyrings) {
        let added = Keyring::read(bytes).map_err(certificates)?;
        signers.extend(added.fingerprints());
        keyring.extend(added);
    }
    keyring.pinned(&signers).map_err(certificates)
}

/// Says what the tree's own apt is told: the image's archives, those of others, and the keys that are not in
/// packages of the tree.
pub(super) fn of_tree(order: &Order, lock: &Lock) -> configure::Sources {
    let mut signed_by = Vec::new();
    let mut beside = Vec::new();
    if order.keyrings_only.is_empty() {
        signed_by.push(order.spec.apt.signed_by.display().to_string());
    }
    for (number, key) in order.keyrings_only.iter().chain(&order.keyrings).enumerate() {
        let suffix = if is_armored(key) { "asc" } else { "gpg" };
        let path = format!("/etc/apt/keyrings/added-{}.{suffix}", number + 1);
        signed_by.push(path.clone());
        beside.push((path, key.clone()));
    }
    for extra in &order.spec.sources {
        let path = format!("/etc/apt/sources.list.d/{}.sources", extra.source.name);
        beside.push((path, extra.stanza().into_bytes()));
        beside.push((extra.key_path(), extra.key.clone()));
    }
    let own = lock.sources.iter().filter(|source| !source.id.contains(FOREIGN));
    let sources: Vec<LockedSource> = own.map(|source| seen_inside(order, source)).collect();
    let text = apt_sources(&sources, &signed_by.join(" "));
    configure::Sources { file: order.spec.apt.sources.clone(), text, beside }
}

/// Leaves mirrors out that are folders of the host; where there was no other, the image's stands in.
fn seen_inside(order: &Order, source: &LockedSource) -> LockedSource {
    let mut seen = source.clone();
    seen.mirrors.retain(|mirror| !mirror.starts_with("file:"));
    if seen.mirrors.is_empty() {
        let layer = &order.spec.layer;
        let pocket = layer.pocket.iter().find(|pocket| pocket.name == source.id);
        let archive = pocket.and_then(|pocket| layer.archive.get(&pocket.archive));
        seen.mirrors.extend(archive.map(|archive| archive.mirror_of(&order.architecture).to_owned()));
    }
    seen
}

/// Writes the tree's own apt sources: a stanza for each archive, as the build used it.
///
/// **Source**: sources.list(5), deb822 style.
fn apt_sources(sources: &[LockedSource], signed_by: &str) -> String {
    let mut stanzas: Vec<(&[String], Vec<&str>, &[String])> = Vec::new();
    for source in sources {
        match stanzas.iter_mut().find(|(mirrors, _, components)| {
            *mirrors == source.mirrors.as_slice() && *components == source.components.as_slice()
        }) {
            Some((_, suites, _)) => suites.push(&source.suite),
            None => stanzas.push((&source.mirrors, vec![&source.suite], &source.components)),
        }
    }
    let stanzas: Vec<_> = stanzas
        .into_iter()
        .map(|(mirrors, suites, components)| {
            format!(
                "Types: deb\nURIs: {}\nSuites: {}\nComponents: {}\nSigned-By: {}\n",
                mirrors.join(" "),
                suites.join(" "),
                components.join(" "),
                signed_by
            )
        })
        .collect();
    stanzas.join("\n")
}

/// Makes an order that asks for nothing beside a spec.
#[cfg(test)]
pub(super) fn test_order(spec: crate::spec::Spec, architecture: &str) -> Order {
    Order {
        spec,
        architecture: architecture.to_owned(),
        variant: crate::resolve::Variant::default(),
        include: Vec::new(),
        exclude: Vec::new(),
        recommends: false,
        mirrors: crate::spec::mirrors::Mirrors::new(),
        guesses: crate::spec::mirrors::Mirrors::new(),
        pockets: None,
        components: None,
        keyrings: Vec::new(),
        keyrings_only: Vec::new(),
        ignore_valid_until: false,
        allow_older_release: false,
        asked: crate::lock::Asked::default(),
        locked: None,
        hostname: String::new(),
        npm_registry: String::new(),
        python_index: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        digest::Sha256,
        spec::{Catalogue, stack},
    };

    #[test]
    fn suites_of_one_mirror_share_a_stanza() {
        let source = |mirror: &str, suite: &str| LockedSource {
            id: suite.to_owned(),
            mirrors: vec![mirror.to_owned()],
            suite: suite.to_owned(),
            components: vec!["main".to_owned()],
            date: 0,
            release: Sha256::of(b""),
            signed_by: String::new(),
            snapshot: None,
        };
        let sources = [
            source("http://m", "trixie"),
            source("http://m", "trixie-updates"),
            source("http://s", "trixie-security"),
        ];
        assert_eq!(
            apt_sources(&sources, "/k.gpg"),
            "Types: deb\nURIs: http://m\nSuites: trixie trixie-updates\nComponents: main\nSigned-By: /k.gpg\n\n\
             Types: deb\nURIs: http://s\nSuites: trixie-security\nComponents: main\nSigned-By: /k.gpg\n"
        );
    }

    fn order(image: &str, architecture: &str) -> Order {
        let root = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
        let catalogue = Catalogue { folders: vec![root], embedded: &[] };
        test_order(stack(&catalogue, image, &[]).unwrap(), architecture)
    }

    #[test]
    fn ports_are_elsewhere_in_every_pocket() {
        let mirrors = |architecture: &str| {
            let sources = sources(&order("noble", architecture)).unwrap();
            sources.into_iter().map(|source| source.mirrors.join(" ")).collect::<Vec<_>>()
        };
        let (main, security) = ("http://archive.ubuntu.com/ubuntu", "http://security.ubuntu.com/ubuntu");
        assert_eq!(mirrors("amd64"), [main, main, security]);
        assert_eq!(mirrors("arm64"), ["http://ports.ubuntu.com/ubuntu-ports"; 3]);
    }

    #[test]
    fn keyrings_that_replace_leave_none_of_the_shipped_keys() {
        let ubuntu = shipped("ubuntu-archive-keyring").unwrap();
        let trusted = |order: &Order| -> Vec<String> {
            let keyring = sources(order).unwrap().remove(0).keyring;
            keyring.fingerprints().iter().map(ToString::to_string).collect()
        };
        let mut order = order("trixie", "amd64");
        let alone = trusted(&order);
        order.keyrings = vec![ubuntu.to_vec()];
        let more = trusted(&order);
        assert!(more.len() == alone.len() + 3 && more.starts_with(&alone), "{more:?}");
        order.keyrings_only = std::mem::take(&mut order.keyrings);
        let only = trusted(&order);
        assert!(only.len() == 3 && only.iter().all(|key| !alone.contains(key)), "{only:?}");
    }
}
