//! A build that is interrupted or killed: what is left, and what the next one does with it.

use std::{
    process::{Child, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    kit::{
        archive::Archive,
        cache,
        compress::Compression,
        deb::Deb,
        server::{Fault, Server},
        system::system,
    },
    user::{BOOTSTRAP, User, said},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for a state, and says which one where it does not come.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Starts a build that comes to a halt in the middle of a package.
fn stalled(user: &User, server: &Server) -> Child {
    server.fault("big_", Fault::Stall(1000, 60_000), 1);
    let args = [&BOOTSTRAP[..], &["--include", "hello,big"]].concat();
    let child =
        user.command(&args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the package is asked for", || server.log().iter().any(|request| request.path.contains("big_")));
    assert!(user.path(".tree.sandbox-partial").is_dir(), "the tree is built beside its target");
    child
}

fn end(mut child: Child, signal: Signal) -> ExitStatus {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
    let mut status = None;
    until("the program ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

fn leaves_no_tree(user: &User, what: &str) {
    assert!(!user.path("tree").exists(), "{what}");
    assert!(!user.path(".tree.sandbox-partial").exists(), "{what}");
    assert_eq!(std::fs::read_to_string(user.path("outside/canary")).unwrap(), "alive", "{what}");
}

#[test]
fn an_interrupted_build_leaves_nothing() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let archive = Archive::small();
        let server = Server::new(archive.root());
        let user = User::new(&archive, server.url());
        let status = end(stalled(&user, &server), signal);
        assert_eq!(status.code(), Some(code), "{signal}");
        leaves_no_tree(&user, signal.as_str());
    }
}

#[test]
fn an_interrupted_packing_leaves_nothing() {
    let mut archive = Archive::new();
    archive.fill();
    archive.add(&system());
    // enough to be caught at it, and no bomb
    let noise: Vec<u8> =
        (0_u32..32 << 20).flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let heavy = Deb::new("heavy", "1").compressed(Compression::None);
    archive.add(&heavy.file("usr/share/noise", 0o644, &noise));
    archive.publish();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    let mut args = BOOTSTRAP;
    args[2] = "tree.tar.zst";
    let mut command = user.command(&[&args[..], &["--include", "heavy"]].concat());
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let work = user.path(".tree.tar.zst.sandbox-partial");
    until("the tree is packed", || {
        let entries = std::fs::read_dir(&work).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.file_name() != "tree")
    });
    assert_eq!(end(child, Signal::SIGINT).code(), Some(130));
    let entries = std::fs::read_dir(user.path("")).unwrap().flatten();
    let left: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert!(!left.iter().any(|name| name.contains("tree") || name.contains("tmp")), "{left:?}");
}

#[test]
fn what_a_killed_build_leaves_is_cleaned_by_the_next() {
    let archive = Archive::small();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    let status = end(stalled(&user, &server), Signal::SIGKILL);
    assert_eq!(status.code(), None, "it was killed");
    assert!(!user.path("tree").exists(), "a killed build is no tree");
    std::fs::write(user.path(".tree.sandbox-partial/stale"), "of the killed build").unwrap();

    server.heal();
    let next = user.bootstrap("hello,big");
    // they hold no dpkg: what the next build says is about the tree, and no longer about packages
    assert_ne!(next.status.code(), Some(4), "{}", said(&next));
    assert_ne!(next.status.code(), Some(5), "{}", said(&next));
    leaves_no_tree(&user, "after the next build");
    assert!(cache::sound(&user.path("cache")).len() >= 3, "{}", said(&next));
}
