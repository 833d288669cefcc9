//! The host's apt: which files it reads, and which sources they have.
//!
//! **Source**: sources.list(5), apt.conf(5) `Dir::Ignore-Files-Silently`; apt's `apt-pkg/sourcelist.cc` and
//! `apt-pkg/contrib/strutl.cc` (`StringToBool`).

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// One suite of one source of binary packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The base address, as it is written.
    pub uri: String,
    /// The suite.
    pub suite: String,
    /// Its components; none of a flat archive.
    pub components: Vec<String>,
    /// The architectures that it is for; none where it is for all of the host's.
    pub architectures: Vec<String>,
    /// The keyring, fingerprints or key that alone may sign it, where it names one.
    pub signed_by: Option<String>,
}

/// Reads the files that apt reads below its directory (`/etc/apt`): name and text of each, in apt's order.
#[must_use]
pub fn files(directory: &Path) -> Vec<(String, String)> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory.join("sources.list.d"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| is_read(path) && path.is_file())
        .collect();
    files.sort();
    files.insert(0, directory.join("sources.list"));
    let texts = files.into_iter().map(|file| (file.display().to_string(), fs::read(&file)));
    texts.filter_map(|(name, read)| Some((name, String::from_utf8_lossy(&read.ok()?).into_owned()))).collect()
}

/// Tells whether apt reads a file of its directory of sources, by its name.
fn is_read(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let ending = name.ends_with(".list") || name.ends_with(".sources");
    ending && !name.starts_with('.') && name.bytes().all(known)
}

/// Reads the sources of binary packages that a file has and that are not turned off.
#[must_use]
pub fn entries(file: &str, text: &str) -> Vec<Entry> {
    if file.ends_with(".sources") { stanzas(text) } else { text.lines().filter_map(line).collect() }
}

/// Reads the one-line style: `deb [options] uri suite component …`.
fn line(line: &str) -> Option<Entry> {
    let line = without_comment(line).trim();
    let rest = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t', '[']))?.trim_start();
    let bracketed = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (options, rest) = bracketed.unwrap_or(("", rest));
    let option = |wanted: &str| {
        let pairs = options.split_whitespace().filter_map(|option| option.split_once('='));
        pairs.filter(|(key, _)| key.eq_ignore_ascii_case(wanted)).map(|(_, value)| value).next_back()
    };
    let mut words = rest.split_whitespace();
    Some(Entry {
        uri: words.next()?.to_owned(),
        suite: words.next()?.to_owned(),
        components: words.map(str::to_owned).collect(),
        architectures: list(option("arch").unwrap_or_default()),
        signed_by: option("signed-by").map(str::to_owned),
    })
}

/// Takes a comment away: it begins at `#`, but not within the brackets of options.
fn without_comment(line: &str) -> &str {
    let mut is_inside = false;
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            b'[' => is_inside = line[at..].contains(']'),
            b']' => is_inside = false,
            b'#' if !is_inside => return &line[..at],
            _ => {}
        }
    }
    line
}

/// Reads deb822 style.
fn stanzas(text: &str) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    let mut last = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#')).chain([""]) {
        if line.trim().is_empty() {
            found.extend(stanza(&std::mem::take(&mut fields)));
        } else if line.starts_with([' ', '\t']) {
            let value = fields.entry(last.clone()).or_default();
            value.push(' ');
            value.push_str(line.trim());
        } else if let Some((key, value)) = line.split_once(':') {
            last = key.to_ascii_lowercase();
            fields.insert(last.clone(), value.trim().to_owned());
        }
    }
    found
}

fn stanza(fields: &BTreeMap<String, String>) -> Vec<Entry> {
    let get = |key: &str| fields.get(key).map_or("", String::as_str);
    let mut found = Vec::new();
    if is_off(get("enabled")) || !get("types").split_whitespace().any(|kind| kind == "deb") {
        return found;
    }
    for uri in get("uris").split_whitespace() {
        for suite in get("suites").split_whitespace() {
            found.push(Entry {
                uri: uri.to_owned(),
                suite: suite.to_owned(),
                components: list(get("components")),
                architectures: list(get("architectures")),
                signed_by: fields.get("signed-by").cloned(),
            });
        }
    }
    found
}

