//! Ubuntu: an archive of its shape is made of real packages, and machines and trees of it.

use std::{fs, net::Ipv4Addr, path::Path};

use crate::{
    kit::{
        archive::Archive,
        deb::Deb,
        key::Key,
        server::Server,
        ubuntu::{Shape, Ubuntu},
    },
    lab::{Lab, SOON, own},
    process,
};

const NOBLE: Shape = Shape {
    codename: "noble",
    version: "24.04",
    title: "24.04 LTS (Noble Numbat)",
    universe: &["tmux", "needs-libssl3"],
    updated: &["less"],
    secured: &["sudo"],
};

const JAMMY: Shape = Shape {
    codename: "jammy",
    version: "22.04",
    title: "22.04 LTS (Jammy Jellyfish)",
    universe: &[],
    updated: &["mawk"],
    secured: &["mawk"],
};

/// Makes the archive of packages that a build of Debian has fetched.
fn archive(lab: &Lab, shape: Shape, debian: &[&str]) -> Ubuntu {
    let place = lab.path("ubuntu");
    let cache = place.join(format!("cache-{}", shape.codename));
    // what an earlier run kept is of the packages that the profile named then
    let (stamp, profile) = (place.join("base.toml"), include_str!("../../profiles/base.toml"));
    if fs::read_to_string(&stamp).ok().as_deref() != Some(profile) {
        drop(fs::remove_dir_all(&place));
        fs::create_dir_all(&place).expect("a folder below target/");
        fs::write(&stamp, profile).expect("a stamp");
    }
    let text = |path: &Path| path.to_str().expect("a UTF-8 path").to_owned();
    Ubuntu::of_cache(&place, shape, &cache, || {
        let target = place.join("debian.tar");
        drop(fs::remove_file(&target));
        fs::create_dir_all(&place).expect("a folder below target/");
        let build = ["bootstrap", debian[0], &text(&target), "--cache-dir", &text(&cache)];
        lab.sandbox(&[&build[..], &debian[1..]].concat()).ok();
        fs::remove_file(&target).expect("the tree of the packages");
    })
}

/// This machine's first address, which its machines reach if the wall lets them.
fn address() -> Ipv4Addr {
    let shown = process::run(&["ip", "-4", "-o", "addr", "show", "scope", "global"], "", SOON);
    let word = shown.ok().split_whitespace().nth(3).expect("an address").to_owned();
    word.split('/').next().and_then(|text| text.parse().ok()).expect("an address")
}

/// `create --release noble`, booted: the main job on the other distribution.
pub fn noble_boots_and_updates(lab: &Lab) {
    let noble = &own("noble");
    let ubuntu = archive(lab, NOBLE, &["trixie", "--profile", "base"]);
    let key = Key::new();
    ubuntu.publish(&key);
    let keyring = lab.path("ubuntu").join("key.gpg");
    fs::write(&keyring, key.certificate()).expect("a keyring");
    let (main, security) =
        (Server::at(&ubuntu.host("archive"), address()), Server::at(&ubuntu.host("security"), address()));
    let mirror = |server: &Server| format!("{}/ubuntu", server.url());
    // what an earlier run fetched would not be asked for again
    let fetched = lab.path("ubuntu").join("fetched");
    drop(fs::remove_dir_all(&fetched));
    let keyring = keyring.to_str().expect("a UTF-8 path");
    let create = ["create", noble, "--backend", "direct", "--release", "noble", "--network", "open"];
    let more = [
        "--mirror",
        &mirror(&main),
        "--mirror",
        &format!("security={}", mirror(&security)),
        "--include",
        "needs-libssl3",
        "--keyring",
        keyring,
        "--cache-dir",
        fetched.to_str().expect("a UTF-8 path"),
    ];
    // the archive is on this machine, which only an open network leads to
    lab.sandbox(&[&create[..], &more].concat()).ok();
    let sh = |script: &str| lab.sandbox(&["exec", noble, "--", "sh", "-c", script]);
    assert_eq!(sh("systemctl is-system-running").ok(), "running");
    assert_eq!(sh(". /etc/os-release; echo $ID $VERSION_CODENAME $VERSION_ID").ok(), "ubuntu noble 24.04");
    assert_eq!(sh("dpkg --audit; dpkg --verify").ok(), "");
    // what is phased is for new machines too, security comes from its own host, universe is asked as well
    let versions = sh("dpkg-query -W -f '${Package} ${Version}\\n' less sudo tmux ubuntu-keyring");
    let version = |package: &str| {
        let line = versions.ok().lines().find(|line| line.starts_with(package)).unwrap_or_default();
        line.to_owned()
    };
    assert!(
        version("less ").ends_with("ubuntu0.1") && version("sudo ").ends_with("ubuntu0.2"),
        "{versions:?}"
    );
    assert!(!version("tmux ").is_empty() && !version("ubuntu-keyring ").is_empty(), "{versions:?}");
    sh("dpkg-query -W from-backports").ends_with(1);
    // members are zstd, and the indexes came by hash
    let served: Vec<_> = main.log().into_iter().map(|request| request.path).collect();
    assert!(served.iter().any(|path| path.contains("/universe/binary-amd64/by-hash/SHA256/")), "{served:#?}");
    assert!(!served.iter().any(|path| path.contains("-security/")), "{served:#?}");
    assert!(security.log().iter().all(|request| !request.path.contains("/dists/noble/")));
    // the machine's own apt reads the same, believes it for the same reason, and has nothing to do
    let key = "/usr/share/keyrings/ubuntu-archive-keyring.gpg /etc/apt/keyrings/added-1.gpg";
    let stanza = |server: &Server, suites: &str| {
        format!(
            "Types: deb\nURIs: {}\nSuites: {suites}\nComponents: main universe\nSigned-By: {key}\n",
            mirror(server)
        )
    };
    assert_eq!(
        sh("cat /etc/apt/sources.list.d/ubuntu.sources").out,
        stanza(&main, "noble noble-updates") + "\n" + &stanza(&security, "noble-security")
    );
    assert_eq!(sh("ls /etc/apt/sources.list.d").ok(), "ubuntu.sources");
    let updated = sh("apt-get -q update --error-on=any");
    assert!(updated.ok().contains("noble-security"), "{updated:?}");
    let upgrade = sh("apt-get -q --simulate dist-upgrade");
    assert!(upgrade.ok().contains("0 upgraded, 0 newly installed, 0 to remove"), "{upgrade:?}");
    assert!(sh("apt-get -q update --error-on=any 2>&1 && apt-cache policy less").ok().contains("ubuntu0.1"));
    lab.sandbox(&["remove", noble, "--yes"]).ok();
    fs::remove_dir_all(&fetched).expect("the cache of this test");
}

