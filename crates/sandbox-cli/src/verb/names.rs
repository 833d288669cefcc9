//! Names for machines that are given none: two words that are easily read, typed and told apart.

use std::{fs::File, io::Read as _};

use sandbox_core::name::MachineName;

use super::machine::Host;
use crate::{exit::Exit, failure::Failure, settings::Settings};

const FIRST: [&str; 32] = [
    "amber", "bold", "brisk", "calm", "civil", "clear", "cosy", "deft", "early", "fair", "fleet", "fond",
    "glad", "hale", "jolly", "keen", "kind", "light", "lucid", "merry", "mild", "neat", "noble", "plain",
    "quick", "quiet", "ready", "sound", "spry", "swift", "vivid", "warm",
];

const SECOND: [&str; 32] = [
    "acorn", "alder", "badger", "beech", "birch", "bison", "cedar", "crane", "elm", "falcon", "fern",
    "finch", "fox", "hare", "heron", "ibex", "larch", "lark", "lynx", "maple", "marten", "newt", "oak",
    "otter", "owl", "pine", "plover", "robin", "rowan", "stoat", "swan", "wren",
];

/// How often words are drawn before a number is put behind them.
const TRIES: usize = 50;

/// Makes a name up that no machine has, neither one of `sandbox` nor a foreign one.
///
/// # Errors
/// Where the host gives no random numbers.
pub fn made_up(settings: &Settings) -> Result<MachineName, Failure> {
    let mut random = File::open("/dev/urandom").map_err(failed)?;
    let host = Host::new(settings);
    let machines = host.as_they_are();
    let foreign = machines.foreign().unwrap_or_default();
    let is_free = |name: &str| {
        let folder = settings.state.join("machines").join(name);
        folder.symlink_metadata().is_err() && !foreign.iter().any(|found| found.name == name)
    };
    for attempt in 0_usize.. {
        let mut drawn = [0; 2];
        random.read_exact(&mut drawn).map_err(failed)?;
        let name = name_of(drawn, attempt);
        if is_free(&name) {
            return MachineName::new(&name).map_err(|invalid| Failure::said(Exit::BUG, invalid.to_string()));
        }
    }
    Err(Failure::said(Exit::UNAVAILABLE, "every name that can be made up is taken"))
}

fn failed(error: std::io::Error) -> Failure {
    Failure::said(Exit::HOST, format!("/dev/urandom cannot be read: {error}"))
}

/// Puts two drawn words together, with a number behind them once many names were taken.
fn name_of([first, second]: [u8; 2], attempt: usize) -> String {
    let word = |words: &[&'static str; 32], drawn: u8| words[usize::from(drawn) % words.len()];
    let (first, second) = (word(&FIRST, first), word(&SECOND, second));
    if attempt < TRIES { format!("{first}-{second}") } else { format!("{first}-{second}-{attempt}") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_name_that_is_made_up_is_one() {
        assert_eq!(FIRST.iter().chain(&SECOND).collect::<BTreeSet<_>>().len(), 64, "a word is listed twice");
        let pairs = (0..=255).flat_map(|first| (0..=255).map(move |second| [first, second]));
        let all: BTreeSet<_> = pairs.map(|drawn| name_of(drawn, 0)).collect();
        assert_eq!(all.len(), 32 * 32);
        assert!(all.iter().all(|name| MachineName::new(name).is_ok() && name.len() <= 14));
        assert!(MachineName::new(&name_of([0, 0], TRIES)).is_ok());
    }
}