fn list(words: &str) -> Vec<String> {
    let words = words.split(|letter: char| letter == ',' || letter.is_whitespace());
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Tells whether a word of a field means "no".
pub(super) fn is_off(word: &str) -> bool {
    ["no", "false", "without", "off", "disable", "0"].iter().any(|off| word.trim().eq_ignore_ascii_case(off))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::host::runner::{Command, Processes, Runner as _, program};

    /// Files of a directory of sources: name and text.
    const FILES: &[(&str, &str)] = &[
        (
            "sources.list",
            "deb http://a.invalid/debian bookworm main contrib # comment\ndeb-src http://src.invalid/ x main\n",
        ),
        (
            "sources.list.d/plain.list",
            "#deb http://off.invalid/ x main\n  deb\thttp://b.invalid/x\tbookworm\tmain\n",
        ),
        (
            "sources.list.d/options.list",
            "deb [ arch=amd64,i386 trusted=yes ] http://c.invalid/ stable main#c\n",
        ),
        ("sources.list.d/flat.list", "deb [trusted=yes] http://flat.invalid/x ./\n"),
        (
            "sources.list.d/more.sources",
            "# c\nTypes: deb deb-src\nURIs: http://d.invalid/debian/ https://e.invalid\n\
          Suites: bookworm bookworm-updates\n# within\nComponents: main\n contrib\nTrusted: yes\n\nTypes: deb-src\n\
          URIs: http://src.invalid/\nSuites: x\nComponents: main\n",
        ),
        (
            "sources.list.d/off.sources",
            "Types: deb\nURIs: http://off.invalid/\nSuites: x\nComponents: main\nEnabled: no\n",
        ),
        (
            "sources.list.d/false.sources",
            "Types: deb\nURIs: http://off.invalid/\nSuites: x\nComponents: main\nenabled: False\n",
        ),
        (
            "sources.list.d/on.sources",
            "Types: deb\nURIs: http://on.invalid/\nSuites: x\nComponents: main\nEnabled: yes\n",
        ),
        ("sources.list.d/old.list.save", "deb http://off.invalid/ x main\n"),
        ("sources.list.d/old.list.disabled", "deb http://off.invalid/ x main\n"),
        ("sources.list.d/old.list.dpkg-old", "deb http://off.invalid/ x main\n"),
        ("sources.list.d/.hidden.list", "deb http://off.invalid/ x main\n"),
        ("sources.list.d/a b.list", "deb http://off.invalid/ x main\n"),
        ("sources.list.d/a+b.list", "deb http://off.invalid/ x main\n"),
        ("sources.list.d/nothing", "deb http://off.invalid/ x main\n"),
        ("sources.list.d/README.txt", "deb http://off.invalid/ x main\n"),
        ("sources.list.d/Capital_1.list", "deb http://f.invalid/ bookworm main\n"),
    ];

    #[test]
    fn the_sources_are_those_that_apt_reads() {
        if program("apt-get").is_none() {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let etc = place.path().join("etc");
        fs::create_dir_all(etc.join("sources.list.d/folder.list")).unwrap();
        for (name, text) in FILES {
            fs::write(etc.join(name), text).unwrap();
        }
        let set = |option: &str, value: &Path| format!("-o{option}={}", value.display());
        let target = "$(REPO_URI) $(RELEASE) $(COMPONENT)";
        let state = place.path().join("state");
        let argv = [
            "apt-get".to_owned(),
            set("Dir::Etc", &etc),
            set("Dir::State", &state),
            set("Dir::State::status", Path::new("/dev/null")),
            set("Dir::Cache", &state),
            "-oDir::Etc::parts=/dev/null".to_owned(),
            "-oAPT::Architecture=amd64".to_owned(),
            "-oAPT::Architectures::=amd64".to_owned(),
            "indextargets".to_owned(),
            "--no-release-info".to_owned(),
            "--format".to_owned(),
            target.to_owned(),
            "Created-By: Packages".to_owned(),
        ];
        let output = Processes::new().run(&Command::new(argv)).unwrap().text;
        let plain = |line: &str| {
            // of a flat archive there is no component
            let words = line.split_whitespace().filter(|word| *word != "$(COMPONENT)");
            words.map(|word| word.trim_end_matches('/')).collect::<Vec<_>>().join(" ")
        };
        let by_apt: BTreeSet<String> =
            output.lines().filter(|line| line.starts_with("http")).map(plain).collect();
        let mut ours = BTreeSet::new();
        for (file, text) in files(&etc) {
            for Entry { uri, suite, components, .. } in entries(&file, &text) {
                let (uri, suite) = (uri.trim_end_matches('/'), suite.trim_end_matches('/'));
                ours.extend(components.iter().map(|component| format!("{uri} {suite} {component}")));
                if components.is_empty() {
                    ours.insert(format!("{uri} {suite}"));
                }
            }
        }
        assert_eq!(ours, by_apt, "{output}");
        assert!(ours.len() > 10 && !output.contains("off.invalid"), "{output}");
    }

    #[test]
    fn options_are_read_and_comments_are_not() {
        let text = "deb [arch=arm64 signed-by=/k.gpg] http://a/ x main # [b]\ndeb [lang=none#x] http://b/ y main\ndebx http://c z main\n";
        let found = entries("a.list", text);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0].signed_by.as_deref(), Some("/k.gpg"));
        assert_eq!((&*found[0].architectures[0], &*found[0].components), ("arm64", &["main".to_owned()][..]));
        assert_eq!(found[1].uri, "http://b/");
    }
}
