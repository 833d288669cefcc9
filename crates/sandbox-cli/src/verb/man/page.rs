//! A manual page of a verb: what clap_mangen makes of its help, and the sections that a manual has beside that.
//!
//! **Source**: man-pages(7), "Sections within a manual page".

use std::io;

use clap::Command;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use crate::help::GROUPS;

const FILES: &[(&str, &str)] = &[
    ("/var/lib/sandbox", "Records, trees, volumes, snapshots and layers of machines (--state-dir)."),
    ("/var/cache/sandbox", "Fetched packages and indexes, each named by its digest (--cache-dir)."),
    ("/var/lib/machines/NAME", "The tree of a machine of the backend nspawn."),
    ("./images, ./profiles", "Images and profiles of a project; then those of the next two."),
    ("~/.config/sandbox", "Images and profiles of a user, in images/ and profiles/."),
    ("/etc/sandbox", "Images and profiles of the host, in images/ and profiles/."),
    ("sandbox.lock", "Every package and download of a build, with version and digest."),
];

const ENVIRONMENT: &[(&str, &str)] = &[
    ("SANDBOX_CACHE_DIR", "Where fetched packages are kept (--cache-dir)."),
    ("SANDBOX_STATE_DIR", "Where machines are kept (--state-dir)."),
    ("SANDBOX_ACCEPT_COSTS", "Accepts what profiles cost in isolation (--accept-costs)."),
    ("SANDBOX_NPM_REGISTRY", "npm registry for profiles that take something from one (--npm-registry)."),
    ("SANDBOX_PYTHON_INDEX", "Python index for profiles that take something from one (--python-index)."),
    ("SANDBOX_VENDOR_MIRROR", "Mirrors of vendors' addresses (--vendor-mirror)."),
    ("SANDBOX_PROXMOX_TOKEN_FILE", "File with the API token of Proxmox VE (--token-file)."),
    ("http_proxy, https_proxy, no_proxy", "Proxies for what is fetched, and hosts that none is for."),
    ("XDG_CONFIG_HOME, HOME", "Where the user's images and profiles are."),
    ("TMPDIR", "Directory for large temporary files; /var/tmp where it is not set."),
    ("TERM, COLORTERM", "The terminal, passed to sessions in machines that have an entry for it."),
    ("CREDENTIALS_DIRECTORY", "Credentials of systemd: `proxmox-token` is the API token."),
];

const CODES: &[(&str, &str)] = &[
    ("0", "Success."),
    ("1", "Not available: no such package, machine or version; a name that is taken; an answer that is no."),
    ("2", "The command line is wrong."),
    ("3", "A file is wrong: image, profile, lock, key."),
    ("4", "Not to be trusted: signature, digest, expiry, path."),
    ("5", "Not reachable."),
    ("6", "The host lacks a program, a feature or a permission; a full disk."),
    ("7", "The program's own state is damaged."),
    ("70", "A bug."),
    ("130", "Interrupted."),
];

const PAYLOAD: &[(&str, &str)] = &[
    ("125", "It failed before the command ran."),
    ("126", "The command is not executable."),
    ("127", "The command is not in the machine."),
    ("128+n", "The command was ended by signal n."),
];

/// Writes the page of a verb; `name` is its words with hyphens between them.
///
/// # Errors
/// Where it cannot be written.
pub fn write(command: &Command, name: &str, out: &mut dyn io::Write) -> io::Result<()> {
    let words = name.replace('-', " ");
    let is_root = !words.contains(' ');
    let shown = command.clone().display_name(name).bin_name(words);
    let man =
        Man::new(shown).title(name).manual("sandbox").source(concat!("sandbox ", env!("CARGO_PKG_VERSION")));
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    let mut roff = Roff::new();
    if is_root {
        groups(command, &mut roff);
    }
    roff.to_writer(out)?;
    man.render_options_section(out)?;
    if !is_root && command.has_subcommands() {
        man.render_subcommands_section(out)?;
    }
    let mut roff = Roff::new();
    if let Some(text) = command.get_after_long_help() {
        examples(&text.to_string(), &mut roff);
    }
    section(&mut roff, "EXIT STATUS", CODES);
    if matches!(command.get_name(), "exec" | "shell") {
        roff.control("PP", []).text([roman("Otherwise the status is the command's own, with")]);
        list(&mut roff, PAYLOAD);
    }
    section(&mut roff, "FILES", FILES);
    section(&mut roff, "ENVIRONMENT", ENVIRONMENT);
    see_also(command, name, &mut roff);
    roff.to_writer(out)
}

fn list(roff: &mut Roff, items: &[(&str, &str)]) {
    for (term, text) in items {
        roff.control("TP", []).text([bold(*term)]).text([roman(*text)]);
    }
}

fn section(roff: &mut Roff, title: &str, items: &[(&str, &str)]) {
    roff.control("SH", [title]);
    list(roff, items);
}

/// Writes the verbs by group.
fn groups(root: &Command, roff: &mut Roff) {
    roff.control("SH", ["COMMANDS"]);
    for (group, verbs) in GROUPS {
        roff.control("SS", [*group]);
        for verb in verbs.iter().filter_map(|verb| root.find_subcommand(verb)) {
            let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
            roff.control("TP", [])
                .text([bold(format!("sandbox-{}(1)", verb.get_name()))])
                .text([roman(about)]);
        }
    }
}

/// Writes the text behind the options: examples as they are typed, all else as paragraphs.
fn examples(text: &str, roff: &mut Roff) {
    let mut notes = false;
    for part in text.split("\n\n") {
        match part.strip_prefix("Examples:\n") {
            Some(lines) => {
                roff.control("SH", ["EXAMPLES"]).control("nf", []);
                for line in lines.lines() {
                    roff.text([roman(line.trim_start())]);
                }
                roff.control("fi", []);
            }
            None => {
                if !notes {
                    roff.control("SH", ["NOTES"]);
                    notes = true;
                }
                roff.control("PP", []).text([roman(part.replace('\n', " "))]);
            }
        }
    }
}

/// Writes the pages that are near: those above and below, those of the same group, and that of profiles.
fn see_also(command: &Command, name: &str, roff: &mut Roff) {
    let words: Vec<&str> = name.split('-').collect();
    let mut pages = Vec::new();
    if let [above @ .., _] = words.as_slice()
        && !above.is_empty()
    {
        pages.push(format!("{}(1)", above.join("-")));
    }
    let own = words.get(1).copied().unwrap_or_default();
    let group = GROUPS.iter().find(|(_, verbs)| verbs.contains(&own)).map_or(&[][..], |(_, verbs)| verbs);
    if words.len() == 2 {
        let near = group.iter().filter(|verb| **verb != own && **verb != "help");
        pages.extend(near.map(|verb| format!("sandbox-{verb}(1)")));
    }
    let below = command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help");
    if words.len() > 1 {
        pages.extend(below.map(|verb| format!("{name}-{}(1)", verb.get_name())));
    }
    pages.push("sandbox-profile(5)".to_owned());
    pages.extend(["systemd-nspawn(1)", "machinectl(1)", "lxc(7)"].map(str::to_owned));
    pages.dedup();
    roff.control("SH", ["SEE ALSO"]).text([roman(pages.join(", "))]);
}
