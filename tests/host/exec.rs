//! `sandbox exec`: the payload's status, streams, environment.

use std::time::Duration;

use crate::{
    lab::{Lab, SOON},
    process::{finish, until},
};

/// The payload's status is the program's own; what never ran has the shell's numbers.
pub fn exit_codes_are_the_payloads(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    for (code, argv) in [
        (0, &["true"][..]),
        (42, &["sh", "-c", "exit 42"]),
        (255, &["sh", "-c", "exit 255"]),
        (137, &["sh", "-c", "kill -9 $$"]),
        (143, &["sh", "-c", "kill -15 $$"]),
        (127, &["/no/such/program"]),
        (127, &["no-such-program"]),
        (126, &["/etc/passwd"]),
    ] {
        let ended = host.exec(agents, argv);
        ended.ends_with(code);
        let why = match code {
            127 => format!("error: {}: not found in {agents}\n", argv[0]),
            126 => format!("error: {}: not executable in {agents}\n", argv[0]),
            _ => String::new(),
        };
        assert_eq!(ended.err, why, "{argv:?}");
    }
    // ours: no such machine, no such user
    host.exec("nobody-made-this", &["true"]).ends_with(125);
    host.sandbox(&["exec", agents, "--user", "nosuchuser", "--", "true"]).ends_with(125);
}

/// A home that is not there, or not for its user, is `/`; a directory that was asked for must be there.
pub fn a_user_without_a_home_is_in_the_root(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    for (user, directory) in
        [("nobody", "/"), ("daemon", "/usr/sbin"), ("agent", "/home/agent"), ("root", "/root")]
    {
        let output = host.sandbox(&["exec", agents, "--user", user, "--", "pwd"]);
        assert_eq!(output.ok(), directory, "{user}");
    }
    host.sandbox(&["exec", agents, "--user", "nobody", "--cwd", "/no/such", "--", "true"]).ends_with(125);
}

/// stdout, stderr and stdin are three things.
pub fn streams_are_apart(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    let output = host.exec(agents, &["sh", "-c", "echo to-out; echo to-err >&2"]);
    output.ends_with(0);
    assert_eq!((&*output.out, &*output.err), ("to-out\n", "to-err\n"));
    let output = host.sandbox_on(&["exec", agents, "--", "cat"], "from-in\n");
    assert_eq!((output.ok(), &*output.err), ("from-in", ""));
    // nothing is a terminal unless one is asked for
    let output = host.exec(agents, &["sh", "-c", "test -t 0 || test -t 1 || test -t 2"]);
    output.ends_with(1);
}

/// Every byte passes both ways, more of them than any buffer holds.
pub fn bytes_pass_unchanged(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    let bytes: Vec<u8> = (0..1 << 21).map(|number: u32| (number ^ (number >> 8)) as u8).collect();
    let digest: String = {
        use sha2::Digest as _;
        sha2::Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let output = host.sandbox_on(&["exec", agents, "--", "sha256sum"], bytes);
    assert!(output.ok().starts_with(&digest), "{output:?}");
    let output = host.exec(agents, &["sh", "-c", "head -c 2097152 /dev/zero | tr '\\0' x"]);
    output.ends_with(0);
    assert_eq!(output.out.len(), 2_097_152);
}

/// `--env`, `--cwd` and `--user`.
pub fn environment_folder_and_user(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    let script = "echo \"$WORD|$(pwd)|$(id -un)|$(id -gn)|$HOME|$USER\"";
    let options = ["--env", "WORD=two words = one", "--cwd", "/usr/share", "--user", "agent"];
    let output = host.sandbox(&[&["exec", agents][..], &options, &["--", "sh", "-c", script]].concat());
    assert_eq!(output.ok(), "two words = one|/usr/share|agent|agent|/home/agent|agent");
    let output = host.exec(agents, &["sh", "-c", "id -u; echo $HOME; env"]);
    assert!(output.ok().starts_with("0\n/root\n"), "{output:?}");
    assert!(!output.out.contains("SANDBOX_"), "nothing of the host's environment gets in: {output:?}");
    // not that of the guest's systemd, which ends all that is in it together
    let cgroups = host.exec(agents, &["cat", "/proc/self/cgroup", "/proc/1/cgroup"]);
    let cgroups: Vec<_> = cgroups.ok().lines().filter(|line| line.starts_with("0::")).collect();
    assert_eq!(cgroups, ["0::/.sandbox", "0::/init.scope"]);
    let groups = host.sandbox(&["exec", agents, "--user", "agent", "--", "id", "-Gn"]);
    for group in ["sudo", "docker"] {
        assert!(groups.ok().split(' ').any(|word| word == group), "{groups:?}");
    }
}

/// A client that is killed takes its payload with it.
pub fn a_killed_client_leaves_no_payload(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    let argv = ["exec", agents, "--", "sleep", "98765"];
    let client = host.start(&argv);
    let counted = |count: &str| {
        let seen = host.exec(agents, &["sh", "-c", "pgrep -x -c -f 'sleep 98765' || true"]);
        (seen.ok() == count).then_some(())
    };
    until("the payload is there", SOON, || counted("1"));
    // the oldest: what it forked has the same command line
    host.run(&["pkill", "-TERM", "-o", "-x", "-f", "/usr/local/bin/sandbox exec agents -- sleep 98765"]).ok();
    until("the payload is gone", SOON, || counted("0"));
    finish(client, &argv, Duration::from_secs(60)).ends_with(143);
}

/// What follows or waits ends by a signal as that signal says, and without a word.
pub fn signals_end_what_waits(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    let verbs = [
        format!("exec {agents} -- sleep 60"),
        // SIGTERM ends the shell alone: what it has begun holds stderr until it ends
        format!("exec {agents} -- bash -c 'sleep 9; true'"),
        format!("exec {agents} -t -- sleep 60"),
        format!("logs {agents} -f -n 0"),
        format!("logs {agents} -f -n 0 --outside"),
        format!("wait {agents} --for stopped"),
    ];
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        // a shell has what it runs in the background ignore Ctrl-C
        let one = |verb: &String| {
            format!(
                "(env --default-signal=INT timeout --preserve-status -s {signal} 3 sandbox {verb} </dev/null \
                 2>&1 >/dev/null | sed 's/^/said: /'; echo ${{PIPESTATUS[0]}}) &"
            )
        };
        let script: Vec<_> = verbs.iter().map(one).collect();
        let ended = host.run(&["bash", "-c", &format!("{}\nwait", script.join("\n"))]);
        let expected = vec![code.to_string(); verbs.len()];
        assert_eq!(ended.ok().lines().collect::<Vec<_>>(), expected, "{signal}: {ended:?}");
    }
}

