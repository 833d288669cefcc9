//! Machines renamed, cloned and kept in snapshots, none of them booted: what goes along, what must not, and what an
//! error leaves.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use serde_json::Value;

use crate::{
    kit::{archive::Archive, server::Server, system::system},
    user::{User, said},
};

/// What is planted in the volumes of a machine, each to be found in its own place alone.
const AUTH: &str = "planted-login-5f1c2d";
const WORK: &str = "planted-work-7a90be";
const CACHED: &str = "planted-cache-c41f03";

/// A user with one small machine.
pub struct Case {
    pub user: User,
    server: Server,
    _archive: Archive,
}

impl Case {
    /// Makes the machine `one`, stopped, with a volume of each kind.
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// Does the same, where something is done with the user's folder first.
    pub fn with(first: impl FnOnce(&User)) -> Self {
        let mut archive = Archive::new();
        archive.fill();
        archive.add(&system());
        archive.publish();
        let server = Server::new(archive.root());
        let user = User::new(&archive, server.url());
        first(&user);
        fs::create_dir_all(user.path("profiles")).unwrap();
        let volumes = "\
            [[volumes]]\npath = \"/srv/login\"\nkind = \"auth\"\nowner = \"root\"\n\
            [[volumes]]\npath = \"/srv/work\"\nkind = \"home\"\nowner = \"root\"\n\
            [[volumes]]\npath = \"/srv/cache\"\nkind = \"cache\"\nowner = \"root\"\n";
        for (name, text) in [("base", ""), ("kept", volumes)] {
            let text = format!("schema = 1\nname = \"{name}\"\n{text}");
            fs::write(user.path(&format!("profiles/{name}.toml")), text).unwrap();
        }
        let case = Self { user, server, _archive: archive };
        case.does(&Self::create("one"));
        case
    }

    /// Gives the words that make a machine of the same kind.
    pub fn create(name: &str) -> Vec<&str> {
        let words = "--release kit --profile kept --variant essential --keyring key --backend direct --network none \
                     --no-start --quiet --accept-costs";
        ["create", name].into_iter().chain(words.split(' ')).collect()
    }

    /// Returns how many requests were made since this was last asked.
    pub fn fetched(&self) -> usize {
        self.server.log().len()
    }

    #[track_caller]
    pub fn does(&self, words: &[&str]) -> String {
        let output = self.user.sandbox(words);
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn json(&self, words: &[&str]) -> Value {
        let output = self.user.sandbox(&[&["--json"], words].concat());
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn tree(&self, name: &str) -> PathBuf {
        self.user.path(&format!("state/machines/{name}/rootfs"))
    }

    pub fn volume(&self, name: &str, volume: &str) -> PathBuf {
        self.user.path(&format!("state/volumes/{name}/srv-{volume}"))
    }

    pub fn names(&self) -> Vec<String> {
        names(&self.json(&["list"]), "name")
    }

    pub fn snapshots(&self, name: &str) -> Vec<String> {
        names(&self.json(&["snapshot", "list", name]), "name")
    }

    fn plant(&self) {
        fs::write(self.volume("one", "login").join("token"), AUTH).unwrap();
        fs::write(self.volume("one", "work").join("draft"), WORK).unwrap();
        fs::write(self.volume("one", "cache").join("object"), CACHED).unwrap();
    }

    /// Lists the files below the state directory that have a text in them.
    fn with_text(&self, text: &str) -> Vec<String> {
        let state = self.user.path("state");
        let mut found = Vec::new();
        search(&state, &state, text.as_bytes(), &mut found);
        found.sort();
        found
    }
}

fn names(value: &Value, key: &str) -> Vec<String> {
    value.as_array().unwrap().iter().map(|one| one[key].as_str().unwrap().to_owned()).collect()
}

fn search(top: &Path, folder: &Path, text: &[u8], found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            search(top, &path, text, found);
        } else if kind.is_file() && memchr_of(&fs::read(&path).unwrap(), text) {
            found.push(path.strip_prefix(top).unwrap().display().to_string());
        }
    }
}

