//! dpkg's status file: the stanza of an installed package.
//!
//! **Source**: dpkg's `lib/dpkg/parse.c`, `fieldinfos`: the order in which dpkg writes fields.

use super::deb822::Paragraph;

/// The fields that dpkg knows, in the order in which it writes them; others follow in their own order.
const ORDER: &[&str] = &[
    "Package",
    "Essential",
    "Protected",
    "Status",
    "Priority",
    "Section",
    "Installed-Size",
    "Origin",
    "Maintainer",
    "Bugs",
    "Architecture",
    "Multi-Arch",
    "Source",
    "Version",
    "Config-Version",
    "Replaces",
    "Provides",
    "Depends",
    "Pre-Depends",
    "Recommends",
    "Suggests",
    "Breaks",
    "Conflicts",
    "Enhances",
    "Conffiles",
    "Filename",
    "Size",
    "MD5sum",
    "MSDOS-Filename",
    "Description",
    "Triggers-Pending",
    "Triggers-Awaited",
];

/// Gives a stanza with its fields in dpkg's order.
#[must_use]
pub fn in_order(paragraph: &Paragraph) -> Paragraph {
    let place = |name: &str| ORDER.iter().position(|known| known.eq_ignore_ascii_case(name));
    let mut fields: Vec<_> =
        paragraph.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    fields.sort_by_key(|(name, _)| place(name).unwrap_or(ORDER.len()));
    fields.into_iter().collect()
}

/// Writes stanzas as a status file: each ended by an empty line.
#[must_use]
pub fn write<'a>(paragraphs: impl IntoIterator<Item = &'a Paragraph>) -> String {
    paragraphs.into_iter().fold(String::new(), |text, paragraph| text + &format!("{paragraph}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deb::deb822;

    #[test]
    fn writes_fields_in_dpkgs_order_and_unknown_ones_last() {
        let control = deb822::read(b"Package: a\nVersion: 1\nX-Own: y\nEssential: yes\n").unwrap();
        let ordered = in_order(&control[0]);
        assert_eq!(write([&ordered, &ordered]).matches("\n\n").count(), 2);
        assert_eq!(ordered.to_string(), "Package: a\nEssential: yes\nVersion: 1\nX-Own: y\n");
    }
}
