//! Trees that are made to break what reads them: each is made in a machine that runs, and every verb that reads one is run
//! on it.

use std::sync::OnceLock;

use crate::{
    bed::{Bed, HOSTILE, OTHER, PROGRAMS, SHELL},
    lab::{Host, LONG},
    process::until,
    traces::Traces,
};

/// Every verb that reads or writes the tree of a machine `$m` that runs.
const ON_A_RUNNING: &[&str] = &[
    "sandbox list >/dev/null",
    "sandbox status $m >/dev/null",
    "sandbox exec $m -- true",
    "sandbox exec $m --user agent -- true",
    "sandbox exec $m --user evil -- sh -c '[ $(id -u) -lt 65536 ]'",
    SHELL,
    "sandbox logs $m -n 20",
    "sandbox logs $m --outside -n 3",
    "sandbox health $m",
    "sandbox top --once",
    "sandbox set $m --env A=b",
    "mkdir -p /srv/shared; sandbox mount $m /srv/shared /etc/shared && sandbox unmount $m /etc/shared",
    "rm -rf /tmp/c; mkdir /tmp/c; sandbox copy $m:/etc /tmp/c/; s=$?; rm -r /tmp/c; exit $s",
    "rm -rf /tmp/c; mkdir /tmp/c; script -qec \"sandbox copy $m:/srv/evil /tmp/c/\" /dev/null; s=$?; rm -r /tmp/c; exit $s",
    "sandbox copy $m:/srv/evil - | head -c 100000000 >/dev/null; true",
    "sandbox copy /usr/local/lib/hostile $m:/etc/ --owner agent",
    "sandbox copy /usr/local/lib/hostile $m:/root/",
    "sandbox repair",
];

/// Every verb that copies the tree of a machine `$m`, or removes a copy.
const COPIES: &[&str] = &[
    "sandbox snapshot create $m evil",
    "sandbox snapshot diff $m evil",
    "sandbox snapshot list $m >/dev/null",
    "sandbox fork $m copied --no-start",
    "! sandbox status copied >/dev/null 2>&1 || sandbox rename copied again",
    "! sandbox status again >/dev/null 2>&1 || sandbox remove again --yes",
    "! sandbox status copied >/dev/null 2>&1 || sandbox remove copied --yes",
    "sandbox export $m /tmp/e --live --compression zstd; s=$?; rm -f /tmp/e; exit $s",
    "! sandbox snapshot list $m --json | grep -q evil || sandbox snapshot remove $m evil",
];

/// Those of them that walk the tree in a way of their own: a fork is copied as a snapshot is.
const COPIES_OF_MANY: &[&str] = &[
    "sandbox snapshot create $m evil",
    "sandbox snapshot diff $m evil",
    "sandbox export $m /tmp/e --live --compression zstd; s=$?; rm -f /tmp/e; exit $s",
    "sandbox snapshot remove $m evil",
];

/// Every verb that reads the tree of a machine `$m` that is stopped.
const ON_A_STOPPED: &[&str] = &[
    "sandbox status $m >/dev/null",
    "sandbox logs $m -n 20",
    "sandbox logs $m --outside -n 3",
    "sandbox copy /usr/local/lib/hostile $m:/etc/ --owner agent",
    "rm -rf /tmp/c; mkdir /tmp/c; sandbox copy $m:/etc /tmp/c/; s=$?; rm -r /tmp/c; exit $s",
    "sandbox snapshot create $m evil",
    "sandbox snapshot diff $m evil",
    "sandbox clone $m copied",
    "! sandbox status copied >/dev/null 2>&1 || sandbox rename copied again",
    "! sandbox status again >/dev/null 2>&1 || sandbox remove again --yes",
    "! sandbox status copied >/dev/null 2>&1 || sandbox remove copied --yes",
    "sandbox export $m /tmp/e --compression zstd; s=$?; rm -f /tmp/e; exit $s",
    "! sandbox snapshot list $m --json | grep -q evil || sandbox snapshot remove $m evil",
    // it need not come up, but is not in the way
    "timeout -s INT 40 sandbox start $m; s=$?; sandbox stop $m --timeout 2 || exit; [ $s = 124 ] || exit $s",
];

