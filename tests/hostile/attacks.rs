//! Attacks of one machine, each once: what its root can prepare, the verbs that are run on it then, and what must not have
//! happened.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    bed::{Bed, HOSTILE, OTHER, PROGRAMS, SHELL},
    lab::{Host, SOON},
    process::until,
    runner::line,
    traces,
};

struct Attack {
    /// The kind of fault that it looks for (docs/security-audit.md).
    kind: &'static str,
    what: &'static str,
    /// A line of shell that the machine's root runs; it ends with 0.
    inside: &'static str,
    /// Lines of shell in the host, on the machine `$m`.
    verbs: &'static [&'static str],
    /// A line of shell in the host that ends with 0 where all is well; `$tree` is the machine's tree.
    well: &'static str,
    /// A line of shell in the host that undoes it in the tree, before the machine is started again.
    undo: &'static str,
}

const LOOK: &[&str] =
    &["sandbox list >/dev/null", "sandbox status $m >/dev/null", "sandbox top --once >/dev/null"];
const ENTER: &[&str] = &[
    "sandbox exec $m -- true",
    "script -qec \"sandbox exec -t $m -- true\" /dev/null",
    SHELL,
    "sandbox logs $m -n 5",
    "sandbox health $m",
    "sandbox copy /usr/local/lib/hostile/many $m:/root/",
    "rm -rf /tmp/c; sandbox copy $m:/etc/os-release /tmp/c; s=$?; rm -rf /tmp/c; exit $s",
];
const MOUNT: &[&str] =
    &["mkdir -p /srv/shared; sandbox mount $m /srv/shared /mnt/shared && sandbox unmount $m /mnt/shared"];
const COPY: &[&str] = &[
    "sandbox snapshot create $m evil",
    "sandbox snapshot diff $m evil >/dev/null",
    "sandbox fork $m copied --no-start",
    "! sandbox status copied >/dev/null 2>&1 || sandbox remove copied --yes",
    "sandbox export $m /tmp/e --live --compression zstd; s=$?; rm -f /tmp/e; exit $s",
    "! sandbox snapshot list $m --json | grep -q evil || sandbox snapshot remove $m evil",
];
/// Those of them that freeze the machine.
const COPY_LIVE: [&str; 2] = ["sandbox snapshot create $m evil", "sandbox snapshot remove $m evil"];
const INTO: &[&str] = &[
    "for i in 1 2 3 4 5 6; do sandbox copy /usr/local/lib/hostile/many $m:/srv/now/; done; true",
    "for i in 1 2 3 4 5 6; do sandbox copy /usr/local/lib/hostile/deep $m:/srv/now/lib/; done; true",
];
const END: &[&str] = &["sandbox kill $m --signal CONT --whom all", "sandbox stop $m --timeout 5"];

