//! The images and profiles that are built into the program.

use std::path::PathBuf;

use sandbox_core::spec::Catalogue;

macro_rules! embedded {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../", $path)))),*]
    };
}

/// Every file of `images/` and `profiles/`; a test fails if one is forgotten.
pub const EMBEDDED: &[(&str, &str)] = embedded![
    "images/bookworm.toml",
    "images/bullseye.toml",
    "images/forky.toml",
    "images/jammy.toml",
    "images/noble.toml",
    "images/resolute.toml",
    "images/sid.toml",
    "images/stonking.toml",
    "images/trixie.toml",
    "profiles/agy.toml",
    "profiles/aider.toml",
    "profiles/alloy.toml",
    "profiles/android.toml",
    "profiles/aoe.toml",
    "profiles/base.toml",
    "profiles/browser.toml",
    "profiles/caddy.toml",
    "profiles/claude-remote.toml",
    "profiles/claude.toml",
    "profiles/code-server.toml",
    "profiles/codex.toml",
    "profiles/desktop.toml",
    "profiles/dev.toml",
    "profiles/docker-rootless.toml",
    "profiles/docker.toml",
    "profiles/gemini.toml",
    "profiles/herdr.toml",
    "profiles/kind.toml",
    "profiles/mcp.toml",
    "profiles/mosh.toml",
    "profiles/netbird.toml",
    "profiles/netdata.toml",
    "profiles/node.toml",
    "profiles/nono.toml",
    "profiles/ntfy.toml",
    "profiles/opencode.toml",
    "profiles/podman.toml",
    "profiles/ssh.toml",
    "profiles/superpowers.toml",
    "profiles/tailscale-tun.toml",
    "profiles/tailscale.toml",
    "profiles/tmux.toml",
    "profiles/vscode-tunnel.toml",
    "profiles/webterm.toml",
];

/// Gives the catalogue: `./`, the user's folder, the system's, then the built-in files.
pub fn catalogue(own: Option<&PathBuf>) -> Catalogue {
    let mut folders = vec![PathBuf::from(".")];
    folders.extend(own.cloned());
    folders.push(PathBuf::from("/etc/sandbox"));
    Catalogue { folders, embedded: EMBEDDED }
}

#[cfg(test)]
mod table;

#[cfg(test)]
mod tests {
    use super::*;
    use sandbox_core::spec::{Kind, stack};

    #[test]
    fn every_file_is_embedded() {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
        for folder in ["images", "profiles"] {
            for entry in std::fs::read_dir(root.join(folder)).unwrap() {
                let path = format!("{folder}/{}", entry.unwrap().file_name().into_string().unwrap());
                assert!(EMBEDDED.iter().any(|(known, _)| *known == path), "{path} is not embedded");
            }
        }
    }

    #[test]
    fn every_file_is_of_the_schema() {
        let catalogue = Catalogue { folders: Vec::new(), embedded: EMBEDDED };
        let profiles = catalogue.names(Kind::Profile);
        for image in catalogue.names(Kind::Image) {
            let spec = stack(&catalogue, &image, &profiles).unwrap();
            assert_eq!(spec.profiles[0], "base");
            let agent: Vec<_> = spec.layer.users.iter().map(|user| (&*user.name, user.uid)).collect();
            assert!(agent.contains(&("agent", 1000)));
        }
    }
}
