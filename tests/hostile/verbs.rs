//! The table of verbs, each with what it does to a machine that runs and attacks.

use std::{collections::BTreeSet, time::Duration};

use crate::{bed::Bed, kit::verbs::verbs, process};

/// What a verb has to do with a machine that runs.
pub enum Touch {
    /// Lines of shell that run it on machine `$m`, in the order in which they are run.
    Lines(&'static [&'static str]),
    /// Nothing, and why.
    Nothing(&'static str),
}

use Touch::{Lines, Nothing};

/// All verbs. Rows are run from top to bottom, so that each finds what it needs.
pub const ROWS: &[(&str, Touch)] = &[
    (
        "exec",
        Lines(&[
            "for i in $(seq 8); do sandbox exec $m -- true || exit; done",
            "for i in $(seq 4); do script -qec \"sandbox exec -t $m -- true\" /dev/null || exit; done",
            "sandbox exec $m -- cat </root/host-input >>/root/host-output",
        ]),
    ),
    (
        "list",
        Lines(&[
            "for i in $(seq 8); do sandbox list >/dev/null || exit; done",
            // a guest that hides its buses, so that it has to be asked in another way
            "sandbox exec $m -- sh -c 'mv /run/dbus/system_bus_socket /run/hidden-bus; mv /run/systemd/private /run/hidden-private'",
            "for i in $(seq 4); do sandbox list >/dev/null || exit; done",
            "for i in $(seq 2); do sandbox status $m >/dev/null || exit; done",
            "sandbox exec $m -- sh -c 'mv /run/hidden-bus /run/dbus/system_bus_socket; mv /run/hidden-private /run/systemd/private'",
        ]),
    ),
    ("status", Lines(&["for i in $(seq 4); do sandbox status $m >/dev/null || exit; done"])),
    ("shell", Lines(&["for i in $(seq 3); do echo exit | sandbox shell $m --user root || exit; done"])),
    (
        "console",
        Lines(&[
            "(sleep 1; printf '\\035\\035\\035'; sleep 1) | script -qec \"sandbox console $m\" /dev/null >/dev/null; true",
        ]),
    ),
    (
        "logs",
        Lines(&[
            "for i in $(seq 4); do sandbox logs $m -n 3 >/dev/null || exit; done",
            "sandbox logs $m --outside -n 3",
        ]),
    ),
    ("health", Lines(&["for i in $(seq 4); do sandbox health $m; done"])),
    ("wait", Lines(&["sandbox wait $m --timeout 20", "sandbox wait $m --for port:22 --timeout 1; true"])),
    ("top", Lines(&["sandbox top --once"])),
    ("set", Lines(&["sandbox set $m --env A=b", "sandbox set $m --unset-env A"])),
    ("enable", Lines(&["sandbox enable $m"])),
    ("disable", Lines(&["sandbox disable $m"])),
    ("secret set", Lines(&["echo x | sandbox secret set $m KEY"])),
    ("secret list", Lines(&["sandbox secret list $m >/dev/null"])),
    ("secret remove", Lines(&["sandbox secret remove $m KEY"])),
    ("protect", Lines(&["sandbox protect $m"])),
    ("unprotect", Lines(&["sandbox unprotect $m"])),
    ("kill", Lines(&["sandbox kill $m --signal CONT --whom all"])),
    ("mount", Lines(&["mkdir -p /srv/shared && sandbox mount $m /srv/shared /mnt/shared"])),
    ("unmount", Lines(&["sandbox unmount $m /mnt/shared"])),
    (
        "copy",
        Lines(&[
            "rm -rf /tmp/copied; mkdir /tmp/copied; for i in 1 2 3; do sandbox copy $m:/srv/swapped /tmp/copied/$i; done; true",
            "sandbox copy $m:/srv/swapped - | cat >/tmp/copied/tar; true",
            "sandbox copy /usr/local/lib/hostile $m:/root/",
            "! grep -rqF \"${HOST_SECRET%-env}-file\" /tmp/copied; s=$?; rm -r /tmp/copied; exit $s",
        ]),
    ),
    ("snapshot create", Lines(&["sandbox snapshot create $m first"])),
    ("snapshot list", Lines(&["sandbox snapshot list $m"])),
    ("snapshot diff", Lines(&["sandbox snapshot diff $m first >/dev/null"])),
    // the timer's own run would hold the machine for the next row
    (
        "snapshot schedule",
        Lines(&["sandbox snapshot schedule $m --every 1h --keep 1l; s=$?; \
             systemctl stop sandbox-snapshots.timer sandbox-snapshots.service; exit $s"]),
    ),
    ("snapshot run", Lines(&["sandbox snapshot run --due", "sandbox snapshot schedule $m --off"])),
    ("fork", Lines(&["sandbox fork $m running"])),
    ("clone", Lines(&["sandbox clone $m cloned"])),
    ("export", Lines(&["sandbox export $m /tmp/kept.tar.zst --live --compression zstd"])),
    ("import", Lines(&["sandbox import /tmp/kept.tar.zst imported --backend direct --no-start"])),
    ("snapshot restore", Lines(&["sandbox snapshot restore $m first --yes --restart"])),
    ("snapshot remove", Lines(&["sandbox snapshot remove $m first"])),
    (
        "rename",
        Lines(&[
            "sandbox rename $m renamed --restart && sandbox stop renamed --timeout 10 && sandbox rename renamed $m && sandbox start $m",
        ]),
    ),
    ("restart", Lines(&["sandbox restart $m --timeout 10"])),
    ("stop", Lines(&["sandbox stop $m --timeout 10"])),
    ("start", Lines(&["sandbox start $m"])),
    (
        "move",
        Lines(&[
            "to=direct; sandbox list --json | grep -A3 '\"name\": *\"'$m'\"' | grep -q '\"direct\"' && to=nspawn; \
             sandbox move $m --to $to --restart",
        ]),
    ),
    ("repair", Lines(&["sandbox repair"])),
    ("doctor", Lines(&["sandbox doctor >/dev/null"])),
    ("remove", Lines(&["sandbox remove running --yes"])),
    ("create", Nothing("it makes another machine")),
    ("bootstrap", Nothing("it builds a tree")),
    ("resolve", Nothing("it reads the archive")),
    ("lock", Nothing("it reads the archive")),
    ("lock diff", Nothing("it reads two files")),
    ("layer list", Nothing("it reads layers, which no machine writes")),
    ("layer remove", Nothing("it removes layers")),
    ("layer prune", Nothing("it removes layers")),
    ("profile list", Nothing("it reads profiles")),
    ("profile show", Nothing("it reads profiles")),
    ("profile check", Nothing("it reads profiles")),
    ("profile new", Nothing("it writes a file")),
    ("profile schema", Nothing("it prints a text")),
    ("completions", Nothing("it prints a text")),
    ("man", Nothing("it prints a text")),
];

