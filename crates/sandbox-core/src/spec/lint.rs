//! What a folder of profiles has against it, all of it: what no build would begin with, and what would surprise
//! whoever builds with them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::{
    check::Error,
    file::Layer,
    load::{Catalogue, Kind, Source, is_path, read_layer},
    schema, secrets, sound,
    spans::{Item, Node},
};

/// A problem and where it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Finding {
    /// The file.
    pub file: String,
    /// The line.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

/// Users that every Debian tree has.
///
/// **Source**: base-passwd.
const USERS: [&str; 19] = [
    "root",
    "daemon",
    "bin",
    "sys",
    "sync",
    "games",
    "man",
    "lp",
    "mail",
    "news",
    "uucp",
    "proxy",
    "www-data",
    "backup",
    "list",
    "irc",
    "_apt",
    "nobody",
    "systemd-network",
];

/// A file that could be read.
struct Known<'a> {
    source: &'a Source,
    node: Node,
    layer: Layer,
}

/// Finds everything that is wrong with profiles; those that they require are looked for among them first.
#[must_use]
pub fn lint(sources: &[Source], catalogue: &Catalogue) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut known: BTreeMap<String, Known<'_>> = BTreeMap::new();
    for source in sources {
        match shape(source) {
            Ok(file) => {
                let name = file.layer.name.clone();
                if let Some(first) = known.get(&name) {
                    let problem = format!("`{name}` is the name of {} too", first.source.origin);
                    findings.push(Finding {
                        file: source.origin.clone(),
                        line: file.node.line_of("name"),
                        problem,
                    });
                }
                known.entry(name).or_insert(file);
            }
            Err(found) => findings.extend(found),
        }
    }
    for file in known.values() {
        let mut check = Check { file, findings: &mut findings };
        check.alone();
        check.among(&known, catalogue);
    }
    findings.sort();
    findings.dedup();
    findings
}

/// Reads a file, or tells everything that keeps it from being read.
fn shape(source: &Source) -> Result<Known<'_>, Vec<Finding>> {
    let finding = |line, problem| Finding { file: source.origin.clone(), line, problem };
    let node = Node::read(&source.text).map_err(|error| {
        let before = &source.text[..error.span().map_or(0, |span| span.start.min(source.text.len()))];
        vec![finding(1 + before.matches('\n').count(), error.message().to_owned())]
    })?;
    let at = |problem: sound::Problem| {
        let key = if problem.key.is_empty() { String::new() } else { format!("{}: ", problem.key) };
        finding(node.line_of(&problem.key), format!("{key}{}", problem.text))
    };
    let problems = schema::problems(&node);
    if !problems.is_empty() {
        return Err(problems.into_iter().map(at).collect());
    }
    let layer: Layer = match toml::from_str(&source.text) {
        Ok(layer) => layer,
        Err(error) => {
            let before = &source.text[..error.span().map_or(0, |span| span.start.min(source.text.len()))];
            return Err(vec![finding(1 + before.matches('\n').count(), error.message().to_owned())]);
        }
    };
    let problems = sound::problems(&layer);
    if !problems.is_empty() {
        return Err(problems.into_iter().map(at).collect());
    }
    match read_layer(source) {
        Ok(layer) => Ok(Known { source, node, layer }),
        Err(error) => Err(vec![finding(1, words(&error))]),
    }
}

fn words(error: &Error) -> String {
    match error {
        Error::Value { key, problem, .. } => format!("{key}: {problem}"),
        error => error.to_string(),
    }
}

struct Check<'a> {
    file: &'a Known<'a>,
    findings: &'a mut Vec<Finding>,
}

