use std::collections::BTreeMap;

use super::{super::version::Version, *};

/// Versions of packages and what they need, in memory.
#[derive(Default)]
struct Universe(BTreeMap<String, Vec<(Candidate, Vec<String>)>>);

impl Universe {
    /// Reads `name version: need, need`, a line each; a `!` behind the version says that it is withdrawn.
    fn of(text: &str) -> Self {
        let mut universe = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (named, needs) = line.split_once(':').unwrap();
            let (name, version) = named.split_once(' ').unwrap();
            let needs = needs.split(';').map(|need| need.trim().to_owned()).filter(|need| !need.is_empty());
            universe.put(name, version, needs.collect());
        }
        universe
    }

    fn put(&mut self, name: &str, version: &str, needs: Vec<String>) {
        let withdrawn = version.ends_with('!');
        let candidate = Candidate::plain(name, version.trim_end_matches('!'), withdrawn).unwrap();
        let versions = self.0.entry(name.to_owned()).or_default();
        versions.push((candidate, needs));
        versions.sort_by(|(a, _), (b, _)| b.version.cmp(&a.version));
    }

    fn solve(&mut self, wanted: &str) -> Result<String, PythonError> {
        let wanted: Vec<_> = wanted.split(';').map(|text| Requirement::parse(text.trim()).unwrap()).collect();
        let chosen = solve(&wanted, &environment(), self)?;
        let words = chosen.iter().map(|(name, one)| format!("{name} {}", one.version));
        Ok(words.collect::<Vec<_>>().join(", "))
    }
}

fn environment() -> Environment {
    Environment { full: "3.13.5".to_owned(), machine: "x86_64".to_owned() }
}

impl Packages for Universe {
    fn versions(&mut self, names: &[String]) -> Result<Vec<Vec<Candidate>>, PythonError> {
        let of = |name| self.0.get(name).into_iter().flatten().map(|(one, _)| one.clone()).collect();
        Ok(names.iter().map(of).collect())
    }

    fn needs(&mut self, candidate: &Candidate) -> Result<Vec<String>, PythonError> {
        let known = self.0.values().flatten();
        let found = known.into_iter().find(|(one, _)| one.wheel.file == candidate.wheel.file);
        Ok(found.map(|(_, needs)| needs.clone()).unwrap_or_default())
    }
}

#[test]
fn what_is_against_one_choice_is_not_against_all() {
    // `p0 2` is against both versions of `p1`, and was excluded when only the first had been tried
    let text = "p0 1: p1!=1; p2<2\n p0 2: p1; p2>=2\n p1 1: p2<2\n p1 2: p2<2\n p2 1:\n p2 2:";
    assert_eq!(Universe::of(text).solve("p2; p0").unwrap(), "p0 1, p1 2, p2 1");
    assert_eq!(Universe::of(text).solve("p0").unwrap(), "p0 1, p1 2, p2 1");
    // a version that excludes itself by the way of another
    let text = "a 2: b\n a 1:\n b 1: a<2";
    assert_eq!(Universe::of(text).solve("a").unwrap(), "a 1");
    assert_eq!(Universe::of(text).solve("a; b").unwrap(), "a 1, b 1");
}

#[test]
fn extras_are_of_the_version_that_is_chosen() {
    let mut universe = Universe::of("a 1:\n b 1:\n b 2: c\n c 1: a[y]; d\n d 1:");
    universe.put(
        "a",
        "2",
        vec!["b>=2; extra == 'x'".to_owned(), "e; extra == 'y'".to_owned(), "d".to_owned()],
    );
    universe.put("e", "1", vec!["b<2".to_owned()]);
    assert_eq!(universe.solve("a").unwrap(), "a 2, d 1");
    // with `x`, `b 2` leads to `a[y]`, which of `a 2` needs `b<2`: the older one has no extras
    assert_eq!(universe.solve("a[x]").unwrap(), "a 1");
    assert_eq!(universe.solve("a[y]; b").unwrap(), "a 2, b 1, d 1, e 1");
}

#[test]
fn a_pre_release_or_a_withdrawn_version_is_chosen_only_where_a_wish_names_it() {
    let text = "b 1:\n b 2rc1:\n b 3!:\n c 1: b>=2rc1\n c 2:\n d 1: b<2\n d 2: b>=2.0.dev0\n e 1rc1:";
    for (wanted, chosen) in [
        ("b", "b 1"),
        ("b>=1", "b 1"),
        ("b>=2rc1", "b 2rc1"),
        ("b==3", "b 3"),
        ("b; c", "b 1, c 2"),
        ("c<2; b", "b 2rc1, c 1"),
        ("d; b", "b 2rc1, d 2"),
        ("b; d<2", "b 1, d 1"),
        // where there is nothing else, it needs no name
        ("e", "e 1rc1"),
        ("b>1", "b 2rc1"),
        ("b>=1; b!=1", "b 2rc1"),
    ] {
        assert_eq!(Universe::of(text).solve(wanted).unwrap(), chosen, "{wanted}");
    }
    let refused = Universe::of("b 1: c<1\n b 2rc1:\n c 1:").solve("b; c").unwrap_err();
    assert!(matches!(refused, PythonError::Conflict { .. }), "{refused}");
}