const ATTACKS: &[Attack] = &[
    Attack {
        kind: "K1",
        what: "an interpreter of the machine's own for every program that is executed in it",
        inside: r"mkdir -p /mnt/misc; if mount -t binfmt_misc none /mnt/misc; then
            printf ':evil:M:16:\\x03\\x00\\x3e\\x00:\\xff\\xff\\xff\\xff:/usr/local/lib/hostile/interpreter:F' >/mnt/misc/register; fi; :",
        verbs: &[],
        well: "true",
        undo: "rm -f var/lib/given",
    },
    Attack {
        kind: "K1",
        what: "a library that every program of the machine loads",
        inside: "echo /usr/local/lib/hostile/preloaded.so >/etc/ld.so.preload; rm -f /var/lib/given",
        verbs: &[],
        well: "[ -s $tree/var/lib/given ]",
        undo: "rm -f etc/ld.so.preload var/lib/given",
    },
    Attack {
        kind: "K1",
        what: "every process but the first is stopped as it comes",
        inside: "systemd-run -q --unit stopper perl -e 'while (1) { for (glob \"/proc/[0-9]*\") \
            { my ($pid) = /(\\d+)/; kill \"STOP\", $pid if $pid > 1 && $pid != $$ } }'",
        verbs: &["timeout -s INT 10 sandbox exec $m -- true; true"],
        well: "true",
        undo: "true",
    },
    Attack {
        kind: "K2",
        what: "/etc is a link to the host's in every second moment",
        inside: "ln -s ../../../../../../../etc /srv/link && systemd-run -q --unit exchanger /usr/local/lib/hostile/exchanger /etc /srv/link",
        verbs: &[
            "for i in 1 2 3 4 5 6; do sandbox set $m --env A=$i; done; sandbox set $m --unset-env A; true",
            "for i in 1 2 3 4 5 6; do sandbox copy /usr/local/lib/hostile/many $m:/etc/; done; true",
            "mkdir -p /srv/shared; for i in 1 2 3 4; do sandbox mount $m /srv/shared /etc/shared; sandbox unmount $m /etc/shared; done; true",
        ],
        well: "[ ! -e /etc/many ] && [ ! -e /etc/shared ]",
        undo: "rm -f etc/many srv/link/many; rmdir etc/shared srv/link/shared; [ ! -L etc ] || { rm etc; mv srv/link etc; }; rm -f srv/link",
    },
    Attack {
        kind: "K2",
        what: "where a file is copied to is a link to the host's /usr in every second moment",
        inside: "mkdir -p /srv/now/lib && ln -s ../../../../../../../../usr/local /srv/other && \
            systemd-run -q --unit exchanger /usr/local/lib/hostile/exchanger /srv/now /srv/other",
        verbs: INTO,
        well: "[ ! -e /usr/local/many ] && [ ! -e /usr/local/lib/deep ]",
        undo: "rm -rf srv/now srv/other",
    },
    Attack {
        kind: "K2",
        what: "where a directory is mounted is a link to the host's root in every second moment",
        inside: "mkdir -p /srv/now/mnt && ln -s ../../../../../../../.. /srv/other && \
            systemd-run -q --unit exchanger /usr/local/lib/hostile/exchanger /srv/now /srv/other",
        verbs: &[
            "mkdir -p /srv/shared; for i in 1 2 3 4 5 6; do sandbox mount $m /srv/shared /srv/now/mnt; sandbox unmount $m /srv/now/mnt; done; true",
        ],
        well: "! mountpoint -q /mnt && ! grep -q ' /srv/shared ' /proc/self/mountinfo",
        undo: "rm -rf srv/now srv/other",
    },
    Attack {
        kind: "K3",
        what: "64 MiB of accounts in one line, and a group of 300,000 members",
        inside: "cp /etc/passwd /srv/passwd; cp /etc/group /srv/group; head -c 64M /dev/zero | tr '\\0' x >>/etc/passwd; \
            perl -e 'print \"evil:x:4242:\", join(\",\", map { \"user$_\" } 1..300000), \"\\n\"' >>/etc/group",
        verbs: &[
            "sandbox exec $m --user agent -- true",
            "sandbox shell $m </dev/null",
            "sandbox copy /usr/local/lib/hostile/many $m:/root/ --owner agent",
        ],
        well: "true",
        undo: "mv srv/passwd etc/passwd; mv srv/group etc/group",
    },
    Attack {
        kind: "K3",
        what: "a million variables, and 20,000 files of them",
        inside: "mkdir -p /etc/environment.d; perl -e 'print \"V$_=x\\n\" for 1..1000000' >/etc/environment; \
            perl -e 'for (1..20000) { open my $f, \">\", \"/etc/environment.d/$_.conf\"; print $f \"W$_=y\\n\" }'",
        verbs: &["sandbox set $m --env A=b", "sandbox set $m --unset-env A"],
        well: "true",
        undo: "rm -rf etc/environment etc/environment.d",
    },
    Attack {
        kind: "K3",
        what: "a variable that doubles 22 times, to 256 MiB",
        inside: "mkdir -p /etc/environment.d; perl -e 'print \"A=\", \"x\" x 64, \"\\n\", \"A=\\$A\\$A\\n\" x 22' >/etc/environment.d/50-doubled.conf",
        verbs: &[],
        well: "true",
        undo: "rm -rf etc/environment.d",
    },
    Attack {
        kind: "K3 K7",
        what: "a bus that answers with zeros without end",
        inside: "mv /run/dbus/system_bus_socket /run/dbus/hidden; mv /run/systemd/private /run/systemd/hidden; \
            setsid perl -MSocket -e '$SIG{PIPE} = \"IGNORE\"; $SIG{CHLD} = \"IGNORE\"; my @s; \
            for (\"/run/dbus/system_bus_socket\", \"/run/systemd/private\") { socket(my $s, AF_UNIX, SOCK_STREAM, 0); \
            bind($s, pack_sockaddr_un($_)); listen($s, 9); chmod 0666, $_; fork or do { while (accept(my $c, $s)) { fork or do { \
            while (syswrite($c, \"OK 0123456789abcdef\\r\\n\" . \"l\\2\\1\\1\\xff\\xff\\xff\\7\" . \"\\0\" x 65536)) {} exit } } } } sleep 999' </dev/null >/dev/null 2>&1 & sleep 1",
        verbs: &[],
        well: "sandbox list | grep -q '^other .*running'",
        undo: "true",
    },
    Attack {
        kind: "K3",
        what: "300 journals that are none",
        inside: "d=/var/log/journal/$(cat /etc/machine-id); mkdir -p $d; \
            for i in $(seq 300); do head -c 65536 /dev/urandom >$d/user-$i.journal; done; \
            { printf LPKSHHRH; head -c 8M /dev/urandom; } >$d/system@0.journal",
        verbs: &["sandbox logs $m >/dev/null", "sandbox logs $m --outside -n 5"],
        well: "true",
        undo: "rm -rf var/log/journal/*/user-*.journal var/log/journal/*/system@0.journal",
    },
    Attack {
        kind: "K3",
        what: "a file with 30,000 names, 2000 files with as much in attributes as there can be",
        inside: "mkdir /srv/evil; perl -e 'open my $f, \">\", \"/srv/evil/0\"; print $f \"x\" x 100000; \
            link \"/srv/evil/0\", \"/srv/evil/$_\" for 1..30000; for my $i (1..2000) { my ($p, $n, $v) = (\"/srv/evil/a$i\", \"user.a$i\", \"x\" x 3000); \
            open my $g, \">\", $p; syscall(188, $p, $n, $v, 3000, 0) }'",
        verbs: COPY,
        well: "true",
        undo: "rm -rf srv/evil",
    },
    Attack {
        kind: "K3",
        what: "hundreds of mounts upon each other, where a directory is mounted and where files are read",
        inside: "mkdir -p /mnt/shared; for i in $(seq 500); do mount -t tmpfs none /mnt/shared; done; for i in 1 2 3 4 5; do mount --rbind /etc /etc; done",
        verbs: MOUNT,
        well: "true",
        undo: "true",
    },
    Attack {
        kind: "K3",
        what: "3000 processes that ignore all signals",
        inside: "systemd-run -q --unit many perl -e '$SIG{$_} = \"IGNORE\" for qw(TERM INT HUP); for (1..3000) { fork or do { sleep 999 while 1 } } sleep 999 while 1'",
        verbs: &COPY_LIVE,
        well: "true",
        undo: "true",
    },
    Attack {
        kind: "K4",
        what: "the machine's link is taken down and removed, and the machine starts itself again",
        inside: "systemd-run -q --on-active=1 sh -c 'ip link set host0 down; ip link del host0; systemctl reboot -ff'",
        verbs: &["sleep 4; sandbox wait $m --timeout 40"],
        well: "sandbox list --json | grep -q '\"wall\": \"up\"' && ! sandbox list --json | grep -qE '\"wall\": \"(missing|altered)\"'",
        undo: "true",
    },
    Attack {
        kind: "K5",
        what: "the machine's id is the host's",
        inside: "cp /etc/machine-id /srv/machine-id",
        verbs: &[
            "cp /etc/machine-id $(sandbox status $m --json | sed -n 's/.*\"tree\": \"\\(.*\\)\".*/\\1/p')/etc/machine-id && sandbox restart $m --timeout 10",
            "sandbox logs $m >/tmp/l; grep -c \"${HOST_SECRET%-env}\" /tmp/l; s=$?; rm /tmp/l; [ $s = 1 ]",
            "sandbox logs $m --outside >/dev/null",
        ],
        well: "journalctl -q --no-pager | grep -q -e -journal && [ -d /var/log/journal/$(cat /etc/machine-id) ]",
        undo: "rm -rf var/log/journal/$(cat etc/machine-id); mv srv/machine-id etc/machine-id",
    },
    Attack {
        kind: "K5",
        what: "the machine freezes its own services and its first process's scope",
        inside: "for i in /sys/fs/cgroup/*.slice /sys/fs/cgroup/*.scope; do [ $i = /sys/fs/cgroup/init.scope ] || echo 1 >$i/cgroup.freeze; done; :",
        verbs: &COPY_LIVE,
        well: "true",
        undo: "true",
    },
    Attack {
        kind: "K5",
        what: "a /proc of the machine's own, in which descriptors are links",
        inside: "mkdir -p /run/p/self/fd /run/p/self/attr /run/p/thread-self/attr /run/p/1 && for i in $(seq 0 30); do ln -s /etc/shadow /run/p/self/fd/$i; done; \
            ln -s /bin/sh /run/p/self/exe; ln -s / /run/p/1/root; ln -s self /run/p/$$; printf 'Uid:\\t0 0 0 0\\n' >/run/p/self/status; mount --bind /run/p /proc",
        verbs: MOUNT,
        well: "true",
        undo: "true",
    },
    Attack {
        kind: "K5",
        what: "the machine changes to a root of its own",
        inside: "mkdir -p /run/nextroot && mount --rbind / /run/nextroot && \
            systemd-run -q --on-active=1 --timer-property=AccuracySec=100ms systemctl soft-reboot",
        verbs: &["sleep 4; sandbox status $m >/dev/null", "timeout -s INT 20 sandbox exec $m -- true; true"],
        well: "true",
        undo: "true",
    },
    Attack {
        kind: "K5 K8",
        what: "the machine tells its manager lies",
        inside: r#"perl -MSocket -e 'for my $path (glob("/run/host/notify /run/systemd/notify")) { socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or next; for (1..50) {
            send($s, "READY=1\nSTATUS=\e]52;c;x\a\nMAINPID=1\nSTOPPING=1\nX_NSPAWN_LEADER_PID=1\nERRNO=1\nWATCHDOG=trigger\nFDSTORE=1", 0, pack_sockaddr_un($path)) } }'; :"#,
        verbs: &["script -qec \"sandbox status $m\" /dev/null", "script -qec 'sandbox list' /dev/null"],
        well: "sandbox list | grep -q '^hostile .*running'",
        undo: "true",
    },
    Attack {
        kind: "K5",
        what: "the machine takes the other's name",
        inside: "hostname other; echo other >/etc/hostname; systemctl restart systemd-networkd || :",
        verbs: &[
            "[ \"$(sandbox exec other -- cat /etc/machine-id)\" != \"$(sandbox exec $m -- cat /etc/machine-id)\" ]",
        ],
        well: "sandbox exec other -- true",
        undo: "echo hostile >etc/hostname",
    },
    Attack {
        kind: "K8",
        what: "messages, their senders and the console hold sequences and turn their direction",
        inside: "logger -t \"$(printf '\\033]52;c;cHdu\\007')\" \"$(printf 'title \\033]0;x\\007 \\302\\2331m \\342\\200\\256gpj')\"; \
            perl -MSocket -e 'socket(my $s, AF_UNIX, SOCK_DGRAM, 0); my $m = \"a\\nb\\e]52;c;x\\a\\0\\xff\"; \
            send($s, \"SYSLOG_IDENTIFIER=\\e]52;c;x\\a\\nPRIORITY=9\\nMESSAGE\\n\" . pack(\"Q<\", length $m) . $m . \"\\n\", 0, \
            pack_sockaddr_un(\"/run/systemd/journal/socket\")) or die'; printf '\\033]52;c;cHdu\\007 \\342\\200\\256gpj\\n' >/dev/console; journalctl --sync",
        verbs: &[
            "script -qec \"sandbox logs $m -n 20\" /dev/null",
            "script -qec \"timeout -s INT 3 sandbox logs $m -f -n 20\" /dev/null; true",
            "script -qec \"sandbox logs $m --outside -n 20\" /dev/null",
            "sandbox logs $m -n 20",
        ],
        well: "true",
        undo: "true",
    },
];

