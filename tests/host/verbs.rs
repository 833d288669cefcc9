//! The verbs of a machine's life, on a machine of systemd-nspawn under machined.

use std::time::Duration;

use serde_json::Value;

use crate::{
    lab::{Host, Lab, SOON},
    mounts,
    process::{finish, until},
    terminal::Terminal,
};

fn leader(host: &Host<'_>, name: &str) -> i64 {
    let status: Value = serde_json::from_str(host.sandbox(&["status", name, "--json"]).ok()).expect("JSON");
    status["leader"].as_i64().unwrap_or(0)
}

/// Files and trees pass both ways with the numbers of the guest's owners, and as streams.
///
/// Mirrors: TEST-13-NSPAWN machined, `machinectl copy-to` and `copy-from`; Incus' filemanip.
pub fn copies_keep_owners_and_kinds(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    let (into, out) = (format!("{agents}:/srv/"), format!("{agents}:/srv/t"));
    host.sh("rm -rf /root/t /root/back && mkdir -p '/root/t/with space' && echo hi >/root/t/f && \
             ln /root/t/f /root/t/hard && chown 1000:1000 /root/t/f && chmod 640 /root/t/f && \
             ln -s f /root/t/link && mkfifo /root/t/pipe && truncate -s 3M /root/t/large")
        .ok();
    host.sandbox(&["copy", "/root/t", &into]).ok();
    let inside = host.exec(agents, &["sh", "-c", "cd /srv/t && stat -c '%n %u:%g %a %F' * && cat link"]);
    for line in ["f 1000:1000 640 regular file", "link 0:0 777 symbolic link", "pipe 0:0 644 fifo", "hi"] {
        assert!(inside.ok().lines().any(|found| found == line), "{line}: {inside:?}");
    }
    // made in the machine, by its own numbers, and not seen as shifted ones here
    host.exec(
        agents,
        &["sh", "-c", "echo own >/srv/t/own && chown agent /srv/t/own && chmod 4755 /srv/t/own"],
    )
    .ok();
    host.sandbox(&["copy", &out, "/root/back"]).ok();
    let here = host.sh("cd /root/back && stat -c '%n %u %a' own f && stat -c %h hard && cat link");
    assert_eq!(here.ok(), "own 1000 755\nf 1000 640\n2\nhi", "a guest's set-id bit is none here");
    // streams
    let put = host.sandbox_on(&["copy", "-", &format!("{agents}:/srv/raw")], "bytes\n");
    put.ok();
    assert_eq!(host.sandbox(&["copy", &format!("{agents}:/srv/raw"), "-"]).ok(), "bytes");
    let round = format!(
        "sandbox copy {out} - | sandbox copy - {agents}:/root/ && sandbox exec {agents} -- cat /root/t/f"
    );
    assert_eq!(host.sh(&round).ok(), "hi");
    host.sandbox(&["copy", "/root/t/f", &into, "--owner", "agent"]).ok();
    assert_eq!(host.exec(agents, &["stat", "-c", "%U:%G", "/srv/f"]).ok(), "agent:agent");
    host.sandbox(&["copy", &format!("{agents}:/nowhere"), "/root/"]).ends_with(1);
    host.sandbox(&["copy", &format!("{agents}:relative"), "/root/"]).ends_with(2);
    host.sh("rm -rf /root/t /root/back").ok();
    host.exec(agents, &["sh", "-c", "rm -rf /srv/t /srv/raw /srv/f /root/t"]).ok();
}

