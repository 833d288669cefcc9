//! A machine that goes through a file, and what kills of `move` leave.

use std::fs;

use crate::{
    lab::{Lab, names, own},
    runner::line,
};

/// Exported as it runs, imported under another name; exported stopped, removed, and back as it was.
pub fn a_machine_goes_through_a_file(lab: &Lab) {
    let (plain, moved) = (own("plain"), own("moved"));
    if !names(lab.sandbox(&["list", "--json"]).ok()).contains(&plain) {
        lab.sandbox(&["create", &plain, "--backend", "direct", "--release", "trixie"]).ok();
    }
    let exec = |machine: &str, script: &str| {
        lab.sandbox(&["exec", machine, "--", "sh", "-c", script]).ok().to_owned()
    };
    let file = lab.path("moved.tar.zst");
    let _ = fs::remove_file(&file);
    let file = file.to_str().expect("a UTF-8 path");
    exec(&plain, "echo through-a-file >/root/through && chown 1:2 /root/through");
    lab.sandbox(&["export", &plain, file]).ends_with(1);
    let said = lab.sandbox(&["export", &plain, file, "--live"]);
    said.ok();
    assert!(said.err.contains("as after a crash"), "{}", said.err);
    // it goes on
    assert_eq!(exec(&plain, "systemctl is-system-running"), "running");

    lab.sandbox(&["import", file, &moved, "--backend", "direct"]).ok();
    assert_eq!(
        exec(&moved, "cat /root/through; stat -c %u:%g /root/through; hostname"),
        format!("through-a-file\n1:2\n{moved}")
    );
    assert_eq!(exec(&moved, "systemctl is-system-running; dpkg --audit"), "running");
    assert_ne!(exec(&moved, "cat /etc/machine-id"), exec(&plain, "cat /etc/machine-id"));

    let id = exec(&moved, "echo again >/srv/again; cat /etc/machine-id");
    fs::remove_file(file).expect("the file");
    lab.sandbox(&["export", &moved, file, "--stop"]).ok();
    assert_eq!(exec(&moved, "systemctl is-system-running"), "running");
    lab.sandbox(&["remove", &moved, "--yes"]).ok();
    lab.sandbox(&["import", file, "--backend", "direct"]).ok();
    assert_eq!(exec(&moved, "cat /srv/again /etc/machine-id"), format!("again\n{id}"));
    lab.sandbox(&["remove", &moved, "--yes"]).ok();
    fs::remove_file(file).expect("the file");
}

/// Moves that are killed at any point, of a machine that is stopped and of one that runs: it is one machine, with one
/// of the backends, and nothing of the other is left.
///
/// It is all done in the host itself: to come in from outside takes longer than a move.
pub fn a_killed_move_leaves_one_machine(lab: &Lab) {
    let host = lab.host();
    let before = host.traces();
    host.sandbox(&["create", "mov", "--release", "trixie", "--no-start"]).ok();
    let seed = std::process::id();
    line(&format!("seed {seed}"));
    let killed = host.run(&["bash", "-c", KILLED_MOVES, &seed.to_string()]);
    if killed.code != 0 {
        // the tests after this one count machines
        host.sandbox(&["remove", "mov", "--yes"]);
    }
    line(killed.ok().lines().last().unwrap_or_default());
    host.sandbox(&["move", "mov", "--to", "lxc"]);
    host.sandbox(&["start", "mov"]).ok();
    assert_eq!(host.exec("mov", &["cat", "/etc/hostname"]).ok(), "mov");
    host.sandbox(&["remove", "mov", "--yes"]).ok();
    host.traces().are(&before);
}

