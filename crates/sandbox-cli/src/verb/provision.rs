//! What `create` gives a machine, checked before anything is fetched.

use std::{fs, path::Path};

use sandbox_core::{
    layer::Order,
    machine::{
        Chosen, Definition, Kind,
        mounts::Wanted,
        provision::{Provision, WantedCopy},
    },
    name::MachineName,
};

use super::{mount, set, variable};
use crate::{
    args::{Create, Given},
    exit::Exit,
    failure::Failure,
    settings::Settings,
};

/// Where the profile `ssh` has its keys.
const KEYS: &str = "/etc/ssh/authorized_keys.d";

/// The most bytes that a file of public keys may have.
const MOST: u64 = 64 << 10;

/// The types of keys that OpenSSH's server takes.
const TYPES: [&str; 4] = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"];

/// Makes of what was typed what is to be given.
///
/// # Errors
/// Where a file of it cannot be read, or a path is none.
pub fn of(args: &Given, order: &Order, settings: &Settings) -> Result<Provision, Failure> {
    let mounts = args.mount.iter().map(|given| {
        let owners = match &given.owner {
            _ if given.same_ids => Wanted::Same,
            Some(user) => Wanted::User(user.clone()),
            None => Wanted::Default,
        };
        let wanted = mount::wanted(&given.source, &given.path, owners)?;
        Ok(sandbox_core::machine::changes::WantedMount {
            read_only: given.read_only,
            permanent: true,
            ..wanted
        })
    });
    let mounts = mounts.collect::<Result<Vec<_>, Failure>>()?;
    let copies = args.copy.iter().map(|given| {
        let failed = |error| {
            Failure::said(Exit::UNAVAILABLE, format!("{} cannot be copied: {error}", given.source.display()))
        };
        let source = std::path::absolute(&given.source).map_err(failed)?;
        fs::symlink_metadata(&source).map_err(failed)?;
        mount::check_path(&given.path)?;
        Ok(WantedCopy { source, path: given.path.clone(), owner: given.owner.clone() })
    });
    let copies = copies.collect::<Result<Vec<_>, Failure>>()?;
    let mut ssh_keys = Vec::new();
    for file in &args.ssh_key {
        ssh_keys.extend(keys(file)?);
    }
    let served = order.spec.layer.volumes.iter().any(|volume| volume.path == Path::new(KEYS));
    if !ssh_keys.is_empty() && !served {
        return Err(Failure::said(
            Exit::USAGE,
            "`--ssh-key` needs the profile `ssh`, whose server reads the keys",
        )
        .hint("add it", format!("{} --profile ssh", settings.typed)));
    }
    Ok(Provision { mounts, copies, ssh_keys })
}

/// Reads a file of public keys.
fn keys(file: &Path) -> Result<Vec<String>, Failure> {
    let name = file.display();
    let wrong = |text: String| Failure::said(Exit::FILE, text);
    let size =
        fs::metadata(file).map_err(|error| wrong(format!("the key {name} cannot be read: {error}")))?;
    if size.len() > MOST {
        return Err(wrong(format!("{name} is no public key: it has more than {MOST} bytes")));
    }
    let text =
        fs::read_to_string(file).map_err(|error| wrong(format!("the key {name} cannot be read: {error}")))?;
    if text.contains("PRIVATE KEY-----") {
        return Err(wrong(format!("{name} is a private key, which belongs in no machine"))
            .hint("give the public one", format!("--ssh-key {name}.pub")));
    }
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let lines: Vec<_> = lines.into_iter().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let is_key = |line: &&str| {
        let mut words = line.split_whitespace();
        let kind = words.next().unwrap_or_default();
        TYPES.iter().any(|known| kind.starts_with(known))
            && words.next().is_some_and(|key| key.starts_with("AAAA"))
    };
    match lines.iter().find(|line| !is_key(line)) {
        None if !lines.is_empty() => Ok(lines.into_iter().map(str::to_owned).collect()),
        _ => Err(wrong(format!("{name} is no file of public keys of OpenSSH (`ssh-ed25519 AAAA`)"))),
    }
}

/// Reads the variables that are given.
///
/// # Errors
/// Exit 2 where one is none, or is a secret.
pub fn variables(args: &Given, name: Option<&MachineName>) -> Result<Vec<(String, String)>, Failure> {
    let name = name.map_or("NAME", MachineName::as_str);
    args.env.iter().map(|pair| variable::read_line(pair, name)).collect()
}

/// Refuses variables that a profile says break it.
///
/// # Errors
/// Exit 2 with the profile's reason.
pub fn check_variables(variables: &[(String, String)], order: &Order) -> Result<(), Failure> {
    order.spec.files.iter().try_for_each(|file| variable::allowed(variables, &file.layer))
}

/// Puts what was typed in the place of what a new machine has otherwise.
pub fn choose(chosen: &mut Chosen, args: &Create, variables: Vec<(String, String)>) {
    let given = &args.given;
    chosen.ephemeral = args.ephemeral;
    chosen.protected = args.protect;
    set::limit(&mut chosen.limits, &given.limits);
    chosen.environment.extend(variables);
}

/// Refuses what a container of Proxmox VE cannot be given.
///
/// # Errors
/// Exit 2 with the option.
pub fn admit(definition: &Definition, provision: &Provision) -> Result<(), Failure> {
    if definition.backend != Kind::Proxmox {
        return Ok(());
    }
    let chosen = &definition.chosen;
    let refused = [
        (!provision.mounts.is_empty(), "--mount", "folders of a node are root@pam's to give"),
        (chosen.limits.tasks.is_some(), "--tasks", "a container of it has no such limit"),
        (chosen.limits.disk.is_some(), "--disk", "`--rootfs STORAGE:GB` has the size of its disk"),
        (chosen.ephemeral, "--ephemeral", "nothing here sees a container of it stop"),
    ];
    match refused.iter().find(|(asked, ..)| *asked) {
        Some((_, option, why)) => {
            Err(Failure::said(Exit::USAGE, format!("`{option}` is not supported on Proxmox VE: {why}")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_public_one() {
        let place = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            let file = place.path().join("key");
            fs::write(&file, text).unwrap();
            keys(&file)
        };
        let good = "# mine\nssh-ed25519 AAAAC3Nz me@here\n\nsk-ssh-ed25519@openssh.com AAAAG me\n";
        assert_eq!(
            read(good).unwrap(),
            ["ssh-ed25519 AAAAC3Nz me@here", "sk-ssh-ed25519@openssh.com AAAAG me"]
        );
        for (text, word) in [
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nx\n", "private key"),
            ("", "no file of public keys"),
            ("hello\n", "no file of public keys"),
            ("command=\"sh\" ssh-ed25519 AAAA x\n", "no file of public keys"),
        ] {
            let failure = read(text).unwrap_err();
            assert!(failure.exit() == Exit::FILE && failure.sentence().contains(word), "{text}: {failure:?}");
        }
        assert_eq!(keys(&place.path().join("gone")).unwrap_err().exit(), Exit::FILE);
    }
}