/// Links of a guest's lead into the guest, those on the way in and those on the way out, also while it changes them.
///
/// Mirrors: Incus' filemanip, `file push` through a link.
pub fn copies_follow_no_guest_out(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    host.sh("echo host >/srv/secret && mkdir -p /root/target && echo mine >/root/in").ok();
    host.exec(
        agents,
        &["sh", "-c", "rm -f /srv/secret && ln -sfn / /root/out && ln -sfn ../../../../srv /root/up"],
    )
    .ok();
    for place in ["/root/out/srv/secret", "/root/up/secret"] {
        let copied = host.sandbox(&["copy", &format!("{agents}:{place}"), "/root/target/"]);
        copied.ends_with(1);
    }
    host.sandbox(&["copy", "/root/in", &format!("{agents}:/root/up/in")]).ok();
    assert_eq!(host.exec(agents, &["cat", "/srv/in"]).ok(), "mine");
    host.sh("test ! -e /srv/in").ok();
    // a guest that swaps a folder for a link all the time
    let swap = "mkdir -p /root/s/d && echo guest >/root/s/d/secret && cd /root/s && \
                touch go && while [ -e go ]; do mv d e; ln -s /srv d; rm d; mv e d; done";
    let argv = ["exec", agents, "--", "timeout", "60", "sh", "-c", swap];
    let swapping = host.start(&argv);
    let tries = "for i in $(seq 30); do rm -rf /root/target/d; \
                 sandbox copy \"$0:/root/s/d\" /root/target/ 2>/dev/null; \
                 sandbox copy /root/in \"$0:/root/s/d/put$i\" 2>/dev/null; done; \
                 ! grep -rqx host /root/target && ! ls /srv/put* 2>/dev/null";
    host.run(&["sh", "-c", tries, agents]).ok();
    host.exec(agents, &["rm", "/root/s/go"]).ok();
    finish(swapping, &argv, SOON).ok();
    host.sh("rm -rf /srv/secret /root/target /root/in").ok();
    host.exec(agents, &["sh", "-c", "rm -rf /root/s /root/out /root/up /srv/in /srv/put*"]).ok();
}

/// A signal reaches the leader or everybody; `wait` sees what comes of it.
///
/// Mirrors: TEST-13-NSPAWN machined, `machinectl kill --kill-whom=leader`, `poweroff`.
pub fn signals_reach_whom_they_should(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    let argv = ["exec", agents, "--", "sleep", "4321"];
    let sleeper = host.start(&argv);
    let counted = |count: &str| {
        let seen = host.exec(agents, &["sh", "-c", "pgrep -c -x -f 'sleep 4321' || true"]);
        (seen.ok() == count).then_some(())
    };
    until("the sleeper is there", SOON, || counted("1"));
    host.sandbox(&["kill", agents, "--signal", "CONT"]).ok();
    counted("1").expect("the leader alone got it");
    // its systemd passes over SIGUSR2 (it logs its state), the sleeper dies of it
    host.sandbox(&["kill", agents, "--signal", "SIGUSR2", "--whom", "all"]).ok();
    finish(sleeper, &argv, SOON).ends_with(128 + 12);
    host.sandbox(&["kill", agents, "--signal", "NOPE"]).ends_with(2);
    // an orderly power-off that nobody waits for but `wait`
    host.sandbox(&["wait", agents, "--for", "stopped", "--timeout", "1"]).ends_with(1);
    host.sandbox(&["kill", agents, "--signal", "SIGRTMIN+4"]).ok();
    host.sandbox(&["wait", agents, "--for", "stopped", "--timeout", "60"]).ok();
    host.sandbox(&["kill", agents]).ends_with(1);
    host.sandbox(&["start", agents]).ok();
    host.sandbox(&["wait", agents, "--for", "running", "--timeout", "60"]).ok();
}

/// `wait` for a port that is listened to on the machine's own loopback alone.
pub fn a_port_is_waited_for(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    host.sandbox(&["wait", agents, "--for", "port:4747", "--timeout", "1"]).ends_with(1);
    let server = "sleep 1; perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(Listen => 1, \
                  LocalAddr => \"127.0.0.1\", LocalPort => 4747) or die; sleep 30'";
    let argv = ["exec", agents, "--", "timeout", "30", "sh", "-c", server];
    let serving = host.start(&argv);
    let waited = host.sandbox(&["wait", agents, "--for", "port:4747", "--timeout", "20", "--json"]);
    let said: Value = serde_json::from_str(waited.ok()).expect("JSON");
    assert_eq!(said["reached"], true, "{said}");
    host.exec(agents, &["pkill", "-f", "LocalPort"]).ok();
    finish(serving, &argv, SOON);
}

