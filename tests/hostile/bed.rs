//! The systemd host with the machines that are attacked from, and commands that are run in it and measured.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::OnceLock,
};

use rand::Rng as _;
use serde_json::Value;

use crate::{
    lab::{Host, Lab, names},
    process::Output,
    programs,
    runner::line,
};

/// The machine that attacks.
pub const HOSTILE: &str = "hostile";
/// Another one, which nothing may harm; it comes after the first in every order.
pub const OTHER: &str = "other";
/// Where the programs are, in the host and in machines.
pub const PROGRAMS: &str = "/usr/local/lib/hostile";
/// A file of the host, which root alone may read; it has as many bytes as those that the swapper makes.
pub const SECRET: &str = "/root/host-secret";

/// A login in a machine `$m`. It runs programs of the machine, which need not end, but for Ctrl-C.
pub const SHELL: &str =
    "echo exit | timeout -s INT 4 sandbox shell $m --user root; s=$?; [ $s = 124 ] || exit $s";

/// After how many seconds a line is told of.
const LONG: f64 = 5.0;
/// The longest that a verb may take, in seconds.
const DEADLINE: f64 = 60.0;
/// The most memory that a verb may take, in KiB.
const MEMORY: u64 = 256 << 10;

/// The host, its secret and its machines. What costs time is made when first asked for, once.
pub struct Bed {
    pub lab: Lab,
    marker: String,
    made: OnceLock<bool>,
}

/// How a measured command ended.
#[derive(Debug)]
pub struct Measured {
    pub line: String,
    pub code: i32,
    /// The largest process of it, in KiB.
    pub peak: u64,
    /// In seconds.
    pub took: f64,
    /// What it printed.
    pub said: String,
    /// Whether a secret of the host is in that.
    pub leaks: bool,
}

impl Bed {
    /// Sets a run up; nothing is made yet.
    pub fn new() -> Self {
        // written in two parts, so that no program holds it
        let marker = format!("HOST{}-{:016x}", "MARK", rand::thread_rng().r#gen::<u64>());
        Self { lab: Lab::new(), marker, made: OnceLock::new() }
    }

    /// Returns the marker that every secret of the host holds.
    pub fn marker(&self) -> &str {
        &self.marker
    }

    /// Returns the host with its two machines; makes them at the first call.
    #[track_caller]
    pub fn host(&self) -> Host<'_> {
        let host = self.lab.host();
        let made = self.made.get_or_init(|| catch_unwind(AssertUnwindSafe(|| self.make(&host))).is_ok());
        assert!(*made, "the machines could not be made");
        host
    }

    fn make(&self, host: &Host<'_>) {
        line("making the machines in the test host");
        let place = tempfile::tempdir().expect("a directory");
        for (program, bytes) in programs::compile(place.path()) {
            host.put(&format!("{PROGRAMS}/{program}"), "0755", bytes);
        }
        host.put(SECRET, "0600", format!("{:x<512}", format!("{}-file ", self.marker)).into_bytes());
        // a journal that a machine's link could lead to
        let journal = "mkdir -p /var/log/journal && systemctl restart systemd-journald && journalctl -q --flush && \
            echo \"$0-journal\" | systemd-cat && journalctl -q --sync";
        host.run(&["sh", "-c", journal, &self.marker]).ok();
        for name in [HOSTILE, OTHER] {
            host.sandbox(&["create", name, "--release", "trixie", "--backend", "nspawn"]).ok();
            host.sandbox(&["copy", PROGRAMS, &format!("{name}:/usr/local/lib/")]).ok();
            // half of each tree, which is copied some fifty times
            let lean = "cd /usr/share && rm -rf doc man locale perl perl5 zoneinfo bash-completion; \
                cd /usr/lib && rm -rf git-core */perl */gconv";
            host.exec(name, &["sh", "-c", lean]).ok();
        }
    }

    /// Returns the last value that a verb prints with `--json`: what it warns of comes before.
    #[track_caller]
    fn json(&self, words: &[&str]) -> Value {
        let output = self.lab.host().sandbox(&[words, &["--json"]].concat());
        let values = serde_json::Deserializer::from_str(output.ok()).into_iter::<Value>();
        values.filter_map(Result::ok).last().unwrap_or_default()
    }

    /// Returns what `status` says of a machine.
    #[track_caller]
    pub fn status(&self, name: &str) -> Value {
        self.json(&["status", name])
    }

    /// Returns the names of all machines.
    #[track_caller]
    pub fn machines(&self) -> Vec<String> {
        names(&self.json(&["list"]).to_string())
    }

    /// Returns the path of a machine's tree in the host.
    #[track_caller]
    pub fn tree(&self, name: &str) -> String {
        self.status(name)["tree"].as_str().expect("a tree").to_owned()
    }

    /// Returns whether there is a machine of a name.
    pub fn is_there(&self, name: &str) -> bool {
        self.machines().iter().any(|there| there == name)
    }

    /// Removes all snapshots of a machine.
    pub fn forget_snapshots(&self, name: &str) {
        let remove =
            "sandbox snapshot list $0 | awk 'NR > 1 { print $2 }' | xargs -r sandbox snapshot remove $0";
        self.lab.host().run(&["sh", "-c", remove, name]);
    }

    /// Gives the attacking machine a backend, and starts it.
    #[track_caller]
    pub fn on(&self, backend: &str) {
        let host = self.host();
        let status = self.status(HOSTILE);
        if status["backend"] != backend {
            host.sandbox(&["stop", HOSTILE, "--timeout", "10"]).ok();
            host.sandbox(&["move", HOSTILE, "--to", backend]).ok();
        }
        if status["backend"] != backend || status["leader"].is_null() {
            host.sandbox(&["start", HOSTILE]).ok();
        }
    }

