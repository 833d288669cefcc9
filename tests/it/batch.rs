//! One bad machine, and the others: its failure is its own, and what holds it can be ended.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Output, Stdio},
    time::Duration,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{copies::Case, kit::process::until, user::said};

/// How long a command may take on a busy machine.
const SOON: Duration = Duration::from_secs(120);

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Makes a machine's copy take long enough to be caught at it.
fn fill(case: &Case, name: &str) {
    for at in 0..60 {
        let folder = case.tree(name).join(format!("srv/many/{at}"));
        fs::create_dir_all(&folder).unwrap();
        for file in 0..150 {
            fs::write(folder.join(file.to_string()), "x").unwrap();
        }
    }
}

fn begin(case: &Case, words: &[&str]) -> Child {
    let mut command = case.user.command(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

/// Gives both outputs of a command.
fn all_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &said(output)
}

/// Waits for the end of a command; gives both its outputs, too.
fn end(child: Child) -> (ExitStatus, String) {
    let output = child.wait_with_output().unwrap();
    (output.status, all_of(&output))
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// Waits until a snapshot of the machine is being taken, and stops the process that does it.
fn stop_at_work(case: &Case, name: &str, pid: impl Fn() -> Option<u32>) -> u32 {
    let folder = case.user.path(&format!("state/snapshots/{name}"));
    until("a snapshot is being taken", SOON, || {
        let taken = entries(&folder).iter().any(|entry| entry.ends_with(".taking"));
        let pid = pid().filter(|_| taken)?;
        signal(pid, Signal::SIGSTOP);
        let still = entries(&folder).iter().any(|entry| entry.ends_with(".taking"));
        assert!(still, "it was faster than this test: fill more");
        Some(pid)
    })
}

/// Reads what a command says until a word is in it.
fn until_said(child: &mut Child, word: &str) {
    let mut all = Vec::new();
    let mut stderr = child.stderr.take().unwrap();
    let mut byte = [0];
    while !String::from_utf8_lossy(&all).contains(word) {
        assert_eq!(stderr.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&all));
        all.push(byte[0]);
    }
    child.stderr = Some(stderr);
}

/// Finds the process that does a machine's part of a batch.
fn part(parent: u32, name: &str) -> Option<u32> {
    let numbers = fs::read_dir("/proc").unwrap().flatten();
    numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find(|pid| {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let words = format!("internal\0snapshot\0{name}\0");
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        let above = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        above == Some(parent) && String::from_utf8_lossy(&read("cmdline")).ends_with(&words)
    })
}

fn snapshots(case: &Case, name: &str) -> Vec<Value> {
    serde_json::from_str(&case.does(&["--json", "snapshot", "list", name])).unwrap()
}

/// Sees that no copy is left of a snapshot that was not taken.
fn has_no_copy(case: &Case, name: &str) {
    let left = entries(&case.user.path(&format!("state/snapshots/{name}")));
    assert!(left.iter().all(|entry| !entry.starts_with('.')), "{left:?}");
    assert_eq!(case.does(&["repair", "--json"]).trim(), "[]");
}

#[test]
fn what_only_copies_a_machine_is_interrupted_by_what_ends_the_machine() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    fill(&case, "one");
    // one that cleans up when it is asked to
    let taking = begin(&case, &["snapshot", "create", "one", "s1"]);
    let pid = stop_at_work(&case, "one", || Some(taking.id()));
    let mut stop = begin(&case, &["stop", "one"]);
    until_said(&mut stop, "interrupted the snapshot `s1` of machine `one`: process ");
    signal(pid, Signal::SIGCONT);
    let (stopped, told) = end(stop);
    assert!(stopped.success(), "{told}");
    let (status, told) = end(taking);
    assert_eq!(status.code(), Some(143), "{told}");
    has_no_copy(&case, "one");
    // one that does nothing any more
    let taking = begin(&case, &["snapshot", "create", "one", "s2"]);
    stop_at_work(&case, "one", || Some(taking.id()));
    case.does(&["remove", "one", "--yes"]);
    let (status, told) = end(taking);
    assert_eq!(status.code(), None, "{told}");
    assert_eq!(case.does(&["--json", "list"]).trim(), "[]");
    assert!(!case.user.path("state/snapshots").exists());
}

