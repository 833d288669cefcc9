//! Where npm and pip of this host are set to take packages from, and with which credentials.
//!
//! **Source**: npmrc(5); pip's documentation, "Configuration".

use std::{fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sandbox_core::host::{address::without_user, transport::Credentials};

use crate::{
    args::Build,
    settings::{Settings, variable},
};

impl Settings {
    /// Gives the npm registry: what was asked for, else the host's npm configuration, else Yarn's public
    /// alias of the registry.
    pub fn npm_registry(&self, asked: Option<&str>) -> String {
        without_user(&self.npm_registry_as_given(asked)).0
    }

    fn npm_registry_as_given(&self, asked: Option<&str>) -> String {
        let configured = || self.npmrc().iter().find_map(|text| last(text, "registry"));
        let registry = asked.map(str::to_owned).or_else(configured);
        registry.unwrap_or_else(|| "https://registry.yarnpkg.com".to_owned()).trim_end_matches('/').to_owned()
    }

    /// Gives the Python index: what was asked for, else the host's pip configuration, else the public index by
    /// the name that it had first.
    pub fn python_index(&self, asked: Option<&str>) -> String {
        without_user(&self.python_index_as_given(asked)).0
    }

    fn python_index_as_given(&self, asked: Option<&str>) -> String {
        let configured = || self.pip_conf().iter().find_map(|text| of_section(text, "global", "index-url"));
        let index = asked.map(str::to_owned).or_else(|| variable("PIP_INDEX_URL")).or_else(configured);
        index.unwrap_or_else(|| "https://pypi.python.org/simple".to_owned()).trim_end_matches('/').to_owned()
    }

    /// Gives the credentials for both, by the addresses that they are for. They are for the transport alone.
    pub fn credentials(&self, args: &Build) -> Credentials {
        let npm = self.npm_registry_as_given(args.npm_registry.as_deref());
        let mut found: Vec<(String, String)> =
            self.npmrc().iter().flat_map(|text| of_npmrc(text, &npm, variable)).collect();
        let basic = |user: &[u8]| format!("Basic {}", STANDARD.encode(user));
        for url in [npm, self.python_index_as_given(args.python_index.as_deref())] {
            if let (url, Some(user)) = without_user(&url) {
                // files may stand beside the index, on the same host
                let host = url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
                found.push((host, basic(&unescaped(&user))));
            }
        }
        for url in self.addresses_of_archives(args) {
            if let (url, Some(user)) = without_user(&url) {
                found.push((url.trim_end_matches('/').to_owned(), basic(&unescaped(&user))));
            }
        }
        for text in read(auth_conf().into_iter()) {
            found.extend(of_auth_conf(&text).into_iter().map(|(url, user)| (url, basic(user.as_bytes()))));
        }
        Credentials(found)
    }

    /// Lists the addresses of archives as they are given, with their passwords: options, files and the host's apt.
    fn addresses_of_archives(&self, args: &Build) -> Vec<String> {
        let (_, sources) = self.host_apt();
        let files = read(args.extra_source.iter().cloned());
        let texts = files.iter().map(String::as_str).chain(sources.iter().map(|(_, text)| text.as_str()));
        let words = texts.flat_map(str::split_whitespace).map(str::to_owned);
        // `security=URL` and `PREFIX=URL` have theirs at the end
        let options = args.mirror.iter().chain(&args.vendor_mirror);
        let options = options.map(|option| {
            let at = ["=https://", "=http://"].iter().find_map(|sign| option.find(sign));
            at.map_or_else(|| option.clone(), |at| option[at + 1..].to_owned())
        });
        let remote = |url: &String| url.starts_with("http://") || url.starts_with("https://");
        options.chain(words).filter(remote).collect()
    }

    fn npmrc(&self) -> Vec<String> {
        let home = self.home.iter().map(|home| home.join(".npmrc"));
        read(home.chain(["/etc/npmrc", "/usr/etc/npmrc", "/usr/local/etc/npmrc"].map(PathBuf::from)))
    }

    fn pip_conf(&self) -> Vec<String> {
        let home = self
            .home
            .iter()
            .flat_map(|home| [".config/pip/pip.conf", ".pip/pip.conf"].map(|file| home.join(file)));
        let named = variable("PIP_CONFIG_FILE").map(PathBuf::from);
        read(
            named
                .into_iter()
                .chain(home)
                .chain(["/etc/xdg/pip/pip.conf", "/etc/pip.conf"].map(PathBuf::from)),
        )
    }
}

fn read(files: impl Iterator<Item = PathBuf>) -> Vec<String> {
    files.filter_map(|file| fs::read_to_string(file).ok()).collect()
}

/// Lists the files in which apt keeps passwords.
///
/// **Source**: apt_auth.conf(5).
fn auth_conf() -> Vec<PathBuf> {
    let entries = fs::read_dir("/etc/apt/auth.conf.d").into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "conf"));
    files.sort();
    files.insert(0, PathBuf::from("/etc/apt/auth.conf"));
    files
}