/// What is read of a guest, and what is written in it, as paths.
const READ: &str = "etc/passwd etc/group etc/hosts etc/hostname etc/os-release usr/lib/os-release etc/machine-id \
    etc/environment etc/environment.d/50-evil.conf etc/resolv.conf etc/subuid etc/subgid etc/shadow etc/localtime \
    etc/locale.conf etc/apt/sources.list etc/nsswitch.conf etc/login.defs etc/shells etc/fstab \
    var/lib/dpkg/status etc/ssh/ssh_host_ed25519_key var/log/journal/$(cat etc/machine-id)/system.journal \
    var/lib/sandbox/packages run/systemd/resolve/resolv.conf";

/// What a shell in the host does in the tree, as the guest's root could: the files are moved away first, and come back.
fn replaced(make: &str) -> (String, String) {
    let save = format!(
        "mkdir -p srv/evil srv/saved; for f in {READ}; do mkdir -p \"${{f%/*}}\" \"srv/saved/${{f%/*}}\"; \
         if [ -e \"$f\" ] || [ -L \"$f\" ]; then mv \"$f\" \"srv/saved/$f\"; else echo \"$f\" >>srv/saved/new; fi; {make}; done"
    );
    let restore = "while read -r f; do rm -rf \"$f\"; done <srv/saved/new; (cd srv/saved && rm -f new && \
        find . -mindepth 1 \\( -type f -o -type l \\) -print0) | while IFS= read -r -d '' f; do rm -rf \"$f\"; \
        mv \"srv/saved/$f\" \"$f\"; done; rm -rf srv/saved srv/evil";
    (save, restore.to_owned())
}

/// Runs a script in a machine's tree, in the host.
#[track_caller]
fn in_tree(host: &Host<'_>, tree: &str, script: &str) {
    host.run(&["bash", "-c", &format!("cd \"$0\" || exit; {script}"), tree]).ok();
}

fn lines(verbs: &[&str]) -> Vec<String> {
    verbs.iter().map(|verb| format!("m={HOSTILE}; {verb}")).collect()
}

/// Makes a tree, runs verbs on it, looks at the other machine, undoes it; nothing may be left.
#[track_caller]
fn judge(bed: &Bed, (make, undo): (&str, &str), verbs: &[&[&str]], others: fn(&Bed) -> Vec<String>) {
    let host = bed.host();
    let tree = bed.tree(HOSTILE);
    let before = host.traces();
    in_tree(&host, &tree, make);
    let mut faults = bed.judge(&lines(&verbs.concat()));
    faults.extend(others(bed));
    faults.extend(bed.leaks());
    in_tree(&host, &tree, undo);
    for copy in ["copied", "again"].iter().filter(|copy| bed.is_there(copy)) {
        faults.extend(bed.judge(&[format!("sandbox remove {copy} --yes")]));
    }
    host.sandbox(&["snapshot", "remove", HOSTILE, "evil"]);
    faults.extend(bed.is_clean(&before));
    assert!(faults.is_empty(), "{faults:#?}");
}

/// The scheduled snapshots of all machines: the hostile one's may be refused, the other's is there. The other answers.
fn others_are_unharmed(bed: &Bed) -> Vec<String> {
    let host = bed.lab.host();
    let on = |name: &str| format!("sandbox snapshot schedule {name} --every 1h --keep 1l");
    let off = |name: &str| format!("sandbox snapshot schedule {name} --off");
    let mut faults = bed.judge(&[on(HOSTILE), on(OTHER)]);
    // the timer's own run may be held, or holds the machines
    let stop = "timeout 20 systemctl stop sandbox-snapshots.timer sandbox-snapshots.service";
    host.sh(stop);
    faults.extend(bed.judge(&["sandbox snapshot run --due".to_owned()]));
    let taken = host.sandbox(&["snapshot", "list", OTHER]);
    if taken.out.lines().count() < 2 {
        faults.push(format!("`{OTHER}` has no snapshot: {taken:?}"));
    }
    host.sh(stop);
    faults.extend(bed.judge(&[off(HOSTILE), off(OTHER)]));
    for name in [HOSTILE, OTHER] {
        bed.forget_snapshots(name);
    }
    faults.extend(the_other_answers(bed));
    faults
}

