//! Our choice beside apt's: the same package sets, of the same indexes, into the same nothing.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use sandbox_core::{
    deb::packages::Catalog,
    resolve::{self, Request, Variant, Wanted},
};

use crate::{
    apt::{Apt, Set},
    lab::Lab,
    runner::line,
};

/// Sets on which we differ, each with its reason; docs/resolver.md has the same list.
const DIFFERENCES: &str = include_str!("sets/differences");

/// How many runs of apt go side by side.
const JOBS: usize = 2;

/// Of so many sets one is also simulated to the end, which must install what was chosen.
const SIMULATED: usize = 8;

pub fn the_choice_of_trixie_is_apts(lab: &Lab) {
    compare(lab, "trixie", include_str!("sets/trixie"));
}

pub fn the_choice_of_bookworm_is_apts(lab: &Lab) {
    compare(lab, "bookworm", include_str!("sets/bookworm"));
}

/// A line of the data files: `minbase+recommends docker.io git`.
struct Wish {
    text: String,
    variant: Variant,
    recommends: bool,
    packages: Vec<String>,
}

fn wishes(text: &str) -> Vec<Wish> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split(' ');
            let first = words.next().expect("a variant");
            let (variant, recommends) = match first.strip_suffix("+recommends") {
                Some(variant) => (variant, true),
                None => (first, false),
            };
            Wish {
                text: line.to_owned(),
                variant: variant.parse().expect("a variant"),
                recommends,
                packages: words.map(str::to_owned).collect(),
            }
        })
        .collect()
}

/// What a set came to, on both sides.
struct Outcome {
    apt: Result<Set, String>,
    ours: Result<Set, String>,
}

fn compare(lab: &Lab, suite: &str, sets: &str) {
    let wishes = wishes(sets);
    let apt = Apt::of(lab, suite);
    let catalog = Catalog::read(apt.indexes(), "amd64").expect("a catalogue");
    let outcomes = outcomes(&apt, &catalog, suite, &wishes);

    let (mut compared, mut equal) = (0, 0);
    let mut differing: BTreeMap<&str, String> = BTreeMap::new();
    for (wish, outcome) in wishes.iter().zip(&outcomes) {
        match (&outcome.apt, &outcome.ours) {
            (Err(_), Err(_)) => continue,
            (Ok(apt), Ok(ours)) if apt == ours => equal += 1,
            (Ok(apt), Ok(ours)) => {
                let only = |a: &Set, b: &Set| a.difference(b).cloned().collect::<Vec<_>>().join(", ");
                differing.insert(
                    &wish.text,
                    format!("only apt: {}; only we: {}", only(apt, ours), only(ours, apt)),
                );
            }
            (Ok(_), Err(why)) => drop(differing.insert(&wish.text, format!("we refuse: {why}"))),
            (Err(why), Ok(_)) => drop(differing.insert(&wish.text, format!("apt refuses: {why}"))),
        }
        compared += 1;
    }
    line(&format!(
        "     {suite}: {equal} of {compared} sets are equal, {} more both refuse",
        wishes.len() - compared
    ));
    let permitted = permitted(suite);
    let unlisted: Vec<_> = differing.iter().filter(|(set, _)| !permitted.contains_key(**set)).collect();
    assert!(unlisted.is_empty(), "not in tests/archive/sets/differences: {unlisted:#?}");
    let gone: Vec<_> = permitted.keys().filter(|set| !differing.contains_key(**set)).collect();
    assert!(gone.is_empty(), "in tests/archive/sets/differences, and do not differ any more: {gone:?}");
    assert!(
        compared >= 200,
        "{compared} sets only can be compared: the archive moved on, add to tests/archive/sets/{suite}"
    );
    assert!(equal * 100 >= compared * 99, "{equal} of {compared} are less than 99 %: {differing:#?}");
}

