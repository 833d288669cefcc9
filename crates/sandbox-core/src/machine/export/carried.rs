//! What goes with an exported tree so that the same machine can be made of it: read by `import`, passed over by others.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::{
    machine::record::Record,
    machine::{Declared, Definition, Needs, Network, volume::Mounted},
    name::MachineName,
    spec::VolumeKind,
};

/// What the comment of a tar file begins with.
const HEAD: &str = "sandbox machine 1 ";

/// The label of an OCI image that has it.
pub const LABEL: &str = "sandbox.machine";

/// Parts of a definition that are the machine's, not the host's. What is not named here stays behind: a file is not
/// to say what of another host it is given.
const CARRIED: [&str; 6] = ["needs", "network", "limits", "environment", "autostart", "restart"];

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
    /// What its backend was told, but for what is the host's.
    #[serde(default)]
    pub definition: Map<String, Value>,
}

impl Carried {
    /// Gathers what is told of a machine.
    #[must_use]
    pub fn of(record: &Record, consistency: Consistency, is_included: &dyn Fn(&Mounted) -> bool) -> Self {
        let definition = &record.definition;
        let all = match serde_json::to_value(definition) {
            Ok(Value::Object(all)) => all,
            _ => Map::new(),
        };
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
            definition: all.into_iter().filter(|(key, _)| CARRIED.contains(&key.as_str())).collect(),
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

    /// Reads the comment of a tar file; none where it is somebody else's.
    ///
    /// # Errors
    /// Where it is ours and makes no sense.
    pub fn read_comment(text: &str) -> Option<Result<Self, serde_json::Error>> {
        text.strip_prefix(HEAD).map(serde_json::from_str)
    }

    /// Gives what the machine asked of its backend.
    ///
    /// # Errors
    /// Where that makes no sense.
    pub fn needs(&self) -> Result<Needs, serde_json::Error> {
        self.definition.get("needs").map_or_else(|| Ok(Needs::default()), |needs| Needs::deserialize(needs))
    }

    /// Gives what it might reach.
    ///
    /// # Errors
    /// Where that makes no sense.
    pub fn network(&self) -> Result<Network, serde_json::Error> {
        self.definition
            .get("network")
            .map_or_else(|| Ok(Network::default()), |word| Network::deserialize(word))
    }

    /// Takes what was carried into a definition of this host: all but the needs and the network, which are asked for.
    ///
    /// # Errors
    /// Where it makes no sense.
    pub fn complete(&self, definition: &Definition) -> Result<Definition, serde_json::Error> {
        let Value::Object(mut all) = serde_json::to_value(definition)? else {
            return Ok(definition.clone());
        };
        for (key, value) in &self.definition {
            if CARRIED[2..].contains(&key.as_str()) {
                all.insert(key.clone(), value.clone());
            }
        }
        serde_json::from_value(Value::Object(all))
    }
}

use serde::Deserialize as _;
