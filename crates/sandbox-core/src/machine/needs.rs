//! What profiles ask of the machine, and whether this host can give it.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::error::{Cause, Class, Hint};

/// What a machine asks of its backend, summed over its profiles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Needs {
    /// Containers inside: 0 none, 1 containers (Docker, bubblewrap, user namespaces), 2 containers that hold
    /// systems themselves, such as the nodes of kind. `true` is 1.
    pub nesting: Nesting,
    /// System calls beyond nspawn's default filter, by name.
    pub system_calls: Vec<String>,
    /// Device nodes of the host, by path.
    pub devices: Vec<PathBuf>,
    /// The least values of the host's own kernel settings: `"fs.inotify.max_user_instances" = 512`. They are
    /// looked at, never set.
    pub host_sysctl: BTreeMap<String, u64>,
}

/// How deep containers may be nested in a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Nesting(u8);

impl Nesting {
    /// No containers.
    pub const NONE: Self = Self(0);
    /// Containers.
    pub const CONTAINERS: Self = Self(1);
    /// Containers that hold systems.
    pub const SYSTEMS: Self = Self(2);

    /// Tells whether there may be containers at all.
    #[must_use]
    pub const fn is_any(self) -> bool {
        self.0 > 0
    }
}

impl<'de> Deserialize<'de> for Nesting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Nesting;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a level of nesting: 0, 1, 2, or true for 1")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Nesting, E> {
                Ok(Nesting(u8::from(value)))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Nesting, E> {
                u64::try_from(value)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
                    .and_then(|value| self.visit_u64(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Nesting, E> {
                match value {
                    0 => Ok(Nesting::NONE),
                    1 => Ok(Nesting::CONTAINERS),
                    2 => Ok(Nesting::SYSTEMS),
                    _ => Err(E::invalid_value(de::Unexpected::Unsigned(value), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl schemars::JsonSchema for Nesting {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Nesting".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"enum": [false, true, 0, 1, 2]})
    }
}

/// What nodes of kind want of the host, whose kernel counts inotify's users together.
///
/// **Source**: kind's "Known Issues", "Pod errors due to too many open files".
const OF_SYSTEMS: [(&str, u64); 2] =
    [("fs.inotify.max_user_instances", 512), ("fs.inotify.max_user_watches", 524_288)];

impl Needs {
    /// Adds what another layer asks for: the most of each counts.
    pub fn add(&mut self, other: &Self) {
        self.nesting = self.nesting.max(other.nesting);
        for call in &other.system_calls {
            if !self.system_calls.contains(call) {
                self.system_calls.push(call.clone());
            }
        }
        for device in &other.devices {
            if !self.devices.contains(device) {
                self.devices.push(device.clone());
            }
        }
        for (key, least) in &other.host_sysctl {
            let known = self.host_sysctl.entry(key.clone()).or_default();
            *known = (*known).max(*least);
        }
    }

    /// Gives the least values of the host's kernel settings, those of nesting among them.
    #[must_use]
    pub fn least(&self) -> BTreeMap<String, u64> {
        let mut all = self.host_sysctl.clone();
        if self.nesting == Nesting::SYSTEMS {
            for (key, least) in OF_SYSTEMS {
                let known = all.entry(key.to_owned()).or_default();
                *known = (*known).max(least);
            }
        }
        all
    }

    /// Sees that this host has what is asked for.
    ///
    /// # Errors
    /// What it lacks.
    pub fn check(&self) -> Result<(), Lack> {
        self.check_on(Path::new("/"))
    }

    fn check_on(&self, host: &Path) -> Result<(), Lack> {
        for device in &self.devices {
            let found = fs::metadata(host.join(device.strip_prefix("/").unwrap_or(device)));
            match found {
                Ok(found) if found.file_type().is_char_device() || found.file_type().is_block_device() => {}
                Ok(_) => return Err(Lack::NoDevice { path: device.clone() }),
                Err(source) => return Err(Lack::Device { path: device.clone(), source }),
            }
        }
        let mut low = Vec::new();
        for (key, least) in self.least() {
            let path = host.join("proc/sys").join(key.replace('.', "/"));
            let text =
                fs::read_to_string(&path).map_err(|source| Lack::Setting { key: key.clone(), source })?;
            let value = text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
            if value < least {
                low.push(Low { key, value, least });
            }
        }
        if low.is_empty() { Ok(()) } else { Err(Lack::Low { low }) }
    }
}

/// A kernel setting of the host that is too low.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Low {
    key: String,
    value: u64,
    least: u64,
}

/// What a host lacks that profiles ask for.
#[derive(Debug, thiserror::Error)]
pub enum Lack {
    /// A device is not there.
    #[error("its profiles ask for the device {path}, which this host does not have", path = path.display())]
    Device {
        /// The device.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is there is no device.
    #[error("its profiles ask for the device {path}, which is no device here", path = path.display())]
    NoDevice {
        /// What it is called.
        path: PathBuf,
    },
    /// A kernel setting cannot be read.
    #[error("its profiles ask for the kernel setting `{key}`, which this host does not have")]
    Setting {
        /// The setting.
        key: String,
        /// Why.
        source: io::Error,
    },
    /// Kernel settings are too low.
    #[error("kernel settings of this host are too low for its profiles: {}", words(low))]
    Low {
        /// Which.
        low: Vec<Low>,
    },
}

fn words(low: &[Low]) -> String {
    let words = low.iter().map(|Low { key, value, least }| format!("{key} is {value}, wanted are {least}"));
    words.collect::<Vec<_>>().join("; ")
}

impl Cause for Lack {
    fn class(&self) -> Class {
        Class::Host
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Low { low } => {
                let pairs: Vec<_> = low.iter().map(|low| format!("{}={}", low.key, low.least)).collect();
                vec![
                    Hint::run("set them until the next boot", format!("sysctl -w {}", pairs.join(" "))),
                    Hint::Note("lines of the same in /etc/sysctl.d/60-sandbox.conf set them for good".into()),
                ]
            }
            Self::Device { path, .. } | Self::NoDevice { path } => match path.to_str() {
                Some("/dev/kvm") => vec![Hint::Note(
                    "/dev/kvm is there where the processor's virtualisation is switched on in the firmware, or, in \
                     a virtual machine, passed on to it"
                        .into(),
                )],
                Some("/dev/net/tun") => vec![Hint::run("load its module on the host", "modprobe tun")],
                Some("/dev/fuse") => vec![Hint::run("load its module on the host", "modprobe fuse")],
                _ => Vec::new(),
            },
            Self::Setting { .. } => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Needs, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn nesting_is_a_level_and_the_old_word_is_one_of_them() {
        for (text, level) in
            [("true", Nesting::CONTAINERS), ("false", Nesting::NONE), ("2", Nesting::SYSTEMS)]
        {
            assert_eq!(read(&format!("nesting = {text}")).unwrap().nesting, level, "{text}");
        }
        for text in ["3", "-1", "\"deep\""] {
            assert!(read(&format!("nesting = {text}")).is_err(), "{text}");
        }
        let written =
            serde_json::to_string(&Needs { nesting: Nesting::SYSTEMS, ..Needs::default() }).unwrap();
        let again: Needs = serde_json::from_str(&written).unwrap();
        assert_eq!(again.nesting, Nesting::SYSTEMS);
    }

    #[test]
    fn the_most_of_each_counts() {
        let mut sum = read("nesting = 2\nhost-sysctl = { a = 9, b = 1 }").unwrap();
        sum.add(&read("nesting = true\ndevices = [\"/dev/fuse\"]\nhost-sysctl = { a = 3, b = 2 }").unwrap());
        assert_eq!(sum.nesting, Nesting::SYSTEMS);
        assert_eq!(sum.host_sysctl, [("a".to_owned(), 9), ("b".to_owned(), 2)].into());
        assert_eq!(sum.least()["fs.inotify.max_user_instances"], 512);
    }

    #[test]
    fn what_a_host_lacks_is_said_with_what_sets_it() {
        let host = tempfile::tempdir().unwrap();
        fs::create_dir_all(host.path().join("proc/sys/fs/inotify")).unwrap();
        fs::create_dir_all(host.path().join("dev")).unwrap();
        fs::write(host.path().join("proc/sys/fs/inotify/max_user_instances"), "128\n").unwrap();
        fs::write(host.path().join("dev/kvm"), "").unwrap();
        let needs = read("host-sysctl = { \"fs.inotify.max_user_instances\" = 512 }").unwrap();
        let lack = needs.check_on(host.path()).unwrap_err();
        assert_eq!(lack.class(), Class::Host);
        assert!(lack.to_string().contains("max_user_instances is 128, wanted are 512"), "{lack}");
        let hint = format!("{:?}", lack.hints());
        assert!(hint.contains("sysctl -w fs.inotify.max_user_instances=512"), "{hint}");
        fs::write(host.path().join("proc/sys/fs/inotify/max_user_instances"), "512\n").unwrap();
        needs.check_on(host.path()).unwrap();
        for device in ["/dev/kvm", "/dev/net/tun"] {
            let needs = Needs { devices: vec![device.into()], ..Needs::default() };
            assert!(needs.check_on(host.path()).unwrap_err().to_string().contains(device));
        }
        assert!(Needs { devices: vec!["/dev/null".into()], ..Needs::default() }.check().is_ok());
    }
}
