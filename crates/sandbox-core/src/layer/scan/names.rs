//! Files that are known to hold a login.

use std::path::Path;

use memchr::memmem;

/// What a path's name says.
pub struct Name {
    /// What it is.
    pub kind: &'static str,
    /// Whether a text of that name holds a login.
    pub says: fn(&[u8]) -> bool,
}

const fn always(_: &[u8]) -> bool {
    true
}

fn has(text: &[u8], word: &str) -> bool {
    memmem::find(text, word.as_bytes()).is_some()
}

/// Tells whether a text has an address like `https://user:word@host`.
fn password_in_address(text: &[u8]) -> bool {
    memmem::find_iter(text, "://").any(|at| {
        let rest = &text[at + 3..];
        let end = rest.iter().position(|byte| b"/ \t\n\r\"'".contains(byte)).unwrap_or(rest.len());
        let user = rest[..end].rsplitn(2, |byte| *byte == b'@').nth(1).unwrap_or_default();
        user.iter().position(|byte| *byte == b':').is_some_and(|colon| colon + 1 < user.len())
    })
}

/// Tells whether a file of the name is what it seems to be.
type Says = fn(&[u8]) -> bool;

/// Endings of paths, what they are, and what must stand in the file.
///
/// **Source**: the documentation of each program; Claude Code's and Codex's were read in their packages.
const ENDINGS: &[(&str, &str, Says)] = &[
    (".claude/.credentials.json", "Claude Code's login", always),
    (".claude.json", "Claude Code's state with a login", |text| {
        has(text, "\"oauthAccount\"") || has(text, "\"primaryApiKey\"")
    }),
    (".codex/auth.json", "Codex's login", always),
    (".gemini/oauth_creds.json", "Gemini's login", always),
    (".gemini/google_accounts.json", "Gemini's account", always),
    (".local/share/opencode/auth.json", "OpenCode's login", always),
    (".config/gh/hosts.yml", "GitHub's command line's login", always),
    (".config/github-copilot/hosts.json", "Copilot's login", always),
    (".config/github-copilot/apps.json", "Copilot's login", always),
    (".netrc", "passwords of machines", |text| has(text, "password")),
    (".git-credentials", "passwords of git", always),
    (".config/git/credentials", "passwords of git", always),
    (".npmrc", "an npm token", |text| has(text, "_authToken") || has(text, "_password")),
    ("etc/npmrc", "an npm token", |text| has(text, "_authToken") || has(text, "_password")),
    ("etc/apt/auth.conf", "passwords of apt", |text| has(text, "password")),
    ("etc/apt/sources.list", "a password in an address", password_in_address),
    ("etc/pip.conf", "a password in an address", password_in_address),
    (".config/pip/pip.conf", "a password in an address", password_in_address),
    (".gitconfig", "a password in an address", password_in_address),
    (".git/config", "a password in an address", password_in_address),
    (".pypirc", "passwords of a Python index", |text| has(text, "password")),
    (".cargo/credentials.toml", "a crate registry's token", always),
    (".docker/config.json", "logins of container registries", |text| {
        has(text, "\"auth\"") || has(text, "\"identitytoken\"")
    }),
    (".aws/credentials", "AWS's login", always),
    (".config/gcloud/application_default_credentials.json", "Google Cloud's login", always),
    (".config/gcloud/credentials.db", "Google Cloud's login", always),
    (".azure/accessTokens.json", "Azure's login", always),
    (".azure/msal_token_cache.json", "Azure's login", always),
    (".kube/config", "a cluster's login", |text| {
        has(text, "client-key-data") || has(text, "token:") || has(text, "password:")
    }),
    ("var/lib/tailscale/tailscaled.state", "Tailscale's identity", always),
    ("var/lib/netbird/default.json", "NetBird's identity", always),
    ("etc/netbird/config.json", "NetBird's identity", always),
];

/// Tells what a path is known for.
pub fn kind(path: &Path) -> Option<Name> {
    let known = ENDINGS.iter().find(|(ending, _, _)| path.ends_with(ending));
    if let Some((_, kind, says)) = known {
        return Some(Name { kind, says: *says });
    }
    let name = path.file_name()?.to_str()?;
    let above = path.parent()?;
    if above.ends_with("etc/apt/sources.list.d") || above.ends_with("etc/apt/apt.conf.d") {
        return Some(Name { kind: "a password in an address", says: password_in_address });
    }
    if above.ends_with("etc/apt/auth.conf.d") {
        return Some(Name { kind: "passwords of apt", says: |text| has(text, "password") });
    }
    let public = name.ends_with(".pub");
    if above.ends_with("etc/ssh") && name.starts_with("ssh_host_") && !public {
        return Some(Name { kind: "a machine's SSH key", says: always });
    }
    if above.ends_with(".ssh") && name.starts_with("id_") && !public {
        return Some(Name { kind: "somebody's SSH key", says: always });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_known_by_whole_parts() {
        let known = |path: &str| kind(Path::new(path)).map(|name| name.kind);
        for path in ["root/.ssh/id_ed25519", "etc/ssh/ssh_host_rsa_key", "home/a/.aws/credentials"] {
            assert!(known(path).is_some(), "{path}");
        }
        for path in
            ["root/.ssh/id_ed25519.pub", "usr/share/x.netrc", "home/a/aws/credentials", "etc/ssh/moduli"]
        {
            assert!(known(path).is_none(), "{path}");
        }
    }

    #[test]
    fn a_file_of_the_name_without_a_login_is_none() {
        let says = |path: &str, text: &str| (kind(Path::new(path)).unwrap().says)(text.as_bytes());
        assert!(!says(
            "home/agent/.claude.json",
            "{\"projects\":{\"/srv\":{\"hasTrustDialogAccepted\":true}}}"
        ));
        assert!(says("home/agent/.claude.json", "{\"oauthAccount\":{}}"));
        assert!(!says("root/.npmrc", "registry=http://r\n"));
        assert!(says("root/.npmrc", "//r/:_authToken=x\n"));
        let sources = "etc/apt/sources.list.d/debian.sources";
        assert!(!says(
            sources,
            "URIs: https://a.invalid/debian http://b.invalid:80/x@y https://user@c.invalid\n"
        ));
        assert!(says(sources, "URIs: https://a.invalid/debian https://user:word@b.invalid/debian\n"));
        assert!(says("etc/apt/sources.list", "deb http://u:p@a.invalid b main"));
    }
}
