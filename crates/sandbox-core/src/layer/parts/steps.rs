//! Commands of profiles, run contained in the tree while it is built.

use std::path::Path;

use super::{PartError, files};
use crate::{
    configure,
    host::{
        root::{Meta, Root},
        runner::{Command, Person},
    },
    layer::Doors,
    spec::Step,
};

/// Where a tree's programs look for resolvers.
const RESOLV_CONF: &str = "etc/resolv.conf";

/// Names a step by its command.
pub(super) fn subject(step: &Step) -> String {
    step.argv.join(" ")
}

/// Runs a step.
pub(super) fn run(root: &Root, step: &Step, epoch: i64, doors: &Doors<'_>) -> Result<(), PartError> {
    let what = || format!("step `{}`", subject(step));
    let account = files::account(root, &step.user, Path::new("/"))
        .map_err(|_| PartError::User { user: step.user.clone(), what: what() })?;
    let mut command = configure::environment(Command::new(&step.argv).in_tree(root.path()), epoch);
    let own = [("HOME", &account.home), ("USER", &step.user), ("LOGNAME", &step.user)];
    for (key, value) in own.into_iter().chain(step.environment.iter().map(|(key, value)| (&**key, value))) {
        command.env.retain(|(known, _)| known != key);
        command = command.env(key, value);
    }
    command.network = step.network;
    if account.uid != 0 {
        command.person = Some(Person { uid: account.uid, gid: account.gid, groups: account.groups });
    }
    let ran = || doors.runner.run(&command).map(drop);
    let ran = if step.network { with_resolvers(root, epoch, ran)? } else { ran() };
    ran.map_err(|source| PartError::Command { what: what(), source })
}

/// Lends the tree the host's resolvers for as long as something runs. What stood there stands there again, also
/// where that failed: a link, mostly, which leads to a file that only a booted guest has.
fn with_resolvers<T>(root: &Root, epoch: i64, run: impl FnOnce() -> T) -> Result<T, PartError> {
    let path = Path::new(RESOLV_CONF);
    let aside = Path::new("etc/.resolv.conf.sandbox");
    let failed = || files::failed(Path::new("/etc/resolv.conf"));
    let there = root.kind(path).map_err(failed())?.is_some();
    if there {
        root.rename(path, aside).map_err(failed())?;
    }
    let text = std::fs::read("/etc/resolv.conf").unwrap_or_default();
    root.write(path, &text, Meta::of_root(0o644, epoch)).map_err(failed())?;
    let ran = run();
    root.remove(path).map_err(failed())?;
    if there {
        root.rename(aside, path).map_err(failed())?;
    }
    Ok(ran)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::root::Links;

    #[test]
    fn resolvers_are_lent_and_taken_back() {
        let tree = tempfile::tempdir().unwrap();
        let at = tree.path().join(RESOLV_CONF);
        std::fs::create_dir(tree.path().join("etc")).unwrap();
        let root = Root::open(tree.path(), Links::InTree).unwrap();
        let host = std::fs::read("/etc/resolv.conf").unwrap_or_default();
        assert_eq!(with_resolvers(&root, 0, || std::fs::read(&at).unwrap()).unwrap(), host);
        assert!(!at.exists());
        std::os::unix::fs::symlink("../run/stub", &at).unwrap();
        assert_eq!(with_resolvers(&root, 0, || std::fs::read(&at).unwrap()).unwrap(), host);
        assert_eq!(std::fs::read_link(&at).unwrap(), Path::new("../run/stub"));
        assert_eq!(std::fs::read_dir(tree.path().join("etc")).unwrap().count(), 1);
    }
}