/// How some verbs end where all is in order: with something found, or with nothing to look at.
const FINDINGS: &[(&str, i32)] =
    &[("sandbox snapshot diff", 1), ("sandbox health", 1), ("sandbox doctor", 1), ("sandbox doctor", 6)];

/// Returns whether a line ended as it should on a machine that attacks, which is as on any other.
pub fn is_expected(line: &str, code: i32) -> bool {
    code == 0 || FINDINGS.iter().any(|(verb, found)| line.contains(verb) && code == *found)
}

/// Returns the lines of all verbs on a machine.
pub fn lines(machine: &str) -> Vec<String> {
    let lines = ROWS.iter().filter_map(|(_, touch)| match touch {
        Lines(lines) => Some(*lines),
        Nothing(_) => None,
    });
    lines.flatten().map(|line| format!("m={machine}; {line}")).collect()
}

/// Every verb of the command line is in the table, so that a new one is attacked as well.
pub fn none_is_forgotten(_: &Bed) {
    let help = |words: &[&str]| {
        let argv = [&[env!("CARGO_BIN_EXE_sandbox")], words].concat();
        process::run(&argv, "", Duration::from_secs(10)).ok().to_owned()
    };
    let there = verbs(&help, &[]);
    let known: BTreeSet<String> = ROWS.iter().map(|(verb, _)| (*verb).to_owned()).collect();
    assert_eq!(there, known, "left: the command line's, right: the table's");
    let empty = ROWS.iter().filter(|(_, touch)| matches!(touch, Lines([]) | Nothing("")));
    assert_eq!(empty.count(), 0, "each has lines or a reason");
}
