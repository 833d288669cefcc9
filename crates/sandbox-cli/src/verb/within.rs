//! What is done in a container of Proxmox VE on its own node: by pct, in the place of this program.
//!
//! **Source**: pct(1); lxc-attach(1), which ends as the command ended; su(1) of util-linux.

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
};

use sandbox_core::{name::MachineName, session::Emulator};

use super::copy::machine_of;
use crate::{args, exit::Exit, failure::Failure, settings::Settings};

/// Runs what follows it, from a folder that follows it first.
const IN_FOLDER: &str = "cd \"$0\" && exec \"$@\"";
/// Runs what follows it as a user's login shell does.
const AS_USER: &str = "exec \"$0\" \"$@\"";
/// Opens the login shell of the user behind it, else of `agent`, or of root where there is none; what the terminal has
/// beyond its type is kept where the guest's su can.
const LOGIN: &str = "user=${1:-agent}; [ -n \"$1\" ] || id -u agent >/dev/null 2>&1 || user=root; \
    if su --help | grep -q -e --whitelist-environment; then exec su -w COLORTERM -l -- \"$user\"; fi; \
    exec su -l -- \"$user\"";
/// Runs what follows it with the guest's locale, and the terminal type and colours that follow it first: pct gives a
/// command neither. A type of which the guest has no entry is that of all emulators of today.
///
/// **Source**: lxc-attach(1), `--clear-env`; locale.conf(5); term(5), "STORAGE FORMAT".
const SESSION: &str = "for file in /etc/locale.conf /etc/default/locale; do [ ! -r $file ] || . $file; done; \
    case ${LANG:-C} in C|POSIX) LANG=C.UTF-8;; esac; export LANG; \
    TERM=dumb; [ \"$1\" = dumb ] || TERM=xterm-256color; \
    for place in /etc/terminfo /lib/terminfo /usr/share/terminfo; do \
    [ ! -e \"$place/${1%\"${1#?}\"}/$1\" ] || TERM=$1; done; export TERM; \
    [ -z \"$2\" ] || export COLORTERM=\"$2\"; shift 2; exec \"$@\"";

/// A container on the node that this host is.
pub struct Pct {
    /// The machine's name.
    pub name: MachineName,
    /// The container's number.
    pub id: u32,
    /// Where pct is, where that is not the search path's to say.
    pub folder: Option<PathBuf>,
}

impl Pct {
    /// Becomes pct; comes back only where that fails.
    #[expect(clippy::disallowed_methods, reason = "this process is replaced: streams and status are pct's")]
    fn become_it(&self, verb: &str, words: &[String]) -> Failure {
        let pct = self.folder.as_ref().map_or_else(|| PathBuf::from("pct"), |folder| folder.join("pct"));
        let error = std::process::Command::new(&pct).arg(verb).arg(self.id.to_string()).args(words).exec();
        Failure::said(Exit::HOST, format!("{} cannot be run: {error}", pct.display()))
    }

    fn run(&self, argv: &[String]) -> Failure {
        let fixed = ["--keep-env", "0", "--"].map(str::to_owned);
        self.become_it("exec", &[&fixed, argv].concat())
    }
}

/// `sandbox exec`.
///
/// # Errors
/// Where pct cannot be run; its status is the command's.
pub fn exec(node: &Pct, args: &args::Exec, settings: &Settings) -> Result<Exit, Failure> {
    Err(node.run(&[session(settings), argv(args)].concat()))
}

/// Words what precedes a command.
fn session(settings: &Settings) -> Vec<String> {
    let none = Emulator { term: "dumb".to_owned(), color: None };
    let Emulator { term, color } = if settings.interactive { &settings.emulator } else { &none };
    let color = color.as_deref().unwrap_or_default();
    ["sh", "-c", SESSION, "sh", term, color].map(str::to_owned).into()
}

/// Puts user, variables and folder before a command.
fn argv(args: &args::Exec) -> Vec<String> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut argv = args.command.clone();
    if let Some(folder) = &args.cwd {
        argv = [words(&["sh", "-c", IN_FOLDER, folder]), argv].concat();
    }
    if !args.env.is_empty() {
        argv = [words(&["env"]), args.env.clone(), argv].concat();
    }
    if let Some(user) = &args.user {
        argv = [words(&["su", "-l", "-c", AS_USER, "--", user]), argv].concat();
    }
    argv
}

