//! What goes with an exported tree so that the same machine can be made of it: read by `import`, passed over by others.

use std::path::PathBuf;

use crate::{
    machine::{Chosen, Declared, Needs, Network, record::Record, volume::Mounted},
    name::MachineName,
    spec::{self, Layer, VolumeKind},
};

/// What the comment of a tar file begins with.
const HEAD: &str = "sandbox machine 1 ";

/// The label of an OCI image that has it.
pub const LABEL: &str = "sandbox.machine";

/// A volume of the machine.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Volume {
    /// Where.
    pub path: PathBuf,
    /// What it is for.
    pub kind: VolumeKind,
    /// Its owner in the guest.
    pub owner: String,
    /// Permission bits in octal.
    pub mode: String,
    /// Whether what is in it is in the export.
    #[serde(default)]
    pub included: bool,
}

/// How sure it is that the files belong together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Consistency {
    /// The machine did not run.
    #[default]
    Clean,
    /// It ran: the files are as after a crash, or a little worse.
    CrashConsistent,
}

/// What is told of a machine.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Carried {
    /// Its name.
    pub name: MachineName,
    /// The image it was built from.
    pub image: String,
    /// The profiles, in order.
    pub profiles: Vec<String>,
    /// How many packages were installed.
    pub packages: usize,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Whether it ran while it was exported.
    #[serde(default)]
    pub consistency: Consistency,
    /// Its folders that outlive the tree.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// What its profiles declare.
    #[serde(default)]
    pub declared: Declared,
    /// What it asks of the backend.
    #[serde(default)]
    pub needs: Needs,
    /// What it might reach.
    #[serde(default)]
    pub network: Network,
    /// What its user chose for it, but for folders of the host: a file is not to say what of a host it is given.
    #[serde(default)]
    pub chosen: Chosen,
}

impl Carried {
    /// Gathers what is told of a machine.
    #[must_use]
    pub fn of(record: &Record, consistency: Consistency, is_included: &dyn Fn(&Mounted) -> bool) -> Self {
        let definition = &record.definition;
        let volume = |volume: &Mounted| Volume {
            path: volume.path.clone(),
            kind: volume.kind,
            owner: volume.owner.clone(),
            mode: volume.mode.clone(),
            included: is_included(volume),
        };
        Self {
            name: definition.name.clone(),
            image: record.image.clone(),
            profiles: record.profiles.clone(),
            packages: record.packages,
            created: record.created,
            consistency,
            volumes: definition.volumes.iter().map(volume).collect(),
            declared: record.declared.clone(),
            needs: definition.needs.clone(),
            network: definition.network,
            chosen: Chosen {
                mounts: Vec::new(),
                protected: false,
                ephemeral: false,
                ..definition.chosen.clone()
            },
        }
    }

    /// Gives the text that goes into a file.
    #[must_use]
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Gives the comment of a tar file.
    #[must_use]
    pub fn comment(&self) -> String {
        format!("{HEAD}{}", self.text())
    }

    /// Gives the volumes as profiles declare them.
    #[must_use]
    pub fn volumes(&self) -> Vec<spec::Volume> {
        let volume = |volume: &Volume| spec::Volume {
            path: volume.path.clone(),
            kind: volume.kind,
            owner: volume.owner.clone(),
            mode: volume.mode.clone(),
        };
        self.volumes.iter().map(volume).collect()
    }

    /// Reads the comment of a tar file; none where it is somebody else's.
    ///
    /// # Errors
    /// Where it is ours and makes no sense.
    pub fn read_comment(text: &str) -> Option<Result<Self, NotCarried>> {
        text.strip_prefix(HEAD).map(Self::read)
    }

    /// Reads what a file says of a machine, and sees that it says nothing that no profile may say: whoever wrote the
    /// file chose every word.
    ///
    /// # Errors
    /// [`NotCarried`].
    pub fn read(text: &str) -> Result<Self, NotCarried> {
        let mut carried: Self = serde_json::from_str(text)?;
        carried.chosen.mounts.clear();
        (carried.chosen.protected, carried.chosen.ephemeral) = (false, false);
        let layer = Layer {
            name: "imported".to_owned(),
            volumes: carried.volumes(),
            ports: carried.declared.ports.iter().map(|served| served.port.clone()).collect(),
            health: carried.declared.health.iter().map(|health| health.check.clone()).collect(),
            machine: carried.needs.clone(),
            environment: carried.chosen.environment.clone(),
            ..Layer::default()
        };
        if let Some(problem) = spec::problems(&layer).into_iter().next() {
            return Err(NotCarried::Unsound { key: problem.key, what: problem.text });
        }
        let profiles = carried.declared.ports.iter().map(|port| &port.profile);
        let profiles = profiles.chain(carried.declared.health.iter().map(|health| &health.profile));
        let words = profiles.chain(&carried.profiles).chain([&carried.image]);
        if let Some(word) = { words }.find(|word| word.len() > 200 || word.chars().any(char::is_control)) {
            let (key, what) = ("profiles".to_owned(), format!("`{}` is no name", word.escape_debug()));
            return Err(NotCarried::Unsound { key, what });
        }
        Ok(carried)
    }
}

/// Why what a file says of a machine is not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotCarried {
    /// It is malformed.
    #[error("it is not as `sandbox export` writes it")]
    Malformed(#[from] serde_json::Error),
    /// It says what no profile may.
    #[error("`{key}`: {what}")]
    Unsound {
        /// Where.
        key: String,
        /// What is wrong.
        what: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(more: &str) -> Result<Carried, NotCarried> {
        Carried::read(&format!(
            "{{\"name\": \"a\", \"image\": \"trixie\", \"profiles\": [], \"packages\": 1, \"created\": 2{more}}}"
        ))
    }

    #[test]
    fn a_file_may_not_say_what_no_profile_may() {
        assert_eq!(read("").unwrap().network, Network::Internet);
        let volume = |path: &str| {
            format!(
                r#", "volumes": [{{"path": "{path}", "kind": "auth", "owner": "agent", "mode": "0700"}}]"#
            )
        };
        read(&volume("/home/agent/.claude")).unwrap();
        for bad in [
            volume("/x/../.."),
            volume("/"),
            volume("relative/path"),
            volume("/a/b\\nBind=/:/host"),
            r#", "needs": {"devices": ["/dev/../etc/shadow"]}"#.to_owned(),
            r#", "needs": {"devices": ["/dev/x\nPrivateUsers=no"]}"#.to_owned(),
            r#", "needs": {"system-calls": ["@mount foo"]}"#.to_owned(),
            r#", "chosen": {"environment": {"A\nB": "x"}}"#.to_owned(),
            r#", "chosen": {"environment": {"A": "x\ny"}}"#.to_owned(),
            r#", "profiles": ["\u001b[2J"]"#.to_owned(),
        ] {
            assert!(read(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn folders_of_the_host_are_neither_written_nor_read() {
        let text = r#", "chosen": {"mounts": [{"source": "/", "path": "/host/root", "read_only": false}]}"#;
        assert!(read(text).unwrap().chosen.mounts.is_empty());
    }
}
