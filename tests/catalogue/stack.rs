//! The machine that the catalogue is for: what most people stack, all in one, as one command makes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    lab::Host,
    machines::{self, Machine, Place},
    runner::line,
};

/// The profiles of the stack, and more.
macro_rules! lab_and {
    ($($more:literal),*) => {
        &[
            "dev",
            "docker",
            "kind",
            "claude",
            "codex",
            "gemini",
            "opencode",
            "aider",
            "superpowers",
            "mcp",
            "claude-remote",
            "ssh",
            "tailscale",
            "ntfy",
            $($more),*
        ]
    };
}
pub(crate) use lab_and;

/// The stack.
pub const LAB: Machine = Machine { name: "lab", release: "trixie", profiles: lab_and!() };

/// What making a second machine may cost beyond its boot, where the file system clones. The aim is 1.5 s, and a release
/// build takes a third of that; this is for a build without optimisation on a busy machine.
const BEYOND: Duration = Duration::from_secs(3);

/// All of it boots, and every check of every profile is well.
pub fn lab_is_well(place: &Place) {
    machines::is_well(place, &LAB);
    let host = place.host();
    let checks = host.sandbox(&["health", LAB.name, "--json"]);
    for profile in LAB.profiles {
        let named = format!("\"{profile}\"");
        let has_checks = source(profile).contains("[[health]]");
        assert!(!has_checks || checks.out.contains(&named), "no check of `{profile}` ran: {}", checks.out);
    }
    let aider = ["exec", LAB.name, "--user", "agent", "--", "bash", "-lc", "aider --version"];
    assert!(host.sandbox(&aider).ok().starts_with("aider "));
}

/// Gives a profile of the catalogue, or an image.
fn source(name: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |folder: &str| fs::read_to_string(root.join(folder).join(format!("{name}.toml")));
    read("profiles").or_else(|_| read("images")).expect("a file of the catalogue")
}

/// Every value of every file of the stack is shown with its line, and stands there.
pub fn every_value_of_it_is_explained(place: &Place) {
    let names = LAB.profiles.join(",");
    let show = ["profile", "show", "--resolved", &names, "--release", LAB.release, "--json"];
    let shown: Value = serde_json::from_str(place.host().sandbox(&show).ok()).expect("JSON");
    let stack: Vec<&str> =
        shown["stack"].as_array().expect("a list").iter().map(|one| text(one, "name")).collect();
    for name in LAB.profiles {
        assert!(stack.contains(name), "{name} is not in {stack:?}");
    }
    let mut told: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for value in shown["values"].as_array().expect("a list") {
        let number = value["line"].as_u64().and_then(|number| usize::try_from(number).ok());
        let (number, by) = (number.filter(|number| *number > 0).expect("a line"), text(value, "by"));
        assert!(text(value, "file").ends_with(&format!("{by}.toml")), "{value}");
        told.entry(by).or_default().insert(number);
    }
    for name in stack.into_iter().filter(|name| *name != "aider") {
        let wanted = assigned(&source(name));
        let silent: Vec<_> = wanted.difference(told.get(name).unwrap_or(&BTreeSet::new())).copied().collect();
        assert!(silent.is_empty(), "nothing is told of {name}.toml's lines {silent:?}");
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().expect("a word")
}

/// Gives the numbers of the lines that give something a value, but for what names the file itself.
fn assigned(toml: &str) -> BTreeSet<usize> {
    let mut end = None;
    let mut lines = BTreeSet::new();
    for (at, line) in toml.lines().enumerate() {
        if let Some(quotes) = end {
            end = Some(quotes).filter(|quotes| !line.contains(quotes));
            continue;
        }
        end = ["\"\"\"", "'''"].into_iter().find(|quotes| line.matches(quotes).count() == 1);
        let Some((key, _)) = line.split_once(" = ") else { continue };
        let is_key = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        let of_the_file = ["schema", "name", "summary", "requires"].contains(&key) && at < 5;
        if is_key && !of_the_file && !line.ends_with('[') {
            lines.insert(at + 1);
        }
    }
    lines
}

/// Makes a second machine of the same stack: what that costs beyond the first boot of such a tree by systemd alone.
pub fn a_second_one_costs_little_beyond_its_boot(place: &Place) {
    let first = place.took(&LAB);
    let host = place.host();
    let begun = Instant::now();
    let created = place.create("lab2", &LAB, &["--timings"]);
    let made = begun.elapsed();
    created.ok();
    host.sandbox(&["remove", "lab2", "--yes"]).ok();
    place.create("lab2", &LAB, &["--no-start"]).ok();
    let boot = booted(&host);
    let clones =
        host.sh("cd /var/lib/machines && echo x >x && cp --reflink=always x y; s=$?; rm -f x y; exit $s");
    host.sandbox(&["remove", "lab2", "--yes"]).ok();
    let beyond = made.saturating_sub(boot);
    let [made, booted, more, built] = [made, boot, beyond, first].map(|time| time.as_secs_f64());
    line(&format!(
        "lab2: made and booted in {made:.2} s, {more:.2} s more than the first boot by systemd ({booted:.2} s); lab: {built:.2} s"
    ));
    // where every byte is copied it is the disk that is measured: it must be less than building them
    let most = if clones.code == 0 { BEYOND } else { first };
    assert!(beyond <= most, "making it costs {more:.2} s beyond its boot:\n{}", created.err);
}

/// Starts the machine's unit as anybody would, and waits until the guest says that all of it is up.
#[track_caller]
fn booted(host: &Host<'_>) -> Duration {
    let script = "systemctl start systemd-nspawn@lab2.service && \
                  for try in $(seq 600); do systemctl -M lab2 is-system-running --wait 2>/dev/null && exit; sleep 0.05; done; exit 9";
    let begun = Instant::now();
    assert_eq!(host.sh(script).ok(), "running");
    begun.elapsed()
}
