//! The machines that hold the catalogue, and whether all in them is well.

use std::{
    fs,
    net::Ipv4Addr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::OnceLock,
};

use crate::{
    agents::{self, AGENTS},
    interpreter,
    kit::vendor::Vendor,
    lab::{Host, Lab, npm_registry},
    process::Output,
    runner::line,
    stack::LAB,
    vendors,
};

/// A machine of the catalogue.
pub struct Machine {
    /// Its name.
    pub name: &'static str,
    /// Its image.
    pub release: &'static str,
    /// What it is asked for; what these require comes with them.
    pub profiles: &'static [&'static str],
}

/// Services: what others reach, and what tells others.
pub const SERVICES: Machine = Machine {
    name: "services",
    release: "trixie",
    profiles: &[
        "ssh",
        "mosh",
        "tmux",
        "webterm",
        "code-server",
        "vscode-tunnel",
        "caddy",
        "ntfy",
        "alloy",
        "netdata",
        "netbird",
        "nono",
        "tailscale",
    ],
};

/// An engine of containers, and a tailnet with a device of its own.
pub const TOOLS: Machine =
    Machine { name: "tools", release: "trixie", profiles: &["podman", "tailscale-tun"] };

/// A desktop; and the engine that clashes with the other one.
pub const DESKTOP: Machine =
    Machine { name: "desktop", release: "trixie", profiles: &["desktop", "docker-rootless"] };

/// What differs in a release before: packages that it has and has not, and an older systemd.
pub const BOOKWORM: Machine = Machine {
    name: "older",
    release: "bookworm",
    profiles: &["ssh", "mosh", "webterm", "caddy", "ntfy", "netdata", "nono", "tailscale", "podman", "kind"],
};

/// Every machine.
pub const MACHINES: [&Machine; 6] = [&SERVICES, &LAB, &AGENTS, &TOOLS, &DESKTOP, &BOOKWORM];

/// Where the trust in the vendors' sites is, in the test host.
const AUTHORITY: &str = "/root/vendors.pem";

/// What kind wants of the kernel, which all machines of this one share.
const INOTIFY: [(&str, u64); 2] =
    [("/proc/sys/fs/inotify/max_user_instances", 512), ("/proc/sys/fs/inotify/max_user_watches", 524_288)];

/// The test host, the vendors that it reaches, and the machines in it.
pub struct Place {
    pub lab: Lab,
    vendor: OnceLock<Vendor>,
    made: [OnceLock<bool>; MACHINES.len()],
    inotify: OnceLock<Vec<(&'static str, String)>>,
}

impl Place {
    /// Sets a run up; nothing is made yet.
    pub fn new() -> Self {
        let made = [const { OnceLock::new() }; MACHINES.len()];
        Self { lab: Lab::new(), vendor: OnceLock::new(), made, inotify: OnceLock::new() }
    }

    /// Gives the test host, from which the vendors can be reached.
    pub fn host(&self) -> Host<'_> {
        let host = self.lab.host();
        self.vendor.get_or_init(|| {
            let route = host.run(&["ip", "-4", "route", "show", "default"]);
            let address = route.ok().split_whitespace().nth(2).and_then(|word| word.parse().ok());
            let vendor = vendors::open(address.unwrap_or(Ipv4Addr::LOCALHOST));
            let authority = fs::read(vendor.authority()).expect("the sites' authority");
            host.put(AUTHORITY, "0644", authority);
            vendor
        });
        host
    }

    /// Gives the words that let the program in the test host reach what profiles fetch from.
    pub fn reach(&self) -> Vec<String> {
        let mut words = vec!["--ca".to_owned(), AUTHORITY.to_owned()];
        if let Some(vendor) = self.vendor.get() {
            words.extend(
                vendors::HOSTS
                    .iter()
                    .flat_map(|host| ["--vendor-mirror".to_owned(), format!("{host}={}", vendor.url())]),
            );
        }
        words.extend(npm_registry().into_iter().flat_map(|url| ["--npm-registry".to_owned(), url]));
        words.extend(
            interpreter::python_index().into_iter().flat_map(|url| ["--python-index".to_owned(), url]),
        );
        words
    }

