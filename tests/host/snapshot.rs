//! Machines that run are kept, forked and renamed, and what a kill leaves of that.

use std::{
    thread,
    time::{Duration, Instant},
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::Value;

use crate::{
    lab::{Lab, SOON, names, own},
    process::{self, finish, until},
    runner::line,
};

fn status(lab: &Lab, name: &str) -> Value {
    let output = lab.sandbox(&["status", name, "--json"]);
    serde_json::from_str(output.ok()).expect("JSON")
}

fn plain(lab: &Lab) -> String {
    let plain = own("plain");
    if !names(lab.sandbox(&["list", "--json"]).ok()).contains(&plain) {
        lab.sandbox(&["create", &plain, "--backend", "direct", "--release", "trixie"]).ok();
    }
    if status(lab, &plain)["leader"].is_null() {
        lab.sandbox(&["start", &plain]).ok();
    }
    plain
}

/// A fork is another machine, of the same moment, and the first one has gone on.
pub fn a_running_machine_is_forked(lab: &Lab) {
    let (plain, forked) = (&plain(lab), &own("forked"));
    let sh = |machine: &str, script: &str| lab.sandbox(&["exec", machine, "--", "sh", "-c", script]);
    sh(
        plain,
        "echo kept >/root/forked; echo '#!/bin/sh\nwhile :; do date +%s%N >/root/ticks; done' >/root/tick",
    )
    .ok();
    sh(plain, "chmod +x /root/tick; systemd-run -q --unit tick /root/tick").ok();
    let taken = lab.sandbox(&["snapshot", "create", plain, "running", "--json"]);
    let taken: Value = serde_json::Deserializer::from_str(taken.ok())
        .into_iter::<Value>()
        .map(|value| value.expect("JSON"))
        .last()
        .expect("a result");
    assert_eq!(taken["consistency"], "crash-consistent", "{taken}");
    let frozen = taken["frozen_ms"].as_u64().expect("a number");
    line(&format!("stood still for {frozen} ms"));
    lab.sandbox(&["fork", plain, forked]).ok();
    assert_eq!(sh(forked, "cat /root/forked; hostname").ok(), format!("kept\n{forked}"));
    assert_eq!(sh(forked, "systemctl is-system-running --wait").ok(), "running");
    let id = |machine: &str| sh(machine, "cat /etc/machine-id").ok().to_owned();
    assert_ne!(id(plain), id(forked));
    assert_eq!(id(forked).len(), 32);
    assert_ne!(status(lab, plain)["addresses"], status(lab, forked)["addresses"]);
    // it has gone on, and goes on
    let ticks = || sh(plain, "cat /root/ticks").ok().to_owned();
    let before = ticks();
    until("it ticks", SOON, || (ticks() > before).then_some(()));
    let running = lab.sandbox(&["snapshot", "restore", plain, "running", "--yes"]);
    running.ends_with(1);
    sh(plain, "systemctl stop tick; echo lost >/root/forked").ok();
    lab.sandbox(&["snapshot", "restore", plain, "running", "--yes", "--restart"]).ok();
    assert_eq!(sh(plain, "cat /root/forked").ok(), "kept");
    lab.sandbox(&["remove", forked, "--yes"]).ok();
    lab.sandbox(&["snapshot", "remove", plain, "running"]).ok();
}

/// Whoever is killed while the machine stands still: it goes on at once, and the next command leaves nothing.
pub fn a_killed_fork_lets_the_machine_go_on(lab: &Lab) {
    let (plain, forked) = (&plain(lab), &own("forked"));
    let before = lab.traces_here();
    let leader = status(lab, plain)["leader"].as_i64().expect("it runs");
    let cgroup = process::run(&["sed", "-n", "s/^0:://p", &format!("/proc/{leader}/cgroup")], "", SOON);
    let cgroup = cgroup.ok().trim_end_matches("/init.scope").to_owned();
    let frozen = || {
        ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].iter().any(|top| {
            let events = std::fs::read_to_string(format!("{top}{cgroup}/cgroup.events"));
            events.is_ok_and(|text| text.contains("frozen 1"))
        })
    };
    let seed = u64::from(std::process::id());
    line(&format!("seed {seed}"));
    let mut random = StdRng::seed_from_u64(seed);
    let mut caught = 0;
    for round in 0..12 {
        let argv = lab.argv(&["fork", plain, forked, "--no-start"]);
        let mut fork = process::start(&argv);
        // every other one while it stands still, the others at any time
        if round % 2 == 0 {
            let begun = Instant::now();
            while !frozen() && begun.elapsed() < SOON && matches!(fork.try_wait(), Ok(None)) {
                thread::sleep(Duration::from_millis(1));
            }
            caught += u32::from(frozen());
        } else {
            thread::sleep(Duration::from_millis(random.gen_range(5..3000)));
        }
        drop(fork.kill());
        let killed = finish(fork, &argv, SOON);
        until("it goes on though nobody does anything", Duration::from_secs(5), || (!frozen()).then_some(()));
        lab.sandbox(&["exec", plain, "--", "true"]).ok();
        lab.sandbox(&["repair"]).ok();
        let listed = names(lab.sandbox(&["list", "--json"]).ok()).contains(forked);
        assert_eq!(listed, killed.code == 0, "seed {seed}, round {round}: {killed:?}");
        if listed {
            lab.sandbox(&["remove", forked, "--yes"]).ok();
        }
        lab.traces_here().are(&before);
    }
    assert!(caught > 2, "it was never seen to stand still");
    frozen_by_the_dead_it_is_thawed_by_the_next_command(lab, plain, &frozen);
    lab.traces_here().are(&before);
}