fn memchr_of(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn a_renamed_machine_has_all_that_it_had() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    case.plant();
    case.does(&["snapshot", "create", "one", "before"]);
    fs::write(case.tree("one").join("etc/hosts"), "127.0.1.1\tone one.lan oneself\n").unwrap();
    case.does(&["rename", "one", "other"]);
    assert_eq!(case.names(), ["other"]);
    assert_eq!(fs::read_to_string(case.tree("other").join("etc/hostname")).unwrap(), "other\n");
    let hosts = fs::read_to_string(case.tree("other").join("etc/hosts")).unwrap();
    assert_eq!(hosts, "127.0.1.1\tother other.lan oneself\n");
    let told = fs::read_to_string(case.tree("other").join("etc/sandbox/machine")).unwrap();
    assert!(told.contains("NAME=other\n"), "{told}");
    assert_eq!(case.with_text(AUTH), ["volumes/other/srv-login/token"], "a login goes with its machine");
    let status = case.json(&["status", "other"]);
    let source = status["volumes"][1]["source"].as_str().unwrap();
    assert!(source.ends_with("state/volumes/other/srv-login"), "{status}");
    assert_eq!(case.snapshots("other"), ["before"]);
    for place in ["machines/one", "volumes/one", "snapshots/one"] {
        assert!(!case.user.path(&format!("state/{place}")).exists(), "{place}");
    }
    // a snapshot of before has the old name, and the machine has not
    case.does(&["snapshot", "restore", "other", "before", "--yes"]);
    assert_eq!(fs::read_to_string(case.tree("other").join("etc/hostname")).unwrap(), "other\n");
    case.does(&["remove", "other", "--yes"]);
    for place in ["machines", "volumes", "snapshots"] {
        let left = fs::read_dir(case.user.path(&format!("state/{place}"))).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{place}");
    }
}

#[test]
fn a_name_that_is_taken_in_any_place_is_refused_and_nothing_is_changed() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    case.does(&["clone", "one", "two"]);
    case.user.ends(&["rename", "one", "two"], 1, "there is a machine `two` already");
    case.user.ends(&["rename", "one", "one"], 1, "there is a machine `one` already");
    case.user.ends(&["clone", "one", "two"], 1, "there is a machine `two` already");
    case.does(&["remove", "two", "--yes", "--keep-volumes"]);
    case.user.ends(&["rename", "one", "two"], 1, "volumes/two is there already");
    case.user.ends(&["clone", "one", "two"], 1, "an earlier machine `two` left ");
    case.user.ends(&["rename", "none", "two"], 1, "there is no machine `none`");
    case.user.ends(&["rename", "one", "a/b"], 2, "at position 2");
    assert_eq!(case.names(), ["one"]);
    assert!(case.tree("one").join("etc/hostname").exists());
}

#[test]
fn a_clone_is_another_machine_and_has_no_login() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    case.plant();
    let tree = case.tree("one");
    fs::write(tree.join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
    fs::create_dir_all(tree.join("etc/ssh")).unwrap();
    fs::create_dir_all(tree.join("var/lib/systemd")).unwrap();
    for file in
        ["etc/ssh/ssh_host_ed25519_key", "etc/ssh/ssh_host_ed25519_key.pub", "var/lib/systemd/random-seed"]
    {
        fs::write(tree.join(file), "planted-own-1d77").unwrap();
    }
    fs::write(tree.join("etc/own"), "kept").unwrap();
    case.does(&["clone", "one", "two"]);
    let two = case.tree("two");
    assert_eq!(fs::read_to_string(two.join("etc/hostname")).unwrap(), "two\n");
    assert_eq!(fs::read_to_string(two.join("etc/machine-id")).unwrap(), "");
    assert_eq!(fs::read_to_string(two.join("etc/own")).unwrap(), "kept");
    assert!(two.join("etc/systemd/system/sandbox-ssh-host-keys.service").exists());
    assert_eq!(
        case.with_text("planted-own-1d77").len(),
        3,
        "only the first machine has its keys and its seed"
    );
    assert!(tree.join("etc/ssh/ssh_host_ed25519_key").exists());
    assert_eq!(case.with_text(WORK), ["volumes/one/srv-work/draft", "volumes/two/srv-work/draft"]);
    assert_eq!(case.with_text(AUTH), ["volumes/one/srv-login/token"]);
    assert_eq!(case.with_text(CACHED), ["volumes/one/srv-cache/object"]);
    assert!(case.volume("two", "login").is_dir() && case.volume("two", "cache").is_dir());
    // what is removed in one stays in the other
    case.does(&["remove", "one", "--yes"]);
    assert_eq!(case.with_text(WORK), ["volumes/two/srv-work/draft"]);
    assert_eq!(case.names(), ["two"]);
}