fn the_other_answers(bed: &Bed) -> Vec<String> {
    let answer = bed.lab.host().exec(OTHER, &["echo", "unharmed"]);
    let failed = (answer.out != "unharmed\n").then(|| format!("`{OTHER}` does not answer: {answer:?}"));
    failed.into_iter().collect()
}

/// Each file that is read of a guest has 8 TiB.
pub fn sparse_files(bed: &Bed) {
    bed.on("nspawn");
    let (make, undo) = replaced("truncate -s 8T \"$f\"");
    judge(
        bed,
        (&format!("{make}; truncate -s 8T srv/evil/large"), &undo),
        &[ON_A_RUNNING, COPIES],
        others_are_unharmed,
    );
}

/// Each file that is read of a guest is a pipe without a writer, a socket, a directory, or a device: one that is read
/// without end, one that is not there.
pub fn files_that_are_none(bed: &Bed) {
    bed.on("nspawn");
    let make = format!(
        "n=$((n + 1)); case $((n % 6)) in 0) mkdir \"$f\" ;; 1) {PROGRAMS}/socket \"$f\" ;; 2) mknod \"$f\" c 1 5 ;; \
         3) mknod \"$f\" b 7 200 ;; *) mkfifo \"$f\" ;; esac"
    );
    let (make, undo) = replaced(&make);
    let more = "mkfifo srv/evil/pipe; mknod srv/evil/zero c 1 5; mknod srv/evil/terminal c 5 0";
    judge(bed, (&format!("{make}; {more}"), &undo), &[ON_A_RUNNING, COPIES], others_are_unharmed);
}

/// Names that no terminal should see, users with numbers that are none, programs of the guest that lie.
pub fn names(bed: &Bed) {
    bed.on("nspawn");
    let make = r#"mkdir -p srv/evil; cd srv/evil
        for name in $'\e]52;c;cHduZWQ=\a' $'new\nline' $'\xff\xfe\x80' $'\x9b31m' '-rf' ' ' "$(printf '%0255d' 1)" $'\e]0;title\a\r'; do
          mkdir -- "./$name" && : >"./$name/$name" && mkfifo -- "./$name/p$(printf %.200s "$name")" && ln -s -- "$name" "./$name/l$(printf %.200s "$name")"
          [ ${#name} -gt 40 ] || /usr/local/lib/hostile/socket "./$name/s$name"
        done
        cd ../..; cp -a etc/passwd srv/passwd
        printf 'evil:x:4294967295:4294967295::/:/bin/sh\nevil2:x:-1:-1::/\e]52;c;x\a:/bin/\e]52;c;x\a\n' >>etc/passwd
        mv usr/bin/journalctl srv/journalctl
        printf '#!/bin/sh\nprintf "\\033]52;c;cHduZWQ=\\007\\n"\n' >usr/bin/journalctl; chmod 755 usr/bin/journalctl
        mkdir -p etc/environment.d; printf 'EVIL=\e]52;c;x\a\nLD_PRELOAD=/evil\n' >etc/environment.d/50-evil.conf"#;
    let undo = "rm -rf srv/evil etc/environment.d/50-evil.conf; mv srv/passwd etc/passwd; mv -f srv/journalctl usr/bin/journalctl";
    judge(bed, (make, undo), &[ON_A_RUNNING, COPIES], the_other_answers);
}

/// A link to the host's root, or to where the host keeps the same, in place of each directory on the way.
const LINKS: &str = r#"mkdir -p srv/evil srv/saved; n=0
    for d in etc/systemd etc/environment.d var/log/journal var/log var/lib root home srv/target opt mnt usr/local; do
      n=$((n + 1)); mkdir -p "$d"; mv "$d" "srv/saved/$(echo $d | tr / _)"
      case $((n % 2)) in 0) ln -s "/$d" "$d" ;; *) ln -s "../../../../../../../../../../../$d" "$d" ;; esac
    done
    ln -s / srv/evil/top; ln -s ../../../../../../../../../.. srv/evil/climb; ln -s /root/host-secret srv/evil/secret
    ln -s /proc/1/root srv/evil/magic; ln -s /proc/self/fd/9 srv/evil/descriptor"#;