impl Check<'_> {
    fn say(&mut self, key: &str, problem: impl Into<String>) {
        let line = self.file.node.line_of(key);
        self.findings.push(Finding { file: self.file.source.origin.clone(), line, problem: problem.into() });
    }

    /// What can be said of the file by itself.
    fn alone(&mut self) {
        let layer = &self.file.layer;
        let stem = self.file.source.path.as_deref().and_then(Path::file_stem);
        if stem.is_some_and(|stem| stem != layer.name.as_str()) {
            self.say("name", format!("`{}` is not the file's name, by which it is asked for", layer.name));
        }
        if layer.summary.is_empty() {
            self.say("", "`summary` is missing: one line that says what it is");
        }
        if !layer.pocket.is_empty() {
            return;
        }
        let has_parts = *layer
            != Layer {
                schema: layer.schema,
                name: layer.name.clone(),
                summary: layer.summary.clone(),
                requires: layer.requires.clone(),
                unset: layer.unset.clone(),
                costs: layer.costs.clone(),
                ..Layer::default()
            };
        if has_parts && layer.health.is_empty() {
            self.say("", "`health` is missing: a command that tells whether it works");
        }
        self.ports();
        self.steps();
        self.units();
        self.secrets();
        for name in layer.sysctl.keys().filter(|name| !is_namespaced(name)) {
            let key = format!("sysctl.\"{name}\"");
            self.say(
                &key,
                format!("`{name}` is the host's kernel's, which no machine sets: ask for it in `machine.host-sysctl`"),
            );
        }
    }

    fn ports(&mut self) {
        let layer = &self.file.layer;
        for (at, port) in layer.ports.iter().enumerate() {
            let number = port.port.to_string();
            let names = |cost: &String| {
                let mut words = cost.split(|letter: char| !letter.is_ascii_digit());
                let all = ["every address", "all addresses"];
                words.any(|word| word == number) || all.iter().any(|all| cost.contains(all))
            };
            let told = layer.costs.iter().any(names);
            if !port.address.is_loopback() && !told {
                let text = format!(
                    "port {number} is open beyond the machine's loopback, and `costs` does not name it"
                );
                self.say(&format!("ports[{at}].address"), text);
            }
        }
    }

    fn steps(&mut self) {
        let layer = &self.file.layer;
        let told = layer.costs.iter().any(|cost| cost.contains("network") || cost.contains("lock"));
        for (at, step) in layer.steps.iter().enumerate() {
            if step.network && !told {
                let text = format!(
                    "the step `{}` has a network, so that what it fetches is in no lock: `costs` has to say so",
                    step.argv.join(" ")
                );
                self.say(&format!("steps[{at}].network"), text);
            }
        }
    }

    fn units(&mut self) {
        let layer = &self.file.layer;
        let own: BTreeSet<&str> = layer.unit.iter().map(|unit| unit.name.as_str()).collect();
        for (at, unit) in layer.unit.iter().enumerate() {
            let has = |word: &str| unit.content.lines().any(|line| line.trim_start().starts_with(word));
            let installs =
                ["WantedBy=", "RequiredBy=", "UpheldBy=", "Also=", "Alias="].iter().any(|word| has(word));
            if unit.enable && !installs {
                let text = format!("`{}` is enabled and has no [Install] section with WantedBy=", unit.name);
                self.say(&format!("unit[{at}].enable"), text);
            }
            let Some((stem, kind)) = unit.name.rsplit_once('.') else { continue };
            let service = format!("{stem}.service");
            if ["timer", "socket", "path"].contains(&kind)
                && !has("Unit=")
                && !has("Service=")
                && !own.contains(service.as_str())
                && layer.packages.install.is_empty()
            {
                self.say(
                    &format!("unit[{at}].name"),
                    format!("`{}` starts `{service}`, which is nowhere", unit.name),
                );
            }
        }
        let brings =
            !layer.packages.install.is_empty() || !layer.requires.is_empty() || !layer.steps.is_empty();
        for (at, name) in layer.units.enable.iter().enumerate() {
            if !brings && !own.contains(name.as_str()) {
                self.say(&format!("units.enable[{at}]"), format!("nothing here brings a unit `{name}`"));
            }
        }
    }

    fn secrets(&mut self) {
        let mut found = Vec::new();
        visit(&self.file.node, &mut |text, line| {
            if let Some(shape) = secrets::shape_of(text) {
                found.push((
                    line,
                    format!("`{shape}…` has the shape of a secret: those go into a volume, by a login"),
                ));
            }
        });
        let file = self.file.source.origin.clone();
        self.findings.extend(found.into_iter().map(|(line, problem)| Finding {
            file: file.clone(),
            line,
            problem,
        }));
    }

    /// What can be said of the file with all that it requires.
    fn among(&mut self, known: &BTreeMap<String, Known<'_>>, catalogue: &Catalogue) {
        let Some(stack) = self.stack(known, catalogue) else { return };
        self.people(&stack);
        self.paths(&stack);
        let own = &self.file.layer.ports;
        let ports =
            stack.iter().flat_map(|(source, layer)| layer.ports.iter().map(move |port| (source, port)));
        let clashes: Vec<_> = ports
            .flat_map(|(source, port)| {
                let clash = own.iter().position(|own| clashes(own, port));
                clash.map(|at| (at, port.port, source.origin.clone()))
            })
            .collect();
        for (at, port, origin) in clashes {
            self.say(&format!("ports[{at}].port"), format!("port {port} is served by {origin} too"));
        }
    }

    /// Finds all that the file requires, in no order; none where something is missing or goes round.
    fn stack(
        &mut self,
        known: &BTreeMap<String, Known<'_>>,
        catalogue: &Catalogue,
    ) -> Option<Vec<(Source, Layer)>> {
        let mut stack: Vec<(Source, Layer)> = Vec::new();
        let mut whole = true;
        let mut open: Vec<(usize, String, Vec<String>)> = Vec::new();
        for (at, name) in self.file.layer.requires.iter().enumerate().rev() {
            open.push((at, self.file.source.required(name), vec![self.file.layer.name.clone()]));
        }
        // every machine has it
        open.insert(0, (usize::MAX, "base".to_owned(), Vec::new()));
        while let Some((at, name, way)) = open.pop() {
            let found = match known.get(&name).filter(|_| !is_path(&name)) {
                Some(file) => Ok((file.source.clone(), file.layer.clone())),
                None => catalogue.layer(Kind::Profile, &name),
            };
            let (source, layer) = match found {
                Ok(found) => found,
                Err(_) if at == usize::MAX => continue,
                Err(error) => {
                    whole = false;
                    let via = way.get(1).map_or_else(String::new, |first| format!(" (by way of `{first}`)"));
                    let hint = match &error {
                        Error::Missing { nearest: Some(near), .. } => format!("; did you mean `{near}`?"),
                        _ => String::new(),
                    };
                    self.say(&format!("requires[{at}]"), format!("{}{via}{hint}", words(&error)));
                    continue;
                }
            };
            if let Some(begin) = way.iter().position(|known| *known == layer.name) {
                whole = false;
                let mut circle = way[begin..].to_vec();
                circle.push(layer.name);
                self.say(&format!("requires[{at}]"), format!("it goes in a circle: {}", circle.join(" → ")));
                continue;
            }
            if layer.name == self.file.layer.name || stack.iter().any(|(_, known)| known.name == layer.name) {
                continue;
            }
            let mut way = way;
            way.push(layer.name.clone());
            open.extend(layer.requires.iter().map(|name| (at, source.required(name), way.clone())));
            stack.push((source, layer));
        }
        whole.then_some(stack)
    }

    /// Packages may bring users of their own, which no file names.
    fn people(&mut self, stack: &[(Source, Layer)]) {
        let layer = &self.file.layer;
        let all = || std::iter::once(layer).chain(stack.iter().map(|(_, layer)| layer));
        let users: BTreeSet<&str> =
            all().flat_map(|layer| layer.users.iter().map(|user| user.name.as_str())).chain(USERS).collect();
        let named =
            layer.files.iter().enumerate().map(|(at, file)| (format!("files[{at}].owner"), &file.owner));
        let named = named
            .chain(layer.steps.iter().enumerate().map(|(at, step)| (format!("steps[{at}].user"), &step.user)))
            .chain(
                layer
                    .health
                    .iter()
                    .enumerate()
                    .map(|(at, check)| (format!("health[{at}].user"), &check.user)),
            )
            .chain(
                layer
                    .volumes
                    .iter()
                    .enumerate()
                    .map(|(at, volume)| (format!("volumes[{at}].owner"), &volume.owner)),
            )
            .chain(layer.git.iter().enumerate().map(|(at, git)| (format!("git[{at}].owner"), &git.owner)));
        let brings = all().any(|layer| !layer.packages.install.is_empty() && layer.name != "base")
            || layer.steps.iter().any(|step| step.argv.iter().any(|word| word.contains("useradd")));
        for (key, name) in named.collect::<Vec<_>>() {
            if !users.contains(name.as_str()) && !brings {
                self.say(
                    &key,
                    format!("`{name}` is a user of neither this profile nor those that it requires"),
                );
            }
        }
    }

    fn paths(&mut self, stack: &[(Source, Layer)]) {
        let mut theirs: BTreeMap<String, String> = BTreeMap::new();
        for (source, layer) in stack {
            theirs.extend(paths(layer).into_iter().map(|(_, path)| (path, source.origin.clone())));
        }
        let mut own: BTreeMap<String, String> = BTreeMap::new();
        for (key, path) in paths(&self.file.layer) {
            if let Some(origin) = theirs.get(&path) {
                self.say(&key, format!("{path} is written by {origin} too"));
            }
            if own.insert(path.clone(), key.clone()).is_some() {
                self.say(&key, format!("{path} is written twice"));
            }
        }
    }
}