#[test]
fn a_login_is_in_no_snapshot_and_in_nothing_that_is_made_of_one() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    case.plant();
    case.does(&["snapshot", "create", "one", "first"]);
    assert_eq!(case.with_text(AUTH), ["volumes/one/srv-login/token"]);
    assert_eq!(case.with_text(CACHED), ["volumes/one/srv-cache/object"]);
    let all = ["snapshots/one/first/volumes/srv-work/draft", "volumes/one/srv-work/draft"];
    assert_eq!(case.with_text(WORK), all, "the search finds what is there");
    case.does(&["clone", "one", "two", "--snapshot", "first"]);
    case.does(&["fork", "one", "three"]);
    case.does(&["snapshot", "create", "three", "of-fork"]);
    case.does(&["snapshot", "restore", "one", "first", "--yes"]);
    assert_eq!(case.with_text(AUTH), ["volumes/one/srv-login/token"]);
    assert_eq!(case.with_text(CACHED), ["volumes/one/srv-cache/object"]);
    assert_eq!(case.with_text(WORK).len(), 5);
}

#[test]
fn a_snapshot_is_restored_whole_and_what_is_not_in_it_stays() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    case.plant();
    let tree = case.tree("one");
    fs::write(tree.join("etc/changed"), "before").unwrap();
    fs::write(tree.join("etc/gone"), "before").unwrap();
    assert_eq!(case.does(&["snapshot", "create", "one", "before"]), "before (clean)\n");
    case.user.ends(&["snapshot", "create", "one", "before"], 1, "there is a snapshot `before` of it already");
    let taken = case.json(&["snapshot", "create", "one"]);
    assert_eq!(taken["name"].as_str().unwrap().len(), "2026-11-21-141500".len());
    let same = case.user.sandbox(&["snapshot", "diff", "one", "before"]);
    assert_eq!((same.status.code(), &*same.stdout), (Some(0), &b""[..]), "{}", said(&same));

    fs::write(tree.join("etc/changed"), "after!").unwrap();
    fs::remove_file(tree.join("etc/gone")).unwrap();
    fs::write(tree.join("etc/new"), "after").unwrap();
    fs::write(case.volume("one", "work").join("draft"), "other").unwrap();
    fs::write(case.volume("one", "login").join("token"), "renewed").unwrap();
    let differs = case.user.sandbox(&["snapshot", "diff", "one", "before"]);
    assert_eq!(differs.status.code(), Some(1), "{}", said(&differs));
    let told = String::from_utf8(differs.stdout).unwrap();
    assert_eq!(told, "~ /etc/changed\n- /etc/gone\n+ /etc/new\n~ /srv/work/draft\n");

    case.user.ends(&["snapshot", "restore", "one", "befor", "--yes"], 1, "did you mean `before`?");
    case.user.ends(&["snapshot", "restore", "one", "before"], 2, "--yes");
    case.does(&["snapshot", "restore", "one", "before", "--keep-volumes", "--yes"]);
    assert_eq!(fs::read_to_string(tree.join("etc/changed")).unwrap(), "before");
    assert!(tree.join("etc/gone").exists() && !tree.join("etc/new").exists());
    assert_eq!(fs::read_to_string(case.volume("one", "work").join("draft")).unwrap(), "other");
    case.does(&["snapshot", "restore", "one", "before", "--yes"]);
    assert_eq!(fs::read_to_string(case.volume("one", "work").join("draft")).unwrap(), WORK);
    assert_eq!(fs::read_to_string(case.volume("one", "login").join("token")).unwrap(), "renewed");
    let beside: Vec<_> = fs::read_dir(case.user.path("state/machines/one")).unwrap().flatten().collect();
    assert!(beside.iter().all(|entry| !entry.file_name().to_string_lossy().starts_with('.')), "{beside:?}");

    assert_eq!(case.snapshots("one").len(), 2);
    case.user.ends(&["snapshot", "remove", "one", "before", "none"], 1, "there is no snapshot `none`");
    assert_eq!(case.snapshots("one").len(), 2, "all or none");
    case.does(&["snapshot", "remove", "one", "before", taken["name"].as_str().unwrap()]);
    assert!(!case.user.path("state/snapshots").exists());
}