/// What is set is in the unit at once, and in its files for later.
pub fn what_is_set_counts(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    let show = |property: &str| {
        let unit = format!("systemd-nspawn@{agents}.service");
        host.run(&["systemctl", "show", "--value", "-p", property, &unit]).ok().to_owned()
    };
    // this host's unified hierarchy has no controllers: that is an error unless it is asked for by name
    let refused = host.sandbox(&["set", agents, "--memory", "1G"]);
    refused.ends_with(6);
    assert!(refused.err.contains("no controller `memory`"), "{refused:?}");
    assert_eq!(show("MemoryMax"), "infinity");
    host.sandbox(&["set", agents, "--disk", "1G"]).ends_with(6);
    let limits = ["--memory", "1G", "--tasks", "900", "--cpus", "1.5", "--unenforced"];
    host.sandbox(&[&["set", agents][..], &limits].concat()).ok();
    assert_eq!(
        (show("MemoryMax"), show("TasksMax"), show("CPUQuotaPerSecUSec")),
        ("1073741824".into(), "900".into(), "1.500000s".into())
    );
    host.sandbox(&["set", agents, "--memory", "none", "--tasks", "none", "--cpus", "none"]).ok();
    assert_eq!((show("MemoryMax"), show("TasksMax")), ("infinity".into(), "16384".into()));
    // variables: for what is run from then on, and for logins
    host.sandbox(&["set", agents, "--env", "WORD=two $HOME \"words\""]).ok();
    assert_eq!(host.exec(agents, &["sh", "-c", "echo \"$WORD\""]).ok(), "two $HOME \"words\"");
    let login = host.exec(agents, &["su", "-l", "agent", "-c", "echo \"$WORD\""]);
    assert_eq!(login.ok(), "two $HOME \"words\"");
    let set = host.sandbox(&["set", agents, "--unset-env", "WORD", "--json"]);
    let set: Value = serde_json::from_str(set.ok()).expect("JSON");
    assert_eq!(set["environment"], serde_json::json!({}), "{set}");
    assert_eq!(host.exec(agents, &["sh", "-c", "echo \"<$WORD>\""]).ok(), "<>");
    host.sandbox(&["set", agents, "--env", "A B=c"]).ends_with(2);
    host.sandbox(&["set", agents, "--memory", "1.5Q"]).ends_with(2);
}

/// Machines start with the host in order, and one that ends by itself starts again if that was chosen, but not after
/// a stop.
///
/// Mirrors: TEST-13-NSPAWN machined, `machinectl enable` and `disable`.
pub fn it_starts_with_the_host_and_again(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    let wanted = format!("/etc/systemd/system/machines.target.wants/systemd-nspawn@{agents}.service");
    host.sandbox(&["enable", agents]).ok();
    host.run(&["test", "-L", &wanted]).ok();
    host.sandbox(&["enable", agents]).ok();
    host.sandbox(&["set", agents, "--start-order", "7", "--start-delay", "3"]).ok();
    let unit = host.run(&["systemctl", "cat", &format!("systemd-nspawn@{agents}.service")]);
    assert!(unit.ok().contains("internal delay 3"), "{unit:?}");
    host.sandbox(&["disable", agents]).ok();
    host.run(&["test", "!", "-e", &wanted]).ok();
    let unit = host.run(&["systemctl", "cat", &format!("systemd-nspawn@{agents}.service")]);
    assert!(!unit.ok().contains("internal delay"), "{unit:?}");

    host.sandbox(&["set", agents, "--restart", "on-failure"]).ok();
    let before = leader(&host, agents);
    host.sandbox(&["kill", agents, "--signal", "KILL"]).ok();
    until("another leader", SOON, || {
        let now = leader(&host, agents);
        (now != 0 && now != before).then_some(())
    });
    host.sandbox(&["wait", agents, "--timeout", "60"]).ok();
    host.sandbox(&["set", agents, "--restart", "always"]).ok();
    host.sandbox(&["stop", agents]).ok();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(leader(&host, agents), 0, "a stop is meant");
    host.sandbox(&["set", agents, "--restart", "no"]).ok();
    host.sandbox(&["start", agents]).ok();
}