/// Runs both sides: apt in two threads, and us in this one.
fn outcomes(apt: &Apt, catalog: &Catalog, suite: &str, wishes: &[Wish]) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(wish) = wishes.get(at) else { return done };
            let mut names = of_variant(suite, wish.variant);
            names.extend(wish.packages.iter().cloned());
            let chosen = apt.choose(wish.recommends, &names);
            if at.is_multiple_of(SIMULATED)
                && let Ok(chosen) = &chosen
            {
                let simulated = apt.simulate(wish.recommends, &names);
                assert_eq!(
                    simulated.as_ref(),
                    Ok(chosen),
                    "apt's choice is not what it simulates: {}",
                    wish.text
                );
            }
            done.push((at, chosen));
        }
    };
    let (mut theirs, ours) = thread::scope(|scope| {
        let jobs: Vec<_> = (0..JOBS).map(|_| scope.spawn(work)).collect();
        let ours: Vec<_> = wishes.iter().map(|wish| chosen(catalog, wish)).collect();
        let theirs: Vec<_> = jobs.into_iter().flat_map(|job| job.join().expect("apt ran")).collect();
        (theirs, ours)
    });
    theirs.sort_by_key(|(at, _)| *at);
    theirs.into_iter().zip(ours).map(|((_, apt), ours)| Outcome { apt, ours }).collect()
}

/// Chooses packages with nothing essential about them.
pub fn chosen_of(catalog: &Catalog, packages: &[String]) -> Result<Set, String> {
    let (text, packages) = (String::new(), packages.to_vec());
    chosen(catalog, &Wish { text, variant: Variant::Essential, recommends: false, packages })
}

fn chosen(catalog: &Catalog, wish: &Wish) -> Result<Set, String> {
    let wanted = |name: &String| Wanted { name: name.clone(), by: "the test".to_owned(), layer: 0 };
    let request = Request {
        architecture: "amd64".to_owned(),
        variant: wish.variant,
        install: wish.packages.iter().map(wanted).collect(),
        recommends: wish.recommends,
        ..Request::default()
    };
    let resolved = resolve::resolve(catalog, &request).map_err(|error| {
        let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
        causes.map(ToString::to_string).collect::<Vec<_>>().join("; ")
    })?;
    let shown = |package: &sandbox_core::lock::LockedPackage| {
        format!("{}:{} {}", package.name, package.architecture, package.version)
    };
    Ok(resolved.packages.iter().map(shown).collect())
}

/// Says a variant in apt's patterns.
///
/// **Source**: mmdebstrap(1) 1.5, VARIANTS.
pub fn of_variant(suite: &str, variant: Variant) -> Vec<String> {
    let narrow = |what: &str| {
        format!("?narrow(?or(?archive(^{suite}$),?codename(^{suite}$)),?architecture(amd64),{what})")
    };
    let priorities = match variant {
        Variant::Essential | Variant::Apt | Variant::Buildd => None,
        Variant::Minbase => Some("?priority(required)"),
        Variant::Important => Some("?or(?priority(required),?priority(important))"),
        Variant::Standard => Some("?or(?priority(required),?priority(important),?priority(standard))"),
    };
    let mut wishes = vec![narrow("?essential")];
    wishes.extend(priorities.map(|priorities| narrow(&format!("?and({priorities},?not(?essential))"))));
    if variant != Variant::Essential {
        wishes.push("apt".to_owned());
    }
    if variant == Variant::Buildd {
        wishes.push("build-essential".to_owned());
    }
    wishes
}

/// Reads the list of differences of a suite: `suite: set: reason`.
fn permitted(suite: &str) -> BTreeMap<&'static str, &'static str> {
    let lines = DIFFERENCES.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let parts = lines.map(|line| line.splitn(3, ": ").collect::<Vec<_>>());
    parts
        .map(|parts| (parts[0], (parts[1], parts[2])))
        .filter(|(of, _)| *of == suite)
        .map(|(_, rest)| rest)
        .collect()
}
