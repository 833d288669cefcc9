//! What the guest's systemd says of itself, and its addresses.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, ErrorKind, Read as _},
    net::IpAddr,
    os::fd::{AsRawFd as _, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use nix::ifaddrs::InterfaceAddress;

use super::{
    apart::apart,
    enter::{EnterError, Entry, Payload, Standard, Terminal},
    patience::readable,
    systemd::Systemd,
};
use crate::{
    machine::{Leader, guest::Account, network},
    report::{Event, Phase, Reporter},
};

/// How often a booting guest is asked.
const PAUSE: Duration = Duration::from_millis(10);

/// How long a guest's systemd has to answer: on a busy host it may have to wait for its turn, a hostile one never answers.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a guest's bus has to answer before its systemd is asked without: one that is being started takes longer.
const ON_BUS: Duration = Duration::from_millis(100);

/// How often a booting guest is asked by a program in it, where its systemd does not answer.
const SELDOM: Duration = Duration::from_secs(3);

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

/// Asks a guest's systemd for its state. Needs no D-Bus in the guest, but is a lot quicker with it.
///
/// # Errors
/// Where the guest cannot be entered.
pub fn state(leader: &Leader) -> Result<GuestState, EnterError> {
    if let Ok(state) = by_bus(leader) {
        return Ok(state);
    }
    match Systemd::connect(leader, PATIENCE).and_then(|mut systemd| asked(&mut systemd, PATIENCE)) {
        Ok(state) => Ok(state),
        Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::ConnectionRefused) => {
            Ok(GuestState::Starting)
        }
        // one that has no such socket may have another, which its own systemctl knows
        Err(_) => by_systemctl(leader),
    }
}

fn by_bus(leader: &Leader) -> io::Result<GuestState> {
    asked(&mut Systemd::on_bus(leader)?, ON_BUS)
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

/// Asks the guest's own systemctl(1), which is a program that runs in it.
fn by_systemctl(leader: &Leader) -> Result<GuestState, EnterError> {
    let word = ask(leader, &["systemctl", "is-system-running"])?;
    of_word(word.trim(), || {
        let argv = ["systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--no-pager"];
        let list = ask(leader, &argv)?;
        Ok(list.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
    })
}

/// Waits until a guest's systemd says anything but starting, or the deadline is over.
///
/// # Errors
/// Where the guest cannot be entered: it died.
pub fn wait_ready(
    leader: &Leader,
    deadline: Duration,
    reporter: &dyn Reporter,
) -> Result<GuestState, EnterError> {
    let begun = Instant::now();
    // one that has booted already has its bus; in one that has just begun there is none yet
    if let Ok(state) = by_bus(leader)
        && state != GuestState::Starting
    {
        return Ok(state);
    }
    let mut systemd = None;
    let mut next = begun + SELDOM;
    loop {
        let connected = match systemd.take() {
            Some(systemd) => Ok(systemd),
            None => Systemd::connect(leader, PATIENCE),
        };
        let state = connected.and_then(|mut connected| {
            let state = asked(&mut connected, PATIENCE)?;
            systemd = Some(connected);
            Ok(state)
        });
        let state = match state {
            Ok(state) => state,
            // not there yet, or not where it is looked for
            Err(_) if Instant::now() < next => GuestState::Starting,
            Err(_) => {
                next = Instant::now() + SELDOM;
                by_systemctl(leader)?
            }
        };
        if state != GuestState::Starting || begun.elapsed() >= deadline {
            return Ok(state);
        }
        if !alive(leader) {
            // entering it says why
            by_systemctl(leader)?;
        }
        reporter.report(Event::At { phase: Phase::Boot, subject: state.to_string() });
        // to come in costs the booting guest more than to be asked
        thread::sleep(if systemd.is_some() { PAUSE } else { PAUSE * 3 });
    }
}

fn alive(leader: &Leader) -> bool {
    std::path::Path::new("/proc").join(leader.pid.to_string()).exists()
}

/// Runs a command as the guest's root and gives what it writes, nothing where it takes too long; its status is not looked at.
fn ask(leader: &Leader, argv: &[&str]) -> Result<String, EnterError> {
    let payload = Payload {
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        env: vec![
            ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
            ("LC_ALL".to_owned(), "C.UTF-8".to_owned()),
        ],
        cwd: "/".to_owned(),
        account: Account {
            name: "root".to_owned(),
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            home: "/root".to_owned(),
            shell: "/bin/sh".to_owned(),
        },
    };
    let io = |step| move |source| EnterError::Step { step, source };
    let null = File::options().read(true).write(true).open("/dev/null").map_err(io("opening /dev/null"))?;
    let (answer, answer_in) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|errno| io("making a pipe")(errno.into()))?;
    let files = Standard { input: null.as_raw_fd(), output: answer_in.as_raw_fd(), error: null.as_raw_fd() };
    let until = Instant::now() + PATIENCE;
    let started = match Entry::open(leader)?.start_by(&payload, Terminal::Files(files), Some(until)) {
        // early in its life the guest has not mounted all yet
        Err(EnterError::NotFound { .. } | EnterError::NotExecutable { .. }) => return Ok(String::new()),
        Err(EnterError::Step { source, .. }) if source.kind() == ErrorKind::TimedOut => {
            return Ok(String::new());
        }
        other => other?,
    };
    drop::<OwnedFd>(answer_in);
    let mut answer = File::from(answer);
    let said = said(&mut answer, until);
    // also where it could not be read
    started.abandon();
    Ok(said.map_err(io("reading the guest's answer"))?.unwrap_or_default())
}

/// Reads what somebody says who may be hostile, until the end; none where that is late or too long.
fn said(from: &mut File, until: Instant) -> io::Result<Option<String>> {
    const LARGEST: usize = 1 << 20;
    let (mut bytes, mut some) = (Vec::new(), [0; 4096]);
    loop {
        match readable(from, until) {
            Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(None),
            other => other?,
        }
        match from.read(&mut some)? {
            0 => return Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            read if bytes.len() + read > LARGEST => return Ok(None),
            read => bytes.extend(&some[..read]),
        }
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
    use std::io::Write as _;

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
    fn what_is_said_too_late_or_at_too_great_length_is_not_said() {
        let says = |text: &'static [u8], ends: bool| {
            let (from, mut to) = io::pipe().unwrap();
            let speaker = thread::spawn(move || {
                let _ = to.write_all(text);
                (!ends).then_some(to)
            });
            let mut from = File::from(OwnedFd::from(from));
            let said = said(&mut from, Instant::now() + Duration::from_millis(300)).unwrap();
            drop(from);
            drop(speaker.join().unwrap());
            said
        };
        assert_eq!(says(b"running\n", true).as_deref(), Some("running\n"));
        assert_eq!(says(b"", true).as_deref(), Some(""));
        assert_eq!(says(b"running\n", false), None);
        assert_eq!(says(&[b'x'; (1 << 20) + 1], true), None);
    }
}
