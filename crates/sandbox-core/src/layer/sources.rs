//! Where a build's packages come from: the image's pockets and the archives of others, and what the tree's own apt is
//! told of them.

use super::{Order, OrderError};
use crate::{
    archive, configure,
    keyring::{Fingerprint, Keyring, shipped},
    lock::Lock,
    spec::{Pocket, Trusted, is_armored},
};

/// What stands between the name and the suite of somebody else's archive; no pocket's name has it.
const EXTRA: char = ' ';

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
    let keyring = Keyring::read(&extra.key)
        .map_err(|source| OrderError::Key { name: extra.source.name.clone(), source })?;
    Ok(archive::Source {
        id: format!("{}{EXTRA}{suite}", extra.source.name),
        mirrors: extra.source.uris.clone(),
        suite: suite.to_owned(),
        expect_codename: None,
        expect_suite: None,
        components: extra.source.components.clone(),
        architecture: order.architecture.clone(),
        keyring,
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
        suite: pocket.suite.clone(),
        expect_codename: pocket.codename.clone(),
        expect_suite: pocket.release_suite.clone(),
        components: order.components.clone().unwrap_or_else(|| layer.components.clone()),
        architecture: order.architecture.clone(),
        keyring: trust(order, pocket, keyring)?,
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
    let text = apt_sources(lock, &signed_by.join(" "));
    configure::Sources { file: order.spec.apt.sources.clone(), text, beside }
}

/// Writes the tree's own apt sources: a stanza for each archive, as the build used it.
///
/// **Source**: sources.list(5), deb822 style.
fn apt_sources(lock: &Lock, signed_by: &str) -> String {
    let mut stanzas: Vec<(&[String], Vec<&str>, &[String])> = Vec::new();
    for source in lock.sources.iter().filter(|source| !source.id.contains(EXTRA)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{digest::Sha256, lock::LockedSource};

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
        };
        let lock = Lock {
            image: "trixie".to_owned(),
            architecture: "amd64".to_owned(),
            epoch: 0,
            sources: vec![
                source("http://m", "trixie"),
                source("http://m", "trixie-updates"),
                source("http://s", "trixie-security"),
                source("http://other", "docker trixie"),
            ],
            packages: Vec::new(),
        };
        assert_eq!(
            apt_sources(&lock, "/k.gpg"),
            "Types: deb\nURIs: http://m\nSuites: trixie trixie-updates\nComponents: main\nSigned-By: /k.gpg\n\n\
             Types: deb\nURIs: http://s\nSuites: trixie-security\nComponents: main\nSigned-By: /k.gpg\n"
        );
    }
}
