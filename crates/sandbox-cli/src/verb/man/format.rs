//! The manual page sandbox-profile(5): the format's own reference, which is Markdown, as roff.

use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

/// Makes the page of the reference's text.
pub fn profile(reference: &str) -> String {
    let mut roff = Roff::new();
    let source = concat!("sandbox ", env!("CARGO_PKG_VERSION"));
    roff.control("TH", ["sandbox-profile", "5", "", source, "sandbox"]);
    roff.control("SH", ["NAME"]).text([roman("sandbox-profile - format of images and profiles of sandbox")]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([roman(
        "Images and profiles are files in TOML. An image is the bottom layer of a machine, profiles are stacked on it. \
         Values of a later file replace those of an earlier one, lists are appended, tables are merged by key.",
    )]);
    let keys = reference.split_once("\n## ").map_or(reference, |(_, keys)| keys);
    roff.control("SH", ["THE FILE"]);
    for line in keys.lines().skip(1).map(str::trim_end) {
        if let Some(title) = line.strip_prefix("## ") {
            roff.control("SH", [title.to_uppercase().as_str()]);
        } else if let Some(title) = line.strip_prefix("### ") {
            roff.control("SS", [title]);
        } else if let Some(row) = line.strip_prefix("| ") {
            self::row(row, &mut roff);
        } else if line.starts_with("|-") {
        } else if let Some(item) = line.strip_prefix("- ") {
            roff.control("IP", ["\u{2022}", "2"]).text(inlines(item));
        } else if line.is_empty() {
            roff.control("PP", []);
        } else {
            roff.text(inlines(line));
        }
    }
    roff.control("SH", ["FILES"]);
    for (path, text) in [
        ("./profiles/NAME.toml, ./images/NAME.toml", "Those of a project."),
        ("~/.config/sandbox/profiles/NAME.toml", "Those of a user."),
        ("/etc/sandbox/profiles/NAME.toml", "Those of the host."),
    ] {
        roff.control("TP", []).text([bold(path)]).text([roman(text)]);
    }
    roff.control("SH", ["SEE ALSO"]).text([roman(
        "sandbox(1), sandbox-profile(1), sandbox-create(1), sandbox-profile-check(1), sandbox-profile-show(1)",
    )]);
    roff.render()
}

/// Writes a row of a table of keys as a list's item; the head of such a table is left out.
fn row(row: &str, roff: &mut Roff) {
    let cells: Vec<&str> = row.trim_end_matches('|').split(" | ").map(str::trim).collect();
    let [key, kind, text @ ..] = cells.as_slice() else { return };
    if *key == "key" {
        return;
    }
    roff.control("TP", []);
    let mut head = inlines(key);
    head.push(roman(" ("));
    head.extend(inlines(kind));
    head.push(roman(")"));
    roff.text(head).text(inlines(&text.join(" | ")));
}

/// Reads code between backticks, which is bold, and links, of which the words stay.
fn inlines(text: &str) -> Vec<Inline> {
    let mut all = Vec::new();
    for (at, part) in text.split('`').enumerate() {
        if at % 2 == 1 {
            all.push(bold(part));
            continue;
        }
        let mut rest = part;
        while let Some((before, link)) = rest.split_once('[') {
            let Some((word, behind)) = link.split_once(']') else { break };
            all.push(roman(before));
            all.push(italic(word));
            rest = match behind.strip_prefix('(').and_then(|behind| behind.split_once(')')) {
                Some((_, behind)) => behind,
                None => behind,
            };
        }
        all.push(roman(rest));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_format_is_in_its_page() {
        let reference = sandbox_core::spec::schema::reference();
        let page = profile(&reference).replace("\\-", "-");
        let keys = reference.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let keys: Vec<_> = keys.collect();
        assert!(keys.len() > 60, "{}", keys.len());
        for key in keys {
            assert!(page.contains(&format!("\\fB{key}\\fR")), "{key}");
        }
        assert!(page.starts_with(".ie") || page.contains(".TH sandbox"), "{page}");
        assert!(!page.contains("](") && !page.contains("| "), "Markdown is left");
    }
}
