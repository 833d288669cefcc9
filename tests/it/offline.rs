//! Without a network: what is in the cache is used, and what could not be asked for is said in one line.

use std::{fs, process::Output};

use crate::{
    kit::server::Fault,
    stack::{FORGE, Stack},
    user::said,
};

const TOOL: &[u8] = b"#!/bin/sh\n";

fn stack() -> Stack {
    let stack = Stack::new();
    stack.vendor.release("o/tool", "v1.2.3", &[("tool", TOOL)]);
    stack.profile(&format!(
        "[[download]]\nname = \"tool\"\nlatest = \"{FORGE}/o/tool/releases/latest\"\n\
         url = \"{FORGE}/o/tool/releases/download/v{{version}}/tool\"\n\
         checksums = \"{FORGE}/o/tool/releases/download/v{{version}}/checksums.txt\"\n\
         architectures = {{ amd64 = {{ word = \"x86_64\" }} }}\ninto = \"/opt/tool\"\narchive = \"none\"\n"
    ));
    stack
}

#[track_caller]
fn warned(output: &Output) -> String {
    let told = said(output);
    assert!(output.status.success(), "{told}");
    let warnings: Vec<_> = told.lines().filter(|line| line.trim_start().starts_with("warning ")).collect();
    assert_eq!(warnings.len(), 1, "{told}");
    warnings[0].to_owned()
}

#[test]
fn what_is_in_the_cache_is_built_and_what_could_not_be_asked_is_said_in_one_line() {
    let stack = stack();
    let online = stack.locked();
    let output = stack.run(&["bootstrap", "kit", "online"]);
    assert!(output.status.success(), "{}", said(&output));
    stack.cut_off();
    let warning = warned(&stack.lock());
    assert!(warning.contains("the package lists of ") && warning.contains(", tool 1.2.3 of "), "{warning}");
    assert_eq!(fs::read_to_string(stack.user.path("sandbox.lock")).unwrap(), online);
    warned(&stack.run(&["bootstrap", "kit", "offline"]));
    let tool = |tree: &str| fs::read(stack.user.path(tree).join("opt/tool")).ok();
    assert_eq!(tool("offline"), tool("online"));
    let warning = warned(&stack.run(&["resolve", "kit"]));
    assert!(warning.contains("the package lists of "), "{warning}");
    // a lock names all of it, and nothing is asked for
    let output = stack.build("locked");
    assert!(output.status.success() && !said(&output).contains("warning"), "{}", said(&output));
    // with nothing in the cache there is one reason, and what helps
    fs::remove_dir_all(stack.user.path("cache")).unwrap();
    let output = stack.lock();
    let told = said(&output);
    assert_eq!(output.status.code(), Some(5), "{told}");
    assert_eq!(told.matches("because ").count(), 2, "{told}");
    assert!(told.contains("cannot be reached: Connection refused") && told.contains("--locked"), "{told}");
}

#[test]
fn a_vendor_alone_that_does_not_answer_is_said_and_an_archive_alone_is_an_error() {
    let stack = stack();
    stack.locked();
    stack.vendor.server().fault("", Fault::Status(503), u32::MAX);
    let warning = warned(&stack.lock());
    assert!(warning.contains(" tool 1.2.3 of ") && !warning.contains("lists"), "{warning}");
    // what was never found is not known
    stack.profile(&format!("[[git]]\nurl = \"{FORGE}/o/x.git\"\ninto = \"/opt/x\"\nrevision = \"main\"\n"));
    assert_eq!(stack.lock().status.code(), Some(5));
}