    /// Gives a machine; makes it where nobody has.
    #[track_caller]
    pub fn machine(&self, machine: &'static Machine) -> &'static str {
        let at = MACHINES.iter().position(|known| known.name == machine.name).expect("a machine of the list");
        let made = self.made[at].get_or_init(|| {
            catch_unwind(AssertUnwindSafe(|| {
                line(&format!("making the machine `{}` in the test host", machine.name));
                self.make(machine);
            }))
            .is_ok()
        });
        assert!(made, "the machine `{}` could not be made", machine.name);
        machine.name
    }

    #[track_caller]
    fn make(&self, machine: &Machine) {
        let host = self.host();
        if let Some(vendor) = self.vendor.get().filter(|_| machine.profiles.contains(&"agy")) {
            agents::serve_agy(vendor, &host);
        }
        if let Some(vendor) = self.vendor.get().filter(|_| machine.profiles.contains(&"aider")) {
            interpreter::serve(vendor, &self.lab, &host);
        }
        if machine.profiles.contains(&"kind") {
            self.raise();
        }
        self.create(machine.name, machine, &[]).ok();
    }

    /// Makes a machine like one of the list, under a name of its own.
    pub fn create(&self, name: &str, like: &Machine, more: &[&str]) -> Output {
        let profiles = like.profiles.join(",");
        let create = ["create", name, "--release", like.release, "--profile", &profiles];
        let reach = self.reach();
        let reach: Vec<&str> = reach.iter().map(String::as_str).collect();
        self.host().sandbox(&[&create[..], &reach, more].concat())
    }

    /// Gives the kernel what kind wants of it, until the run ends.
    fn raise(&self) {
        self.inotify.get_or_init(|| {
            let mut old = Vec::new();
            for (path, least) in INOTIFY {
                let text = fs::read_to_string(path).expect("a kernel with inotify");
                if text.trim().parse::<u64>().is_ok_and(|value| value < least) {
                    fs::write(path, least.to_string()).expect("root may set it");
                    old.push((path, text));
                }
            }
            old
        });
    }

    /// Removes a machine that nobody asks for any more: they are large.
    fn done(&self, machine: &Machine) {
        self.host().sandbox(&["remove", machine.name, "--yes"]).ok();
    }
}

/// Sees that a machine is up, all of it, and that every check of its profiles says so.
#[track_caller]
pub fn is_well(place: &Place, machine: &'static Machine) {
    let name = place.machine(machine);
    let host = place.host();
    let health = host.sandbox(&["health", name]);
    let failed = host.exec(name, &["systemctl", "--failed", "--no-legend", "--plain"]);
    assert_eq!(health.code, 0, "{}\n{}\nfailed units: {}", health.out, health.err, failed.out);
    assert_eq!(failed.ok(), "");
    assert_eq!(host.exec(name, &["systemctl", "is-system-running"]).ok(), "running");
}

/// What others reach, and what tells others.
pub fn services_are_well(place: &Place) {
    is_well(place, &SERVICES);
}

/// Agents, and what they use.
pub fn agents_are_well(place: &Place) {
    is_well(place, &AGENTS);
}

/// Tools and engines of containers. The services' machine has had its tests.
pub fn tools_are_well(place: &Place) {
    is_well(place, &TOOLS);
    place.done(&TOOLS);
}

/// A desktop, and Docker without root.
pub fn the_desktop_is_well(place: &Place) {
    is_well(place, &DESKTOP);
    place.done(&DESKTOP);
}

/// The release before, with what its archive lacks from vendors.
pub fn bookworm_is_well(place: &Place) {
    is_well(place, &BOOKWORM);
    let host = place.host();
    let kind = host.exec(BOOKWORM.name, &["sh", "-c", "command -v kind; command -v kubectl"]);
    assert_eq!(kind.ok(), "/usr/local/bin/kind\n/usr/local/bin/kubectl", "the archive has neither");
}

/// Removes what the run made, sets the kernel back, and looks at what is left on this machine.
pub fn the_run_leaves_nothing(place: &Place) {
    for (path, text) in place.inotify.get().into_iter().flatten() {
        fs::write(path, text).expect("root may set it");
    }
    if place.lab.is_root() {
        place.lab.clear();
        place.lab.traces_here().are(place.lab.traces_before());
    }
}
