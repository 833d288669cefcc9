//! Files of git repositories: locked by commit, fetched over git's own protocol, offline afterwards.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use crate::{
    kit::{server::Fault, vendor::sha256},
    stack::{FORGE, Stack},
    user::said,
};

const REPOSITORY: &str = "o/skills.git";

fn git(revision: &str) -> String {
    format!("[[git]]\nurl = \"{FORGE}/{REPOSITORY}\"\ninto = \"/opt/skills\"\nrevision = \"{revision}\"\n")
}

fn stack() -> (Stack, String) {
    let stack = Stack::new();
    // large enough that git packs one as the difference to the other
    let long = |end: &str| (0..400).map(|line| format!("line {line}\n")).collect::<String>() + end;
    stack.vendor.commit(
        REPOSITORY,
        "first",
        &[("README", "one\n"), ("a/long", &long("one")), ("run.sh", "#!/bin/sh\n")],
    );
    std::os::unix::fs::symlink("../README", stack.vendor.work(REPOSITORY).join("a/link")).unwrap();
    let commit = stack.vendor.commit(REPOSITORY, "second", &[("README", "two\n"), ("b/long", &long("two"))]);
    (stack, commit)
}

#[test]
fn a_branch_is_locked_at_its_commit_and_built_of_that() {
    let (stack, commit) = stack();
    stack.profile(&git("main"));
    let lock = stack.locked();
    let part = format!(
        "[[part]]\nkind = \"git\"\nurl = \"{FORGE}/{REPOSITORY}\"\ncommit = \"{commit}\"\nrevision = \"main\"\nsha256 = "
    );
    assert!(lock.contains(&part), "{lock}");
    // the branch goes on, and the lock does not
    stack.vendor.commit(REPOSITORY, "third", &[("README", "three\n")]);
    fs::remove_dir_all(stack.user.path("cache")).unwrap();
    let output = stack.build("tree");
    assert!(output.status.success(), "{}", said(&output));
    let log = stack.vendor.server().log();
    assert!(log.iter().skip(2).all(|request| request.path.ends_with("/git-upload-pack")), "{log:?}");
    let files = stack.user.path("tree/opt/skills");
    assert_eq!(fs::read_to_string(files.join("README")).unwrap(), "two\n");
    assert!(fs::read_to_string(files.join("b/long")).unwrap().ends_with("line 399\ntwo"));
    assert!(fs::read_to_string(files.join("a/long")).unwrap().ends_with("line 399\none"));
    assert_eq!(fs::read_link(files.join("a/link")).unwrap(), Path::new("../README"));
    let mode = |name: &str| fs::metadata(files.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("run.sh"), mode("README"), mode("a")), (0o755, 0o644, 0o755));
    assert!(!files.join(".git").exists());
    // a second build needs nobody
    stack.vendor.server().fault("", Fault::Status(503), u32::MAX);
    let bytes = ["one.tar", "two.tar"].map(|name| {
        let output = stack.build(name);
        assert!(output.status.success(), "{}", said(&output));
        sha256(&fs::read(stack.user.path(name)).unwrap())
    });
    assert_eq!(bytes[0], bytes[1]);
}

#[test]
fn a_revision_is_a_branch_a_tag_or_a_whole_commit() {
    let (stack, commit) = stack();
    stack.vendor.in_repository(REPOSITORY, &["tag", "-a", "-m", "a tag", "v1", "HEAD~1"]);
    let first = stack.vendor.in_repository(REPOSITORY, &["rev-parse", "HEAD~1"]);
    for (revision, is) in [("HEAD", &commit), ("refs/heads/main", &commit), ("v1", &first), (&first, &first)]
    {
        stack.profile(&git(revision));
        assert!(
            stack.locked().contains(&format!("commit = \"{is}\"\nrevision = \"{revision}\"")),
            "{revision}"
        );
    }
    stack.profile(&git("v2"));
    stack.refuses_to_lock(1, "has no branch or tag `v2`");
    stack.profile(&git(&commit[..8]));
    stack.refuses_to_lock(1, "all of its 40 digits");
    stack.profile(&git(&"ab".repeat(20)));
    stack.refuses_to_lock(5, "the repository says: ");
    stack.profile(&git("main").replace(REPOSITORY, "o/none.git"));
    stack.refuses_to_lock(1, "does not exist");
    stack.vendor.put("/o/dumb.git/info/refs", format!("{commit}\trefs/heads/main\n").as_bytes());
    stack.profile(&git("main").replace(REPOSITORY, "o/dumb.git"));
    stack.refuses_to_lock(5, "does not answer as git's smart HTTP does");
}

#[test]
fn what_is_not_the_locks_is_refused() {
    let (stack, commit) = stack();
    stack.profile(&git("main"));
    let lock = stack.locked();
    let digest = lock.rsplit("sha256 = ").next().unwrap().trim().trim_matches('"').to_owned();
    fs::write(stack.user.path("sandbox.lock"), lock.replace(&digest, &sha256(b"other"))).unwrap();
    let output = stack.build("tree");
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(
        said(&output).contains(&format!("the files of commit {commit} are {digest}")),
        "{}",
        said(&output)
    );
    // a pack with one byte changed
    stack.locked();
    fs::remove_dir_all(stack.user.path("cache")).unwrap();
    stack.vendor.put(
        &format!("/{REPOSITORY}/git-upload-pack"),
        b"0008NAK\nPACK\0\0\0\x02\0\0\0\0aaaaaaaaaaaaaaaaaaaa",
    );
    stack.vendor.server().fault("git-upload-pack", Fault::NoRange, 1);
    let output = stack.build("tree");
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(said(&output).contains("what came is damaged"), "{}", said(&output));
}

#[test]
fn submodules_and_links_that_lead_out_are_refused() {
    let (stack, commit) = stack();
    let module = format!("160000,{commit},sub/module");
    stack.vendor.in_repository(REPOSITORY, &["update-index", "--add", "--cacheinfo", &module]);
    stack.vendor.in_repository(REPOSITORY, &["commit", "--quiet", "-m", "module"]);
    stack.profile(&git("main"));
    stack.refuses_to_lock(1, "it has the submodule `sub/module`");
    let (stack, _) = self::stack();
    std::os::unix::fs::symlink("/etc/passwd", stack.vendor.work(REPOSITORY).join("out")).unwrap();
    stack.vendor.commit(REPOSITORY, "out", &[]);
    stack.profile(&git("main"));
    stack.refuses_to_build(4, "the link `out` to `/etc/passwd`");
}