/// Reads `machine HOST login USER password WORD`: addresses, each with user and password. Without a scheme an entry
/// is for https alone.
fn of_auth_conf(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
    let mut found = Vec::new();
    for entry in words.split(|word| *word == "machine").skip(1) {
        let of = |key: &str| entry.iter().position(|word| *word == key).and_then(|at| entry.get(at + 1));
        if let (Some(machine), Some(login), Some(password)) = (entry.first(), of("login"), of("password")) {
            let machine = machine.trim_end_matches('/');
            let url = if machine.contains("://") { machine.to_owned() } else { format!("https://{machine}") };
            found.push((url, format!("{login}:{password}")));
        }
    }
    found
}

/// Finds a key's last value in a text of `key = value` lines.
fn last(text: &str, wanted: &str) -> Option<String> {
    pairs(text).filter(|(key, _)| *key == wanted).map(|(_, value)| value.to_owned()).last()
}

fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with([';', '#']));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim(), value.trim().trim_matches('"')))
}

/// Finds a key's value in a section of an INI file.
fn of_section(text: &str, section: &str, wanted: &str) -> Option<String> {
    let head = format!("[{section}]");
    let lines = text.lines().map(str::trim).skip_while(|line| *line != head).skip(1);
    let lines: Vec<_> = lines.take_while(|line| !line.starts_with('[')).collect();
    last(&lines.join("\n"), wanted).filter(|value| !value.is_empty())
}

/// Reads `//host/path/:_authToken=…` and `:_auth=…`, with `${NAME}` for variables.
fn of_npmrc(text: &str, registry: &str, variable: impl Fn(&str) -> Option<String>) -> Vec<(String, String)> {
    let one = |(key, value): (&str, &str)| {
        let (place, kind) = key.rsplit_once(":_")?;
        let place = place.strip_prefix("//")?.trim_end_matches('/');
        let value = expanded(value, &variable)?;
        let value = match kind {
            "authToken" => format!("Bearer {value}"),
            "auth" => format!("Basic {value}"),
            _ => return None,
        };
        // a secret goes over an unprotected line only where the registry itself is named so
        let plain = format!("http://{place}");
        let scheme = if registry.starts_with(&plain) { plain } else { format!("https://{place}") };
        Some((scheme, value))
    };
    pairs(text).filter_map(one).collect()
}

fn expanded(value: &str, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let Some((before, rest)) = value.split_once("${") else { return Some(value.to_owned()) };
    let (name, after) = rest.split_once('}')?;
    Some(format!("{before}{}{after}", variable(name)?))
}

/// Takes the percent signs of a user's name and password back.
fn unescaped(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match digits.filter(|_| bytes[at] == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 3;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn npmrc_gives_its_registry_and_not_a_scopes() {
        let text = "; c\n@me:registry=https://a.invalid/\nregistry = \"https://b.invalid/\"\n";
        assert_eq!(last(text, "registry").as_deref(), Some("https://b.invalid/"));
        assert_eq!(last("cache=/x\n", "registry"), None);
    }

    #[test]
    fn passwords_of_apt_are_for_their_machines() {
        let text = "# machine c.invalid login x password y\nmachine a.invalid/debian/\nlogin u\npassword p\n\
                    machine http://b.invalid login v password q\nmachine d.invalid login w\n";
        let pair = |url: &str, user: &str| (url.to_owned(), user.to_owned());
        assert_eq!(
            of_auth_conf(text),
            [pair("https://a.invalid/debian", "u:p"), pair("http://b.invalid", "v:q")]
        );
    }

    #[test]
    fn tokens_are_for_the_addresses_that_they_stand_beside() {
        let text = "//a.invalid/npm/:_authToken=${TOKEN}\n//b.invalid/:_authToken = x\n//c.invalid/:_auth=Og==\n\
                    //d.invalid/:_authToken=${UNSET}\n//e.invalid/:always-auth=true\n";
        let variable = |name: &str| (name == "TOKEN").then(|| "t".to_owned());
        let pair = |place: &str, value: &str| (place.to_owned(), value.to_owned());
        assert_eq!(
            of_npmrc(text, "http://b.invalid", variable),
            [
                pair("https://a.invalid/npm", "Bearer t"),
                pair("http://b.invalid", "Bearer x"),
                pair("https://c.invalid", "Basic Og==")
            ]
        );
    }

    #[test]
    fn pips_index_is_of_its_section_and_has_no_password() {
        let text = "[install]\nindex-url = https://a.invalid\n[global]\n# c\nindex-url=https://u:p%40@b.invalid/simple/\n";
        let url = of_section(text, "global", "index-url").unwrap();
        assert_eq!(without_user(&url), ("https://b.invalid/simple/".to_owned(), Some("u:p%40".to_owned())));
        assert_eq!(unescaped("u:p%40"), b"u:p@");
        assert_eq!(of_section(text, "freeze", "index-url"), None);
    }
}
