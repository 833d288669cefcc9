//! Verbs killed at any point: what is left is whole or gone, and the next command makes it so. Machines are not booted
//! here; what the backends leave of booted ones is tested on real hosts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::Value;

use crate::{copies::Case, kit::process::until, user::said};

/// How often something is killed.
const ROUNDS: u32 = 200;

/// How often each verb is killed at least. Those of `move` are in tests on real hosts: it goes between backends.
const EACH: u32 = 15;

/// How long a verb may take that somebody waits for.
const PATIENCE: Duration = Duration::from_secs(120);

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Gives the seed of this run, which is said, so that a failure can be had again.
#[expect(clippy::disallowed_methods, reason = "a run is another each time, unless somebody names its seed")]
fn seed() -> u64 {
    let named = std::env::var("SANDBOX_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = named.unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::from(since.subsec_nanos()) ^ u64::from(std::process::id()) << 32
    });
    let _ = writeln!(std::io::stderr(), "SANDBOX_TEST_SEED={seed}");
    seed
}

/// Machines of which one is never to be lost, and what is done with them.
struct Trial {
    case: Case,
    random: StdRng,
    told: String,
    /// Which state of the machine was written last.
    state: u32,
    /// How often each verb was killed.
    killed: BTreeMap<String, u32>,
}

/// Names a verb as its user would: `snapshot restore`, `clone`.
fn verb(words: &[&str]) -> String {
    let count = if words[0] == "snapshot" { 2 } else { 1 };
    words[..count].join(" ")
}

impl Trial {
    fn new() -> Self {
        let seed = seed();
        let case = Case::new();
        let trial = Self {
            case,
            random: StdRng::seed_from_u64(seed),
            told: format!("seed {seed}"),
            state: 0,
            killed: BTreeMap::new(),
        };
        trial.write("one", 0);
        trial
    }

    /// Writes a state into a machine: one number, in its tree and in its work.
    fn write(&self, name: &str, state: u32) {
        fs::write(self.case.tree(name).join("etc/state"), state.to_string()).unwrap();
        fs::write(self.case.volume(name, "work").join("state"), state.to_string()).unwrap();
        fs::write(self.case.volume(name, "login").join("login"), "of this machine").unwrap();
    }