/// An export and the process that would thaw its machine are killed, the second one first.
fn frozen_by_the_dead_it_is_thawed_by_the_next_command(lab: &Lab, plain: &str, frozen: &dyn Fn() -> bool) {
    let place = tempfile::tempdir().expect("a directory");
    let archive = place.path().join("export.tar").to_string_lossy().into_owned();
    let argv = lab.argv(&["export", plain, &archive, "--live"]);
    let export = process::start(&argv);
    until("the export has frozen it", SOON, || frozen().then_some(()));
    let id = export.id().to_string();
    process::run(&["sh", "-c", "pkill -KILL -P $0; kill -KILL $0", &id], "", SOON).ok();
    finish(export, &argv, SOON);
    assert!(frozen(), "it was thawed by another process");
    lab.sandbox(&["repair"]).ok();
    assert!(!frozen(), "it is still frozen");
}

/// The same under machined; its image list shows machines and nothing else.
pub fn a_machine_of_machined_is_forked_and_renamed(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    let before = host.traces();
    host.exec(agents, &["sh", "-c", "echo kept >/root/forked"]).ok();
    host.sandbox(&["snapshot", "create", agents, "running"]).ok();
    host.sandbox(&["fork", agents, "forked"]).ok();
    assert_eq!(host.exec("forked", &["cat", "/root/forked"]).ok(), "kept");
    let id = |machine: &str| host.exec(machine, &["cat", "/etc/machine-id"]).ok().to_owned();
    assert_ne!(id(agents), id("forked"));
    let images = host.run(&["machinectl", "list-images", "--no-legend", "--no-pager"]);
    let images: Vec<_> = images.ok().lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(images, [agents, "forked"], "snapshots are no images");
    host.sandbox(&["rename", "forked", "renamed"]).ends_with(1);
    host.sandbox(&["rename", "forked", "renamed", "--restart"]).ok();
    assert_eq!(host.exec("renamed", &["hostname"]).ok(), "renamed");
    assert_eq!(host.exec("renamed", &["docker", "info", "--format", "{{.Driver}}"]).code, 0);
    host.sandbox(&["remove", "renamed", "--yes"]).ok();
    host.sandbox(&["snapshot", "remove", agents, "running"]).ok();
    host.traces().are(&before);
}