/// Each attack of the table fails: a documented end in time and memory, nothing of the host in the machine, nothing changed
/// or left in the host, the other machine unharmed.
fn each_fails(bed: &Bed, backend: &str) {
    bed.on(backend);
    let host = bed.host();
    let before = host.traces();
    let hosts_own = host.sh(HOSTS_OWN).ok().to_owned();
    let mut faults = Vec::new();
    for attack in ATTACKS {
        let label = format!("{} {}", attack.kind, attack.what);
        let begun = Instant::now();
        let mut own = one(bed, &host, attack);
        if host.exec(OTHER, &["echo", "unharmed"]).out != "unharmed\n" {
            own.push(format!("`{OTHER}` does not answer"));
        }
        if host.sh(HOSTS_OWN).ok() != hosts_own {
            own.push("files of the host have changed".to_owned());
        }
        line(&format!("{label}: {} faults in {:.1} s", own.len(), begun.elapsed().as_secs_f64()));
        faults.extend(own.into_iter().map(|fault| format!("{label}: {fault}")));
    }
    faults.extend(bed.is_clean(&before));
    assert!(faults.is_empty(), "{faults:#?}");
}

pub fn each_fails_on_nspawn(bed: &Bed) {
    each_fails(bed, "nspawn");
}

pub fn each_fails_on_lxc(bed: &Bed) {
    each_fails(bed, "lxc");
}

