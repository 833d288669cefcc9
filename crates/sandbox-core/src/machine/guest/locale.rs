//! The locale of a payload: the guest's own where it says one, else the one that needs no package.
//!
//! A login gets it from pam_env(8), a unit from systemd. A payload that enters by neither would have none, and draw the
//! lines of a box as letters. The caller's locale is not taken over: most guests have no other than C.UTF-8, and a
//! program that is given one which is not there falls back to ASCII.
//!
//! **Source**: locale.conf(5); pam_env(8), `envfile`; locale(7), for which variable precedes which.

use std::os::fd::OwnedFd;

use super::variables;

/// UTF-8 without a language, which every glibc since 2.13 of Debian's and musl have.
const UTF_8: &str = "C.UTF-8";

/// Where a guest says it; what the later says counts.
const FILES: [&str; 2] = ["etc/locale.conf", "etc/default/locale"];

/// Variables that name a locale.
pub const VARIABLES: [&str; 15] = [
    "LANG",
    "LANGUAGE",
    "LC_ADDRESS",
    "LC_ALL",
    "LC_COLLATE",
    "LC_CTYPE",
    "LC_IDENTIFICATION",
    "LC_MEASUREMENT",
    "LC_MESSAGES",
    "LC_MONETARY",
    "LC_NAME",
    "LC_NUMERIC",
    "LC_PAPER",
    "LC_TELEPHONE",
    "LC_TIME",
];

/// Those that decide how bytes become letters.
const LETTERS: [&str; 3] = ["LANG", "LC_ALL", "LC_CTYPE"];

/// Returns the variables of a guest's locale; `LANG` is among them, and none of them asks for ASCII.
pub(super) fn locale(root: &OwnedFd) -> Vec<(String, String)> {
    of(FILES.iter().filter_map(|file| variables::text(root, file)))
}

fn of(texts: impl Iterator<Item = String>) -> Vec<(String, String)> {
    let mut all = texts.fold(Vec::new(), |all, text| variables::over(&text, all));
    all.retain(|(key, value)| VARIABLES.contains(&key.as_str()) && !value.is_empty());
    for (_, value) in all.iter_mut().filter(|(key, _)| LETTERS.contains(&key.as_str())) {
        if matches!(value.as_str(), "C" | "POSIX") {
            UTF_8.clone_into(value);
        }
    }
    if !all.iter().any(|(key, _)| key == "LANG") {
        all.push(("LANG".to_owned(), UTF_8.to_owned()));
    }
    all
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn what_the_guest_says_counts_unless_it_is_ascii() {
        let cases: &[(&[&str], &str)] = &[
            (&[], "LANG=C.UTF-8"),
            (&["LANG=C.UTF-8\n"], "LANG=C.UTF-8"),
            (&["LANG=\"de_DE.UTF-8\"\nLC_TIME=en_GB.UTF-8\n"], "LANG=de_DE.UTF-8 LC_TIME=en_GB.UTF-8"),
            (&["LANG=C.UTF-8\n", "# by update-locale\nLANG=fr_FR.UTF-8\n"], "LANG=fr_FR.UTF-8"),
            (&["LANG=C\nLC_ALL=POSIX\nLC_COLLATE=C\n"], "LANG=C.UTF-8 LC_ALL=C.UTF-8 LC_COLLATE=C"),
            (&["LANG=\nPATH=/evil\nLD_PRELOAD=x.so\n"], "LANG=C.UTF-8"),
            (&["LC_CTYPE=C\n"], "LC_CTYPE=C.UTF-8 LANG=C.UTF-8"),
            (&["LANG=de_DE.ISO-8859-1\n"], "LANG=de_DE.ISO-8859-1"),
        ];
        for (texts, expected) in cases {
            let all = of(texts.iter().map(|text| (*text).to_owned()));
            let words: Vec<_> = all.iter().map(|(key, value)| format!("{key}={value}")).collect();
            assert_eq!(words.join(" "), *expected, "{texts:?}");
        }
    }

    #[test]
    fn it_is_read_in_the_guest_alone() {
        let tree = tempfile::tempdir().unwrap();
        let host = tree.path().join("host");
        fs::write(&host, "LANG=xx_XX.UTF-8\n").unwrap();
        let guest = tree.path().join("guest");
        fs::create_dir_all(guest.join("etc/default")).unwrap();
        symlink(&host, guest.join("etc/default/locale")).unwrap();
        fs::write(guest.join("etc/locale.conf"), "LANG=sv_SE.UTF-8\n").unwrap();
        let root = fs::File::open(&guest).unwrap().into();
        assert_eq!(locale(&root), [("LANG".to_owned(), "sv_SE.UTF-8".to_owned())]);
    }
}
