//! The backend `direct` on this machine, which may have neither systemd nor machined.

use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, TcpListener},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    lab::{Lab, SOON, names, own},
    life::starts_while_it_goes_down,
    process::{self, finish, until},
    shell,
    terminal::Terminal,
};

fn exec(lab: &Lab, machine: &str, script: &str) -> process::Output {
    lab.sandbox(&["exec", machine, "--", "sh", "-c", script])
}

fn status(lab: &Lab, machine: &str) -> Value {
    serde_json::from_str(lab.sandbox(&["status", machine, "--json"]).ok()).expect("JSON")
}

fn boots(lab: &Lab, machine: &str, release: &str) {
    if !names(lab.sandbox(&["list", "--json"]).ok()).contains(&machine.to_owned()) {
        lab.sandbox(&["create", machine, "--backend", "direct", "--release", release]).ok();
    }
    assert_eq!(exec(lab, machine, "systemctl is-system-running").ok(), "running");
    let codename = exec(lab, machine, ". /etc/os-release; echo $VERSION_CODENAME");
    assert_eq!(codename.ok(), release);
    assert_eq!(exec(lab, machine, "dpkg --audit").ok(), "");
    for (code, script) in [(42, "exit 42"), (137, "kill -9 $$")] {
        exec(lab, machine, script).ends_with(code);
    }
    lab.sandbox(&["exec", machine, "--", "no-such-program"]).ends_with(127);
    let apart = exec(lab, machine, "cat; echo err >&2");
    assert_eq!((&*apart.out, &*apart.err), ("", "err\n"));
    let echoed = lab.sandbox_on(&["exec", machine, "--", "cat"], "through\n");
    assert_eq!(echoed.ok(), "through");
    // the guest's root is nobody here
    let uid = exec(lab, machine, "awk '{ print $2 }' /proc/self/uid_map");
    assert_ne!(uid.ok(), "0");
}

fn plain(lab: &Lab) -> String {
    let plain = own("plain");
    if !names(lab.sandbox(&["list", "--json"]).ok()).contains(&plain) {
        lab.sandbox(&["create", &plain, "--backend", "direct", "--release", "trixie"]).ok();
    }
    plain
}

/// Debian 13.
pub fn trixie_boots_and_runs_commands(lab: &Lab) {
    boots(lab, &own("plain"), "trixie");
}

/// Debian 12.
pub fn bookworm_boots_and_runs_commands(lab: &Lab) {
    let older = own("older");
    boots(lab, &older, "bookworm");
    lab.sandbox(&["remove", &older, "--yes"]).ok();
}

/// The machine outlives the command that made it, and its terminal.
pub fn a_new_process_finds_the_machine(lab: &Lab) {
    let plain = &plain(lab);
    let argv = lab.argv(&["list", "--json"]);
    let argv: Vec<&str> = ["setsid", "--wait", "env", "-i"].iter().chain(&argv).copied().collect();
    assert!(names(process::run(&argv, "", SOON).ok()).contains(plain));
    let status = status(lab, plain);
    assert_eq!((&status["backend"], &status["state"]), (&"direct".into(), &"running".into()), "{status}");
}

/// Neither the supervisor nor nspawn has what its caller had open, or its session.
pub fn the_supervisor_inherits_nothing(lab: &Lab) {
    let plain = &plain(lab);
    lab.sandbox(&["stop", plain]).ok();
    let leak = tempfile::NamedTempFile::new().expect("a file");
    let path = leak.path().to_str().expect("text");
    let argv = lab.argv(&["start", plain]);
    let careless = ["sh", "-c", "exec 5<\"$1\" 9>>\"$1\"; shift; exec \"$@\"", "sh", path];
    process::run(&[&careless[..], &argv].concat(), "", SOON).ok();
    let below = supervisors(plain);
    assert!(below.len() >= 2, "the supervisor and nspawn: {below:?}");
    for pid in &below {
        for open in fs::read_dir(format!("/proc/{pid}/fd")).expect("a live process").flatten() {
            let target = fs::read_link(open.path()).unwrap_or_default();
            assert_ne!(target.to_str(), Some(path), "{pid} has {}", open.path().display());
        }
    }
    let stat = fs::read_to_string(format!("/proc/{}/stat", below[0])).expect("a live process");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // after the name: state, parent, group, session, terminal (proc_pid_stat(5))
    assert_eq!((fields[3], fields[4]), (&*below[0].to_string(), "0"), "{stat}");
}

