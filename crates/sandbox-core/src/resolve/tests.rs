mod layers;
mod pockets;
mod refusals;

use super::*;

fn resolve(catalog: &Catalog, request: &Request) -> Result<Vec<LockedPackage>, Error> {
    super::resolve(catalog, request).map(|resolved| resolved.packages)
}

/// A catalogue of packages written as `name version: Field: value; Field: value`.
fn catalog(lines: &[&str]) -> Catalog {
    Catalog::read(vec![("release".to_owned(), all_text(lines).into_bytes())], "amd64").unwrap()
}

fn all_text(lines: &[&str]) -> String {
    let sum = "0".repeat(64);
    let stanza = |line: &&str| {
        let (head, fields) = line.split_once(": ").unwrap_or((line, ""));
        let (name, version) = head.split_once(' ').unwrap_or((head, "1"));
        let fields: String = fields.split("; ").filter(|f| !f.is_empty()).map(|f| format!("{f}\n")).collect();
        format!(
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\nFilename: pool/{name}.deb\nSize: 1\n\
             SHA256: {sum}\n{fields}\n"
        )
    };
    lines.iter().map(stanza).collect()
}

fn request(install: &[&str]) -> Request {
    let wanted = |name: &&str| Wanted { name: (*name).to_owned(), by: "a test".to_owned(), layer: 0 };
    Request {
        architecture: "amd64".to_owned(),
        variant: Variant::Essential,
        install: install.iter().map(wanted).collect(),
        ..Request::default()
    }
}

fn names(catalog: &Catalog, install: &[&str]) -> String {
    shown(&resolve(catalog, &request(install)).unwrap())
}