/// A directory of the host in a machine that runs: its owner is the agent, there is no way around read-only.
pub fn a_folder_of_the_host_is_mounted(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    host.sh("mkdir -p /srv/share && echo x >/srv/share/x && chown -R 1000:1000 /srv/share").ok();
    host.sandbox(&["mount", agents, "/srv/share", "/mnt/ro", "--read-only"]).ok();
    let seen = host.exec(agents, &["stat", "-c", "%u", "/mnt/ro/x"]);
    assert_eq!(seen.ok(), "1000");
    let tricks = "touch /mnt/ro/y || mount -o remount,rw,bind /mnt/ro || mount -o remount,rw /mnt/ro || \
                  { mkdir -p /mnt/b && mount --bind /mnt/ro /mnt/b && mount -o remount,rw,bind /mnt/b && touch /mnt/b/y; } || \
                  unshare -m sh -c 'mount -o remount,rw,bind /mnt/ro && touch /mnt/ro/y'";
    let tried = host.exec(agents, &["sh", "-c", tricks]);
    assert_ne!(tried.code, 0, "{tried:?}");
    host.sh("test ! -e /srv/share/y").ok();
    host.exec(agents, &["sh", "-c", "umount /mnt/b; true"]).ok();
    host.sandbox(&["mount", agents, "/srv/share", "/mnt/ro"]).ends_with(1);
    host.sandbox(&["mount", agents, "/srv/share", "/proc/x"]).ends_with(2);
    host.sandbox(&["unmount", agents, "/mnt/ro"]).ok();
    assert_eq!(host.exec(agents, &["ls", "/mnt/ro"]).ok(), "");
    host.sandbox(&["unmount", agents, "/mnt/ro"]).ends_with(1);
    // a link of the guest's in place of the mount point leads into the guest
    host.exec(agents, &["sh", "-c", "mkdir -p /srv/inner && ln -sfn /srv/inner /mnt/link"]).ok();
    host.sandbox(&["mount", agents, "/srv/share", "/mnt/link"]).ok();
    assert_eq!(host.exec(agents, &["ls", "/srv/inner"]).ok(), "x");
    host.exec(agents, &["umount", "/srv/inner"]).ok();

    mounts::kept_at_starts(&host);
    mounts::owners_are_mapped(&host);
    host.sh("rm -rf /srv/share").ok();
}

/// `top` counts, `logs` filters and shows the host's side, `console` is entered and left.
pub fn it_is_looked_at(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    let top = host.sandbox(&["top", "--json"]);
    let top: Value = serde_json::from_str(top.ok()).expect("JSON");
    let row = top.as_array().expect("a list").iter().find(|row| row["name"] == agents).expect("a row");
    for (key, least) in [("cpu_usec", 1000), ("memory", 1 << 20), ("tasks", 5), ("received", 1), ("sent", 1)]
    {
        assert!(row[key].as_u64().is_some_and(|seen| seen >= least), "{key}: {row}");
    }
    assert!(host.sandbox(&["top", agents, "--once"]).ok().contains(agents));
    host.sandbox(&["top", "nobody-made-this"]).ends_with(1);

    let unit = host.sandbox(&["logs", agents, "--unit", "systemd-journald", "-n", "1", "--json"]);
    let entry: Value = serde_json::from_str(unit.ok()).expect("JSON");
    assert_eq!(entry["_SYSTEMD_UNIT"], "systemd-journald.service", "{entry}");
    let outside = host.sandbox(&["logs", agents, "--outside"]);
    assert!(outside.ok().contains("systemd-nspawn"), "{outside:?}");

    // login(1) hangs its terminal up and opens it anew, while somebody types: nobody has it open for a moment
    for _ in 0..8 {
        let mut terminal = Terminal::open(&host.on_terminal(&["console", agents, "--user", "root"]), 80, 24);
        terminal.greet();
        terminal.send("echo on=$(tty) who=$(id -un)\n");
        terminal.expect("who=root", SOON);
        terminal.send("\u{1d}\u{1d}\u{1d}");
        let (_, terminal) = terminal.end(SOON);
        assert!(terminal.is_cooked(), "restored");
    }
    let mut terminal = Terminal::open(&host.on_terminal(&["console", agents]), 80, 24);
    terminal.expect("login:", SOON);
    terminal.send("\u{1d}\u{1d}\u{1d}");
    terminal.end(SOON);
}

