//! What a tree of another tool lacks to be a machine here: `create` puts it into sandbox's own trees.
//!
//! Only what is missing is added, and nothing that its administrator chose otherwise is changed: a manager that has the
//! link to itself keeps it, what is masked stays masked. Each change is reported.

use std::{io, net::IpAddr, path::Path};

use rustix::fs::FileType;

use crate::{
    host::root::{Meta, Root},
    machine::{
        managers::{self, Manager, NETWORKD, RESOLVED},
        network::{Names, is_private, nameservers},
    },
};

const RESOLV_CONF: &str = "etc/resolv.conf";

/// Where an earlier file is found.
const BEFORE: &str = "etc/resolv.conf.before-import";

/// What systemd-resolved writes for programs.
///
/// **Source**: systemd-resolved.service(8), "/etc/resolv.conf".
pub(super) const STUB: &str = "../run/systemd/resolve/stub-resolv.conf";

/// Adds what is missing, and returns a sentence about each change.
pub(super) fn complete(root: &Root, names: &Names) -> io::Result<Vec<String>> {
    let mut notes = Vec::new();
    os_release(root, &mut notes)?;
    let manager = manager(root, &mut notes)?;
    resolver(root, manager, names, &mut notes)?;
    Ok(notes)
}

/// systemd-nspawn refuses a tree without one.
///
/// **Source**: os-release(5); systemd-nspawn(1), `--directory=`.
fn os_release(root: &Root, notes: &mut Vec<String>) -> io::Result<()> {
    if ["etc/os-release", "usr/lib/os-release"].iter().any(|path| root.has(Path::new(path))) {
        return Ok(());
    }
    let debian = root.has(Path::new("etc/debian_version"));
    let (id, name) = if debian { ("debian", "Debian GNU/Linux") } else { ("linux", "Linux") };
    let text = format!("ID={id}\nNAME=\"{name}\"\nPRETTY_NAME=\"{name}\"\n");
    root.make_folders(Path::new("usr/lib"), Meta::of_root(0o755, 0))?;
    root.write(Path::new("usr/lib/os-release"), text.as_bytes(), Meta::of_root(0o644, 0))?;
    notes.push(
        "it had no os-release, without which systemd-nspawn runs no tree: wrote /usr/lib/os-release"
            .to_owned(),
    );
    Ok(())
}

fn manager(root: &Root, notes: &mut Vec<String>) -> io::Result<Manager> {
    let found = Manager::of(root);
    match found {
        Manager::Networkd => {}
        Manager::Other(name) => notes.push(format!("{name} configures its network, not systemd-networkd")),
        Manager::Disabled => {
            managers::enable(root, NETWORKD)?;
            notes.push("nothing in it configured the machine's link: enabled systemd-networkd".to_owned());
            return Ok(Manager::Networkd);
        }
        Manager::Masked => {
            notes.push(
                "systemd-networkd is masked in it, and nothing else configures the machine's link".to_owned(),
            );
        }
        Manager::Missing => {
            notes.push("no network manager is installed in it: the machine gets no address".to_owned())
        }
    }
    Ok(found)
}

fn resolver(root: &Root, manager: Manager, names: &Names, notes: &mut Vec<String>) -> io::Result<()> {
    let path = Path::new(RESOLV_CONF);
    if manager != Manager::Networkd {
        // its manager writes the file
        return Ok(());
    }
    if managers::unit_file(root, RESOLVED).is_some() && !managers::is_masked(root, RESOLVED) {
        if !managers::is_enabled(root, RESOLVED) {
            managers::enable(root, RESOLVED)?;
            notes.push("enabled systemd-resolved in it".to_owned());
        }
        let is_resolveds = managers::target(root, path)
            .is_some_and(|target| target.to_string_lossy().contains("run/systemd/resolve/"));
        if !is_resolveds {
            put_aside(root, path)?;
            root.link(path, STUB.as_ref(), 0)?;
            notes.push(format!("/{RESOLV_CONF} was that of the tree's maker: it is systemd-resolved's now"));
        }
        return Ok(());
    }
    if reaches(root, path, names) {
        return Ok(());
    }
    let resolvers = names.uplink();
    if resolvers.is_empty() {
        let text = "it has neither systemd-resolved nor a resolver that the machine reaches in /etc/resolv.conf: install \
                    systemd-resolved in it";
        notes.push(text.to_owned());
        return Ok(());
    }
    put_aside(root, path)?;
    let lines: String = resolvers.iter().map(|address| format!("nameserver {address}\n")).collect();
    root.write(path, lines.as_bytes(), Meta::of_root(0o644, 0))?;
    let words: Vec<_> = resolvers.iter().map(IpAddr::to_string).collect();
    notes.push(format!(
        "it has no systemd-resolved, and /{RESOLV_CONF} had no resolver that the machine reaches: wrote {}",
        words.join(", ")
    ));
    Ok(())
}

