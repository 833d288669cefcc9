//! Choices of versions beside those of the programs whose rules they follow: pip's libraries and npm's, on questions
//! that are made up by chance.
//!
//! The same questions in each run, unless `CHOICES_SEED` says otherwise; `CHOICES_CASES` of each kind.

use std::{collections::BTreeMap, time::Duration};

use sandbox_core::layer::{npm_tree, python};
use serde_json::{Value, json};

use crate::{
    lab::{Lab, text},
    process,
    runner::skip,
};

/// What is compared with, in fixed versions: a later one may have other rules.
const PYTHON: [&str; 2] = ["resolvelib==1.2.1", "packaging==26.4"];
const NPM: [&str; 2] = ["semver@7.8.6", "npm-pick-manifest@11.0.3"];

/// How long programs may take for all questions of a kind.
const DEADLINE: Duration = Duration::from_secs(600);

/// Numbers that are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn new() -> Self {
        Self(number("CHOICES_SEED", 1))
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % end
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a test runs is its caller's to say")]
fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(usual)
}

fn cases() -> usize {
    usize::try_from(number("CHOICES_CASES", 3000)).expect("a number of cases")
}

/// Asks Python's libraries.
fn ask_python(lab: &Lab, what: &str, question: &Value) -> Value {
    let folder = lab.path("choices-python");
    if !folder.exists() {
        let install = ["python3", "-m", "pip", "install", "--quiet", "--target", text(&folder)];
        if process::command(&["python3", "-m", "pip", "--version"]).output().is_err() {
            skip("this host has no pip");
        }
        process::run(&[&install[..], &PYTHON].concat(), "", DEADLINE).ok();
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/archive/choices/choices.py");
    let path = format!("PYTHONPATH={}", text(&folder));
    answer(&["env", &path, "PYTHONDONTWRITEBYTECODE=1", "python3", script, what], question)
}

/// Asks npm's libraries.
fn ask_npm(lab: &Lab, what: &str, question: &Value) -> Value {
    let folder = lab.path("choices-npm");
    if !folder.exists() {
        if process::command(&["npm", "--version"]).output().is_err() {
            skip("this host has no npm");
        }
        let quiet = ["--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"];
        let install = ["npm", "install", "--prefix", text(&folder)];
        process::run(&[&install[..], &quiet, &NPM].concat(), "", DEADLINE).ok();
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/archive/choices/choices.js");
    let path = format!("NODE_PATH={}/node_modules", text(&folder));
    answer(&["env", &path, "node", script, what], question)
}

fn answer(argv: &[&str], question: &Value) -> Value {
    let output = process::run(argv, question.to_string(), DEADLINE);
    serde_json::from_str(output.ok()).expect("a JSON document")
}

/// Fails with the first questions that were answered in another way.
#[track_caller]
fn same(questions: &[Value], ours: &[Value], theirs: &Value) {
    let theirs = theirs.as_array().expect("an answer to each");
    assert_eq!(theirs.len(), questions.len());
    let pairs = questions.iter().zip(ours.iter().zip(theirs));
    let other: Vec<_> = pairs.filter(|(_, (ours, theirs))| ours != theirs).collect();
    let words: Vec<_> = (other.iter().take(20))
        .map(|(question, (ours, theirs))| format!("{question}: {ours} here, {theirs} there"))
        .collect();
    assert!(other.is_empty(), "{} of {} differ:\n{}", other.len(), questions.len(), words.join("\n"));
}

/// The versions of a set of Python packages: what is chosen meets all wishes, and where nothing is, trying all versions
/// finds nothing either. resolvelib finds a set where one is chosen, unless packages need themselves.
pub fn python_versions_go_together_where_pips_resolver_finds_some(lab: &Lab) {
    let mut numbers = Numbers::new();
    let mut questions = Vec::new();
    let mut solved = 0;
    for case in 0..cases() {
        // of every other set no package leads back to itself
        let (offers, wanted) = match case {
            // a version that conflicts only with what was chosen at the time
            0 => smallest(),
            _ => universe(&mut numbers, case % 2 == 0),
        };
        let chosen = python::choose(&offers, &wanted);
        solved += usize::from(chosen.is_some());
        let chosen = chosen.map(|chosen| chosen.into_iter().collect::<BTreeMap<_, _>>());
        let offers: Vec<_> = offers.iter().map(|one| json!([one.name, one.version, one.needs])).collect();
        questions.push(json!({ "offers": offers, "wanted": wanted, "chosen": chosen }));
    }
    let problems = ask_python(lab, "resolve", &Value::from(questions.clone()));
    same(&questions, &vec![Value::Null; questions.len()], &problems);
    assert!(solved > cases() / 10 && solved < cases() * 9 / 10, "{solved} of {} have an answer", cases());
}

fn smallest() -> (Vec<python::Offer>, Vec<String>) {
    let offer = |name: &str, version: &str, needs: &[&str]| python::Offer {
        name: name.to_owned(),
        version: version.to_owned(),
        needs: needs.iter().map(|&need| need.to_owned()).collect(),
    };
    let offers = vec![
        offer("p0", "1", &["p1!=1", "p2<2"]),
        offer("p0", "2", &["p1", "p2>=2"]),
        offer("p1", "1", &["p2<2"]),
        offer("p1", "2", &["p2<2"]),
        offer("p2", "1", &[]),
        offer("p2", "2", &[]),
    ];
    (offers, vec!["p2".to_owned(), "p0".to_owned()])
}

fn universe(numbers: &mut Numbers, acyclic: bool) -> (Vec<python::Offer>, Vec<String>) {
    let names = numbers.below(6) + 2;
    let wish = |numbers: &mut Numbers, from: usize| {
        let name = from + numbers.below(names - from);
        let bounds = ["", "", "<2", ">=2", "==1", "!=2", "<=2", ">1", "~=1.0", ">=2,<4", "!=1,!=3", "==2.*"];
        format!("p{name}{}", numbers.of(&bounds))
    };
    let mut offers = Vec::new();
    for name in 0..names {
        for version in 1..=numbers.below(4) + 1 {
            let from = if acyclic { name + 1 } else { 0 };
            let count = if from < names { numbers.below(4) } else { 0 };
            let needs = (0..count).map(|_| wish(numbers, from)).collect();
            offers.push(python::Offer { name: format!("p{name}"), version: version.to_string(), needs });
        }
    }
    let wanted = (0..=numbers.below(3)).map(|_| wish(numbers, 0)).collect();
    (offers, wanted)
}

/// Versions of Python packages are ordered and admitted as PEP 440 has it.
pub fn python_conditions_are_met_as_packaging_says(lab: &Lab) {
    let mut numbers = Numbers::new();
    let (mut conditions, mut orders) = (Vec::new(), Vec::new());
    for _ in 0..cases() {
        let sign = numbers.of(&["==", "!=", ">=", "<=", ">", "<", "~="]);
        let bound = pep440(&mut numbers);
        let prefix = matches!(sign, "==" | "!=") && numbers.below(4) == 0;
        let release = bound.split(['a', 'b', 'r', 'c', '.', '+']).next().unwrap_or_default();
        let bound = if prefix { format!("{release}.*") } else { bound };
        // a local version may be compared only for equality
        let bound = if matches!(sign, "==" | "!=") {
            bound
        } else {
            bound.split('+').next().unwrap_or_default().to_owned()
        };
        conditions.push(json!([format!("{sign}{bound}"), pep440(&mut numbers)]));
        orders.push(json!([pep440(&mut numbers), pep440(&mut numbers)]));
    }
    let ours: Vec<_> =
        conditions.iter().map(|one| json!(python::admits(word(&one[0]), word(&one[1])))).collect();
    same(&conditions, &ours, &ask_python(lab, "versions", &Value::from(conditions.clone())));
    let ours: Vec<_> = orders.iter().map(|one| order(python::order(word(&one[0]), word(&one[1])))).collect();
    same(&orders, &ours, &ask_python(lab, "order", &Value::from(orders.clone())));
}

fn pep440(numbers: &mut Numbers) -> String {
    let mut version = numbers.of(&["", "", "", "", "1!"]).to_owned();
    version += numbers.of(&["1", "1.0", "1.1", "1.0.0", "2", "0.1", "1.10", "1.0.1", "3.0.0.0"]);
    version += numbers.of(&["", "", "", "a1", "b2", "rc1", "a", "-alpha.2", "c1"]);
    version += numbers.of(&["", "", "", ".post1", "-1", ".rev2", "post"]);
    version += numbers.of(&["", "", "", ".dev1", "dev", ".dev0"]);
    version + numbers.of(&["", "", "", "", "+x", "+1", "+x.10"])
}

/// All combinations of tags, for several trees: the same wheels are taken, and the same one of two.
pub fn wheels_are_taken_as_pip_takes_them(lab: &Lab) {
    let pythons = [
        "cp313", "cp312", "cp39", "cp310", "cp314", "cp32", "cp31", "cp3", "py3", "py313", "py312", "py39",
        "py30", "py2", "py314", "pp310",
    ];
    let abis = ["none", "abi3", "cp313", "cp312", "cp39", "cp313t", "pypy310_pp73", "cp314"];
    let platforms = [
        "any",
        "linux_x86_64",
        "manylinux1_x86_64",
        "manylinux2010_x86_64",
        "manylinux2014_x86_64",
        "manylinux_2_4_x86_64",
        "manylinux_2_17_x86_64",
        "manylinux_2_36_x86_64",
        "manylinux_2_41_x86_64",
        "manylinux_2_42_x86_64",
        "manylinux2014_aarch64",
        "manylinux2010_aarch64",
        "manylinux_2_16_aarch64",
        "manylinux_2_28_aarch64",
        "linux_aarch64",
        "musllinux_1_2_x86_64",
        "win_amd64",
        "macosx_11_0_arm64",
    ];
    let mut tags = Vec::new();
    for python in pythons {
        for abi in abis {
            tags.extend(platforms.iter().map(|platform| format!("{python}-{abi}-{platform}")));
        }
    }
    let files: Vec<String> = tags.iter().map(|tag| format!("a-1-{tag}.whl")).collect();
    for (minor, glibc, machine) in
        [(13, 41, "x86_64"), (9, 31, "x86_64"), (12, 36, "aarch64"), (10, 35, "aarch64"), (11, 36, "i686")]
    {
        let question = json!({ "minor": minor, "glibc": glibc, "machine": machine, "tags": tags });
        let places = ask_python(lab, "tags", &question);
        let places = places.as_array().expect("a place for each");
        let mut known: Vec<(u64, &str)> = Vec::new();
        for (file, place) in files.iter().zip(places) {
            let taken = python::best_wheel(&[file], minor, glibc, machine).is_some();
            assert_eq!(taken, place.is_u64(), "{file} for CPython 3.{minor} on {machine}, glibc 2.{glibc}");
            known.extend(place.as_u64().map(|place| (place, file.as_str())));
        }
        known.sort_unstable();
        assert!(!known.is_empty(), "no wheel fits");
        for pair in known.windows(2) {
            let best = python::best_wheel(&[pair[1].1, pair[0].1], minor, glibc, machine);
            assert_eq!(best, Some(pair[0].1), "of {pair:?} for CPython 3.{minor} on {machine}");
        }
    }
}

/// npm's ranges, also in the forms that it reads loosely.
pub fn npm_ranges_are_read_as_semver_reads_them(lab: &Lab) {
    let mut numbers = Numbers::new();
    let (mut ranges, mut orders) = (Vec::new(), Vec::new());
    for range in ["^1.2.3beta", "1.2.3beta", ">=1.0.0 <2.0.0-", ">=0.10.0-", "== 1.2.3"] {
        let versions =
            ["1.2.3", "1.2.3-beta", "1.2.3-alpha", "1.9.0", "2.0.0-0", "2.0.0", "0.10.0-0", "0.9.0"];
        ranges.extend(versions.map(|version| json!([range, version])));
    }
    for _ in 0..cases() {
        let mut range = String::new();
        for at in 0..=numbers.below(3) {
            if at > 0 {
                range += numbers.of(&[" ", " ", "||", " || ", "  "]);
            }
            range += numbers.of(&[
                "", "", "^", "~", "~>", ">=", "<", ">", "<=", "=", "==", "v", ">= ", "^ ", "~ ", "== ", "= ",
                "< ",
            ]);
            range += &loose(&mut numbers);
            if numbers.below(12) == 0 {
                range += " - ";
                range += &loose(&mut numbers);
            }
        }
        let version = loose(&mut numbers);
        if npm_tree::order(&version, &version).is_some() {
            ranges.push(json!([range, version]));
        }
        orders.push(json!([loose(&mut numbers), loose(&mut numbers)]));
    }
    let ours: Vec<_> =
        ranges.iter().map(|one| json!(npm_tree::admits(word(&one[0]), word(&one[1])))).collect();
    same(&ranges, &ours, &ask_npm(lab, "versions", &Value::from(ranges.clone())));
    let ours: Vec<_> =
        orders.iter().map(|one| order(npm_tree::order(word(&one[0]), word(&one[1])))).collect();
    same(&orders, &ours, &ask_npm(lab, "order", &Value::from(orders.clone())));
}

fn loose(numbers: &mut Numbers) -> String {
    let mut version = numbers
        .of(&[
            "1.2.3", "1.2.3", "1.2.4", "0.0.1", "0.2.0", "0.10.0", "1.2", "1", "2.0.0", "1.x", "*", "1.2.x",
            "01.2.3", "x",
        ])
        .to_owned();
    version +=
        numbers.of(&["", "", "", "", "-0", "-beta", "beta", "-beta.2", "rc1", "-", "-01", ".4", "-a.b"]);
    version + numbers.of(&["", "", "", "", "", "+build.1", "+"])
}

/// The version that npm picks of a registry's document, by the Node.js of the tree.
pub fn npm_picks_the_same_versions(lab: &Lab) {
    let mut numbers = Numbers::new();
    let (mut questions, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..cases() {
        let mut versions = BTreeMap::new();
        for _ in 0..=numbers.below(6) {
            let version = numbers.of(&[
                "1.0.0",
                "1.1.0",
                "1.1.1",
                "2.0.0",
                "2.1.0",
                "3.0.0",
                "3.0.0-rc.1",
                "2.0.0-beta",
            ]);
            let mut one = json!({ "name": "a", "version": version });
            if numbers.below(3) > 0 {
                let node = [">=16", ">=18.0.0", "^18 || >=20", ">= 20", "*", "", "yes", "<18", "22.x"];
                one["engines"] = json!({ "node": numbers.of(&node) });
            }
            if numbers.below(4) == 0 {
                one["deprecated"] = json!(numbers.of(&["no more", ""]));
            }
            versions.insert(version.to_owned(), one);
        }
        let all: Vec<&str> = versions.keys().map(String::as_str).collect();
        let latest = numbers.of(&all).to_owned();
        let document = json!({ "name": "a", "dist-tags": { "latest": latest }, "versions": versions });
        let wanted =
            numbers.of(&["*", "", "^1", ">=1", "<3", "latest", "2.0.0", "~1.1", ">=2.0.0-0", "^9", "next"]);
        let node = numbers.of(&["18.20.4", "20.11.1", "22.3.0", "16.0.0", "23.0.0-nightly"]);
        ours.push(json!(npm_tree::pick(&document.to_string(), wanted, node)));
        questions.push(json!([document, wanted, node]));
    }
    same(&questions, &ours, &ask_npm(lab, "pick", &Value::from(questions.clone())));
}

fn order(order: Option<std::cmp::Ordering>) -> Value {
    json!(order.map(|order| order as i8))
}

fn word(value: &Value) -> &str {
    value.as_str().expect("a word")
}
