//! What a new machine is given, in one word each.

use std::{path::PathBuf, str::FromStr};

use clap::Args;

use super::machine::Limited;

const HEADING: &str = "Limits and contents";

/// Options of `sandbox create` that `set`, `mount` and `copy` have for a machine that is there.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = HEADING)]
pub struct Given {
    #[command(flatten)]
    pub limits: Limited,
    /// Record limits that this host cannot enforce
    #[arg(long, hide_short_help = true)]
    pub unenforced: bool,
    /// Set a variable for every user in it; may be repeated
    #[arg(long, short, value_name = "KEY=VALUE")]
    pub env: Vec<String>,
    /// Mount a directory of the host (PATH:ro for read-only)
    ///
    /// It is mounted at each start. Options behind a further colon, with commas: ro, owner=USER, same-ids. May be repeated.
    #[arg(long, short = 'v', value_name = "DIR:PATH")]
    pub mount: Vec<GivenMount>,
    /// Copy a file or tree of the host (PATH:USER owns it)
    ///
    /// May be repeated.
    #[arg(long, value_name = "FILE:PATH")]
    pub copy: Vec<GivenCopy>,
    /// Let this key log in as `agent` (profile `ssh`)
    ///
    /// The file is the public key. May be repeated.
    #[arg(long, value_name = "FILE")]
    pub ssh_key: Vec<PathBuf>,
}

/// `--mount`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenMount {
    /// The directory of the host.
    pub source: PathBuf,
    /// Where the machine has it.
    pub path: PathBuf,
    /// The machine can only read it.
    pub read_only: bool,
    /// The machine's user that is the directory's owner.
    pub owner: Option<String>,
    /// Users have the same numbers on both sides.
    pub same_ids: bool,
}

/// `--copy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenCopy {
    /// What is copied.
    pub source: PathBuf,
    /// Where the machine has it.
    pub path: PathBuf,
    /// Who owns it there.
    pub owner: Option<String>,
}

/// Splits `SOURCE:/PATH[:REST]`: the path in the machine begins with a slash, so that the source may have colons.
fn split(text: &str) -> Option<(PathBuf, PathBuf, Option<&str>)> {
    let at = text.find(":/").filter(|at| *at > 0)?;
    let (path, rest) = match text[at + 1..].split_once(':') {
        Some((path, rest)) => (path, Some(rest)),
        None => (&text[at + 1..], None),
    };
    Some((text[..at].into(), path.into(), rest))
}

impl FromStr for GivenMount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (source, path, rest) = split(text)
            .ok_or("it is DIR:PATH, where PATH begins with a slash: ./project:/home/agent/project")?;
        let mut mount = Self { source, path, read_only: false, owner: None, same_ids: false };
        for option in rest.into_iter().flat_map(|rest| rest.split(',')) {
            match (option, option.split_once('=')) {
                ("ro", _) => mount.read_only = true,
                ("rw", _) => mount.read_only = false,
                ("same-ids", _) => mount.same_ids = true,
                (_, Some(("owner", user))) if !user.is_empty() => mount.owner = Some(user.to_owned()),
                _ => {
                    return Err(format!(
                        "`{option}` is no option of a mount; there are ro, rw, owner=USER, same-ids"
                    ));
                }
            }
        }
        if mount.same_ids && mount.owner.is_some() {
            return Err("`same-ids` and `owner` exclude each other".to_owned());
        }
        Ok(mount)
    }
}

impl FromStr for GivenCopy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (source, path, owner) = split(text)
            .ok_or("it is FILE:PATH, where PATH begins with a slash: ~/.gitconfig:/home/agent/.gitconfig")?;
        match owner {
            Some("") => Err("the owner behind the last colon is missing".to_owned()),
            owner => Ok(Self { source, path, owner: owner.map(str::to_owned) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_one_word() {
        let plain = GivenMount {
            source: "a".into(),
            path: "/b".into(),
            read_only: false,
            owner: None,
            same_ids: false,
        };
        let owner = Some("www-data".to_owned());
        for (text, mount) in [
            ("a:/b", plain.clone()),
            ("a:/b:rw", plain.clone()),
            ("a:/b:ro", GivenMount { read_only: true, ..plain.clone() }),
            ("a:b:/b", GivenMount { source: "a:b".into(), ..plain.clone() }),
            ("a:/b:ro,owner=www-data", GivenMount { read_only: true, owner, ..plain.clone() }),
            ("a:/b:same-ids", GivenMount { same_ids: true, ..plain }),
        ] {
            assert_eq!(text.parse(), Ok(mount), "{text}");
        }
        for text in ["", "a", "a:b", ":/b", "a:/b:", "a:/b:rx", "a:/b:owner=", "a:/b:same-ids,owner=x"] {
            assert!(text.parse::<GivenMount>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_copy_is_one_word() {
        let copy = |owner: Option<&str>| GivenCopy {
            source: "./a".into(),
            path: "/b/".into(),
            owner: owner.map(str::to_owned),
        };
        assert_eq!("./a:/b/".parse(), Ok(copy(None)));
        assert_eq!("./a:/b/:agent".parse(), Ok(copy(Some("agent"))));
        assert_eq!("./a:/b/:1000:1000".parse(), Ok(copy(Some("1000:1000"))));
        for text in ["", "a", "a:b", ":/b", "a:/b:"] {
            assert!(text.parse::<GivenCopy>().is_err(), "{text}");
        }
    }
}