/// Gives the process numbers of a machine's supervisor and of its children.
fn supervisors(machine: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let words = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        if words.trim_end_matches('\0').ends_with(&format!("internal\0supervise\0{machine}")) {
            found.push(pid);
            let children = entry.path().join(format!("task/{pid}/children"));
            let children = fs::read_to_string(children).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    found
}

/// A shell on a terminal, resized, left, and the terminal as before.
pub fn shell_on_a_terminal(lab: &Lab) {
    let plain = &plain(lab);
    let mut terminal = Terminal::open(&lab.argv(&["shell", plain]), 101, 37);
    terminal.greet();
    terminal.send("echo who=$(id -un) size=$(stty size)\n");
    terminal.expect("who=agent size=37 101", SOON);
    terminal.resize(60, 20);
    terminal.send("while [ \"$(stty size)\" != '20 60' ]; do sleep 0.1; done; echo now=$(stty size)\n");
    terminal.expect("now=20 60", SOON);
    terminal.send("exit 3\n");
    let (code, terminal) = terminal.end(SOON);
    assert_eq!(code, 3, "shown:\n{}", terminal.shown());
    assert!(terminal.is_cooked(), "restored");
    shell::draws(&lab.argv(&["shell", plain]), &lab.argv(&shell::drawn(plain)));
    // ^] three times hangs up
    let mut terminal = Terminal::open(&lab.argv(&["shell", plain]), 80, 24);
    terminal.greet();
    terminal.send("\u{1d}\u{1d}\u{1d}");
    let (_, terminal) = terminal.end(SOON);
    assert!(terminal.is_cooked(), "restored");
}

/// The console is the supervisor's: who leaves it ends nothing, two may sit there, and what was said is in a log of words.
pub fn the_console_is_the_supervisors(lab: &Lab) {
    let plain = &plain(lab);
    let before = status(lab, plain)["leader"].clone();
    let mut terminal = Terminal::open(&lab.argv(&["console", plain]), 90, 30);
    let mut typed = 0;
    until("the guest asks who is there", SOON, || {
        // agetty passes over what comes before it listens
        typed += 1;
        terminal.send("\n");
        thread::sleep(Duration::from_millis(200));
        terminal.shown().matches("login:").nth(1).map(drop)
    });
    let argv = lab.argv(&["console", plain, "--lines", "0"]);
    let other = Terminal::open(&argv, 91, 31);
    exec(lab, plain, "echo said-by-the-guest >/dev/console").ok();
    terminal.expect("said-by-the-guest", SOON);
    other.expect("said-by-the-guest", SOON);
    assert_eq!(exec(lab, plain, "stty size </dev/console").ok(), "31 91", "of who came last");
    other.resize(70, 21);
    until("the window's size", SOON, || {
        (exec(lab, plain, "stty size </dev/console").ok() == "21 70").then_some(())
    });
    for mut terminal in [terminal, other] {
        terminal.send("\u{1d}\u{1d}\u{1d}");
        let (code, terminal) = terminal.end(SOON);
        assert_eq!(code, 0, "shown:\n{}", terminal.shown());
        assert!(terminal.is_cooked(), "restored");
    }
    assert_eq!(status(lab, plain)["leader"], before, "three escapes are the client's, not nspawn's");
    let log = lab.sandbox(&["logs", plain, "--outside"]);
    assert!(log.ok().contains("said-by-the-guest") && !log.out.contains('\u{1b}'), "{log:?}");
}

/// Walls without networkd on this side.
pub fn network_reaches_the_mirror_and_not_this_machine(lab: &Lab) {
    let plain = &plain(lab);
    exec(lab, plain, "apt-get -q update --error-on=any").ok();
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let mut connection = connection;
            drop(connection.write_all(b"reached\n"));
        }
    });
    let own = process::run(
        &["sh", "-c", "ip -4 -o addr show scope global | awk '{ sub(/\\/.*/, \"\", $4); print $4 }'"],
        "",
        SOON,
    );
    let mut addresses: Vec<String> = own.ok().split_whitespace().map(str::to_owned).collect();
    addresses.push(exec(lab, plain, "ip -4 route show default | awk '{ print $3; exit }'").ok().to_owned());
    for address in addresses {
        let probe =
            format!("timeout 4 bash -c 'head -n 1 </dev/tcp/{address}/{port}' 2>/dev/null || echo refused");
        let control = process::run(&["sh", "-c", &probe], "", SOON);
        assert_eq!(control.ok(), "reached", "{address}, from here");
        assert_eq!(exec(lab, plain, &probe).ok(), "refused", "{address}, from the machine");
    }
}