#[test]
fn a_schedule_takes_what_is_due_and_keeps_what_it_says() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    case.does(&["snapshot", "create", "one", "by-hand"]);
    case.user.ends(&["snapshot", "schedule", "one", "--every", "5s", "--keep", "6h"], 2, "no interval");
    case.user.ends(&["snapshot", "schedule", "one", "--every", "1h", "--keep", "6x"], 2, "what is kept");
    case.does(&["snapshot", "schedule", "one", "--every", "1h", "--keep", "2l"]);
    assert!(case.does(&["snapshot", "schedule"]).contains("one      1h     2l"));
    assert!(case.does(&["snapshot", "run", "--due"]).contains("machine `one`: took "));
    assert_eq!(case.does(&["snapshot", "run", "--due"]), "", "nothing is due");
    // three that are older
    let folder = case.user.path("state/snapshots/one");
    let first = case.snapshots("one").into_iter().find(|name| name != "by-hand").unwrap();
    for (at, hours) in [("a", 9), ("b", 8), ("c", 7)] {
        let old = folder.join(&first).join("snapshot.json");
        let mut value: Value = serde_json::from_slice(&fs::read(old).unwrap()).unwrap();
        value["name"] = at.into();
        value["created"] = (value["created"].as_i64().unwrap() - hours * 3600).into();
        fs::create_dir(folder.join(at)).unwrap();
        fs::write(folder.join(at).join("snapshot.json"), value.to_string()).unwrap();
    }
    assert!(case.does(&["snapshot", "run", "--due"]).contains("machine `one`: removed a, b"));
    let mut left = case.snapshots("one");
    left.sort();
    assert_eq!(left, [&*first, "by-hand", "c"], "the last two, and what was taken by hand");
    case.does(&["snapshot", "schedule", "one", "--off"]);
    assert_eq!(case.json(&["snapshot", "schedule"]), serde_json::json!([]));
    assert_eq!(case.snapshots("one").len(), 3);
}

#[test]
fn a_machine_that_is_changed_is_listed_and_its_holder_is_named() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    let folder = fs::File::open(case.user.path("state/machines/one")).unwrap();
    let lock = nix::fcntl::Flock::lock(folder, nix::fcntl::FlockArg::LockExclusive).unwrap();
    let holder = format!("process {} (sandbox rename)", std::process::id());
    fs::write(case.user.path("state/machines/one/holder"), &holder).unwrap();
    assert_eq!(case.names(), ["one"]);
    for words in [
        &["rename", "one", "two"][..],
        &["clone", "one", "two"],
        &["snapshot", "create", "one"],
        &["remove", "one", "--yes"],
    ] {
        let words = [&["--no-wait"], words].concat();
        case.user.ends(&words, 1, &format!("is being changed by {holder}"));
    }
    drop(lock);
    case.does(&["clone", "one", "two"]);
}