/// A payload gets a file's bytes, not the open file.
pub fn a_file_is_not_handed_over(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    let script = format!(
        "place=$(mktemp -d); cd $place; echo old >log; \
         sandbox exec {agents} -- perl -e 'truncate(STDOUT, 0); seek(STDOUT, 0, 0); print \"new\\n\"' >>log; \
         printf 'one\\ntwo\\n' >in; \
         (read -r first; sandbox exec {agents} -- perl -e 'seek(STDIN, 0, 0); print <STDIN>' >>log) <in; \
         while read -r word; do echo $word; sandbox exec {agents} -- true; done <in >>log; \
         sandbox exec {agents} -- sh -c 'echo a; echo b >&2; echo c' >>log 2>&1; \
         cat log; rm -r $place"
    );
    assert_eq!(host.sh(&script).ok(), "old\nnew\ntwo\none\ntwo\na\nb\nc");
}

/// A cgroup that the guest has made and frozen in the place of that of sessions holds no command.
pub fn a_frozen_cgroup_of_the_guest_holds_nothing(lab: &Lab) {
    const OWN: &str = "/sys/fs/cgroup/.sandbox";
    let host = lab.host();
    let agents = host.agents();
    let trap = format!(
        "until rmdir {OWN}; do sleep 0.1; done; mkdir {OWN} && echo 1 >{OWN}/cgroup.freeze && touch /run/trap"
    );
    host.exec(agents, &["systemd-run", "-q", "-p", "RuntimeMaxSec=60", "sh", "-c", &trap]).ok();
    let look = ["timeout", "15", "sandbox", "exec", agents, "--", "cat", "/run/trap", "/proc/self/cgroup"];
    let inside = until("the trap is set", SOON, || {
        let seen = host.run(&look);
        (seen.code == 0).then(|| seen.ok().to_owned())
    });
    host.exec(agents, &["sh", "-c", &format!("rmdir {OWN}; rm /run/trap")]).ok();
    assert!(inside.lines().any(|line| line.starts_with("0::/.sandbox-")), "{inside}");
}

/// A payload has the machine's capabilities, and none of the caller's files and keys.
pub fn nothing_of_the_callers_comes_along(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    let bounding = "grep CapBnd /proc/1/status /proc/self/status | cut -d: -f3 | sort -u | wc -l";
    assert_eq!(host.exec(agents, &["sh", "-c", bounding]).ok(), "1");
    let listing = "exec 7</etc/hostname; sandbox exec agents -- sh -c 'echo /proc/$$/fd/*'";
    let files = host.run(&["bash", "-c", listing]);
    // the fourth is that of the listing
    assert!(files.ok().split(' ').count() <= 4, "{files:?}");
}
