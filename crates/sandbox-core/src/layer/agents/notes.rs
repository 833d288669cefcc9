//! What an agent is told of the machine that it works in: Markdown, which every agent's file of instructions is.

use std::fmt::Write as _;

use crate::spec::{Layer, VolumeKind};

/// The first line of the part that is ours.
const BEGIN: &str = "<!-- sandbox: written when this machine was built -->";

/// Its last line.
const END: &str = "<!-- sandbox: end -->";

/// The part that does not depend on the stack.
const ABOUT: &str = "\
# You work in a sandbox

This machine was made for you by `sandbox`. The walls are around it, not in it: inside you may install, change and
break what you like, with `sudo` where you may use it. Do not try to get around the walls.

- **Which machine:** `cat /etc/sandbox/machine` gives its name, its network and what is let through.
- **Network:** as `NETWORK` there says. `internet` (the rule): the internet is reached; the host, its local network
  and other machines are not, so that a refused or lost connection to a private address is the wall and no fault.
  `none`: nothing is reached. `open`: whatever the host reaches. `host`: the host's own network.
- **Not here:** the host's files, processes, devices, logins and Docker. What listens on the host's `localhost` is
  not on yours.
- **How to ask:** the owner reads what you write. Where a wall is in the way, say in one sentence what you need and
  why (an address and port, a package, a device, a login), then go on with what can be done without it.
";

/// Writes what is so in every machine of a stack.
pub(super) fn text(layer: &Layer) -> String {
    let mut text = format!("{BEGIN}\n{ABOUT}");
    let of_kind = |kind| layer.volumes.iter().filter(move |volume| volume.kind == kind);
    let list = |kind| {
        let paths = of_kind(kind).map(|volume| format!("`{}`", volume.path.display()));
        paths.collect::<Vec<_>>().join(", ")
    };
    if layer.volumes.is_empty() {
        text +=
            "- **Kept:** nothing outlives this machine: push or hand over your work before it is removed.\n";
    } else {
        text += "- **Kept** when this machine is built anew:";
        for (kind, what) in
            [(VolumeKind::Home, "work in"), (VolumeKind::Auth, "logins in"), (VolumeKind::Cache, "caches in")]
        {
            if of_kind(kind).next().is_some() {
                let _ = write!(text, " {what} {};", list(kind));
            }
        }
        text += " all else goes with it.\n";
    }
    if of_kind(VolumeKind::Auth).next().is_some() {
        text += "- **Logins** stay in those folders: copy none of them elsewhere, print none, commit none.\n";
    }
    for port in &layer.ports {
        let address = std::net::SocketAddr::new(port.address, port.port);
        let _ = writeln!(text, "- **Served here:** {address}: {}", port.what);
    }
    text + END + "\n"
}

/// Puts our part into a file of instructions: in place of an earlier one, else behind what is there.
pub(super) fn merged(before: &str, ours: &str) -> String {
    if let Some((first, rest)) = before.split_once(BEGIN)
        && let Some((_, last)) = rest.split_once(END)
    {
        return format!("{first}{}{}", ours.trim_end(), last);
    }
    match before.trim_end() {
        "" => ours.to_owned(),
        text => format!("{text}\n\n{ours}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_is_kept_and_served() {
        let plain = text(&Layer::default());
        assert!(plain.contains("nothing outlives this machine"), "{plain}");
        assert!(plain.contains("/etc/sandbox/machine"), "{plain}");
        let layer: Layer = toml::from_str(
            "schema = 1\nname = \"p\"\n[[volumes]]\npath = \"/home/agent/.x\"\nkind = \"auth\"\n\
             [[volumes]]\npath = \"/home/agent/work\"\nkind = \"home\"\n[[ports]]\nport = 8080\nwhat = \"an editor\"\n",
        )
        .unwrap();
        let text = text(&layer);
        assert!(text.contains("work in `/home/agent/work`; logins in `/home/agent/.x`;"), "{text}");
        assert!(text.contains("127.0.0.1:8080: an editor"), "{text}");
        assert!(text.len() < 3000, "an agent reads it every time: {}", text.len());
    }

    #[test]
    fn what_a_profile_wrote_there_stays() {
        let ours = text(&Layer::default());
        let both = merged("# Mine\n", &ours);
        assert!(both.starts_with("# Mine\n\n<!-- sandbox"), "{both}");
        assert_eq!(merged(&both, &ours), both);
        assert_eq!(merged("", &ours), ours);
    }
}
