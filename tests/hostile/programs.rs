//! The programs in `guest/`, compiled for machines that need not have a C library.

use std::{fs, path::Path, time::Duration};

use crate::{
    process::{self, command},
    runner::skip,
};

/// All of them.
const PROGRAMS: [&str; 10] = [
    "answerer",
    "bounded",
    "catcher",
    "deep",
    "exchanger",
    "interpreter",
    "many",
    "prober",
    "socket",
    "swapper",
];

/// Those that need no compiler.
const SCRIPTS: [(&str, &str); 2] =
    [("sender.pl", include_str!("guest/sender.pl")), ("receiver.pl", include_str!("guest/receiver.pl"))];

/// Compiles them into a directory; returns each with its bytes, and the library and the scripts.
#[track_caller]
pub fn compile(into: &Path) -> Vec<(&'static str, Vec<u8>)> {
    if command(&["cc", "--version"]).output().is_err() {
        skip("needs a C compiler (scripts/setup build)");
    }
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/hostile/guest");
    let one = |program: &str, name: &'static str, how: &[&str]| {
        let source = sources.join(program).with_extension("c");
        let made = into.join(name);
        let (source, target) = (source.to_str().expect("text"), made.to_str().expect("text"));
        let argv = [&["cc", "-O1", "-Wall", "-o", target, source], how].concat();
        process::run(&argv, "", Duration::from_secs(60)).ok();
        (name, fs::read(&made).expect("what was compiled"))
    };
    let mut all = PROGRAMS.map(|program| one(program, program, &["-static"])).to_vec();
    all.push(one("interpreter", "preloaded.so", &["-shared", "-fPIC", "-DPRELOADED"]));
    all.extend(SCRIPTS.map(|(name, text)| (name, text.as_bytes().to_vec())));
    all
}