pub fn each_fails_on_direct(bed: &Bed) {
    each_fails(bed, "direct");
}

/// Files of the host that no verb of the test changes.
const HOSTS_OWN: &str = "find /etc /root /usr/local /boot /srv -xdev -path /etc/systemd -prune -o -path /srv/shared -prune -o \
    -not -type d -printf '%p %s %T@ %m %U\\n' | sort | sha256sum";

fn one(bed: &Bed, host: &Host<'_>, attack: &Attack) -> Vec<String> {
    let tree = bed.tree(HOSTILE);
    // what it leaves running in the machine must not hold this test's pipes
    let make = "timeout 30 sandbox exec hostile -- sh -c \"$0\" </dev/null >/tmp/made 2>&1; s=$?; cat /tmp/made; rm /tmp/made; exit $s";
    let made = host.run(&["sh", "-c", make, attack.inside]);
    let mut faults = Vec::new();
    if made.code != 0 {
        faults.push(format!("could not be made: {made:?}"));
    }
    let enter = if attack.verbs.is_empty() || attack.verbs == MOUNT { ENTER } else { &[] };
    let verbs = [LOOK, attack.verbs, enter, END].concat();
    let lines: Vec<String> = verbs.iter().map(|verb| format!("m={HOSTILE}; {verb}")).collect();
    let well = |faults: &mut Vec<String>| {
        let script = format!("tree={tree}; {}", attack.well);
        if host.sh(&script).code != 0 {
            faults.push(format!("`{}` does not hold", attack.well));
        }
    };
    let (last, lines) = lines.split_at(lines.len() - END.len());
    faults.extend(bed.judge(last));
    well(&mut faults);
    faults.extend(lines.iter().filter_map(|line| does(bed, line)));
    faults.extend(bed.leaks_of(HOSTILE));
    host.run(&["sh", "-c", &format!("cd \"$0\" && {{ {}; }}", attack.undo), &tree]);
    faults.extend(does(bed, &format!("sandbox start {HOSTILE}")));
    faults
}

