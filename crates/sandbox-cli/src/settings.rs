//! What the command line, the environment and the host mean together: the only reader of any of them.

use std::{
    env,
    ffi::OsString,
    fs,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sandbox_core::{
    error::shell_word,
    host::address,
    session::Emulator,
    spec::{Catalogue, apt},
};

use crate::{args::Global, catalogue::catalogue, exit::Exit, failure::Failure, timings::Timings};

/// How events and results are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Display {
    /// Bars on a terminal.
    Bars,
    /// One line for each thing that ends.
    Lines,
    /// Errors only.
    Quiet,
    /// JSON.
    Json,
}

/// Values that verbs work with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where fetched things are kept.
    pub cache: PathBuf,
    /// Where machines' records are kept.
    pub state: PathBuf,
    /// How things are shown.
    pub display: Display,
    /// What collects where the time goes, if that is asked for.
    pub timings: Option<Timings>,
    /// Whether a machine that somebody else made becomes one of ours where it is to be changed.
    pub adopt: bool,
    /// How long a verb waits for another process that holds its machine.
    pub lock_wait: Duration,
    /// The user's home, if known.
    pub home: Option<PathBuf>,
    /// The folder of the user's own images and profiles.
    pub own: Option<PathBuf>,
    /// This program's own absolute path.
    pub program: PathBuf,
    /// The command line, for hints; addresses in it have no passwords.
    pub typed: String,
    /// Seconds since 1970 at the start of this run.
    pub now: i64,
    /// The user's terminal.
    pub emulator: Emulator,
    /// Whether stdin and stdout are a terminal.
    pub interactive: bool,
    /// Whether stdin, stdout and stderr are.
    pub on_terminal: bool,
    /// The directory for large temporary files.
    pub temporary: PathBuf,
    /// The proxies that the usual variables name.
    pub proxies: Proxies,
    /// The folder of the credentials that systemd gave.
    pub credentials: Option<PathBuf>,
}

/// Proxies, by what they are for.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// For `http` addresses.
    pub http: Option<String>,
    /// For `https` addresses.
    pub https: Option<String>,
    /// Hosts that no proxy is for.
    pub none: Option<String>,
}

impl Settings {
    /// Reads what is particular to this run.
    ///
    /// # Errors
    /// Where this program's own path is not known.
    pub fn read(global: &Global) -> Result<Self, Failure> {
        let Global { cache_dir, state_dir, quiet, json, timings, lock_timeout, no_wait, adopt } = global;
        let program = fs::read_link("/proc/self/exe")
            .map_err(|error| Failure::said(Exit::HOST, format!("/proc/self/exe cannot be read: {error}")))?;
        Ok(Self {
            cache: absolute(cache_dir),
            state: absolute(state_dir),
            display: match (json, quiet) {
                (true, _) => Display::Json,
                (_, true) => Display::Quiet,
                _ if std::io::stderr().is_terminal() => Display::Bars,
                _ => Display::Lines,
            },
            timings: timings.then(Timings::begin),
            adopt: *adopt,
            lock_wait: Duration::from_secs(if *no_wait { 0 } else { *lock_timeout }),
            home: variable("HOME").map(PathBuf::from),
            own: variable("XDG_CONFIG_HOME")
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
                .or_else(|| Some(PathBuf::from(variable("HOME")?).join(".config")))
                .map(|path| path.join("sandbox")),
            program,
            typed: typed(env::args_os().skip(1)),
            now: clock(),
            emulator: Emulator {
                term: variable("TERM").unwrap_or_else(|| "dumb".to_owned()),
                color: variable("COLORTERM"),
            },
            temporary: variable("TMPDIR")
                .map(PathBuf::from)
                .filter(|path| path.is_dir())
                .unwrap_or_else(|| PathBuf::from("/var/tmp")),
            proxies: Proxies {
                http: first_of(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]),
                https: first_of(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
                none: first_of(&["no_proxy", "NO_PROXY"]),
            },
            credentials: variable("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            on_terminal: std::io::stdin().is_terminal()
                && std::io::stdout().is_terminal()
                && std::io::stderr().is_terminal(),
            interactive: std::io::stdin().is_terminal() && std::io::stdout().is_terminal(),
        })
    }

    /// Gives the images and profiles that this user has.
    pub fn catalogue(&self) -> Catalogue {
        catalogue(self.own.as_ref())
    }

    /// Tells whether results are JSON.
    pub fn json(&self) -> bool {
        self.display == Display::Json
    }

    /// Fails with what is needed, before anything is done, where this is not root.
    ///
    /// # Errors
    /// Not root.
    pub fn need_root(&self, verb: &str) -> Result<(), Failure> {
        if nix::unistd::geteuid().is_root() {
            return Ok(());
        }
        Err(Failure::said(
            Exit::HOST,
            format!("`sandbox {verb}` needs root: it makes files of many owners, mounts and namespaces"),
        )
        .hint("run it as root", format!("sudo {}", self.typed)))
    }

    /// Reads the host's apt sources: file name and text of each, and its os-release.
    pub fn host_apt(&self) -> (String, Vec<(String, String)>) {
        let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let sources = apt::files(Path::new("/etc/apt"));
        (os_release, sources)
    }
}

/// Writes a command line as it is typed in a shell.
pub fn typed(words: impl Iterator<Item = OsString>) -> String {
    let word = |word: OsString| {
        let text = word.to_string_lossy();
        // an option and its value may be one word
        let (option, value) = match text.rfind("=http").map(|at| (&text[..at], &text[at + 1..])) {
            Some((option, value)) => (format!("{option}="), value),
            _ => (String::new(), &*text),
        };
        let value = if value.contains("://") { address::without_user(value).0 } else { value.to_owned() };
        shell_word(&(option + &value))
    };
    std::iter::once("sandbox".to_owned()).chain(words.map(word)).collect::<Vec<_>>().join(" ")
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Reads a variable that is set and not empty.
#[expect(clippy::disallowed_methods, reason = "this is the one place where the environment is read")]
pub fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn first_of(names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| variable(name))
}

#[expect(clippy::disallowed_methods, reason = "this is the one place where the clock is read")]
fn clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_repeated_without_its_passwords() {
        let words =
            ["create", "m", "--mirror", "http://u:s3cret@h/d", "--mirror=security=http://s3cret@h/d", "a b"];
        assert_eq!(
            typed(words.iter().map(OsString::from)),
            "sandbox create m --mirror http://h/d --mirror=security=http://h/d 'a b'"
        );
    }
}