/// jammy's base-files has folders where noble's has links; only the given key is trusted.
pub fn jammy_is_merged_though_its_base_files_are_not(lab: &Lab) {
    let ubuntu = archive(lab, JAMMY, &["bookworm"]);
    let (key, stranger) = (Key::new(), Key::new());
    ubuntu.publish(&key);
    // one host is a folder, the other one is asked over the network, and somebody else's archive comes in
    let security = Server::new(&ubuntu.host("security"));
    let mut third = Archive::new();
    third.add(&Deb::new("third", "3").file("usr/share/third", 0o644, b"3\n"));
    third.publish();
    let other = Server::new(third.root());
    let place = lab.path("ubuntu");
    let text = |name: &str| place.join(name).to_str().expect("a UTF-8 path").to_owned();
    fs::write(place.join("key.asc"), key.armored()).expect("a keyring");
    fs::write(place.join("stranger.asc"), stranger.armored()).expect("a keyring");
    fs::write(place.join("third.asc"), third.keys[0].armored()).expect("a keyring");
    let sources = text("third.sources");
    let stanza = |key: &str| {
        let url = other.url();
        format!("Types: deb\nURIs: {url}\nSuites: trixie\nComponents: main\nSigned-By: {key}\n")
    };
    fs::write(&sources, stanza(&text("third.asc"))).expect("apt's stanza");
    let tree = text("tree");
    process::run(&["rm", "-rf", "--one-file-system", &tree], "", SOON).ok();
    let build = |keyring: &str| {
        let security = format!("security={}/ubuntu", security.url());
        let main = format!("file://{}/ubuntu", ubuntu.host("archive").display());
        let from =
            ["--mirror", &main, "--mirror", &security, "--keyring-only", keyring, "--component", "main"];
        let order = ["bootstrap", "jammy", &tree, "--pocket", "updates,security,backports"];
        let more = ["--include", "from-backports,third", "--exclude", "tzdata", "--extra-source", &sources];
        lab.sandbox(&[&order[..], &from, &more].concat())
    };
    build(&text("stranger.asc")).ends_with(4);
    build(&text("key.asc")).ok();
    let inside = |argv: &[&str]| process::run(&[&["chroot", &tree], argv].concat(), "", SOON);
    for name in ["bin", "sbin", "lib", "lib64"] {
        let link = fs::read_link(Path::new(&tree).join(name)).expect(name);
        assert_eq!(link.to_str(), Some(&*format!("usr/{name}")));
    }
    assert_eq!(inside(&["sh", "-c", "dpkg --audit; dpkg --verify"]).ok(), "");
    assert_eq!(inside(&["sh", "-c", ". /etc/os-release; echo $ID $VERSION_ID"]).ok(), "ubuntu 22.04");
    // of two pockets' versions the higher one, and what is asked for of backports
    assert!(inside(&["dpkg-query", "-W", "-f", "${Version}", "mawk"]).ok().ends_with("ubuntu0.2"));
    assert_eq!(inside(&["dpkg-query", "-W", "-f", "${Version}", "from-backports"]).ok(), "1");
    inside(&["dpkg-query", "-W", "tzdata"]).ends_with(1);
    let inside_file = |path: &str| fs::read_to_string(Path::new(&tree).join(path)).expect(path);
    let sources = inside_file("etc/apt/sources.list.d/ubuntu.sources");
    // a folder of the host's is nothing to the tree
    assert!(sources.starts_with("Types: deb\nURIs: http://archive.ubuntu.com/ubuntu\n"), "{sources}");
    assert!(sources.contains("Components: main\nSigned-By: /etc/apt/keyrings/added-1.asc\n"), "{sources}");
    assert!(sources.contains("Suites: jammy jammy-updates jammy-backports\n"), "{sources}");
    // the tree's own apt believes the third archive by the key that came with it
    assert_eq!(inside_file("usr/share/third"), "3\n");
    assert_eq!(inside_file("etc/apt/sources.list.d/third.sources"), stanza("/etc/apt/keyrings/third.asc"));
    let list = "Dir::Etc::sourcelist=/etc/apt/sources.list.d/third.sources";
    let update = ["apt-get", "-q", "update", "--error-on=any", "-o", list, "-o", "Dir::Etc::sourceparts=-"];
    assert!(inside(&update).ok().contains(other.url()));
    process::run(&["rm", "-rf", "--one-file-system", &tree], "", SOON).ok();
}