/// What is above comes back first: below a link are directories of the host.
const NO_LINKS: &str = r"for d in usr/local mnt opt srv/target home root var/lib var/log var/log/journal etc/environment.d etc/systemd; do
      s=srv/saved/$(echo $d | tr / _); [ -e $s ] || [ -L $s ] || continue; rm -rf $d; mv $s $d
    done; rm -rf srv/saved srv/evil srv/target";

/// Links for directories, in a machine that runs.
pub fn links(bed: &Bed) {
    bed.on("nspawn");
    judge(bed, (LINKS, NO_LINKS), &[ON_A_RUNNING, COPIES], the_other_answers);
}

/// The same in one that is stopped, which the host's own programs read.
pub fn links_in_a_machine_that_is_stopped(bed: &Bed) {
    bed.on("nspawn");
    bed.host().sandbox(&["stop", HOSTILE, "--timeout", "10"]).ok();
    judge(bed, (LINKS, NO_LINKS), &[ON_A_STOPPED], the_other_answers);
}

/// How many names the directory of many has, and how many directories are in each other.
const MANY: &str = "1000000";
const LEVELS: &str = "100000";

/// What the host had before the machine of the next two tests.
static BEFORE: OnceLock<Traces> = OnceLock::new();

/// Begins to make the directory of many names, which takes a while, beside the tests that follow.
pub fn many_names_are_begun(bed: &Bed) {
    // the tests that follow would start it
    bed.on("nspawn");
    let host = bed.host();
    BEFORE.get_or_init(|| host.traces());
    host.sandbox(&["clone", OTHER, "deep"]).ok();
    let tree = bed.tree("deep");
    host.sh(&format!(
        "mkdir {tree}/srv/evil && systemd-run -q --unit many-names {PROGRAMS}/many {tree}/srv/evil/many {MANY}"
    ))
    .ok();
}

/// A directory of very many names, and directories in directories: refused with the machine's name, or copied; and such a
/// machine can be removed.
pub fn many_names_and_deep_directories(bed: &Bed) {
    let host = bed.host();
    if BEFORE.get().is_none() {
        many_names_are_begun(bed);
    }
    let before = BEFORE.get().expect("it was begun");
    let tree = bed.tree("deep");
    let made = || host.sh("systemctl -q is-active many-names").code != 0;
    until("the names are there", LONG, || made().then_some(()));
    assert_eq!(host.sh(&format!("ls -U {tree}/srv/evil/many | wc -l")).ok(), MANY);
    let mut faults = Vec::new();
    let on_deep =
        |verbs: &[&str]| bed.judge(&verbs.iter().map(|verb| format!("m=deep; {verb}")).collect::<Vec<_>>());
    let copy = "rm -rf /tmp/c; mkdir /tmp/c; sandbox copy $m:/srv/evil /tmp/c/; s=$?; rm -r /tmp/c; exit $s";
    faults.extend(on_deep(&["sandbox list >/dev/null", "sandbox start $m", copy]));
    faults.extend(on_deep(COPIES_OF_MANY));
    in_tree(&host, &tree, &format!("rm -r srv/evil/many; {PROGRAMS}/deep srv/evil/deep {LEVELS}"));
    faults.extend(on_deep(&["sandbox list >/dev/null", "sandbox status $m >/dev/null", copy]));
    faults.extend(on_deep(COPIES));
    host.sandbox(&["snapshot", "schedule", "deep", "--every", "1h", "--keep", "1l"]).ok();
    faults.extend(others_are_unharmed(bed));
    host.sandbox(&["snapshot", "schedule", "deep", "--off"]).ok();
    faults.extend(on_deep(&["sandbox stop $m --timeout 10", "sandbox remove $m --yes"]));
    faults.extend(bed.is_clean(before));
    if bed.is_there("deep") {
        faults.push("`deep` is still there".to_owned());
    }
    assert!(faults.is_empty(), "{faults:#?}");
}