/// What somebody else made is listed and left alone until it is adopted.
pub fn what_others_made_is_left_alone(lab: &Lab) {
    let host = lab.host();
    host.agents();
    host.sh("mkdir -p /var/lib/machines/handmade/etc && echo kept >/var/lib/machines/handmade/etc/x && \
             echo '[Exec]' >/etc/systemd/nspawn/handmade.nspawn")
        .ok();
    let list: Value = serde_json::from_str(host.sandbox(&["list", "--json"]).ok()).expect("JSON");
    let found = list.as_array().expect("a list").iter().find(|machine| machine["name"] == "handmade");
    assert_eq!(found.expect("listed")["foreign"], true, "{list}");
    assert!(
        host.sandbox(&["list"])
            .ok()
            .lines()
            .any(|line| { line.starts_with("handmade ") && line.contains("foreign") })
    );
    for verb in [
        &["remove", "handmade", "--yes"][..],
        &["start", "handmade"],
        &["stop", "handmade"],
        &["restart", "handmade"],
        &["kill", "handmade"],
        &["set", "handmade", "--restart", "always"],
        &["enable", "handmade"],
        &["disable", "handmade"],
        &["mount", "handmade", "/srv", "/mnt"],
        &["unmount", "handmade", "/mnt"],
        &["copy", "/etc/hostname", "handmade:/etc/"],
    ] {
        let refused = host.sandbox(verb);
        refused.ends_with(1);
        assert!(refused.err.contains("did not make"), "{refused:?}");
    }
    host.sh("test -e /var/lib/machines/handmade/etc/x && test ! -e /var/lib/machines/handmade/etc/hostname")
        .ok();
    host.sandbox(&["copy", "/etc/hostname", "handmade:/etc/", "--adopt"]).ok();
    host.sh("test -e /var/lib/machines/handmade/etc/hostname && test -e /etc/systemd/nspawn/handmade.nspawn.before-sandbox").ok();
    host.sandbox(&["remove", "handmade", "--yes"]).ok();
    host.sh("test ! -e /var/lib/machines/handmade && rm /etc/systemd/nspawn/handmade.nspawn.before-sandbox")
        .ok();
    // the same of LXC's
    let made = "mkdir -p /srv/handbox/etc && \
        printf 'lxc.uts.name = handbox\\nlxc.rootfs.path = dir:/srv/handbox\\n' >/tmp/handbox && \
        lxc-create -n handbox -t none -f /tmp/handbox";
    host.sh(made).ok();
    let seal = "cd /var/lib/lxc/handbox && find . /srv/handbox -type f -exec sha256sum {} + && \
        find . /srv/handbox -printf '%p %m %U %T@\\n'";
    let before = host.sh(seal).ok().to_owned();
    let list: Value = serde_json::from_str(host.sandbox(&["list", "--json"]).ok()).expect("JSON");
    let found = list.as_array().expect("a list").iter().find(|machine| machine["name"] == "handbox");
    let found = found.expect("listed");
    assert_eq!((&found["foreign"], &found["backend"]), (&true.into(), &"lxc".into()), "{found}");
    for verb in
        [&["remove", "handbox", "--yes"][..], &["start", "handbox"], &["set", "handbox", "--tasks", "9"]]
    {
        let refused = host.sandbox(verb);
        refused.ends_with(1);
        assert!(refused.err.contains("did not make"), "{refused:?}");
    }
    for verb in ["clone", "fork", "rename"] {
        host.sandbox(&[verb, "handbox", "handbox2"]).ends_with(1);
    }
    host.sandbox(&["move", "handbox", "--to", "nspawn"]).ends_with(1);
    host.sandbox(&["snapshot", "create", "handbox"]).ends_with(1);
    // its tree is not where one of ours is: it cannot even be adopted, and stays as it is
    host.sandbox(&["start", "handbox", "--adopt"]).ends_with(1);
    assert_eq!(host.sh(seal).ok(), before);
    host.sh("rm -r /var/lib/lxc/handbox /srv/handbox /tmp/handbox; rm -f /run/lxc/lock/var/lib/lxc/.handbox")
        .ok();
}