    fn begin(&self, words: &[&str]) -> Child {
        let mut command = self.case.user.command(words);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn machines(&self) -> Vec<String> {
        let said = self.case.does(&["--json", "list"]);
        // what was cleaned up is said before
        let listed = serde_json::Deserializer::from_str(&said).into_iter::<Value>().last().unwrap().unwrap();
        listed.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    }

    fn snapshots(&self, name: &str) -> Vec<String> {
        self.entries(&format!("snapshots/{name}"))
    }

    fn entries(&self, place: &str) -> Vec<String> {
        let entries = fs::read_dir(self.case.user.path("state").join(place));
        let mut names: Vec<_> = entries
            .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
            .unwrap_or_default();
        names.sort();
        names
    }

    fn read(&self, place: &str) -> String {
        let path = self.case.user.path("state").join(place);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {place}: {error}", self.told))
    }

    /// Makes what verbs need that were killed less often than others: what is killed makes nothing that they could be
    /// done with.
    fn prepare(&mut self, machines: &[String]) {
        let first = machines.iter().find(|name| *name != "two").unwrap();
        let killed = |verb: &str| self.killed.get(verb).copied().unwrap_or(0);
        let most = self.killed.values().copied().max().unwrap_or(0);
        if killed("remove") < most && !machines.iter().any(|name| name == "two") {
            self.case.does(&["clone", first, "two"]);
        }
        if killed("snapshot restore") < most && self.snapshots(first).is_empty() {
            self.case.does(&["snapshot", "create", first]);
        }
    }

    /// Picks a verb that can be done with what is there.
    fn pick(&mut self, machines: &[String]) -> Vec<String> {
        let first = &machines.iter().find(|name| *name != "two").unwrap().clone();
        let other = if first == "one" { "other" } else { "one" };
        let has_two = machines.iter().any(|name| name == "two");
        let snapshots = self.snapshots(first);
        let mut all: Vec<Vec<&str>> = vec![vec!["rename", first, other], vec!["rename", first, other]];
        all.push(vec!["snapshot", "create", first]);
        if let Some(last) = snapshots.last() {
            all.push(vec!["snapshot", "restore", first, last, "--yes"]);
            all.push(vec!["snapshot", "restore", first, last, "--yes"]);
            if snapshots.len() > 2 {
                all.push(vec!["snapshot", "remove", first, &snapshots[0], &snapshots[1]]);
            }
        }
        if has_two {
            all.extend([vec!["remove", "two", "--yes"], vec!["remove", "two", "--yes"]]);
            all.push(vec!["rename", "two", "three"]);
            all.push(vec!["snapshot", "create", "two"]);
        } else {
            all.extend([vec!["clone", first, "two"], vec!["fork", first, "two"], Case::create("two")]);
        }
        // every other time what was killed least often
        if self.random.gen_ratio(1, 2) {
            let killed = |words: &Vec<&str>| self.killed.get(&verb(words)).copied().unwrap_or(0);
            let least = all.iter().map(killed).min().unwrap_or(0);
            all.retain(|words| killed(words) == least);
        }
        let at = self.random.gen_range(0..all.len());
        all[at].iter().map(|word| (*word).to_owned()).collect()
    }

    /// Sees that nothing is there that does not belong to a whole machine.
    fn is_whole(&self) {
        let told = &self.told;
        let machines = self.machines();
        let named: BTreeSet<_> = machines.iter().cloned().collect();
        assert_eq!(self.entries("machines"), machines, "{told}");
        for name in self.entries("volumes").into_iter().chain(self.entries("snapshots")) {
            assert!(named.contains(&name), "{told}: something of `{name}`, which is not there");
        }
        for name in &machines {
            let inside = self.entries(&format!("machines/{name}"));
            let own = ["machine.json", "rootfs", "holder", "link.json"];
            assert!(inside.iter().all(|file| own.contains(&file.as_str())), "{told}: {name}: {inside:?}");
            let record: Value =
                serde_json::from_str(&self.read(&format!("machines/{name}/machine.json"))).unwrap();
            assert_eq!(record["definition"]["name"], **name, "{told}");
            assert_eq!(
                self.read(&format!("machines/{name}/rootfs/etc/hostname")),
                format!("{name}\n"),
                "{told}"
            );
            let volumes = self.entries(&format!("volumes/{name}"));
            assert_eq!(volumes, ["srv-cache", "srv-login", "srv-work"], "{told}: {name}");
            for snapshot in self.snapshots(name) {
                let inside = self.entries(&format!("snapshots/{name}/{snapshot}"));
                assert_eq!(inside, ["snapshot.json", "tree", "volumes"], "{told}: {name}: {snapshot}");
                self.one_state(
                    &format!("snapshots/{name}/{snapshot}/tree"),
                    &format!("snapshots/{name}/{snapshot}/volumes/srv-work"),
                );
            }
        }
        let firsts: Vec<_> =
            machines.iter().filter(|name| ["one", "other"].contains(&name.as_str())).collect();
        assert_eq!(firsts.len(), 1, "{told}: {machines:?}");
        let first = firsts[0];
        self.one_state(&format!("machines/{first}/rootfs"), &format!("volumes/{first}/srv-work"));
        let login = self.read(&format!("volumes/{first}/srv-login/login"));
        assert_eq!(login, "of this machine", "{told}");
        for place in ["layers/claims", "layers/partial"] {
            assert_eq!(self.entries(place), Vec::<String>::new(), "{told}: {place}");
        }
        let state = self.case.user.path("state").display().to_string();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&state), "{told}: a mount is left");
        assert_eq!(self.case.does(&["repair", "--json"]).trim(), "[]", "{told}");
    }

    /// Sees that a tree and the work beside it are of one moment; one that was made anew has neither.
    fn one_state(&self, tree: &str, work: &str) {
        let read = |place: String| fs::read_to_string(self.case.user.path("state").join(place)).ok();
        let states = [read(format!("{tree}/etc/state")), read(format!("{work}/state"))];
        assert_eq!(states[0], states[1], "{}: {tree} and {work} are of two moments", self.told);
    }

    /// Lists the verbs that were not killed often enough.
    fn seldom(&self) -> Vec<&'static str> {
        let verbs = ["create", "remove", "snapshot create", "snapshot restore", "clone", "fork", "rename"];
        let few = |verb: &&str| self.killed.get(*verb).is_none_or(|count| *count < EACH);
        verbs.into_iter().filter(few).collect()
    }

    /// Sees that none of this trial's processes is left after a while.
    fn has_no_process(&self) {
        let state = self.case.user.path("").display().to_string();
        let ours = |entry: &fs::DirEntry| {
            let folder = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
            let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            folder.starts_with(&state) || String::from_utf8_lossy(&words).contains(&state)
        };
        until("no process is left", PATIENCE, || {
            (!fs::read_dir("/proc").unwrap().flatten().any(|entry| ours(&entry))).then_some(())
        });
    }
}