/// `sandbox shell`.
///
/// # Errors
/// As [`exec`].
pub fn shell(node: &Pct, args: &args::Shell, settings: &Settings) -> Result<Exit, Failure> {
    let user = args.user.as_deref().unwrap_or_default();
    let login: Vec<_> = ["sh", "-c", LOGIN, "sh", user].map(str::to_owned).into();
    Err(node.run(&[session(settings), login].concat()))
}

/// `sandbox console`.
///
/// # Errors
/// As [`exec`].
pub fn console(node: &Pct, args: &args::Console) -> Result<Exit, Failure> {
    match &args.user {
        Some(user) => {
            Err(Failure::said(Exit::UNAVAILABLE, "`console --user` is not to be had on Proxmox VE")
                .hint("a shell of that user", format!("sandbox shell {} --user {user}", node.name)))
        }
        None => Err(node.become_it("console", &[])),
    }
}

/// `sandbox logs`.
///
/// # Errors
/// As [`exec`].
pub fn logs(node: &Pct, args: &args::Logs, settings: &Settings) -> Result<Exit, Failure> {
    if args.outside {
        return Err(Failure::said(Exit::UNAVAILABLE, "`logs --outside` is not to be had on Proxmox VE")
            .hint("what the node says of it", format!("journalctl -u pve-container@{}", node.id)));
    }
    Err(node.run(&super::logs::argv(args, settings)))
}

/// `sandbox copy`: one file.
///
/// # Errors
/// Where it is no file, or as [`exec`].
pub fn copy(node: &Pct, args: &args::Copy) -> Result<Exit, Failure> {
    let text = |path: &Path| path.display().to_string();
    let inside = |text: &str| machine_of(text).map(|name| text[name.len() + 1..].to_owned());
    let tree = |what: &str| {
        Failure::said(Exit::UNAVAILABLE, format!("pct copies files, and {what}"))
            .hint("a tree", format!("tar c . | sandbox exec {} -- tar x -C /srv", node.name))
    };
    match (inside(&args.from), inside(&args.to)) {
        (Some(_), Some(_)) => {
            Err(Failure::said(Exit::USAGE, "one side is MACHINE:/PATH, the other a path of the host"))
        }
        _ if args.from == "-" || args.to == "-" => Err(tree("no streams")),
        (Some(from), None) => {
            let target = into(Path::new(&args.to), &from);
            if args.owner.is_some() {
                return Err(tree("what comes out of a container is root's"));
            }
            Err(node.become_it("pull", &[from, text(&target)]))
        }
        (None, Some(to)) => {
            let source = Path::new(&args.from);
            if !source.is_file() {
                return Err(tree(&format!("{} is none", source.display())));
            }
            let target = if to.ends_with('/') { text(&into(Path::new(&to), &args.from)) } else { to };
            let mut words = vec![text(source), target];
            if let Some((user, group)) =
                args.owner.as_ref().map(|owner| owner.split_once(':').unwrap_or((owner, owner)))
            {
                words.extend(["--user", user, "--group", group].map(str::to_owned));
            }
            Err(node.become_it("push", &words))
        }
        (None, None) => Err(Failure::said(Exit::USAGE, "one side is MACHINE:/PATH")),
    }
}

/// Gives a file's place in a folder, where the target is one.
fn into(target: &Path, source: &str) -> PathBuf {
    match Path::new(source).file_name() {
        Some(name) if target.is_dir() || target.as_os_str().to_string_lossy().ends_with('/') => {
            target.join(name)
        }
        _ => target.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_wrapped_in_what_it_wants() {
        let plain = args::Exec {
            name: "a".into(),
            user: None,
            env: Vec::new(),
            cwd: None,
            terminal: false,
            no_terminal: false,
            interactive: false,
            command: vec!["ls".into(), "-l".into()],
        };
        assert_eq!(argv(&plain), ["ls", "-l"]);
        let whole = args::Exec {
            user: Some("agent".into()),
            env: vec!["A=b c".into()],
            cwd: Some("/srv".into()),
            ..plain
        };
        let expected = [
            "su", "-l", "-c", AS_USER, "--", "agent", "env", "A=b c", "sh", "-c", IN_FOLDER, "/srv", "ls",
            "-l",
        ];
        assert_eq!(argv(&whole), expected);
    }
}