/// What was written is there after a stop.
pub fn stop_and_start_keep_what_was_written(lab: &Lab) {
    let plain = &plain(lab);
    exec(lab, plain, "echo kept >/root/kept").ok();
    lab.sandbox(&["stop", plain]).ok();
    assert_eq!(status(lab, plain)["state"], "stopped");
    lab.sandbox(&["stop", plain]).ok();
    exec(lab, plain, "true").ends_with(125);
    lab.sandbox(&["start", plain]).ok();
    assert_eq!(exec(lab, plain, "systemctl is-system-running").ok(), "running");
    assert_eq!(exec(lab, plain, "cat /root/kept").ok(), "kept");
    starts_while_it_goes_down(|verb| lab.sandbox(verb), plain);
}

/// Copies, also of a stopped machine, mounts, counters, restarts and the start with the host, where nobody but the
/// supervisor is there.
pub fn the_verbs_without_machined(lab: &Lab) {
    let plain = &plain(lab);
    let (inner, local) = (format!("{plain}:/srv/in"), lab.path("copied"));
    let local = local.to_str().expect("text");
    lab.sandbox_on(&["copy", "-", &inner], "running\n").ok();
    assert_eq!(exec(lab, plain, "stat -c %u /srv/in; cat /srv/in").ok(), "0\nrunning");
    exec(lab, plain, "chown 1000 /srv/in").ok();
    let shared = lab.path("shared");
    fs::create_dir_all(&shared).expect("a folder");
    fs::write(shared.join("x"), "of the host").expect("a file");
    let shared = shared.to_str().expect("text");
    lab.sandbox(&["mount", plain, shared, "/mnt/shared", "--read-only", "--permanent"]).ok();
    assert_eq!(
        exec(lab, plain, "cat /mnt/shared/x; touch /mnt/shared/y; ls /mnt/shared").ok(),
        "of the hostx"
    );
    let top: Value = serde_json::from_str(lab.sandbox(&["top", plain, "--json"]).ok()).expect("JSON");
    assert!(top[0]["memory"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{top}");
    assert!(top[0]["tasks"].as_u64().is_some_and(|tasks| tasks > 3), "{top}");
    lab.sandbox(&["set", plain, "--memory", "1G"]).ends_with(if has_memory() { 0 } else { 6 });
    lab.sandbox(&["set", plain, "--memory", "none"]).ok();

    lab.sandbox(&["set", plain, "--restart", "on-failure"]).ok();
    let before = status(lab, plain)["leader"].clone();
    lab.sandbox(&["kill", plain, "--signal", "KILL", "--whom", "all"]).ok();
    until("another leader", SOON, || {
        let now = status(lab, plain)["leader"].clone();
        (now.is_i64() && now != before).then_some(())
    });
    lab.sandbox(&["wait", plain, "--timeout", "60"]).ok();
    let outside = lab.sandbox(&["logs", plain, "--outside"]);
    assert!(outside.ok().contains("supervisor: it starts again (on-failure)"), "{outside:?}");
    assert_eq!(exec(lab, plain, "ls /mnt/shared").ok(), "x", "mounted again");
    let flags = exec(lab, plain, "findmnt -no OPTIONS /mnt/shared || grep /mnt/shared /proc/self/mountinfo");
    assert!(flags.ok().contains("ro,nosuid,nodev"), "{flags:?}");
    lab.sandbox(&["set", plain, "--restart", "always"]).ok();
    lab.sandbox(&["stop", plain]).ok();
    assert_eq!(status(lab, plain)["state"], "stopped", "a stop is meant");
    lab.sandbox(&["set", plain, "--restart", "no"]).ok();

    // stopped: by its tree, the same numbers
    let _ = fs::remove_file(local);
    lab.sandbox(&["copy", &inner, local]).ok();
    assert_eq!(fs::read_to_string(local).expect("copied"), "running\n");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(local).expect("copied")), 1000);
    lab.sandbox(&["copy", local, &format!("{plain}:/srv/back"), "--owner", "root"]).ok();
    lab.sandbox(&["logs", plain, "-n", "2"]).ok();
    lab.sandbox(&["mount", plain, shared, "/mnt/other"]).ends_with(1);
    // another directory in its place is not taken for it
    let aside = lab.path("shared-aside");
    fs::rename(shared, &aside).expect("renamed");
    std::os::unix::fs::symlink("/", shared).expect("a link");
    lab.sandbox(&["start", plain]).ends_with(4);
    fs::remove_file(shared).expect("removed");
    fs::create_dir(shared).expect("a directory");
    let refused = lab.sandbox(&["start", plain]);
    refused.ends_with(4);
    assert!(refused.err.contains("sandbox mount") && refused.err.contains("sandbox unmount"), "{refused:?}");
    fs::remove_dir(shared).expect("removed");
    fs::rename(&aside, shared).expect("renamed");
    lab.sandbox(&["unmount", plain, "/mnt/shared"]).ok();

    let notice = lab.sandbox(&["enable", plain]);
    notice.ok();
    assert!(notice.err.contains("sandbox start --all"), "{notice:?}");
    lab.sandbox(&["start", "--all"]).ok();
    assert_eq!(status(lab, plain)["state"], "running");
    lab.sandbox(&["start", "--all"]).ok();
    lab.sandbox(&["disable", plain]).ok();
    assert_eq!(exec(lab, plain, "cat /srv/back; ls /mnt/shared").ok(), "running");
}

