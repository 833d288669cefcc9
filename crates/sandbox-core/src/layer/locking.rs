//! What an order is built of exactly: a lock made of the archive, or one that was made before and still does.

use super::{Doors, Order, choose, parts::fetched, sources::sources};
use crate::{
    Error, Result, archive,
    digest::Sha256,
    error::Context as _,
    keyring::shipped,
    lock::{Input, Lock, SourceWish, Unmet, Unsatisfied, Wish, Wishes},
    report::Event,
    resolve::Variant,
    store::StoreError,
};

/// Locks what an order asks for, fetching nothing but indexes.
///
/// # Errors
/// Of the stage that failed.
pub fn lock(order: &Order, doors: &Doors<'_>) -> Result<Lock> {
    locked_by(order, None, doors)
}

/// Locks as [`lock`] does, and lets another see indexes while they are decoded.
pub(super) fn locked_by(
    order: &Order,
    early: Option<&dyn archive::Early>,
    doors: &Doors<'_>,
) -> Result<Lock> {
    let (mut lock, mut old) = choose(order, early, doors)?;
    lock.parts = fetched::lock(order, &lock, &mut old, doors)?;
    report_old(&old, doors);
    Ok(lock)
}

/// Warns in one line of what is as it was found before, because nothing that could be asked answered.
pub(super) fn report_old(old: &[String], doors: &Doors<'_>) {
    if !old.is_empty() {
        let text = format!(
            "what could not be asked for is as the cache has it: {}; newer versions and security updates may be missing",
            old.join(", ")
        );
        doors.reporter.report(Event::Warning { text });
    }
}

/// Gives the order's lock, seen to do for it.
pub(super) fn held(order: &Order, locked: &Lock) -> Result<Lock> {
    let unmet = unmet(order, locked)?;
    if unmet.is_empty() {
        return Ok(locked.clone());
    }
    let command = command(order);
    Err(Unsatisfied { unmet, command }).during("build from", "the lock")
}

/// Tells what of an order a lock does not meet, without a network.
///
/// # Errors
/// What is wrong with the order itself.
pub fn unmet(order: &Order, lock: &Lock) -> Result<Vec<Unmet>> {
    let wishes = wishes(order, lock).during("read", format!("image `{}`", order.spec.image))?;
    Ok(crate::lock::unmet(lock, &wishes))
}

/// Lists the files that are no longer as they were when a lock was made, in words: ``profile `docker` ``.
///
/// They need not make the lock wrong: what counts is whether it still meets the wishes.
#[must_use]
pub fn changed(order: &Order, lock: &Lock) -> Vec<String> {
    let now = inputs(order);
    let other = |input: &&Input| !lock.inputs.contains(input);
    now.iter().filter(other).map(|input| format!("{} `{}`", input.kind, input.name)).collect()
}

fn wishes(order: &Order, lock: &Lock) -> Result<Wishes, super::OrderError> {
    let spec = &order.spec;
    let by = |package: &String, otherwise: &str| {
        let file = spec.wanted_by.iter().find(|(known, _)| known == package);
        file.map_or_else(|| otherwise.to_owned(), |(_, file)| file.clone())
    };
    let wish = |package: &String| Wish { name: package.clone(), by: by(package, "--include") };
    let packages = &spec.layer.packages;
    let source = |source: archive::Source| SourceWish {
        id: source.id,
        suite: source.suite,
        components: source.components,
        signers: source.keyring.signers().iter().map(ToString::to_string).collect(),
    };
    Ok(Wishes {
        image: spec.image.clone(),
        architecture: order.architecture.clone(),
        variant: order.variant.to_string(),
        recommends: order.recommends,
        sources: sources(order)?.into_iter().map(source).collect(),
        install: packages.install.iter().chain(&order.include).map(wish).collect(),
        optional: packages.if_available.iter().map(wish).collect(),
        exclude: packages.exclude.iter().chain(&order.exclude).cloned().collect(),
        parts: fetched::wishes(order, lock),
    })
}

/// Lists the files that an order is made of, with their digests.
pub(super) fn inputs(order: &Order) -> Vec<Input> {
    let file =
        |kind: &str, name: &str, sha256| Input { kind: kind.to_owned(), name: name.to_owned(), sha256 };
    let spec = &order.spec;
    let mut inputs: Vec<Input> =
        spec.files.iter().map(|stacked| file(stacked.kind.word(), &stacked.name, stacked.digest)).collect();
    if let Some(bytes) = shipped(&spec.keyring) {
        inputs.push(file("keyring", &spec.keyring, Sha256::of(bytes)));
    }
    let added = |name, keyrings: &[Vec<u8>]| {
        keyrings.iter().map(|bytes| file("keyring", name, Sha256::of(bytes))).collect::<Vec<_>>()
    };
    inputs.extend(added("--keyring", &order.keyrings));
    inputs.extend(added("--keyring-only", &order.keyrings_only));
    inputs.extend(
        order.spec.sources.iter().map(|extra| file("keyring", &extra.source.name, Sha256::of(&extra.key))),
    );
    inputs
}

/// Gives a lock whose packages are looked for at the order's mirrors too, before those that the lock names: the
/// lock may be of another host, whose mirrors are not to be reached from here.
pub(super) fn reachable(lock: &Lock, sources: &[archive::Source]) -> Lock {
    let mut reachable = lock.clone();
    for source in &mut reachable.sources {
        let Some(own) = sources.iter().find(|own| own.id == source.id) else { continue };
        // what the host's apt uses was seen to be a mirror where the lock names it; other guesses are not asked for files
        let seen = own.guesses.iter().filter(|guess| source.mirrors.contains(guess));
        let first: Vec<String> = seen.chain(&own.mirrors).cloned().collect();
        let locked = std::mem::replace(&mut source.mirrors, first.clone());
        source.mirrors.extend(locked.into_iter().filter(|mirror| !first.contains(mirror)));
    }
    reachable
}

/// Tells whether a build failed because the archive may be another by now.
pub(super) fn may_have_moved(problem: &Error) -> bool {
    let cause: &dyn std::error::Error = problem.cause();
    cause.downcast_ref::<StoreError>().is_some_and(StoreError::may_have_moved)
}

/// Words the command that makes a lock for an order.
fn command(order: &Order) -> String {
    let mut words = vec!["sandbox lock".to_owned(), order.asked.image.clone()];
    let mut list = |option: &str, values: &[String]| {
        if !values.is_empty() {
            words.push(format!("{option} {}", values.join(",")));
        }
    };
    list("--profile", &order.asked.profiles);
    if order.variant != Variant::default() {
        list("--variant", &[order.variant.to_string()]);
    }
    list("--include", &order.include);
    list("--exclude", &order.exclude);
    if order.recommends {
        words.push("--recommends".to_owned());
    }
    words.join(" ")
}