    /// Runs a line of shell in the host, which has a secret in its environment and as an open file, and measures it.
    #[track_caller]
    pub fn measure(&self, words: &str) -> Measured {
        let script = format!("export HOST_SECRET={}-env; {words}", self.marker);
        let bounded = format!("{PROGRAMS}/bounded");
        let deadline = DEADLINE.to_string();
        let output = self.lab.host().run(&[&bounded, &deadline, SECRET, "bash", "-c", &script]);
        let measured = Measured::of(words, &output, &self.marker);
        if measured.took > LONG {
            line(&format!("`{words}` took {:.0} s", measured.took));
        }
        measured
    }

    /// Runs lines in the host; returns what is wrong with each.
    #[track_caller]
    pub fn judge(&self, lines: &[String]) -> Vec<String> {
        lines.iter().filter_map(|line| self.measure(line).fault()).collect()
    }

    /// Returns which trees, snapshots, volumes and exports of machines hold a secret of the host.
    pub fn leaks(&self) -> Vec<String> {
        let script = "grep -rlF -D skip \"$0\" /var/lib/machines /var/lib/lxc /var/lib/sandbox /srv/shared 2>/dev/null; \
            [ ! -e /tmp/kept.tar.zst ] || ! zstd -dc /tmp/kept.tar.zst | grep -qaF \"$0\" || echo /tmp/kept.tar.zst";
        let found = self.lab.host().run(&["bash", "-c", script, &self.marker]);
        found.out.lines().map(|path| format!("a secret of the host is in {path}")).collect()
    }

    /// Returns which parts of a machine's tree hold a secret of the host.
    #[track_caller]
    pub fn leaks_of(&self, name: &str) -> Vec<String> {
        let found = self.lab.host().run(&["grep", "-rlF", "-D", "skip", &self.marker, &self.tree(name)]);
        found.out.lines().map(|path| format!("a secret of the host is in {path}")).collect()
    }

    /// Looks at what a machine could leave in the host: everything of `traces`, files of a moment, frozen cgroups.
    #[track_caller]
    pub fn is_clean(&self, before: &crate::traces::Traces) -> Vec<String> {
        let host = self.lab.host();
        let frozen = "find /sys/fs/cgroup -name cgroup.events -not -path '*/.sandbox/*' -exec grep -l 'frozen 1' {} + ; \
             find /tmp /var/tmp -mindepth 1 -maxdepth 1 -not -name 'systemd-private-*' -not -name '.*-unix' -not -name 'kept*'";
        let left = host.sh(frozen).out;
        // what a verb that was killed could not remove itself is said once
        host.sh("rm -rf /tmp/c /tmp/copied /tmp/e");
        let mut faults: Vec<String> = left.lines().map(|line| format!("left: {line}")).collect();
        if let Err(thrown) = catch_unwind(AssertUnwindSafe(|| host.traces().are(before))) {
            let text = thrown.downcast_ref::<String>().cloned().unwrap_or_default();
            faults.push(text);
        }
        faults
    }
}

impl Measured {
    #[track_caller]
    fn of(line: &str, output: &Output, marker: &str) -> Self {
        let Some((err, numbers)) = output.err.rsplit_once("bounded: ") else {
            panic!("`{line}` was not measured: {output:?}")
        };
        let number = |key: &str| {
            let word = numbers.split_whitespace().find_map(|word| word.strip_prefix(key));
            word.and_then(|word| word.parse::<f64>().ok()).unwrap_or(f64::MAX)
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small whole numbers")]
        let (code, peak) = (number("exit=") as i32, number("peak=") as u64);
        let said = format!("{}{}", output.out, err);
        let leaks = said.contains(marker);
        Self { line: line.to_owned(), code, peak, took: number("took="), said, leaks }
    }

    /// Returns what is wrong with it: an exit code that docs/errors.md does not have or that a wrong line has, a bug, too much time or memory, or
    /// raw control characters.
    pub fn fault(&self) -> Option<String> {
        let Self { code, peak, took, said, .. } = self;
        let is_known = matches!(code, 0 | 1 | 3..=7 | 125..=127);
        let wrong = if !is_known {
            format!("ended with {code}")
        } else if said.contains("panicked at") || said.contains("overflowed its stack") {
            "panicked".to_owned()
        } else if *peak > MEMORY {
            format!("took {} MiB", peak >> 10)
        } else if *took > DEADLINE {
            format!("took {took:.0} s")
        } else if self.leaks {
            "printed a secret of the host".to_owned()
        } else if ["\u{1b}]", "\u{1b}P", "\u{7}", "\u{9b}", "\u{202e}"].iter().any(|raw| said.contains(raw)) {
            "printed raw control characters".to_owned()
        } else {
            return None;
        };
        Some(self.because(&wrong))
    }

    /// Says what is wrong with it, and how its words end.
    pub fn because(&self, wrong: &str) -> String {
        let Self { line, said, .. } = self;
        let end: String = said.trim().chars().rev().take(300).collect();
        let end: String = end.chars().rev().collect();
        format!("`{line}` {wrong}: {}", end.escape_debug())
    }
}

/// Removes what the run made, and looks at what is left, in the host and on this machine.
pub fn the_run_leaves_nothing(bed: &Bed) {
    if !bed.lab.is_root() {
        return;
    }
    if bed.made.get().is_some() {
        let host = bed.lab.host();
        for name in bed.machines() {
            host.sandbox(&["remove", &name, "--yes"]).ok();
        }
        host.traces().are(host.traces_before());
    }
    bed.lab.clear();
    bed.lab.traces_here().are(bed.lab.traces_before());
}