#[test]
fn a_person_waits_for_a_person_and_not_for_the_schedule() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    fill(&case, "one");
    let taking = begin(&case, &["snapshot", "create", "one", "s1"]);
    let pid = stop_at_work(&case, "one", || Some(taking.id()));
    case.user.ends(&["--no-wait", "rename", "one", "two"], 1, "is being changed by process ");
    case.user.ends(&["--no-wait", "snapshot", "remove", "one", "s1"], 1, "(sandbox snapshot create)");
    assert!(case.does(&["list"]).contains("one "), "a machine that is held is listed");
    let mut rename = begin(&case, &["rename", "one", "two"]);
    until_said(&mut rename, "waiting for process ");
    signal(pid, Signal::SIGCONT);
    let (renamed, told) = end(rename);
    assert!(renamed.success(), "{told}");
    assert!(end(taking).0.success());
    assert_eq!(snapshots(&case, "two").len(), 1);

    case.does(&["snapshot", "schedule", "two", "--every", "1h", "--keep", "2l"]);
    let run = begin(&case, &["snapshot", "run", "--due"]);
    let pid = stop_at_work(&case, "two", || part(run.id(), "two"));
    // the next run leaves it alone
    let second = case.user.sandbox(&["snapshot", "run", "--due"]);
    assert!(second.status.success(), "{}", said(&second));
    assert!(said(&second).contains("machine `two` is left to the next run"), "{}", said(&second));
    assert!(case.does(&["snapshot", "schedule"]).contains("skipped: machine `two` is being changed by"));
    let mut rename = begin(&case, &["--no-wait", "rename", "two", "one"]);
    until_said(&mut rename, "interrupted the snapshot ");
    signal(pid, Signal::SIGCONT);
    let (renamed, told) = end(rename);
    assert!(renamed.success(), "{told}");
    let (ran, told) = end(run);
    assert!(ran.success() && told.contains("it was interrupted"), "{told}");
    assert_eq!(case.does(&["snapshot", "schedule"]).matches("skipped: ").count(), 1);
    assert_eq!(snapshots(&case, "one").len(), 1);
    has_no_copy(&case, "one");
}

#[test]
fn a_run_goes_on_after_a_part_that_crashed_and_one_that_failed() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    for name in ["bad", "late", "unread"] {
        case.does(&["clone", "one", name]);
    }
    fill(&case, "one");
    for name in ["bad", "late", "one", "unread"] {
        case.does(&["snapshot", "schedule", name, "--every", "1h", "--keep", "2l"]);
    }
    fs::rename(case.tree("bad"), case.user.path("outside/bad")).unwrap();
    fs::write(case.user.path("state/machines/unread/machine.json"), "{").unwrap();
    let run = begin(&case, &["snapshot", "run", "--due"]);
    let pid = stop_at_work(&case, "one", || part(run.id(), "one"));
    // not SIGSEGV, which Rust handles
    signal(pid, Signal::SIGABRT);
    signal(pid, Signal::SIGCONT);
    let (ran, told) = end(run);
    assert_eq!(ran.code(), Some(70), "{told}");
    for word in [
        "machine `one`: its process crashed (SIGABRT)",
        "machine `bad`: could not ",
        "machine `late`: took ",
        "machine `unread` is left out: ",
    ] {
        assert!(told.contains(word), "{word}: {told}");
    }
    assert_eq!(snapshots(&case, "late").len(), 1);
    assert_eq!(snapshots(&case, "one").len(), 0);
    let list = case.user.sandbox(&["list"]);
    let told = all_of(&list);
    assert_eq!(list.status.code(), Some(7), "{}: {told}", list.status);
    assert!(told.contains("\nlate ") && told.contains("unread/machine.json"), "{told}");
    fs::rename(case.user.path("outside/bad"), case.tree("bad")).unwrap();
    let again = case.user.sandbox(&["snapshot", "run", "--due"]);
    assert_eq!(again.status.code(), Some(7), "{}", said(&again));
    for name in ["bad", "one"] {
        assert!(all_of(&again).contains(&format!("machine `{name}`: took ")), "{}", all_of(&again));
    }
    has_no_copy(&case, "one");
}