#[test]
fn an_error_names_the_wishes_that_contradict_each_other() {
    let text = "a 1: c>=2\n b 1: c<2\n b 2: c<2; d>1\n c 1:\n c 2:\n d 1:";
    let refused = Universe::of(text).solve("a; b; d").unwrap_err().to_string();
    assert!(refused.ends_with("fulfils `c>=2` (a 1) and `c<2` (b 2) and `c<2` (b 1)"), "{refused}");
    let refused = Universe::of("a 1: z").solve("a").unwrap_err().to_string();
    assert!(refused.starts_with("no version of `z`") && refused.ends_with("`z` (a 1)"), "{refused}");
    let text = "a 1: x==1\n a 2: y==1\n x 1:\n x 2:\n y 1:\n y 2:";
    let refused = Universe::of(text).solve("a; x>=2; y>=2").unwrap_err();
    assert!(matches!(refused, PythonError::Together { .. }), "{refused}");
}

/// Numbers that are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn wish(&mut self, names: usize, versions: usize) -> String {
        let sign = ["", "==", "!=", "<", ">=", "<=", ">"][self.below(7)];
        let version = self.below(versions) + 1;
        let bound = if sign.is_empty() { String::new() } else { format!("{sign}{version}") };
        format!("p{}{bound}", self.below(names))
    }
}

#[test]
fn a_set_is_found_where_there_is_one() {
    const NAMES: usize = 4;
    let mut numbers = Numbers(1);
    let (mut solved, mut refused) = (0, 0);
    for case in 0..1000 {
        let mut text = String::new();
        for name in 0..NAMES {
            for version in 1..=numbers.below(3) + 1 {
                let needs: Vec<_> = (0..numbers.below(4)).map(|_| numbers.wish(NAMES, 3)).collect();
                text.push_str(&format!("p{name} {version}: {}\n", needs.join("; ")));
            }
        }
        let wanted: Vec<_> = (0..numbers.below(3) + 1).map(|_| numbers.wish(NAMES, 3)).collect();
        let wanted = wanted.join("; ");
        let found = Universe::of(&text).solve(&wanted);
        let possible = has_solution(&text, &wanted);
        match found {
            Ok(chosen) => {
                let set: Vec<(&str, &str)> =
                    chosen.split(", ").map(|one| one.split_once(' ').unwrap()).collect();
                assert!(meets(&text, &wanted, &set), "case {case}: {chosen}\n{text}{wanted}");
                solved += 1;
            }
            Err(problem) => {
                assert!(!possible, "case {case}: {problem}\n{text}{wanted}");
                refused += 1;
            }
        }
    }
    assert!(solved > 200 && refused > 200, "{solved} {refused}");
}

/// Looks through all sets.
fn has_solution(text: &str, wanted: &str) -> bool {
    let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in text.lines() {
        let (name, version) = line.split(':').next().unwrap().split_once(' ').unwrap();
        names.entry(name).or_default().push(version);
    }
    let mut sets: Vec<Vec<(&str, &str)>> = vec![Vec::new()];
    for (name, versions) in names {
        let with = sets.iter().flat_map(|set| {
            versions.iter().map(move |version| set.iter().copied().chain([(name, *version)]).collect())
        });
        let with: Vec<Vec<_>> = with.collect();
        sets.extend(with);
    }
    sets.iter().any(|set| meets(text, wanted, set))
}

/// Tells whether a set has everything that it needs.
fn meets(text: &str, wanted: &str, set: &[(&str, &str)]) -> bool {
    let met = |wishes: &str| {
        wishes.split(';').map(str::trim).filter(|wish| !wish.is_empty()).all(|wish| {
            let wish = Requirement::parse(wish).unwrap();
            set.iter().any(|(name, version)| {
                *name == wish.name && wish.versions.admit(&Version::parse(version).unwrap())
            })
        })
    };
    let needs = |(name, version): &(&str, &str)| {
        let start = format!("{name} {version}:");
        text.lines().find_map(|line| line.strip_prefix(start.as_str())).is_some_and(met)
    };
    met(wanted) && set.iter().all(needs)
}
