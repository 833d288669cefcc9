//! Where tests run: this machine, and a systemd host in it that `sandbox` itself makes.

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process::Child,
    sync::OnceLock,
    time::Duration,
};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    process::{self, Output},
    runner::{line, skip},
    traces::{self, Traces},
};

/// How long a quick command may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(120);
/// How long making a machine may take.
pub const LONG: Duration = Duration::from_secs(900);

/// Machines that tests make on this machine, by their first names.
const HERE: [&str; 8] = ["testhost", "plain", "older", "noble", "profiled", "victim", "forked", "moved"];

/// Gives a machine on this machine the name that it has in this checkout: links are named after machines, so
/// two runs at once, of two checkouts, need two names.
pub fn own(name: &str) -> String {
    let digest = Sha256::digest(env!("CARGO_TARGET_TMPDIR").as_bytes());
    format!("{name}-{:02x}{:02x}", digest[0], digest[1])
}

/// The program's path in it.
const INSTALLED: &str = "/usr/local/bin/sandbox";

/// The places of a run. What costs time is made when first asked for, once.
pub struct Lab {
    place: PathBuf,
    state: String,
    cache: String,
    name: String,
    traces: Traces,
    host: OnceLock<Option<Traces>>,
    agents: OnceLock<bool>,
}

impl Lab {
    /// Sets a run up: removes what a killed one left, and looks at what is there.
    pub fn new() -> Self {
        let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("host");
        fs::create_dir_all(&place).expect("a folder below target/");
        let path = |name: &str| place.join(name).to_str().expect("a UTF-8 path").to_owned();
        let (state, cache) = (path("state"), path("cache"));
        let (host, agents) = (OnceLock::new(), OnceLock::new());
        let lab =
            Self { place, state, cache, name: own("testhost"), traces: Traces::default(), host, agents };
        if lab.is_root() {
            lab.clear();
        }
        Self { traces: lab.traces_here(), ..lab }
    }

    /// Tells whether machines can be made at all.
    pub fn is_root(&self) -> bool {
        rustix::process::geteuid().is_root()
    }

    /// Gives a path for a test's own use, which later runs find again.
    pub fn path(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    fn need_root(&self) {
        if !self.is_root() {
            skip("needs root");
        }
    }

    /// Removes every machine of this run.
    pub fn clear(&self) {
        for name in names(&self.sandbox(&["list", "--json"]).out) {
            let removed = self.sandbox(&["remove", &name, "--yes"]);
            if removed.code != 0 {
                line(&format!("could not remove {name}: {}", removed.err));
            }
        }
    }

    /// Gives the argv of the program on this machine.
    pub fn argv<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        self.need_root();
        // global options stand first: what follows `--` is the payload's
        let mut argv =
            vec![env!("CARGO_BIN_EXE_sandbox"), "--state-dir", &self.state, "--cache-dir", &self.cache];
        argv.extend(accepting(arguments));
        argv
    }

    /// Runs the program on this machine.
    #[track_caller]
    pub fn sandbox(&self, arguments: &[&str]) -> Output {
        process::run(&self.argv(arguments), "", LONG)
    }

    /// Runs the program on this machine with a text as its stdin.
    #[track_caller]
    pub fn sandbox_on(&self, arguments: &[&str], input: impl Into<Vec<u8>>) -> Output {
        process::run(&self.argv(arguments), input, LONG)
    }

    /// Looks at what machines of this run have on this machine.
    ///
    /// Only what bears their marks counts: others may be at work here at the same time.
    pub fn traces_here(&self) -> Traces {
        traces::here(self.place.join("state").to_str().expect("a UTF-8 path"), &HERE.map(own))
    }

    /// Tells what stood here before the run.
    pub fn traces_before(&self) -> &Traces {
        &self.traces
    }

    /// Gives the systemd host; makes it where nobody has.
    #[track_caller]
    pub fn host(&self) -> Host<'_> {
        self.need_root();
        let made = self.host.get_or_init(|| {
            let make = || {
                self.make_host();
                traces::of_host(&Host { lab: self, traces: &Traces::default() })
            };
            catch_unwind(AssertUnwindSafe(make)).ok()
        });
        let traces = made.as_ref().expect("the test host could not be made");
        Host { lab: self, traces }
    }

    fn make_host(&self) {
        line("making the test host");
        let profile = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/host/host.toml");
        let create =
            ["create", &self.name, "--backend", "direct", "--release", "trixie", "--profile", profile];
        self.sandbox(&[&create[..], &["--privileged", "--network", "open"]].concat()).ok();
        let host = Host { lab: self, traces: &Traces::default() };
        let program = fs::read(env!("CARGO_BIN_EXE_sandbox")).expect("the program");
        host.put(INSTALLED, "0755", program);
        // a network whose TLS is opened on the way has roots of its own
        let mut roots = 0;
        for root in fs::read_dir("/usr/local/share/ca-certificates").into_iter().flatten().flatten() {
            if root.path().extension().is_some_and(|extension| extension == "crt") {
                let text = fs::read(root.path()).expect("a certificate");
                roots += 1;
                host.put(&format!("/usr/local/share/ca-certificates/outer-{roots}.crt"), "0644", text);
            }
        }
        if roots > 0 {
            host.sh("update-ca-certificates").ok();
        }
    }
}