/// Verbs on a machine of machined, killed at any point: it is there, under one of two names, with a copy or without, and
/// nothing else is: no tree, unit, configuration, rule, link, mount or process.
pub fn killed_verbs_leave_whole_machines(lab: &Lab) {
    let host = lab.host();
    let before = host.traces();
    host.sandbox(&["create", "ren-a", "--release", "trixie", "--no-start"]).ok();
    // in the host itself: to come in from outside takes longer than a rename
    let seed = std::process::id();
    line(&format!("seed {seed}"));
    let script = r#"
RANDOM=$0 name=ren-a copy= snapshot= killed=0
is() { [ "$1" = "$2" ] || { echo "round $round, $verb: $3: $1, not $2"; exit 1; }; }
others() {
  nft -s list ruleset | grep -o 've-sb[0-9a-f]*' | sort -u; ls /sys/class/net
  awk '$5 ~ /ren-/ { print $5 }' /proc/self/mountinfo; pgrep -f '^([^ ]*/)?sandbox .*ren-'
}
before=$(others)
round=0
# a verb that is faster than its killer counts for nothing
while { [ $round -lt 45 ] || [ $killed -lt 22 ]; } && [ $round -lt 120 ]; do
  round=$((round + 1))
  other=ren-b; [ $name = ren-b ] && other=ren-a
  verbs=("rename $name $other" "snapshot create $name s$round" "set $name --start-order $round")
  if [ "$copy" ]; then verbs+=("remove ren-c --yes" "remove ren-c --yes"); else
    verbs+=("clone $name ren-c --no-start" "create ren-c --release trixie --no-start --accept-costs"); fi
  [ "$snapshot" ] && verbs+=("snapshot restore $name $snapshot --yes")
  verb=${verbs[RANDOM % ${#verbs[@]}]}
  case $verb in rename*|set*) most=250 ;; *) most=800 ;; esac
  sandbox $verb >/dev/null 2>&1 &
  sleep "0.$(printf %03d $((RANDOM % most)))"
  kill -KILL $! 2>/dev/null && killed=$((killed + 1)); wait $! 2>/dev/null
  sandbox repair >/dev/null || exit 1
  all=$(sandbox list --quiet | awk '$1 ~ /^ren-/ { print $1 }' | sort | tr '\n' ' ')
  case $all in "ren-a "*|"ren-b "*) name=${all%% *} ;; *) echo "round $round, $verb: $all"; exit 1 ;; esac
  copy=; case $all in *"ren-c "*) copy=ren-c ;; esac
  is "$all" "$name ${copy:+$copy }" list
  for place in /etc/systemd/nspawn /var/lib/machines /etc/systemd/system /var/lib/sandbox/machines; do
    is "$(ls -A $place | grep ren- | sed -e 's/.*\(ren-[abc]\).*/\1/' | sort -u | tr '\n' ' ')" "$all" $place
  done
  starts=; sandbox set $name --json | grep -q '"autostart": null' || starts="systemd-nspawn@$name.service"
  is "$(ls /etc/systemd/system/machines.target.wants 2>/dev/null | grep ren-)" "$starts" "what starts with the host"
  snapshot=$(sandbox snapshot list $name | awk 'NR > 1 { print $2 }' | tail -n 1)
  is "$(ls -A /var/lib/machines/.#sandbox-snapshots 2>/dev/null | grep -cvx $name)" 0 snapshots
  for one in $all; do is "$(cat /var/lib/machines/$one/etc/hostname)" $one hostname; done
  is "$(others)" "$before" "rules, links, mounts, processes"
done
[ $killed -ge 22 ] || { echo "only $killed were killed"; exit 1; }
[ "$copy" ] && sandbox remove ren-c --yes >/dev/null
sandbox disable $name >/dev/null
echo $name"#;
    let left = host.run(&["bash", "-c", script, &seed.to_string()]);
    let left = left.ok().to_owned();
    host.sandbox(&["start", &left]).ok();
    assert_eq!(host.exec(&left, &["hostname"]).ok(), left);
    host.sandbox(&["remove", &left, "--yes"]).ok();
    host.traces().are(&before);
}

/// The timer comes with the first schedule, does what is due, and goes with the last.
pub fn a_schedule_has_a_timer(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    let before = host.traces();
    host.sandbox(&["snapshot", "schedule", agents, "--every", "1h", "--keep", "6h, 7d, 4w"]).ok();
    assert_eq!(host.run(&["systemctl", "is-active", "sandbox-snapshots.timer"]).ok(), "active");
    host.run(&["systemctl", "start", "sandbox-snapshots.service"]).ok();
    let taken = || {
        let list = host.sandbox(&["snapshot", "list", agents, "--json"]);
        let list: Value = serde_json::from_str(list.ok()).expect("JSON");
        list.as_array().expect("a list").clone()
    };
    assert_eq!(taken().len(), 1);
    assert_eq!(taken()[0]["scheduled"], true);
    host.sandbox(&["snapshot", "schedule", agents, "--off"]).ok();
    host.run(&["systemctl", "is-active", "sandbox-snapshots.timer"]);
    assert!(!host.sh("ls /etc/systemd/system").ok().contains("sandbox-snapshots"));
    let name = taken()[0]["name"].as_str().expect("a name").to_owned();
    host.sandbox(&["snapshot", "remove", agents, &name]).ok();
    host.traces().are(&before);
}
