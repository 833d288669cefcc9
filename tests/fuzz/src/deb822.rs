//! Stanzas: what is written is read again as the same; and an index of them is a catalogue that finds its own.

use sandbox_core::deb::{
    deb822::{Paragraph, read, stanzas},
    packages::Catalog,
    status,
};

use crate::memory::bounded;

/// Takes the bytes as a control file, and as an index.
pub fn check(data: &[u8]) {
    places(data);
    if let Ok(paragraphs) = bounded(128 * data.len() + 16_384, || read(data)) {
        let written = paragraphs.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert_eq!(read(written.as_bytes()).as_ref(), Ok(&paragraphs), "{written:?}");
        paragraphs.iter().for_each(in_order);
    }
    let index = vec![("index".to_owned(), data.to_vec())];
    if let Ok(catalog) = bounded(256 * data.len() + 65_536, || Catalog::read(index, "amd64")) {
        finds_its_own(&catalog);
    }
}

/// Stanzas and fields are stretches of the file, in its order, without overlap.
fn places(data: &[u8]) {
    let mut end = 0;
    for stanza in stanzas(data) {
        assert!(stanza.offset() >= end && !stanza.bytes().is_empty());
        end = stanza.offset() + stanza.bytes().len();
        assert_eq!(&data[stanza.offset()..end], stanza.bytes());
        let mut last = None;
        for field in stanza.fields() {
            let at = field.map_or_else(|wrong| wrong.at, |field| field.at);
            assert!(last.is_none_or(|last| last < at) && at < stanza.bytes().len());
            last = Some(at);
        }
        for field in stanza.fields().flatten() {
            let name = std::str::from_utf8(field.name).unwrap();
            assert!(stanza.get(name).is_some() || stanza.fields().flatten().any(|f| !f.value.is_ascii()));
        }
    }
}

/// dpkg's order of fields loses none.
fn in_order(paragraph: &Paragraph) {
    let ordered = status::in_order(paragraph);
    assert_eq!(ordered.iter().count(), paragraph.iter().count());
    assert!(paragraph.iter().all(|(name, value)| ordered.get(name) == Some(value)));
    assert_eq!(status::in_order(&ordered), ordered);
}

fn finds_its_own(catalog: &Catalog) {
    for name in catalog.names() {
        let mut before = None;
        for id in catalog.versions(name) {
            let package = catalog.package(id);
            assert_eq!(catalog.name(package.name()), Some(name));
            let version = package.version().expect("the catalogue checked it");
            assert!(before.is_none_or(|before| before > version), "the newest first, none twice");
            before = Some(version);
            if let Ok(path) = package.path() {
                assert!(!path.starts_with('/') && path.split('/').all(|part| part != ".."), "{path}");
            }
            let _ = (package.size(), package.digest(), package.architecture());
            for field in ["Pre-Depends", "Depends", "Conflicts", "Breaks", "Provides"] {
                let _ = package.relations(field);
            }
        }
    }
}