/// The systemd host.
pub struct Host<'a> {
    lab: &'a Lab,
    traces: &'a Traces,
}

impl Host<'_> {
    /// Gives the argv that runs another in it.
    pub fn argv<'a>(&'a self, options: &[&'a str], argv: &[&'a str]) -> Vec<&'a str> {
        let exec = [&["exec"], options, &[&*self.lab.name, "--"]].concat();
        let mut whole = self.lab.argv(&exec);
        whole.extend(argv);
        whole
    }

    /// Runs a program in it.
    #[track_caller]
    pub fn run(&self, argv: &[&str]) -> Output {
        process::run(&self.argv(&[], argv), "", LONG)
    }

    /// Runs a shell script in it.
    #[track_caller]
    pub fn sh(&self, script: &str) -> Output {
        self.run(&["sh", "-c", script])
    }

    /// Writes a file in it.
    #[track_caller]
    pub fn put(&self, path: &str, mode: &str, bytes: Vec<u8>) {
        let script =
            "mkdir -p \"${0%/*}\" && cat >\"$0.new\" && chmod \"$1\" \"$0.new\" && mv \"$0.new\" \"$0\"";
        process::run(&self.argv(&[], &["sh", "-c", script, path, mode]), bytes, LONG).ok();
    }

    /// Runs the program in it.
    #[track_caller]
    pub fn sandbox(&self, arguments: &[&str]) -> Output {
        self.run(&[&[INSTALLED], &accepting(arguments)[..]].concat())
    }

    /// Runs the program in it with a text as its stdin.
    #[track_caller]
    pub fn sandbox_on(&self, arguments: &[&str], input: impl Into<Vec<u8>>) -> Output {
        process::run(&self.argv(&[], &[&[INSTALLED], arguments].concat()), input, LONG)
    }

    /// Starts the program in it.
    pub fn start(&self, arguments: &[&str]) -> Child {
        process::start(&self.argv(&[], &[&[INSTALLED], arguments].concat()))
    }

    /// Gives the argv of the program in it on a terminal.
    pub fn on_terminal<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        self.argv(&["-t"], &[&[INSTALLED], arguments].concat())
    }

    /// Runs a program in a machine of this host.
    #[track_caller]
    pub fn exec(&self, machine: &str, argv: &[&str]) -> Output {
        self.sandbox(&[&["exec", machine, "--"], argv].concat())
    }

    /// Gives the machine of the product's first sentence; makes it where nobody has.
    #[track_caller]
    pub fn agents(&self) -> &'static str {
        let made = self.lab.agents.get_or_init(|| {
            catch_unwind(AssertUnwindSafe(|| {
                line("making the machine `agents` in the test host");
                let create = ["create", "agents", "--release", "trixie", "--profile", "docker,claude,codex"];
                let registry = npm_registry();
                let more: Vec<&str> = registry.iter().flat_map(|url| ["--npm-registry", url]).collect();
                self.sandbox(&[&create[..], &more].concat()).ok();
            }))
            .is_ok()
        });
        assert!(made, "the machine `agents` could not be made");
        "agents"
    }

    /// Looks at everything that a machine could leave in it.
    pub fn traces(&self) -> Traces {
        traces::of_host(self)
    }

    /// Tells what was there before the first machine.
    pub fn traces_before(&self) -> &Traces {
        self.traces
    }
}

/// What profiles cost is accepted: nobody is there to be asked.
fn accepting<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let mut all = arguments.to_vec();
    if arguments.first() == Some(&"create") {
        all.push("--accept-costs");
    }
    all
}

/// Gives the npm registry that this machine is set to, where it has npm.
pub fn npm_registry() -> Option<String> {
    let output = process::command(&["npm", "config", "get", "registry"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|url| url.starts_with("http"))
}

/// Finds the machines' names in what `list --json` printed.
pub fn names(json: &str) -> Vec<String> {
    let value: Value = serde_json::from_str(json).unwrap_or(Value::Null);
    let list = value.as_array().or_else(|| value.get("machines")?.as_array());
    let name = |machine: &Value| Some(machine.get("name")?.as_str()?.to_owned());
    // those that others made on this machine are none of this run's
    let ours = list.into_iter().flatten().filter(|machine| machine["foreign"] != true);
    ours.filter_map(name).collect()
}