#[test]
fn a_secret_is_beside_the_machine_alone_and_a_variable_that_looks_like_one_is_refused() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    let set = |value: &[u8]| {
        let mut command = case.user.command(&["secret", "set", "one", "GH_TOKEN"]);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(value).unwrap();
        child.wait_with_output().unwrap()
    };
    assert!(set(b"planted-secret-11\n").status.success());
    let file = case.user.path("state/machines/one/secrets/GH_TOKEN");
    assert_eq!(fs::read_to_string(&file).unwrap(), "planted-secret-11");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(case.json(&["secret", "list", "one"]), serde_json::json!(["GH_TOKEN"]));
    case.does(&["snapshot", "create", "one", "s"]);
    case.does(&["clone", "one", "two"]);
    assert_eq!(case.json(&["secret", "list", "two"]), serde_json::json!([]));
    assert_eq!(case.with_text("planted-secret-11"), ["machines/one/secrets/GH_TOKEN"]);
    case.does(&["rename", "one", "three"]);
    case.user.ends(&["secret", "remove", "three", "OTHER"], 1, "has no secret `OTHER`");
    case.does(&["secret", "remove", "three", "GH_TOKEN"]);
    assert_eq!(case.with_text("planted-secret-11"), Vec::<String>::new());
    case.user.ends(&["set", "two", "--env", "GH_TOKEN=planted"], 2, "sandbox secret set two GH_TOKEN");
    let status = case.does(&["status", "two"]);
    assert!(status.contains("no core dumps"), "{status}");
    case.does(&["set", "two", "--core-dumps", "yes"]);
    assert!(!case.does(&["status", "two"]).contains("no core dumps"));
    case.user.ends(&["set", "two", "--cpu-weight", "0"], 2, "is no weight");
}

#[test]
fn a_full_disk_is_said_and_nothing_is_left() {
    if !is_root() {
        return;
    }
    let mut small = None;
    let case = Case::with(|user| small = Some(crate::full::Small::new(user.path("state"), 256 << 10)));
    let small = small.unwrap();
    case.plant();
    fs::write(case.tree("one").join("srv/large"), vec![7; 8 << 20]).unwrap();
    fs::write(case.volume("one", "work").join("large"), vec![7; 2 << 20]).unwrap();
    case.does(&["snapshot", "create", "one", "first"]);
    let used = rustix::fs::statvfs(small.path()).unwrap();
    let used = (used.f_blocks - used.f_bfree) * used.f_frsize / 1024;
    let before = case.facts();
    for room in [1 << 10, 4 << 10, 9 << 10] {
        small.grow(used + room);
        for words in [
            &["snapshot", "create", "one", "second"][..],
            &["clone", "one", "two"],
            &["snapshot", "restore", "one", "first", "--yes"],
        ] {
            let output: Output = case.user.sandbox(words);
            assert_eq!(output.status.code(), Some(6), "{words:?} with {room} KiB: {}", said(&output));
            assert!(said(&output).contains("No space left"), "{words:?}: {}", said(&output));
            assert_eq!(case.facts(), before, "{words:?} with {room} KiB");
        }
    }
    small.grow(256 << 10);
    case.does(&["snapshot", "create", "one", "second"]);
    case.does(&["clone", "one", "two"]);
    case.does(&["snapshot", "restore", "one", "first", "--yes"]);
    // before the folder that it is in
    drop(small);
}

impl Case {
    /// Lists all that machines have, but for the layers they are made of.
    pub fn facts(&self) -> Vec<String> {
        let state = self.user.path("state");
        let mut all = Vec::new();
        for place in ["machines", "volumes", "snapshots"] {
            if let Ok(entries) = fs::read_dir(state.join(place)) {
                for entry in entries.flatten() {
                    paths(&state, &entry.path(), &mut all);
                }
            }
        }
        all.sort();
        all
    }
}

fn paths(top: &Path, path: &Path, all: &mut Vec<String>) {
    all.push(path.strip_prefix(top).unwrap().display().to_string());
    if path.symlink_metadata().unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap().flatten() {
            paths(top, &entry.path(), all);
        }
    }
}