/// machined restarted, a registration of a machine that is gone, a leader that died: the next command gets on.
pub fn troubles_of_machined_are_got_over(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    let unit = format!("systemd-nspawn@{agents}.service");
    host.sh("systemctl restart systemd-machined").ok();
    host.exec(agents, &["true"]).ok();
    assert!(host.sandbox(&["list"]).ok().contains("running"));
    // killed behind everybody's back, while machined is away and cannot notice
    host.sh("systemctl stop systemd-machined").ok();
    host.run(&["systemctl", "kill", "--signal=KILL", "--kill-whom=all", &unit]).ok();
    until("its unit is down", SOON, || {
        let active = host.run(&["systemctl", "is-active", &unit]);
        (active.code != 0).then_some(())
    });
    host.run(&["test", "-e", &format!("/run/systemd/machines/{agents}")]).ok();
    host.exec(agents, &["true"]).ends_with(125);
    host.sandbox(&["start", agents]).ok();
    host.exec(agents, &["true"]).ok();
    // its first process dies
    host.sandbox(&["kill", agents, "--signal", "KILL"]).ok();
    host.sandbox(&["wait", agents, "--for", "stopped", "--timeout", "30"]).ok();
    host.sandbox(&["stop", agents]).ok();
    host.sandbox(&["start", agents]).ok();
    // somebody else's machine holds its name
    host.sandbox(&["stop", agents]).ok();
    let held = format!(
        "systemd-run -q --unit=holder --slice=machine.slice sleep 600 && pid=$(systemctl show --value -p MainPID holder) && \
                busctl call org.freedesktop.machine1 /org/freedesktop/machine1 org.freedesktop.machine1.Manager \
                RegisterMachine sayssus {agents} 0 other container $pid /"
    );
    host.sh(&held).ok();
    let refused = host.sandbox(&["start", agents]);
    refused.ends_with(1);
    assert!(refused.err.contains("holder.service"), "{refused:?}");
    host.sh("systemctl stop holder").ok();
    host.sandbox(&["start", agents]).ok();
}