fn shown(packages: &[LockedPackage]) -> String {
    let one = |package: &LockedPackage| {
        if package.version == "1" {
            package.name.clone()
        } else {
            format!("{}={}", package.name, package.version)
        }
    };
    packages.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn failure(catalog: &Catalog, install: &[&str]) -> String {
    let error = resolve(catalog, &request(install)).unwrap_err();
    let mut text = error.to_string();
    let mut next = std::error::Error::source(&error);
    while let Some(cause) = next {
        text += &format!("\n{cause}");
        next = cause.source();
    }
    text
}

#[test]
fn installs_dependencies_first_and_nothing_else() {
    let all = catalog(&["a: Depends: c, b", "b: Depends: c", "c", "d", "e: Essential: yes; Depends: c"]);
    assert_eq!(names(&all, &["a"]), "c e b a");
}

#[test]
fn takes_the_first_alternative_unless_another_is_chosen_anyhow() {
    let all = catalog(&["a: Depends: x | y", "b: Depends: y", "x", "y"]);
    assert_eq!(names(&all, &["a"]), "x a");
    assert_eq!(names(&all, &["a", "y"]), "y a");
    let gone = catalog(&["a: Depends: gone | x (>= 2) | y", "x", "y"]);
    assert_eq!(names(&gone, &["a"]), "y a");
}

#[test]
fn takes_a_real_package_before_a_provider_and_honours_versions_of_provides() {
    let all = catalog(&["a: Depends: v", "p: Provides: v", "v"]);
    assert_eq!(names(&all, &["a"]), "v a");
    let versioned =
        catalog(&["a: Depends: v (>= 2)", "o: Provides: v", "p: Provides: v (= 1)", "q: Provides: v (= 2)"]);
    assert_eq!(names(&versioned, &["a"]), "q a");
    assert_eq!(names(&versioned, &["o"]), "o");
}

#[test]
fn orders_providers_as_apt_does() {
    let all = catalog(&["a: Depends: v", "o: Provides: v; Priority: important", "p: Provides: v"]);
    assert_eq!(names(&all, &["a"]), "o a");
    let equal = catalog(&["a: Depends: v", "o: Provides: v", "p: Provides: v"]);
    assert_eq!(names(&equal, &["a"]), "p a");
    let named = catalog(&["a: Depends: v; Suggests: x | p", "o: Provides: v", "p: Provides: v"]);
    assert_eq!(names(&named, &["a"]), "o a");
}

#[test]
fn searches_where_the_first_alternative_conflicts() {
    let late = catalog(&["a: Depends: x | y, z", "x: Conflicts: z", "y", "z"]);
    assert_eq!(names(&late, &["a"]), "y z a");
    let deep =
        catalog(&["a: Depends: x | y, b", "b: Depends: c", "c: Breaks: x (<< 2)", "x", "y: Depends: b"]);
    assert_eq!(names(&deep, &["a"]).split(' ').count(), 4);
    let older = catalog(&["a: Depends: x", "x 2: Depends: gone", "x 1"]);
    assert_eq!(names(&older, &["a"]), "x a");
}

#[test]
fn a_package_does_not_conflict_with_itself() {
    let all = catalog(&["a: Provides: m; Conflicts: m", "b: Provides: m; Conflicts: m"]);
    assert_eq!(names(&all, &["a"]), "a");
    assert!(failure(&all, &["a", "b"]).ends_with("`a 1` cannot be together with `b 1`"));
    let versioned = catalog(&["a: Conflicts: m (<< 2)", "b: Provides: m", "c: Provides: m (= 1)"]);
    assert_eq!(names(&versioned, &["a", "b"]), "a b");
    assert!(resolve(&versioned, &request(&["a", "c"])).is_err());
}

#[test]
fn understands_architecture_qualifiers() {
    let all = catalog(&[
        "a: Depends: p:any",
        "p: Multi-Arch: allowed",
        "b: Depends: q:any",
        "q",
        "c: Depends: q:arm64",
    ]);
    assert_eq!(names(&all, &["a", "q:amd64"]), "p a q");
    assert!(resolve(&all, &request(&["b"])).is_err());
    assert!(resolve(&all, &request(&["c"])).is_err());
    assert!(failure(&all, &["q:arm64"]).contains("for arm64"));
}

#[test]
fn takes_the_version_asked_for() {
    let all = catalog(&["a 2", "a 1", "b: Depends: a"]);
    assert_eq!(names(&all, &["b"]), "a=2 b");
    assert_eq!(names(&all, &["b", "a=1"]), "a b");
    assert_eq!(
        failure(&all, &["a=1", "a=2"]),
        "`a=1` is wanted by a test and `a=2` by a test, and a build has one version of a package"
    );
    let bound = catalog(&["a 2", "a 1", "b: Depends: a (>= 2)"]);
    let text = failure(&bound, &["a=1", "b"]);
    assert!(text.ends_with("offers `a` 2 (release), 1 (release), of which 1 is asked for"), "{text}");
    assert!(failure(&all, &["a=3"]).contains("offers `a` 2 (release), 1 (release)"));
}

#[test]
fn recommends_are_followed_when_asked_for_and_dropped_when_in_the_way() {
    let all = catalog(&["a: Recommends: r | s, gone; Depends: d", "d", "r: Conflicts: d", "s"]);
    let mut wish = request(&["a"]);
    assert_eq!(shown(&resolve(&all, &wish).unwrap()), "d a");
    wish.recommends = true;
    assert_eq!(shown(&resolve(&all, &wish).unwrap()), "d a s");
}

#[test]
fn what_is_excluded_is_as_if_the_archive_had_it_not() {
    let all = catalog(&["a: Depends: x | y", "x", "y"]);
    let mut wish = request(&["a"]);
    wish.exclude = vec!["x".into()];
    assert_eq!(shown(&resolve(&all, &wish).unwrap()), "y a");
    wish.install[0].name = "x".into();
    assert!(matches!(resolve(&all, &wish), Err(Error::Excluded { .. })));
}

#[test]
fn optional_wishes_that_cannot_be_met_are_skipped_and_said() {
    let all = catalog(&[
        "a: Conflicts: against",
        "against",
        "bad: Depends: gone",
        "p: Provides: v",
        "q: Provides: v",
        "nice: Depends: more",
        "more",
        "x",
    ]);
    let mut wish = request(&["a"]);
    wish.exclude = vec!["x".into()];
    let names = ["none", "v", "bad", "nice", "against", "x", "a=7", "a=1"];
    wish.optional = names.map(|name| Wanted { name: name.into(), by: "p".into(), layer: 0 }).to_vec();
    let found = super::resolve(&all, &wish).unwrap();
    assert_eq!(shown(&found.packages), "a more nice");
    let skipped: Vec<_> =
        found.skipped.iter().map(|skipped| (skipped.wanted.name.as_str(), skipped.why.as_str())).collect();
    assert_eq!(
        skipped,
        [
            ("none", "package `none` is wanted by p, and the archive has none of that name"),
            ("v", "package `v`, wanted by p, is virtual: p, q provide it"),
            ("bad", "the archive offers no `gone`"),
            ("against", "`a 1` cannot be together with `against 1`"),
            ("x", "package `x` is wanted by p, and is excluded"),
            ("a=7", "version 7 of package `a` is wanted by p, and the archive offers `a` 1 (release)"),
        ]
    );
}

#[test]
fn variants_take_what_their_manual_says() {
    let all = catalog(&[
        "apt",
        "build-essential: Depends: gcc",
        "e: Essential: yes",
        "gcc",
        "i: Priority: important",
        "o: Priority: optional",
        "r: Priority: required",
        "s: Priority: standard",
    ]);
    let of = |variant| shown(&resolve(&all, &Request { variant, ..request(&[]) }).unwrap());
    assert_eq!(of(Variant::Essential), "e");
    assert_eq!(of(Variant::Apt), "e apt");
    assert_eq!(of(Variant::Minbase), "e apt r");
    assert_eq!(of(Variant::Buildd), "e apt gcc build-essential");
    assert_eq!(of(Variant::Important), "e apt i r");
    assert_eq!(of(Variant::Standard), "e apt i r s");
}

#[test]
fn pre_depends_come_first_within_a_cycle() {
    let all = catalog(&["a: Depends: b", "b: Depends: c; Pre-Depends: z", "c: Depends: a", "z: Depends: a"]);
    let order = names(&all, &["a"]);
    assert!(order.find('z') < order.find('b'), "{order}");
}

#[test]
fn says_who_wants_what_down_to_what_the_archive_offers() {
    let all = catalog(&["claude: Depends: node", "node: Depends: lib (>= 2)", "lib 1.5"]);
    assert_eq!(
        failure(&all, &["claude"]),
        "no set of packages meets all wishes\n`claude` is wanted by a test\n`claude 1` depends on `node`\n\
         `node 1` depends on `lib (>= 2)`\nthe archive offers `lib` 1.5 (release)"
    );
}

#[test]
fn says_both_ways_to_a_conflict() {
    let all = catalog(&["a: Depends: x", "b: Depends: y", "x: Breaks: y (<= 1)", "y", "y2: Provides: y"]);
    let text = failure(&all, &["a", "b", "y"]);
    assert!(text.ends_with("`x 1` cannot be together with `y 1`"), "{text}");
    assert!(text.contains("`a` is wanted by a test"), "{text}");
}

#[test]
fn says_a_conflict_of_all_versions_once() {
    let all = catalog(&["a 2: Conflicts: b", "a 1: Conflicts: b", "b 2", "b 1"]);
    let text = failure(&all, &["a", "b"]);
    assert!(text.ends_with("by a test\n`a 2 or 1` cannot be together with `b 2 or 1`"), "{text}");
    let some = catalog(&["a 2: Conflicts: b", "a 1: Conflicts: b (= 1)", "b 2: Depends: gone", "b 1"]);
    let text = failure(&some, &["a", "b"]);
    assert!(text.contains("`a 2` cannot be together with `b 1`\n`a 1` cannot"), "{text}");
}

#[test]
fn suggests_names_that_are_alike() {
    let all = catalog(&["nodejs", "python3"]);
    let Err(error) = resolve(&all, &request(&["nodesj"])) else { panic!("it was found") };
    assert!(matches!(&error, Error::Unknown { near, .. } if near == &["nodejs"]), "{error:?}");
    let all = catalog(&["p: Provides: v", "q: Provides: v", "r: Provides: w"]);
    assert!(failure(&all, &["v"]).ends_with("is virtual: p, q provide it"));
    assert_eq!(names(&all, &["w"]), "r");
}

#[test]
fn takes_the_newest_version_of_what_provides_a_wish() {
    let all = catalog(&["p 1: Provides: v", "p 3: Provides: v", "p 2: Provides: v"]);
    assert_eq!(names(&all, &["v"]), "p=3");
}

#[test]
fn long_chains_do_not_overflow() {
    let count = 10_000;
    let mut lines: Vec<String> = (0..count).map(|n| format!("p{n}: Depends: p{}", n + 1)).collect();
    lines.push(format!("p{count}"));
    let all = catalog(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(resolve(&all, &request(&["p0"])).unwrap().len(), count + 1);
    lines.pop();
    let all = catalog(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(failure(&all, &["p0"]).ends_with("the archive offers no `p10000`"));
}

#[test]
fn long_circles_of_pre_dependencies_do_not_overflow_and_end() {
    let count = 10_000;
    let lines: Vec<String> = (0..count).map(|n| format!("p{n}: Pre-Depends: p{}", (n + 1) % count)).collect();
    let all = catalog(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(resolve(&all, &request(&["p0"])).unwrap().len(), count);
    let mut broken = lines.clone();
    broken[count / 2] += ", gone";
    let all = catalog(&broken.iter().map(String::as_str).collect::<Vec<_>>());
    let text = failure(&all, &["p0"]);
    assert!(text.contains("dependencies more\n"), "nobody reads 5,000 lines: {text}");
    assert!(text.ends_with("`p5000 1` pre-depends on `gone`\nthe archive offers no `gone`"), "{text}");
}

/// Small archives made by chance: the answer must be that of trying every set.
#[test]
fn agrees_with_trying_everything() {
    let mut state = 7_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let (mut met, mut unmet) = (0, 0);
    for _ in 0..600 {
        let mut edges = Vec::new();
        let lines: Vec<String> = (0..8)
            .map(|n| {
                let groups: Vec<Vec<u64>> =
                    (0..random(3)).map(|_| (0..=random(2)).map(|_| random(9)).collect()).collect();
                let against: Vec<u64> = (0..random(3)).map(|_| random(8)).filter(|&m| m != n).collect();
                let text =
                    |list: &[u64], sep| list.iter().map(|m| format!("p{m}")).collect::<Vec<_>>().join(sep);
                let depends = groups.iter().map(|group| text(group, " | ")).collect::<Vec<_>>().join(", ");
                let line = format!("p{n}: Depends: {depends}; Conflicts: {}", text(&against, ", "));
                edges.push((groups, against));
                line
            })
            .collect();
        let all = catalog(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        let holds = |set: u64| {
            let has = |m: u64| m < 8 && set & (1 << m) != 0;
            (0..8).filter(|&n| has(n)).all(|n| {
                let (groups, against) = &edges[usize::try_from(n).unwrap()];
                groups.iter().all(|group| group.contains(&n) || group.iter().any(|&m| has(m)))
                    && !against.iter().any(|&m| has(m))
            })
        };
        let possible = (0..256_u64).any(|set| set & 3 == 3 && holds(set));
        match resolve(&all, &request(&["p0", "p1"])) {
            Ok(packages) => {
                let set = packages.iter().map(|p| 1_u64 << p.name[1..].parse::<u32>().unwrap()).sum::<u64>();
                assert!(set & 3 == 3 && holds(set), "{lines:#?} gave {set:b}");
                met += 1;
            }
            Err(Error::Unsatisfiable { chain }) => {
                assert!(!possible, "{lines:#?} has an answer");
                assert!(chain.facts().count() >= 2, "{chain}");
                unmet += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(met > 100 && unmet > 100, "{met} met, {unmet} not: the archives are too easy");
}
