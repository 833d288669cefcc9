//! What a machine could leave behind, as sorted lines that are compared.

use std::{collections::BTreeSet, time::Duration};

use sha2::{Digest as _, Sha256};

use crate::{lab::Host, process};

/// Lines, each a thing that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces(BTreeSet<String>);

impl Traces {
    fn of(text: &str) -> Self {
        Self(text.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect())
    }

    /// Fails the test unless everything is as it was before.
    #[track_caller]
    pub fn are(&self, before: &Self) {
        let new: Vec<_> = self.0.difference(&before.0).collect();
        let gone: Vec<_> = before.0.difference(&self.0).collect();
        assert!(new.is_empty() && gone.is_empty(), "left: {new:#?}\ngone: {gone:#?}");
    }

    /// Tells whether any line has a word.
    pub fn mention(&self, word: &str) -> bool {
        self.0.iter().any(|line| line.contains(word))
    }
}

/// Everything, for a host that nobody else uses. systemd's own credentials mounts come and go, as does the one that
/// ip-netns(8) makes for its names, and so does the word of who held a machine last.
const EVERYTHING: &str = r#"
for place in /etc/systemd/nspawn /etc/systemd/system /run/systemd/system /run/systemd/nspawn-root \
  /etc/systemd/network /run/systemd/network /run/systemd/machines /run/sandbox /var/lib/sandbox/machines; do
  find "$place" -mindepth 1 2>/dev/null | grep -v -e /run/systemd/system/listener -e "/run/sandbox/.*lock$" -e "/machines/[^/]*/\(holder\|mounts.json\)$" -e "/machines/[^/]*/rootfs/"
done
find /var/lib/machines /var/lib/sandbox/volumes /var/lib/sandbox/snapshots -mindepth 1 -maxdepth 1 2>/dev/null
find /var/lib/machines/.#sandbox-snapshots -mindepth 1 -maxdepth 1 2>/dev/null
find /var/lib/lxc -mindepth 1 -maxdepth 3 2>/dev/null
find /run/lxc/lock -type f 2>/dev/null
find /sys/fs/cgroup -maxdepth 1 -name "lxc.[mp]*.*"
nft -s list ruleset | sed 's/^/nft /'
awk '{ print "mount", $5 }' /proc/self/mountinfo | grep -v -e /run/credentials -e /run/user -e binfmt_misc -e '/run/netns$'
for link in /sys/class/net/*; do echo "link ${link##*/}"; done
for space in /run/netns/*; do echo "netns $space"; done
for process in $(pgrep -x systemd-nspawn; pgrep -f '^\[lxc monitor\]'; pgrep -f '[s]andbox internal'); do
  echo "process $(tr '\0' ' ' </proc/$process/cmdline)"
done
find /sys/fs/cgroup/machine.slice -mindepth 1 -maxdepth 1 -type d 2>/dev/null | sed 's/^/cgroup /'
true
"#;

/// Looks at all of a host.
pub fn of_host(host: &Host<'_>) -> Traces {
    Traces::of(host.sh(EVERYTHING).ok())
}

/// What bears the marks of machines: `$0` is their state folder, the arguments are their interfaces.
const MARKED: &str = r#"
find "$0" -mindepth 2 -maxdepth 2 -not -path "$0/layers/*" 2>/dev/null
# layers are kept for the next machine, what was under way of one is not
find "$0/layers/claims" "$0/layers/partial" -mindepth 1 2>/dev/null
awk '{ print "mount", $5 }' /proc/self/mountinfo | grep -F "mount $0"
for process in $(pgrep -f -- "$0/machines"); do
  echo "process $(tr '\0' ' ' </proc/$process/cmdline)"
done
for link in "$@"; do
  [ -e "/sys/class/net/$link" ] && echo "link $link"
  nft -s list ruleset 2>/dev/null | grep -F "$link"
done
true
"#;

/// Looks at what machines of a state folder have on this machine.
pub fn here(state: &str, machines: &[String]) -> Traces {
    let links: Vec<String> = machines.iter().map(|name| interface(name)).collect();
    let mut argv = vec!["sh", "-c", MARKED, state];
    argv.extend(links.iter().map(String::as_str));
    Traces::of(process::run(&argv, "", Duration::from_secs(60)).ok())
}

/// Gives the host's side of a machine's link: `ve-sb` and the first 8 digits of its name's SHA-256.
pub fn interface(name: &str) -> String {
    let digest = Sha256::digest(name.as_bytes());
    let digits: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("ve-sb{digits}")
}
