//! The programs in `guest/`, compiled for machines that need not have a C library.

use std::{fs, path::Path, time::Duration};

use crate::{
    process::{self, command},
    runner::skip,
};

/// All of them.
const PROGRAMS: [&str; 8] = ["answerer", "bounded", "catcher", "deep", "many", "prober", "socket", "swapper"];

/// Compiles them into a directory; returns each with its bytes.
#[track_caller]
pub fn compile(into: &Path) -> Vec<(&'static str, Vec<u8>)> {
    if command(&["cc", "--version"]).output().is_err() {
        skip("needs a C compiler (scripts/setup build)");
    }
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/hostile/guest");
    let one = |program: &'static str| {
        let source = sources.join(program).with_extension("c");
        let made = into.join(program);
        let (source, target) = (source.to_str().expect("text"), made.to_str().expect("text"));
        let argv = ["cc", "-static", "-O1", "-Wall", "-o", target, source];
        process::run(&argv, "", Duration::from_secs(60)).ok();
        (program, fs::read(&made).expect("what was compiled"))
    };
    PROGRAMS.map(one).to_vec()
}