/// Reports whether a file names a resolver that the machine reaches: one of the internet, or one that its wall lets
/// through.
fn reaches(root: &Root, path: &Path, names: &Names) -> bool {
    let text = root.read(path).unwrap_or_default();
    nameservers(&String::from_utf8_lossy(&text))
        .any(|address| names.uplink().contains(&address) || (address.is_ipv4() && !is_private(address)))
}

/// Renames what is in the place of a file, unless it is empty or a link.
fn put_aside(root: &Root, path: &Path) -> io::Result<()> {
    match root.kind(path)? {
        Some(FileType::RegularFile) if !root.read(path)?.is_empty() => root.rename(path, Path::new(BEFORE)),
        _ => root.remove(path),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::host::root::Links;

    const UNIT: &str = "[Unit]\nDescription=x\n[Service]\nExecStart=/x\n\n[Install]\nWantedBy=multi-user.target\n\
                        Also=systemd-networkd.socket systemd-networkd-wait-online.service\n\
                        Alias=dbus-org.freedesktop.network1.service\n";
    const SOCKET: &str = "[Socket]\n[Install]\nWantedBy=sockets.target\n";
    const WANTS: &str = "etc/systemd/system/multi-user.target.wants";

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new(files: &[(&str, &str)], links: &[(&str, &str)]) -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            for (path, text) in files {
                let path = tree.place(path);
                fs::write(path, text).unwrap();
            }
            for (path, target) in links {
                symlink(target, tree.place(path)).unwrap();
            }
            tree
        }

        fn place(&self, path: &str) -> std::path::PathBuf {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        }

        fn complete(&self, names: &Names) -> Vec<String> {
            complete(&Root::open(self.0.path(), Links::InTree).unwrap(), names).unwrap()
        }

        fn is_enabled(&self, unit: &str) -> bool {
            fs::symlink_metadata(self.0.path().join(WANTS).join(unit)).is_ok()
        }

        fn resolv_conf(&self) -> String {
            let path = self.0.path().join(RESOLV_CONF);
            fs::read_link(&path).map_or_else(
                |_| fs::read_to_string(&path).unwrap_or_default(),
                |target| target.display().to_string(),
            )
        }
    }

    const RELEASE: (&str, &str) = ("usr/lib/os-release", "ID=debian\n");
    const NETWORKD_UNIT: (&str, &str) = ("usr/lib/systemd/system/systemd-networkd.service", UNIT);
    const RESOLVED_UNIT: (&str, &str) =
        ("usr/lib/systemd/system/systemd-resolved.service", "[Install]\nWantedBy=sysinit.target\n");
    const OF_MAKER: (&str, &str) = (RESOLV_CONF, "nameserver 127.0.0.53\n");

    fn uplink() -> Names {
        Names::Uplink(vec!["192.168.1.1".parse().unwrap()])
    }

    /// What a kind of tree has, and what becomes of it: networkd enabled, the resolver, how many notes.
    type Kind = (
        &'static str,
        &'static [(&'static str, &'static str)],
        &'static [(&'static str, &'static str)],
        bool,
        &'static str,
        usize,
    );

    const KINDS: [Kind; 10] = [
        ("debootstrap", &[RELEASE, NETWORKD_UNIT, OF_MAKER], &[], true, "nameserver 192.168.1.1\n", 2),
        (
            "debootstrap with ifupdown and no stanza for the link",
            &[
                RELEASE,
                NETWORKD_UNIT,
                OF_MAKER,
                ("usr/sbin/ifup", ""),
                ("etc/network/interfaces", "iface lo inet loopback\n"),
            ],
            &[],
            true,
            "nameserver 192.168.1.1\n",
            2,
        ),
        (
            "ifupdown with a stanza for the link",
            &[
                RELEASE,
                NETWORKD_UNIT,
                OF_MAKER,
                ("usr/sbin/ifup", ""),
                ("etc/network/interfaces.d/a", "auto host0\niface host0 inet dhcp\n"),
            ],
            &[],
            false,
            "nameserver 127.0.0.53\n",
            1,
        ),
        (
            "NetworkManager",
            &[RELEASE, NETWORKD_UNIT, OF_MAKER, ("usr/sbin/NetworkManager", "")],
            &[(
                "etc/systemd/system/multi-user.target.wants/NetworkManager.service",
                "/usr/lib/systemd/system/NetworkManager.service",
            )],
            false,
            "nameserver 127.0.0.53\n",
            1,
        ),
        ("with resolved", &[RELEASE, NETWORKD_UNIT, RESOLVED_UNIT, OF_MAKER], &[], true, STUB, 3),
        (
            "masked",
            &[RELEASE, NETWORKD_UNIT, OF_MAKER],
            &[("etc/systemd/system/systemd-networkd.service", "/dev/null")],
            false,
            "nameserver 127.0.0.53\n",
            1,
        ),
        ("without networkd", &[RELEASE, OF_MAKER], &[], false, "nameserver 127.0.0.53\n", 1),
        (
            "without os-release",
            &[NETWORKD_UNIT, (RESOLV_CONF, "nameserver 9.9.9.9\n")],
            &[],
            true,
            "nameserver 9.9.9.9\n",
            2,
        ),
        (
            "the resolver of another LAN",
            &[RELEASE, NETWORKD_UNIT, (RESOLV_CONF, "nameserver 10.9.9.9\n")],
            &[],
            true,
            "nameserver 192.168.1.1\n",
            2,
        ),
        (
            "a link that leads nowhere",
            &[RELEASE, NETWORKD_UNIT],
            &[(RESOLV_CONF, "/run/resolvconf/resolv.conf")],
            true,
            "nameserver 192.168.1.1\n",
            2,
        ),
    ];

    #[test]
    fn each_kind_of_tree_gets_what_it_lacks_and_keeps_what_it_has() {
        for (what, files, links, enabled, resolver, count) in KINDS {
            let tree = Tree::new(
                &[files, &[("usr/lib/systemd/system/systemd-networkd.socket", SOCKET)][..]].concat(),
                links,
            );
            let notes = tree.complete(&uplink());
            assert_eq!(tree.is_enabled(NETWORKD), enabled, "{what}: {notes:?}");
            assert_eq!(tree.resolv_conf(), resolver, "{what}: {notes:?}");
            assert_eq!(notes.len(), count, "{what}: {notes:?}");
            let release = tree.0.path().join("usr/lib/os-release");
            assert!(release.exists(), "{what}");
            if enabled {
                let own = tree.0.path().join("etc/systemd/system");
                for link in
                    ["sockets.target.wants/systemd-networkd.socket", "dbus-org.freedesktop.network1.service"]
                {
                    assert!(fs::symlink_metadata(own.join(link)).is_ok(), "{what}: {link}");
                }
                assert!(!own.join("network-online.target.wants").exists(), "{what}: the boot would wait");
            }
            // what is there now is left alone
            let again = tree.complete(&uplink());
            assert!(again.len() <= usize::from(!enabled), "{what}: {again:?}");
        }
    }

    #[test]
    fn a_resolver_that_was_written_by_hand_is_kept_beside() {
        let tree =
            Tree::new(&[RELEASE, NETWORKD_UNIT, RESOLVED_UNIT, (RESOLV_CONF, "nameserver 192.0.2.1\n")], &[]);
        tree.complete(&Names::Forwarded);
        assert_eq!(tree.resolv_conf(), STUB);
        assert_eq!(fs::read_to_string(tree.0.path().join(BEFORE)).unwrap(), "nameserver 192.0.2.1\n");
    }

    #[test]
    fn nothing_is_written_outside_the_tree() {
        let outside = tempfile::tempdir().unwrap();
        let to = outside.path().to_str().unwrap();
        let evil = "[Install]\nWantedBy=../../../x\nAlias=../../y /z\n";
        for link in ["etc", "etc/systemd", WANTS, RESOLV_CONF, "usr/lib/os-release"] {
            let tree = Tree::new(
                &[
                    ("lib/systemd/system/systemd-networkd.service", evil),
                    ("lib/systemd/system/systemd-resolved.service", UNIT),
                ],
                &[(link, to)],
            );
            let root = Root::open(tree.0.path(), Links::InTree).unwrap();
            // it may fail: what must not be is a file outside
            let _ = complete(&root, &uplink());
            assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{link}");
        }
    }
}