/// Returns what is wrong with a line that must do what it says.
fn does(bed: &Bed, line: &str) -> Option<String> {
    let measured = bed.measure(line);
    let failed = || (measured.code != 0).then(|| measured.because(&format!("ended with {}", measured.code)));
    measured.fault().or_else(failed)
}

/// What is sent beside TCP and UDP, to other addresses, in other frames, from other sources reaches nothing of the host;
/// what a router or a neighbour would say is not believed.
pub fn other_packets_reach_nothing(bed: &Bed) {
    bed.on("nspawn");
    let host = bed.host();
    let before = host.traces();
    let link = traces::interface(HOSTILE);
    // a link of no machine is the control: there all arrive
    host.sh("ip netns add control; ip link add control type veth peer name host0 netns control; \
         ip addr add 198.18.9.1/24 dev control; ip link set control up; ip -n control addr add 198.18.9.2/24 dev host0; \
         ip -n control link set host0 up; ip -n control route add default via 198.18.9.1; sysctl -qw net.ipv4.conf.control.rp_filter=0")
        .ok();
    let own = host.sh(&format!("ip -4 -o addr show dev {link} scope global | awk '{{ print $4, $6 }}'"));
    let words: Vec<String> = own.ok().split([' ', '/']).map(str::to_owned).collect();
    let [address, _, broadcast] = &words[..] else { panic!("the link has no address: {own:?}") };
    let receive = format!(
        "systemd-run -q --unit receiver perl {PROGRAMS}/receiver.pl /run/received {address} 198.18.9.1 $(hostname -I)"
    );
    host.sh(&receive).ok();
    let received = || host.sh("sort -u /run/received").out;
    until("the receiver listens", SOON, || received().contains("ready").then_some(()));
    let clear = || host.sh("echo ready >/run/received");
    host.exec(HOSTILE, &["perl", &format!("{PROGRAMS}/sender.pl"), "host0", address, broadcast]).ok();
    thread::sleep(Duration::from_secs(1));
    let passed = received();
    let believed = host.sh(&format!(
        "ip -6 route show table all | grep -F 2001:db8:6666; ip -6 route show default dev {link}; ip neigh show | grep -F -e 02:02:02:02:02:02"
    ));
    clear();
    let control = format!("ip netns exec control perl {PROGRAMS}/sender.pl host0 198.18.9.1 198.18.9.255");
    host.sh(&control).ok();
    thread::sleep(Duration::from_secs(1));
    let seen = received();
    host.sh("systemctl stop receiver; ip netns del control; ip link del control; rm -f /run/received");
    let arrived: Vec<&str> = seen.lines().filter(|line| *line != "ready").collect();
    assert!(arrived.len() >= 10, "the control saw too little: {arrived:?}");
    assert_eq!(passed, "ready\n", "these passed; the control saw {arrived:?}");
    assert_eq!(believed.out, "", "a machine's word is believed");
    let faults = bed.is_clean(&before);
    assert!(faults.is_empty(), "{faults:#?}");
}