/// A mount, until it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(path: PathBuf) -> Self {
        fs::create_dir_all(&path).unwrap();
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        Self(path)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let name = self.0.file_name().unwrap().to_string_lossy().into_owned();
        for line in mounts.lines().filter(|line| line.contains(&name)) {
            let _ = umount2(line.split(' ').nth(1).unwrap_or_default(), MntFlags::MNT_DETACH);
        }
    }
}

#[test]
fn a_machine_that_cannot_be_removed_is_named_as_such_and_troubles_no_other() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    case.does(&["clone", "one", "two"]);
    // what cannot be removed as long as it is mounted
    let unique = format!("held-{}", std::process::id());
    let held = Mounted::new(case.tree("two").join("srv").join(unique));
    let removed = case.user.sandbox(&["remove", "two", "--yes"]);
    assert_eq!(removed.status.code(), Some(6), "{}", said(&removed));
    // the next command tries once, says so, and does what it was asked for
    let first = case.user.sandbox(&["list"]);
    assert!(
        first.status.success() && said(&first).contains("`sandbox repair two` tries again"),
        "{}",
        said(&first)
    );
    let second = case.user.sandbox(&["list"]);
    assert!(second.status.success() && !all_of(&second).contains("two"), "{}", said(&second));
    for words in [&["status", "two"][..], &["start", "two"], &["snapshot", "create", "two"]] {
        case.user.ends(words, 7, "machine `two` is half removed: its `remove` has not ended");
        case.user.ends(words, 7, "hint: remove what is left of it:  sandbox remove two");
    }
    case.user.ends(&["status", "twoo"], 1, "there is no machine `twoo`");
    assert!(!said(&case.user.sandbox(&["status", "twoo"])).contains("did you mean `two`"));
    case.user.ends(&Case::create("two"), 6, "what an earlier machine `two` left is in the way");
    let doctor = all_of(&case.user.sandbox(&["doctor"]));
    assert!(doctor.contains("not cleaned up: two"), "{doctor}");
    case.user.ends(&["repair", "two"], 6, "removing the tree failed");
    case.user.ends(&["remove", "two", "--yes"], 6, "removing the tree failed");
    drop(held);
    case.does(&["remove", "two", "--yes"]);
    case.user.ends(&["status", "two"], 1, "there is no machine `two`");
    assert_eq!(case.does(&["repair", "--json"]).trim(), "[]");
    assert_eq!(entries(&case.user.path("state/machines")), ["one"]);
}

/// What stands in the way of a file that `set` and `rename` write, as root in the machine could put it there.
type Obstacle = fn(&Path);

#[test]
fn a_tree_that_refuses_keeps_no_machine_from_being_removed() {
    if !is_root() {
        return;
    }
    let obstacles: [(&str, &[&str], Obstacle); 4] = [
        ("/etc leads to itself", &["set", "two", "--env", "A=b"], |tree| {
            fs::rename(tree.join("etc"), tree.join("srv/etc")).unwrap();
            std::os::unix::fs::symlink("etc", tree.join("etc")).unwrap();
        }),
        ("/etc is a file", &["set", "two", "--env", "A=b"], |tree| {
            fs::rename(tree.join("etc"), tree.join("srv/etc")).unwrap();
            fs::write(tree.join("etc"), "").unwrap();
        }),
        ("a file is a directory", &["set", "two", "--env", "A=b"], |tree| {
            fs::create_dir_all(tree.join("etc/profile.d/90-sandbox-set.sh/x")).unwrap();
        }),
        ("a file is too large", &["rename", "two", "three"], |tree| {
            fs::File::create(tree.join("etc/hosts")).unwrap().set_len(1 << 40).unwrap();
        }),
    ];
    let case = Case::new();
    for (what, words, obstacle) in obstacles {
        case.does(&["clone", "one", "two"]);
        obstacle(&case.tree("two"));
        let refused = case.user.sandbox(words);
        assert!(!refused.status.success(), "{what}");
        assert!(said(&refused).contains("machine `two`"), "{what}: {}", said(&refused));
        assert_eq!(case.does(&["repair", "--json"]).trim(), "[]", "{what}: {}", said(&refused));
        case.does(&["status", "two"]);
        case.does(&["remove", "two", "--yes"]);
        assert_eq!(entries(&case.user.path("state/machines")), ["one"], "{what}");
    }
}
