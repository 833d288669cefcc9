//! The terminal type of a payload: the caller's where the guest knows it, else one of the same family that it knows.
//!
//! Terminal emulators bring entries of their own (`xterm-kitty`, `alacritty`, `foot`), which a guest has only with
//! packages beyond `ncurses-base`. Without an entry full-screen programs refuse to start. Emulators of today all
//! understand what `xterm-256color` says, and show what colours they have by `COLORTERM`.
//!
//! **Source**: terminfo(5), "Fetching Compiled Descriptions"; term(5), "STORAGE FORMAT"; term(7), "Terminal naming".

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

/// Where a guest has entries, beside its users' homes.
const DIRECTORIES: [&str; 4] = ["etc/terminfo", "lib/terminfo", "usr/share/terminfo", "usr/lib/terminfo"];

/// Families whose control sequences are not those of xterm, by the beginning of their names, with what stands for them.
const FAMILIES: [(&str, &[&str]); 5] = [
    ("tmux", &["tmux-256color", "screen-256color", "screen"]),
    ("screen", &["screen-256color", "screen"]),
    ("rxvt", &["rxvt-unicode-256color", "rxvt-unicode", "rxvt"]),
    ("linux", &["linux"]),
    ("vt", &["vt220", "vt100"]),
];

/// No terminal at all, which nothing stands for.
const DUMB: &str = "dumb";

/// What stands for all others, and for those of which the guest has none.
const XTERM: [&str; 3] = ["xterm-256color", "xterm", "vt100"];

/// Finds the terminal type for a payload of a user with this home. A guest without any entry gets the caller's.
#[must_use]
pub(super) fn known(root: &OwnedFd, term: &str, home: &str) -> String {
    if term == DUMB {
        return term.to_owned();
    }
    let mut candidates = vec![term];
    candidates.extend(others(term));
    candidates.into_iter().find(|name| has_entry(root, name, home)).unwrap_or(term).to_owned()
}

/// Lists what may stand for a type, best first.
fn others(term: &str) -> Vec<&'static str> {
    let family = FAMILIES.iter().find(|(begin, _)| term.starts_with(begin));
    let names = family.map_or(&[][..], |(_, names)| names);
    names.iter().chain(&XTERM).copied().collect()
}

/// Reports whether the guest has an entry, in a directory named after its first letter or that letter's number.
fn has_entry(root: &OwnedFd, term: &str, home: &str) -> bool {
    let Some(first) = term.bytes().next().filter(|first| *first != b'.') else { return false };
    if term.contains(['/', '\0']) {
        return false;
    }
    let home = format!("{}/.terminfo", home.trim_matches('/'));
    let mut directories = DIRECTORIES.into_iter().chain([home.as_str()]);
    directories.any(|directory| {
        let letter = char::from(first);
        [format!("{directory}/{letter}/{term}"), format!("{directory}/{first:x}/{term}")]
            .iter()
            .any(|path| is_there(root, path))
    })
}

/// Reports whether a path leads to something; a guest's links lead nowhere but into the guest.
fn is_there(root: &OwnedFd, path: &str) -> bool {
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), within).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What Debian's ncurses-base has of these.
    const BASE: &[&str] = &[
        "lib/terminfo/x/xterm",
        "lib/terminfo/x/xterm-256color",
        "lib/terminfo/s/screen",
        "lib/terminfo/s/screen-256color",
        "lib/terminfo/t/tmux",
        "lib/terminfo/t/tmux-256color",
        "lib/terminfo/r/rxvt-unicode-256color",
        "lib/terminfo/l/linux",
        "lib/terminfo/v/vt100",
        "lib/terminfo/v/vt220",
        "lib/terminfo/d/dumb",
    ];

    fn found(entries: &[&str], term: &str) -> String {
        let tree = tempfile::tempdir().unwrap();
        for entry in entries {
            let path = tree.path().join(entry);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        known(&fs::File::open(tree.path()).unwrap().into(), term, "/home/agent")
    }

    #[test]
    fn an_emulator_that_the_guest_does_not_know_is_one_that_it_knows() {
        for (term, expected) in [
            ("xterm-kitty", "xterm-256color"),
            ("xterm-ghostty", "xterm-256color"),
            ("ghostty", "xterm-256color"),
            ("alacritty", "xterm-256color"),
            ("foot", "xterm-256color"),
            ("foot-extra", "xterm-256color"),
            ("wezterm", "xterm-256color"),
            ("konsole-256color", "xterm-256color"),
            ("st-256color", "xterm-256color"),
            ("xterm-256color", "xterm-256color"),
            ("xterm", "xterm"),
            ("tmux-direct", "tmux-256color"),
            ("screen.xterm-256color", "screen-256color"),
            ("rxvt-unicode", "rxvt-unicode-256color"),
            ("linux-16color", "linux"),
            ("vt320", "vt220"),
            ("dumb", "dumb"),
            ("", "xterm-256color"),
            ("../../etc/passwd", "xterm-256color"),
            (".", "xterm-256color"),
        ] {
            assert_eq!(found(BASE, term), expected, "{term}");
        }
    }

    #[test]
    fn an_entry_counts_wherever_ncurses_looks_for_it() {
        for entry in [
            "usr/share/terminfo/x/xterm-kitty",
            "usr/share/terminfo/78/xterm-kitty",
            "etc/terminfo/x/xterm-kitty",
            "usr/lib/terminfo/x/xterm-kitty",
            "home/agent/.terminfo/x/xterm-kitty",
        ] {
            assert_eq!(found(&[BASE, &[entry]].concat(), "xterm-kitty"), "xterm-kitty", "{entry}");
        }
        assert_eq!(found(&["lib/terminfo/v/vt100"], "foot"), "vt100");
        assert_eq!(found(&[], "foot"), "foot", "a guest without entries says nothing about any");
        assert_eq!(found(&["lib/terminfo/x/xterm"], DUMB), DUMB);
    }
}