/// Tells whether this machine's unified hierarchy limits memory.
fn has_memory() -> bool {
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    controllers.split_whitespace().any(|known| known == "memory")
}

/// What a power cut or the kernel's memory killer does to the supervisor: stopped, not broken.
pub fn a_killed_supervisor_leaves_it_stopped(lab: &Lab) {
    let plain = &plain(lab);
    let pids = process::run(&["pgrep", "-f", "--", &format!("internal supervise {plain}$")], "", SOON);
    let pid = pids.ok().to_owned();
    process::run(&["kill", "-KILL", &pid], "", SOON).ok();
    until("it is stopped", SOON, || (status(lab, plain)["state"] == "stopped").then_some(()));
    lab.sandbox(&["start", plain]).ok();
    assert_eq!(exec(lab, plain, "systemctl is-system-running").ok(), "running");
}

/// A create that is killed, at whatever point: the next command leaves nothing of it.
pub fn killed_create_leaves_nothing(lab: &Lab) {
    let before = lab.traces_here();
    let victim = &own("victim");
    for seconds in [0.3, 1.5, 4.0, 9.0] {
        let argv = lab.argv(&["create", victim, "--backend", "direct", "--release", "trixie"]);
        let mut create = process::start(&argv);
        thread::sleep(Duration::from_secs_f64(seconds));
        drop(create.kill());
        let killed = finish(create, &argv, SOON);
        let listed = names(lab.sandbox(&["list", "--json"]).ok()).contains(victim);
        assert_eq!(listed, killed.code == 0, "listed only if it was ready before the kill: {killed:?}");
        if listed {
            lab.sandbox(&["remove", victim, "--yes"]).ok();
        }
        lab.traces_here().are(&before);
    }
}

/// `remove` leaves nothing, and the name is free again.
pub fn remove_leaves_nothing(lab: &Lab) {
    let plain = &plain(lab);
    assert!(lab.traces_here().mention("plain"), "what is looked for is seen while it is there");
    lab.sandbox(&["remove", plain, "--yes"]).ok();
    lab.sandbox(&["status", plain]).ends_with(1);
    assert!(!lab.traces_here().mention("plain"));
    lab.traces_here().are(lab.traces_before());
}
