//! What the guest's systemd says of itself, and its addresses.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io,
    net::IpAddr,
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};

use nix::ifaddrs::InterfaceAddress;

use super::{
    apart::apart,
    enter::EnterError,
    systemd::{self, Systemd},
};
use crate::{
    machine::{Leader, network},
    report::{Event, Phase, Reporter},
};

/// How often a booting guest is asked.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a guest's systemd has to answer: on a busy host it may have to wait for its turn, a hostile one never answers.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a guest has in its /run when systemd has run its command that lets users log in, which is late in a boot.
///
/// **Source**: systemd-user-sessions.service(8); `unit_export_invocation_id` of systemd, since 236.
const LATE: &str = "run/systemd/units/invocation:systemd-user-sessions.service";

/// What keeps users out until then, and again when the guest shuts down.
///
/// **Source**: nologin(5); shutdown(8).
const NO_LOGIN: &str = "run/nologin";

/// Where a guest's systemd is.
///
/// **Source**: systemctl(1), is-system-running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestState {
    /// It has not finished booting.
    Starting,
    /// All is well.
    Running,
    /// Some units failed.
    Degraded {
        /// Which.
        failed: Vec<String>,
    },
    /// It is shutting down.
    Stopping,
    /// Its rescue or emergency shell is what runs.
    Maintenance,
}

impl fmt::Display for GuestState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Running => f.write_str("running"),
            Self::Degraded { failed } => write!(f, "degraded ({})", failed.join(", ")),
            Self::Stopping => f.write_str("stopping"),
            Self::Maintenance => f.write_str("maintenance"),
        }
    }
}

/// Returns a guest's state, as its systemd gives it on the guest's bus. No process enters the guest for that.
///
/// Of a guest whose bus does not answer it is seen whether its boot lets users log in; which of its units failed is not known
/// then.
///
/// # Errors
/// Where the guest is gone.
pub fn state(leader: &Leader) -> Result<GuestState, EnterError> {
    observed(leader, &mut None, PATIENCE)
}

/// Looks at a guest by a connection that is kept, where there is one.
fn observed(
    leader: &Leader,
    bus: &mut Option<Systemd>,
    patience: Duration,
) -> Result<GuestState, EnterError> {
    let connected = match bus.take() {
        Some(bus) => Ok(bus),
        None => Systemd::on_bus(leader),
    };
    if let Ok(mut connected) = connected
        && let Ok(state) = asked(&mut connected, patience)
    {
        *bus = Some(connected);
        return Ok(state);
    }
    // there is none, or it is late, or systemd is not on it yet
    let gone = |source| EnterError::Step { step: "opening the machine's root", source };
    Ok(by_files(&systemd::root_of(leader).map_err(gone)?))
}

fn by_files(root: &OwnedFd) -> GuestState {
    let has = |path| systemd::held_in(root, path).is_ok();
    if has(LATE) && !has(NO_LOGIN) { GuestState::Running } else { GuestState::Starting }
}

fn asked(systemd: &mut Systemd, patience: Duration) -> io::Result<GuestState> {
    let word = systemd.state(patience)?;
    of_word(&word, || systemd.failed(patience))
}

/// Takes a guest at its word, where it is one of systemd's. Names of units are shown on terminals and in commands to be
/// typed: what is no such name is none that failed.
fn of_word<E>(word: &str, failed: impl FnOnce() -> Result<Vec<String>, E>) -> Result<GuestState, E> {
    Ok(match word {
        "running" => GuestState::Running,
        "degraded" => {
            GuestState::Degraded { failed: failed()?.into_iter().filter(|name| is_unit(name)).collect() }
        }
        "stopping" => GuestState::Stopping,
        "maintenance" => GuestState::Maintenance,
        // `initializing`, `starting`, `offline`, `unknown`; or no answer yet
        _ => GuestState::Starting,
    })
}

/// Tells whether a text can be a unit's name.
///
/// **Source**: systemd.unit(5), "Description".
fn is_unit(name: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    !name.is_empty() && name.len() < 256 && name.bytes().all(valid)
}