/// `$0` is the seed. Links are named by the SHA-256 of the machine's name.
const KILLED_MOVES: &str = r#"
RANDOM=$0 kills=0 longest=400 moved=0 mended=0
link=ve-sb$(printf mov | sha256sum | cut -c1-8)
place() { case $1 in nspawn) echo /var/lib/machines/mov ;; *) echo /var/lib/sandbox/machines/mov/rootfs ;; esac; }
fail() { echo "round $round (move --to $to $more, killed after $after ms): $*"; exit 1; }
whole() {
  sandbox repair >/tmp/repaired 2>&1 || fail "$(cat /tmp/repaired)"
  ! grep -q "had died" /tmp/repaired || mended=$((mended + 1))
  is=$(sandbox status mov --json | sed -n 's/.*"backend": *"\([a-z]*\)".*/\1/p')
  tree=$(place "$is")
  [ "$(cat "$tree/etc/hostname")" = mov ] || fail "no tree of $is"
  trees=$(ls -d /var/lib/machines/mov /var/lib/sandbox/machines/mov/rootfs 2>/dev/null | wc -l)
  [ "$trees" = 1 ] || fail "$trees trees"
  halves=$(ls -d /var/lib/machines/.#sandbox-mov.* /var/lib/sandbox/machines/mov/.* /var/lib/lxc/mov/.* \
    /var/lib/sandbox/machines/mov/journal* 2>/dev/null | grep -v '/\.*$')
  # nspawn's own lock, of one that runs or ran
  [ "$is" != direct ] || halves=$(echo "$halves" | grep -v '/\.#rootfs\.lck$')
  [ -z "$halves" ] || fail "left: $halves"
  seen=$(ls -d /etc/systemd/nspawn/mov.nspawn /etc/systemd/system/systemd-nspawn@mov.service.d 2>/dev/null | wc -l)
  [ "$seen" = "$([ "$is" = nspawn ] && echo 2 || echo 0)" ] || fail "$seen files of nspawn for one of $is"
  [ "$(ls -d /var/lib/lxc/mov 2>/dev/null)" = "$([ "$is" = lxc ] && echo /var/lib/lxc/mov)" ] || fail "LXC's folder, with $is"
  [ "$is" != lxc ] || [ "$(lxc-info -n mov -c lxc.uts.name)" = 'lxc.uts.name = mov' ] || fail "no configuration"
  # what a killed verb had begun to start or to end comes to its end by itself
  for i in $(seq 150); do
    leader=$(sandbox status mov --json | sed -n 's/.*"leader": *\([0-9]*\).*/\1/p')
    [ -z "$leader" ] || return 0
    found=$(ls -d /sys/class/net/$link /sys/fs/cgroup/lxc.[mp]*.mov* 2>/dev/null; grep " $tree" /proc/self/mountinfo
      pgrep -f '[l]xc monitor.* mov$'; pgrep -f '[i]nternal supervise mov'; pgrep -f '[s]ystemd-nspawn .*mov')
    [ -n "$found" ] || return 0
    sleep .2
  done
  fail "left of one that is stopped: $found"
}
round=0 to=- more= after=0
whole
# a move that is faster than its killer counts for nothing
while { [ $round -lt 36 ] || [ $kills -lt 25 ]; } && [ $round -lt 90 ]; do
  round=$((round + 1))
  set -- nspawn lxc direct lxc nspawn
  shift $((RANDOM % 5)); to=$1
  [ "$to" != "$is" ] || to=$([ "$is" = lxc ] && echo nspawn || echo lxc)
  more=
  after=$((RANDOM % longest))
  if [ $((round % 9)) = 0 ]; then
    [ -n "$leader" ] || sandbox start mov >/tmp/started 2>&1 || fail "$(cat /tmp/started)"
    more=--restart after=$((RANDOM % 4000))
  fi
  # a machine that came to run is stopped, or it could not be moved
  [ -n "$more" ] || sandbox stop mov >/dev/null 2>&1
  sandbox move mov --to "$to" $more >/tmp/moved 2>&1 &
  sleep "$((after / 1000)).$(printf %03d $((after % 1000)))"
  kill -KILL $! 2>/dev/null
  wait $! 2>/dev/null
  case $? in
    137) kills=$((kills + 1)) ;;
    0) moved=$((moved + 1)); [ -n "$more" ] || longest=$((longest * 9 / 10 + 10)) ;;
    *) fail "$(cat /tmp/moved)" ;;
  esac
  whole
done
sandbox stop mov >/dev/null 2>&1
echo "$kills killed, $mended of them in the middle, $moved were faster"
[ $kills -ge 20 ] && [ $mended -gt 0 ]"#;
