//! What a command line and a lock mean together: what is not given is as the lock was made for.

use std::{fs, io::Read as _, path::Path};

use sandbox_core::{
    error::{Context as _, shell_word},
    layer::Order,
    lock::{self, Lock},
};

use super::build;
use crate::{args::Build, exit::Exit, failure::Failure, settings::Settings};

/// The most bytes that a lock may have: some fifty thousand packages.
const LIMIT: u64 = 64 << 20;

/// Reads a lock.
///
/// # Errors
/// Where it cannot be read, or is none.
pub fn read(path: &Path) -> Result<Lock, Failure> {
    let failed = |error: std::io::Error| {
        Failure::said(Exit::FILE, format!("the lock {} cannot be read: {error}", path.display()))
            .hint("make one", format!("sandbox lock trixie --output {}", shell_word(&path.to_string_lossy())))
    };
    let mut text = String::new();
    fs::File::open(path).and_then(|file| file.take(LIMIT).read_to_string(&mut text)).map_err(failed)?;
    Ok(lock::read(&text).during("read", format!("the lock {}", path.display()))?)
}

/// Makes an order of arguments, where a lock says what they leave open.
///
/// # Errors
/// Where an argument or a file is wrong.
pub fn order(
    lock: &Lock,
    args: &Build,
    suite: Option<&str>,
    profiles: &[String],
    hostname: Option<&str>,
    settings: &Settings,
) -> Result<Order, Failure> {
    let asked = &lock.asked;
    let suite = suite.unwrap_or(&asked.image);
    let list = |given: &[String], locked: &[String]| if given.is_empty() { locked } else { given }.to_vec();
    let filled = Build {
        variant: args.variant.clone().or_else(|| Some(asked.variant.clone())),
        include: list(&args.include, &asked.include),
        exclude: list(&args.exclude, &asked.exclude),
        recommends: args.recommends || asked.recommends,
        ..args.clone()
    };
    let profiles = list(profiles, &asked.profiles);
    let mut order = build::order(&filled, suite, &profiles, hostname.unwrap_or(suite), settings)?;
    if args.pocket.is_empty() {
        let known = |id: &&str| order.spec.layer.pocket.iter().any(|pocket| pocket.name == *id);
        let locked = lock.sources.iter().map(|source| source.id.as_str());
        order.pockets = Some(locked.filter(|id| *id != "release").filter(known).map(str::to_owned).collect());
    }
    if let (None, Some(source)) = (&order.components, lock.sources.first()) {
        order.components = Some(source.components.clone());
    }
    Ok(order)
}

/// Makes the order of a build, of a lock where one is given.
///
/// # Errors
/// Where an argument or a file is wrong.
pub fn or_not(
    locked: Option<&Path>,
    args: &Build,
    suite: Option<&str>,
    profiles: &[String],
    hostname: Option<&str>,
    settings: &Settings,
) -> Result<Order, Failure> {
    let Some(path) = locked else {
        let suite = suite.unwrap_or("trixie");
        return build::order(args, suite, profiles, hostname.unwrap_or(suite), settings);
    };
    let lock = read(path)?;
    let order = order(&lock, args, suite, profiles, hostname, settings)?;
    Ok(Order { locked: Some(lock), ..order })
}