/// Waits until a guest's systemd says anything but starting, or the deadline is over.
///
/// # Errors
/// Where the guest is gone: it died.
pub fn wait_ready(
    leader: &Leader,
    deadline: Duration,
    reporter: &dyn Reporter,
) -> Result<GuestState, EnterError> {
    let begun = Instant::now();
    let mut bus = None;
    loop {
        let left = deadline.saturating_sub(begun.elapsed());
        let state = observed(leader, &mut bus, PATIENCE.min(left.max(PAUSE)))?;
        if state != GuestState::Starting || begun.elapsed() >= deadline {
            return Ok(state);
        }
        reporter.report(Event::At { phase: Phase::Boot, subject: state.to_string() });
        thread::sleep(PAUSE);
    }
}

/// Lists a guest's addresses, loopback and link-local ones left out.
///
/// # Errors
/// Where the guest's network namespace cannot be entered.
pub fn addresses(leader: &Leader) -> Result<Vec<IpAddr>, EnterError> {
    apart(|| listed(leader))
}

/// Lists the addresses of some guests by their first processes; one whose namespace cannot be entered is left out.
#[must_use]
pub fn addresses_of(leaders: &[Leader]) -> BTreeMap<i32, Vec<IpAddr>> {
    apart(|| leaders.iter().filter_map(|leader| Some((leader.pid, listed(leader).ok()?))).collect())
}

/// Lists a guest's addresses; the thread is in the guest's network afterwards.
fn listed(leader: &Leader) -> Result<Vec<IpAddr>, EnterError> {
    let io = |step| move |source| EnterError::Step { step, source };
    let path = format!("/proc/{}/ns/net", leader.pid);
    let namespace = File::open(&path).map_err(io("opening the machine's network namespace"))?;
    // those of the process, wherever this thread is
    let own = std::fs::read_link("/proc/self/ns/net").ok();
    if own == std::fs::read_link(&path).ok() {
        return Ok(Vec::new());
    }
    let interfaces = nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET)
        .and_then(|()| nix::ifaddrs::getifaddrs())
        .map_err(|errno| io("listing the machine's addresses")(errno.into()))?;
    Ok(of_link(interfaces))
}

/// Takes those addresses of the machine's own link by which somebody may come.
fn of_link(interfaces: impl Iterator<Item = InterfaceAddress>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = interfaces
        // Docker's own bridges in the guest lead nowhere from outside
        .filter(|interface| interface.interface_name == network::GUEST_LINK)
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .filter(|address| match address {
            IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
            IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
        })
        .collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_guest_is_taken_at_no_word_that_is_not_systemds() {
        let of_word = |word: &str, failed: &[&str]| {
            let failed = failed.iter().map(|&name| name.to_owned()).collect();
            of_word(word, || Ok::<_, io::Error>(failed)).unwrap()
        };
        let units = ["-.mount", "dev-disk-by\\x2dlabel.swap", "getty@tty1.service"];
        let hostile = ["", "a.service; id", "$(id).service", "\u{1b}[2Ja.service", "a\nb", "é.service"];
        let all: Vec<_> = units.into_iter().chain(hostile).collect();
        assert_eq!(
            of_word("degraded", &all),
            GuestState::Degraded { failed: units.map(str::to_owned).to_vec() }
        );
        assert_eq!(of_word("maintenance", &[]), GuestState::Maintenance);
        for word in ["", "starting", "unknown", "running\u{1b}[2J", "Running"] {
            assert_eq!(of_word(word, &[]), GuestState::Starting, "{word:?}");
        }
    }

    #[test]
    fn without_a_bus_a_guest_runs_once_users_may_log_in() {
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let file = |path: &str| memory.path().join(path);
        let root = || OwnedFd::from(File::open(memory.path()).unwrap());
        fs::create_dir_all(file(LATE).parent().unwrap()).unwrap();
        assert_eq!(by_files(&root()), GuestState::Starting);
        symlink("0123456789abcdef", file(LATE)).unwrap();
        assert_eq!(by_files(&root()), GuestState::Running);
        fs::write(file(NO_LOGIN), "not yet\n").unwrap();
        assert_eq!(by_files(&root()), GuestState::Starting);
        // what a guest puts in the place of its files leads nowhere
        fs::remove_file(file(NO_LOGIN)).unwrap();
        fs::remove_dir_all(file("run")).unwrap();
        symlink("/run", file("run")).unwrap();
        assert_eq!(by_files(&root()), GuestState::Starting);
    }
}
