//! A catcher and a swapper in a machine while every verb is run on it.

use std::{thread, time::Duration};

use crate::{
    bed::{Bed, HOSTILE, OTHER, PROGRAMS, SECRET},
    lab::Host,
    runner::line,
    verbs,
};

/// What the catcher writes.
const REPORT: &str = "/var/lib/caught";

/// Units, so that both are there again after each start. They start once the session that installs them is over: the catcher
/// would hold it too.
fn install(host: &Host<'_>, more: &str) {
    let unit = |words: &str| {
        format!(
            "[Unit]\\nDefaultDependencies=no\\n[Service]\\nExecStartPre=/bin/sleep 1\\nExecStart={PROGRAMS}/{words}\\n\
             Restart=always\\n[Install]\\nWantedBy=sysinit.target\\n"
        )
    };
    let script = format!(
        "printf '{}' >/etc/systemd/system/catcher.service; printf '{}' >/etc/systemd/system/swapper.service; \
         rm -rf {REPORT}* /srv/swapped; systemctl daemon-reload; systemctl -q enable catcher swapper; \
         systemctl restart --no-block catcher swapper",
        unit(&format!("catcher {REPORT}{more}")),
        unit(&format!("swapper /srv/swapped {SECRET}")),
    );
    host.exec(HOSTILE, &["sh", "-c", &script]).ok();
    thread::sleep(Duration::from_secs(2));
}

fn uninstall(host: &Host<'_>) {
    let script = "systemctl -q disable --now catcher swapper; rm -rf /srv/swapped /root/host-secret \
        /etc/systemd/system/catcher.service /etc/systemd/system/swapper.service; find /sys/fs/cgroup -maxdepth 2 \
        \\( -name .sandbox -o -name sandbox -o -name session -o -name sessions -o -name exec \\) -exec rmdir {} + ; true";
    // a session that the guest froze would be waited for
    host.run(&["timeout", "-k", "5", "30", "sandbox", "exec", HOSTILE, "--", "sh", "-c", script]).ok();
}

/// Takes what the catcher has reported into a tree, and returns that and how many processes it saw arrive. It is taken
/// out at once: a snapshot that is restored has an older one.
fn report(host: &Host<'_>, tree: &str) -> (Vec<String>, u64) {
    let script = "cat $0 && truncate -s 0 $0; tail -n 1 $0.seen >&2";
    let report = host.run(&["sh", "-c", script, &format!("{tree}{REPORT}")]);
    let caught = report.out.lines().filter(|line| line.starts_with("CAUGHT")).map(str::to_owned);
    (caught.collect(), report.err.trim().parse().unwrap_or(0))
}

fn attack(bed: &Bed, backend: &str) {
    bed.on(backend);
    let host = bed.lab.host();
    install(&host, "");
    host.sh(&format!("echo input >/root/host-input; echo {}-output >/root/host-output", bed.marker())).ok();
    let tree = bed.tree(HOSTILE);
    let (mut faults, mut seen) = (Vec::new(), 0);
    for line in verbs::lines(HOSTILE) {
        let measured = bed.measure(&line);
        let unexpected = || {
            let is_expected = verbs::is_expected(&line, measured.code);
            (!is_expected).then(|| measured.because(&format!("ended with {}", measured.code)))
        };
        faults.extend(measured.fault().or_else(unexpected));
        let (caught, now) = report(&host, &tree);
        faults.extend(caught.first().map(|first| format!("`{line}`: {} times {first}", caught.len())));
        seen = now.max(seen);
    }
    faults.extend(bed.leaks());
    for copy in ["running", "cloned", "imported", "renamed"].iter().filter(|copy| bed.is_there(copy)) {
        faults.extend(bed.judge(&[format!("sandbox remove {copy} --yes")]));
    }
    host.sh("rm -f /tmp/kept.tar.zst /root/host-input /root/host-output").ok();
    bed.on(backend);
    // those of the schedule too
    bed.forget_snapshots(HOSTILE);
    bed.forget_snapshots(OTHER);
    assert_eq!(host.exec(OTHER, &["echo", "unharmed"]).ok(), "unharmed");
    uninstall(&host);
    line(&format!("{seen} processes arrived"));
    assert!(faults.is_empty(), "{faults:#?}");
    // proof that it was awake; 38 to 71 were seen, and no lower bound of them is known
    assert!(seen > 20, "the catcher saw {seen} processes: did it run?");
}

pub fn nothing_of_the_host_is_caught_by_nspawn(bed: &Bed) {
    attack(bed, "nspawn");
}

pub fn nothing_of_the_host_is_caught_by_lxc(bed: &Bed) {
    attack(bed, "lxc");
}

pub fn nothing_of_the_host_is_caught_by_direct(bed: &Bed) {
    attack(bed, "direct");
}

/// Cgroups that a guest keeps frozen hold none of the verbs that enter it.
pub fn a_frozen_cgroup_holds_no_verb(bed: &Bed) {
    bed.on("nspawn");
    let host = bed.lab.host();
    install(&host, " hold");
    let verbs = [
        "exec $m -- true",
        "logs $m -n 3",
        "health $m",
        "list",
        "status $m",
        "copy $m:/etc/os-release /tmp/",
    ];
    let lines: Vec<String> = verbs
        .iter()
        .map(|verb| format!("m={HOSTILE}; sandbox {verb} >/dev/null; s=$?; rm -f /tmp/os-release; exit $s"))
        .collect();
    let faults = bed.judge(&lines);
    // from outside, as a verb that enters is what may not work
    let tree = bed.tree(HOSTILE);
    host.sh(&format!("rm {tree}/etc/systemd/system/sysinit.target.wants/catcher.service")).ok();
    host.sandbox(&["restart", HOSTILE, "--timeout", "10"]).ok();
    uninstall(&host);
    assert!(faults.is_empty(), "{faults:#?}");
}