/// Tells whether two services cannot both have what they ask for.
#[must_use]
pub fn clashes(one: &super::Port, other: &super::Port) -> bool {
    let all = |port: &super::Port| port.address.is_unspecified();
    one.port == other.port
        && one.protocol == other.protocol
        && (one.address == other.address || all(one) || all(other))
}

/// Every path that a file writes, with its key.
fn paths(layer: &Layer) -> Vec<(String, String)> {
    let text = |path: &Path| path.display().to_string();
    let files =
        layer.files.iter().enumerate().map(|(at, file)| (format!("files[{at}].path"), text(&file.path)));
    let links =
        layer.links.iter().enumerate().map(|(at, link)| (format!("links[{at}].path"), text(&link.path)));
    let units = layer.unit.iter().enumerate();
    let units =
        units.map(|(at, unit)| (format!("unit[{at}].name"), format!("/etc/systemd/system/{}", unit.name)));
    files.chain(links).chain(units).collect()
}

/// Settings that each machine has of its own.
///
/// **Source**: namespaces(7), network_namespaces(7), ipc_namespaces(7).
fn is_namespaced(name: &str) -> bool {
    let name = name.replace('/', ".");
    let own = [
        "net.",
        "kernel.msg",
        "kernel.sem",
        "kernel.shm",
        "fs.mqueue.",
        "user.",
        "kernel.hostname",
        "kernel.domainname",
    ];
    own.iter().any(|begin| name.starts_with(begin))
}