#[test]
fn whatever_is_killed_whenever_is_whole_or_gone() {
    if !is_root() {
        return;
    }
    let mut trial = Trial::new();
    // of each verb, the latest moment at which it is killed
    let mut latest: BTreeMap<String, Duration> = BTreeMap::new();
    let (mut killed, mut ended, mut repaired) = (0, 0, 0);
    let mut round = 0;
    while killed < ROUNDS || !trial.seldom().is_empty() {
        round += 1;
        let machines = trial.machines();
        if trial.random.gen_ratio(1, 3) {
            trial.state += 1;
            let first = machines.iter().find(|name| ["one", "other"].contains(&name.as_str())).unwrap();
            trial.write(first, trial.state);
        }
        if machines.iter().any(|name| name == "three") {
            trial.case.does(&["remove", "three", "--yes"]);
            continue;
        }
        trial.prepare(&machines);
        let machines = trial.machines();
        let words = trial.pick(&machines);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let longest = latest.entry(verb(&words)).or_insert(Duration::from_millis(100));
        let after = trial.random.gen_range(Duration::from_millis(2)..*longest);
        trial.told = format!("{}, round {round}", trial.told.split(',').next().unwrap());
        trial.told += &format!(", `{}` killed after {after:?}", words.join(" "));
        let begun = Instant::now();
        let mut child = trial.begin(&words);
        thread::sleep(after);
        let _ = child.kill();
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            // it was faster: they are killed earlier from now on
            ended += 1;
            *longest = (*longest * 8 / 10).max(Duration::from_millis(5));
        } else {
            assert_eq!(output.status.code(), None, "{}: {}", trial.told, said(&output));
            killed += 1;
            *trial.killed.entry(verb(&words)).or_default() += 1;
            *longest = (*longest).max(begun.elapsed()) + Duration::from_millis(2);
        }
        // one in four is repaired by name, the others by whatever comes next
        if round % 4 == 0 {
            let told = trial.case.does(&["repair"]);
            repaired += u32::from(told.contains("had died"));
        }
        trial.is_whole();
        let all = || format!("{killed} of {round}, {ended} ended: {:?}", trial.killed);
        assert!(round < ROUNDS * 8, "hardly anything is killed in time: {}", all());
    }
    trial.has_no_process();
    assert!(repaired > 0, "no kill came in the middle: {killed} killed, {ended} ended");
}

#[test]
fn thirty_two_machines_made_at_once_are_all_there_and_removed_at_once_are_all_gone() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    let names: Vec<String> = (0..32).map(|number| format!("m{number:02}")).collect();
    let all = |words: &dyn Fn(&str) -> Vec<String>| {
        let children: Vec<Child> = names
            .iter()
            .map(|name| {
                let words = words(name);
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                let mut command = case.user.command(&words);
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", said(&output));
        }
    };
    all(&|name| Case::create(name).into_iter().map(str::to_owned).collect());
    let listed: Vec<Value> = serde_json::from_str(&case.does(&["--json", "list"])).unwrap();
    assert_eq!(listed.len(), 33);
    for name in &names {
        let hostname = fs::read_to_string(case.tree(name).join("etc/hostname")).unwrap();
        assert_eq!(hostname, format!("{name}\n"));
    }
    all(&|name| ["remove", name, "--yes"].map(str::to_owned).to_vec());
    let listed: Vec<Value> = serde_json::from_str(&case.does(&["--json", "list"])).unwrap();
    assert_eq!(listed.len(), 1);
    let left = case.facts();
    assert!(left.iter().all(|path| path.contains("/one")), "{left:?}");
}

#[test]
fn of_a_create_and_a_remove_of_one_name_each_ends_right() {
    if !is_root() {
        return;
    }
    let mut trial = Trial::new();
    for round in 0..12_u32 {
        trial.told = format!("{}, round {round}", trial.told.split(',').next().unwrap());
        let create = trial.begin(&Case::create("two"));
        thread::sleep(Duration::from_millis(trial.random.gen_range(0..200)));
        let remove = trial.begin(&["remove", "two", "--yes"]);
        let (create, remove) = (create.wait_with_output().unwrap(), remove.wait_with_output().unwrap());
        let codes = (create.status.code(), remove.status.code());
        let there = trial.machines().contains(&"two".to_owned());
        let both = format!("{}: {codes:?}\n{}\n{}", trial.told, said(&create), said(&remove));
        match codes {
            (Some(0), Some(0)) => assert!(!there, "{both}"),
            // it came too early, or met the other at work
            (Some(0), Some(1)) => assert!(there, "{both}"),
            // the name was still taken by the one of the round before
            (Some(1), Some(0 | 1)) => {}
            _ => panic!("{both}"),
        }
        trial.is_whole();
    }
    if trial.machines().contains(&"two".to_owned()) {
        trial.case.does(&["remove", "two", "--yes"]);
    }
    trial.has_no_process();
}