/// Somebody who is not root may do what polkit lets them, and is told where it does not.
pub fn polkit_is_asked(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    host.sh("id op >/dev/null 2>&1 || useradd op").ok();
    let as_op =
        |verb: &[&str]| host.run(&[&["runuser", "-u", "op", "--", "/usr/local/bin/sandbox"], verb].concat());
    let refused = as_op(&["stop", agents]);
    refused.ends_with(6);
    assert!(refused.err.contains("does not let this user"), "{refused:?}");
    as_op(&["exec", agents, "--", "true"]).ends_with(125);
    assert_ne!(leader(&host, agents), 0);
    // on a terminal somebody is there to be asked, and may know an administrator's password
    let admin = "polkit.addAdminRule(function(action, subject) { return ['unix-user:op']; });";
    host.put("/etc/polkit-1/rules.d/05-admin.rules", "0644", admin.as_bytes().to_vec());
    host.sh("echo op:let-me | chpasswd && systemctl restart polkit").ok();
    // polkit asks in sessions alone: one with a terminal of its own
    let kill = format!("sandbox kill {agents} --signal CONT");
    let asked = ["runuser", "--pty", "-l", "op", "-c", &kill];
    for (password, code) in [("wrong", 6), ("let-me", 0)] {
        let mut terminal = Terminal::open(&host.argv(&["-t"], &asked), 80, 24);
        terminal.expect("Password:", SOON);
        terminal.send(&format!("{password}\n"));
        let (ended, terminal) = terminal.end(SOON);
        assert_eq!(ended, code, "shown:\n{}", terminal.shown());
        assert!(terminal.is_cooked(), "restored");
    }
    host.sh("! pgrep pkttyagent").ok();
    let rule = "polkit.addRule(function(action, subject) { if (subject.user == 'op' && \
                (action.id == 'org.freedesktop.systemd1.manage-units' || action.id == 'org.freedesktop.machine1.manage-machines')) \
                return polkit.Result.YES; });";
    host.put("/etc/polkit-1/rules.d/10-op.rules", "0644", rule.as_bytes().to_vec());
    host.sh("systemctl restart polkit").ok();
    as_op(&["stop", agents]).ok();
    assert_eq!(leader(&host, agents), 0);
    as_op(&["start", agents]).ok();
    host.sandbox(&["wait", agents, "--timeout", "60"]).ok();
    as_op(&["kill", agents, "--signal", "CONT"]).ok();
    as_op(&["stop", "nobody-made-this"]).ends_with(1);
    host.sh("rm /etc/polkit-1/rules.d/10-op.rules /etc/polkit-1/rules.d/05-admin.rules; loginctl terminate-user op; \
              userdel -f op && systemctl restart polkit").ok();
}

/// Fifty sessions at once, each with its own streams.
///
/// Mirrors: Incus' exec, `test_concurrent_exec`.
pub fn sessions_at_once(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    let script = "for i in $(seq 50); do echo abc$i | sandbox exec \"$0\" -- cat >/tmp/out.$i & done; wait; \
                  for i in $(seq 50); do test \"$(cat /tmp/out.$i)\" = abc$i || exit 1; done; rm /tmp/out.*";
    host.run(&["sh", "-c", script, agents]).ok();
}

/// A shell completes verbs, options and the names that are there.
pub fn names_are_completed(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    let ask = |words: &str| {
        let script = format!(
            "set -e; source <(sandbox completions bash); COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             COMP_LINE=\"${{COMP_WORDS[*]}}\"; COMP_POINT=${{#COMP_LINE}}; COMP_TYPE=9; COMP_KEY=9; \
             how=$(complete -p sandbox); how=${{how##*-F }}; ${{how%% *}} sandbox \"${{COMP_WORDS[COMP_CWORD]}}\" x; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        host.run(&["bash", "-c", &script]).ok().to_owned()
    };
    assert!(ask("sandbox exec ag").lines().any(|word| word.trim() == agents));
    assert!(ask("sandbox stop ''").lines().any(|word| word.trim() == agents));
    assert!(ask("sandbox cop").lines().any(|word| word.trim() == "copy"));
    assert!(ask("sandbox create x --profile do").lines().any(|word| word.trim() == "docker"));
    assert!(ask("sandbox copy ag").contains(&format!("{agents}:/")));
    let fish =
        "source (sandbox completions fish | psub); complete -C 'sandbox exec ag'; complete -C 'sandbox cop'";
    let words = host.run(&["fish", "--no-config", "-c", fish]);
    assert!(words.ok().lines().any(|word| word == agents), "{words:?}");
    assert!(words.ok().lines().any(|word| word.starts_with("copy\t")), "{words:?}");
    // what shows the words is zsh's own: here they are printed
    let zsh = "compdef() {}; _describe() { for name in \"$@\"; do case $name in dirs|other) print -l -- \"${(@P)name}\";; esac; done }; \
               source <(sandbox completions zsh); words=(sandbox exec ag); CURRENT=3; _clap_dynamic_completer_sandbox; \
               words=(sandbox create x --profile do); CURRENT=5; _clap_dynamic_completer_sandbox";
    let words = host.run(&["zsh", "-f", "-c", zsh]);
    for word in [agents, "docker"] {
        assert!(words.ok().lines().any(|found| found == word), "{words:?}");
    }
}