fn visit(node: &Node, see: &mut dyn FnMut(&str, usize)) {
    match &node.item {
        Item::Leaf(toml::Value::String(text)) => see(text, node.line),
        Item::Leaf(_) => {}
        Item::List(items) => items.iter().for_each(|item| visit(item, see)),
        Item::Table(pairs) => pairs.iter().for_each(|(_, node)| visit(node, see)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static BASE: &[(&str, &str)] = &[(
        "profiles/base.toml",
        "schema = 1\nname = \"base\"\nsummary = \"b\"\n[[users]]\nname = \"agent\"\nuid = 1000\n\
         [[files]]\npath = \"/etc/base\"\ncontent = \"\"\n[[ports]]\nport = 22\nwhat = \"ssh\"\n[[health]]\nargv = [\"true\"]\n",
    )];

    fn said(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<_> = files
            .iter()
            .map(|(name, text)| Source {
                origin: format!("{name}.toml"),
                text: format!("schema = 1\nname = \"{name}\"\nsummary = \"s\"\n{text}"),
                path: Some(format!("{name}.toml").into()),
            })
            .collect();
        let catalogue = Catalogue { folders: Vec::new(), embedded: BASE };
        let findings = lint(&sources, &catalogue);
        findings
            .into_iter()
            .map(|found| format!("{}:{}: {}", found.file, found.line, found.problem))
            .collect()
    }

    const WELL: &str = "[[health]]\nargv = [\"true\"]\n";

    #[test]
    fn each_surprise_is_found_at_its_line() {
        for (text, line, word) in [
            ("[[files]]\npath = \"/x\"\ncontent = \"\"\n", 1, "`health` is missing"),
            ("[[ports]]\nport = 80\naddress = \"0.0.0.0\"\nwhat = \"w\"\n", 6, "port 80 is open beyond"),
            ("[[ports]]\nport = 22\nwhat = \"w\"\n", 5, "served by built-in profiles/base.toml too"),
            ("[[steps]]\nargv = [\"x\"]\nnetwork = true\n", 6, "in no lock"),
            ("[[unit]]\nname = \"x.service\"\ncontent = \"[Service]\"\nenable = true\n", 7, "no [Install]"),
            ("[[unit]]\nname = \"x.timer\"\ncontent = \"[Timer]\"\n", 5, "starts `x.service`"),
            ("[units]\nenable = [\n\"x.service\"]\n", 6, "nothing here brings"),
            ("[environment]\nA = \"ghp_aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5\"\n", 5, "shape of a secret"),
            ("[sysctl]\n\"kernel.panic\" = 1\n", 5, "host-sysctl"),
            ("[[steps]]\nargv = [\"x\"]\nuser = \"nobdy\"\n", 6, "`nobdy` is a user of neither"),
            (
                "[[files]]\npath = \"/etc/base\"\ncontent = \"\"\n",
                5,
                "written by built-in profiles/base.toml too",
            ),
            (
                "[[links]]\npath = \"/a\"\ntarget = \"b\"\n[[links]]\npath = \"/a\"\ntarget = \"c\"\n",
                8,
                "written twice",
            ),
        ] {
            let health = if word.contains("`health`") { "" } else { WELL };
            let found = said(&[("p", &format!("{text}{health}"))]);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(
                found[0].starts_with(&format!("p.toml:{line}: ")) && found[0].contains(word),
                "{found:?}"
            );
        }
        let told = "costs = [\"port 80 is open to the network; a step fetches what no lock has\"]\n\
            [[ports]]\nport = 80\naddress = \"0.0.0.0\"\nwhat = \"w\"\n[[steps]]\nargv = [\"x\"]\nnetwork = true\nuser = \"agent\"\n";
        assert_eq!(said(&[("p", &format!("{told}{WELL}"))]), Vec::<String>::new());
    }

    #[test]
    fn what_is_required_is_looked_for_among_them() {
        let requires = |names: &str| format!("requires = [{names}]\n{WELL}");
        let found = said(&[("a", &requires("\"b\"")), ("b", &requires("\"bsae\""))]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("a.toml:4: ") && found[0].contains("by way of `b`"), "{found:?}");
        assert!(found[1].contains("did you mean `base`?"), "{found:?}");
        let found = said(&[("a", &requires("\"b\"")), ("b", &requires("\"a\""))]);
        assert!(found.len() == 2 && found[0].contains("a → b → a"), "{found:?}");
        assert!(said(&[("a", &requires("\"b\"")), ("b", WELL)]).is_empty());
    }

    #[test]
    fn all_problems_of_all_files_are_told() {
        let found = said(&[
            ("a", "x = 1\ny = 2\n"),
            ("b", "[limits]\nfoo = 1\n[[steps]]\nargv = []\n"),
            ("c", "z = \n"),
        ]);
        let starts = ["a.toml:4: ", "a.toml:5: ", "b.toml:5: ", "b.toml:7: ", "c.toml:4: "];
        assert_eq!(found.len(), starts.len(), "{found:?}");
        assert!(found.iter().zip(starts).all(|(found, start)| found.starts_with(start)), "{found:?}");
    }
}
