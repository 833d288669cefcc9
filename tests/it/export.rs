//! Machines as files: what comes back is what went, and what must not go does not.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::{
        fs::{FileExt as _, MetadataExt as _},
        net::UnixListener,
    },
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    carried::{Place, facts, init},
    kit::{
        archive::Archive,
        deb::Deb,
        process,
        server::Server,
        system::system,
        tar::{Entry, Kind},
    },
    user::{User, said},
};

/// A file of everything that a tree can have.
fn shapes() -> Vec<Entry> {
    let long = "n".repeat(140);
    vec![
        Entry::folder("./"),
        Entry::folder("./etc/"),
        Entry::file("./etc/hostname", 0o644, b"a\n"),
        Entry::file("./etc/os-release", 0o644, b"ID=debian\nVERSION_ID=\"13\"\n"),
        init(),
        Entry::file("./srv/one", 0o4750, b"one").owned(1000, 65_535),
        Entry::hardlink("./srv/two", "./srv/one"),
        Entry::symlink("./srv/absolute", "/etc/hostname"),
        Entry::symlink(&format!("./srv/{long}"), &"t".repeat(150)),
        Entry::file(&format!("./srv/{long}-file"), 0o600, b"x"),
        Entry::new("./srv/pipe", 0o622, Kind::Pipe),
        Entry::new("./srv/removed", 0o000, Kind::Character(0, 0)),
        Entry::file("./srv/able", 0o755, b"able")
            .xattr("security.capability", &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
            .xattr("user.note", b"with = and\nnewline"),
        Entry::new("./srv/closed/", 0o1700, Kind::Folder).owned(7, 8),
        Entry::file("./srv/closed/in", 0o000, b"").owned(7, 8),
    ]
}

fn made() -> Place {
    let place = Place::new();
    place.import_entries(&shapes(), "a", &[]).ok();
    let tree = place.tree("a");
    // what a run leaves, and what no archive should have
    drop(UnixListener::bind(tree.join("srv/socket")).unwrap());
    for folder in ["run", "tmp", "proc", "dev", "sys"] {
        fs::create_dir_all(tree.join(folder)).unwrap();
        fs::write(tree.join(folder).join("of-a-run"), "x").unwrap();
    }
    let sparse = File::create(tree.join("srv/sparse")).unwrap();
    sparse.set_len(96 << 20).unwrap();
    for at in 0..40_u64 {
        sparse.write_all_at(b"bytes", (at << 21) + 12_345).unwrap();
    }
    place
}

/// Gives a tree's facts without those that no export has.
fn kept(tree: &Path) -> std::collections::BTreeMap<String, String> {
    let mut all = facts(tree);
    all.retain(|path, _| path != "srv/socket" && !path.ends_with("/of-a-run"));
    all
}

#[test]
fn a_machine_comes_back_as_it_was() {
    let place = made();
    let before = kept(&place.tree("a"));
    let file = place.word("a.tar.zst");
    assert_eq!(place.run(&["export", "a", &file]).ok(), file);
    let found = fs::metadata(&file).unwrap();
    assert_eq!(found.mode() & 0o777, 0o600, "a tree with all that is in it, and others may read it");
    assert!(found.size() < 1 << 20, "holes were written: {}", found.size());
    // the same bytes, as a stream too
    let again = place.word("b.tar.zst");
    place.run(&["export", "a", &again]).ok();
    assert!(fs::read(&file).unwrap() == fs::read(&again).unwrap());
    place.run(&["export", "a", &again]).ends_with(1);

    place.run(&["remove", "a", "--yes"]).ok();
    let output = process::run(
        &[
            env!("CARGO_BIN_EXE_sandbox"),
            "--state-dir",
            &place.word("state"),
            "import",
            "-",
            "--backend",
            "direct",
            "--no-start",
        ],
        fs::read(&file).unwrap(),
        Duration::from_secs(120),
    );
    output.ok();
    assert_eq!(kept(&place.tree("a")), before);
    let sparse = fs::metadata(place.tree("a").join("srv/sparse")).unwrap();
    assert!(sparse.blocks() * 512 < 1 << 20, "holes were filled: {} blocks", sparse.blocks());
    let status: Value = serde_json::from_str(place.run(&["--json", "status", "a"]).ok()).unwrap();
    assert_eq!((&status["image"], &status["network"]), (&json!("imported"), &json!("internet")));

    // GNU tar reads it, and says nothing of it
    let out = place.word("by-tar");
    fs::create_dir(&out).unwrap();
    let unpacked = process::run(
        &["sh", "-c", &format!("zstd -qdc {file} | tar -C {out} --xattrs --xattrs-include='*' -xp")],
        "",
        Duration::from_secs(60),
    );
    assert_eq!((unpacked.ok(), unpacked.err.as_str()), ("", ""));
    let mut by_tar = facts(Path::new(&out));
    by_tar.retain(|path, _| before.contains_key(path));
    assert_eq!(by_tar, before);
}

#[test]
fn another_name_is_another_machine() {
    let place = made();
    let tree = place.tree("a");
    fs::write(tree.join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
    fs::write(tree.join("etc/hosts"), "127.0.0.1\tlocalhost\n127.0.1.1\ta.example a # not baa\n").unwrap();
    let file = place.word("a.tar.zst");
    place.run(&["export", "a", &file]).ok();
    place.import(&file, "b", &[]).ok();
    let read = |path: &str| fs::read_to_string(place.tree("b").join(path)).unwrap();
    assert_eq!((read("etc/hostname"), read("etc/machine-id")), ("b\n".to_owned(), String::new()));
    assert_eq!(read("etc/hosts"), "127.0.0.1\tlocalhost\n127.0.1.1\tb.example b # not baa\n");
    place.import(&file, "a", &[]).ends_with(1);
}

#[test]
fn an_image_has_a_layer_for_each_and_is_what_others_take_it_for() {
    let mut archive = Archive::new();
    archive.fill();
    archive.add(&system());
    archive.add(
        &Deb::new("shapes", "1")
            .file("usr/share/shapes/one", 0o4755, b"#!/bin/sh\n")
            .entry(Entry::hardlink("./usr/share/shapes/two", "./usr/share/shapes/one"))
            .file("usr/share/gone/deep/file", 0o644, b"x")
            .file("usr/share/folder/file", 0o644, b"x")
            .file("usr/share/kept", 0o644, b"kept"),
    );
    archive.publish();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    fs::create_dir_all(user.path("profiles")).unwrap();
    fs::write(user.path("profiles/base.toml"), "schema = 1\nname = \"base\"\n").unwrap();
    let text = "schema = 1\nname = \"a\"\n[packages]\ninstall = [\"shapes\"]\n";
    fs::write(user.path("profiles/a.toml"), text).unwrap();
    let does = |words: &[&str]| {
        let output = user.sandbox(words);
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let create =
        ["create", "m", "--release", "kit", "--profile", "a", "--variant", "essential", "--keyring", "key"];
    does(&[&create[..], &["--backend", "direct", "--network", "none", "--no-start"]].concat());
    let tree = user.path("state/machines/m/rootfs");
    fs::remove_dir_all(tree.join("usr/share/gone")).unwrap();
    fs::remove_dir_all(tree.join("usr/share/folder")).unwrap();
    fs::write(tree.join("usr/share/folder"), "a file now").unwrap();
    fs::hard_link(tree.join("usr/share/shapes/one"), tree.join("usr/share/shapes/three")).unwrap();
    // as long, and as old
    let kept = tree.join("usr/share/kept");
    let time = fs::metadata(&kept).unwrap().modified().unwrap();
    fs::write(&kept, "KEPT").unwrap();
    File::options().write(true).open(&kept).unwrap().set_modified(time).unwrap();
    std::fs::create_dir_all(tree.join("sbin")).ok();
    let program = tree.join("usr/lib/systemd/systemd");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_sandbox"), &program).unwrap();

    let lines = does(&["--json", "export", "m", "image", "--format", "oci"]);
    let said: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    let image = user.path("image");
    let read = |digest: &Value| {
        let digest = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
        fs::read(image.join("blobs/sha256").join(digest)).unwrap()
    };
    let index: Value = serde_json::from_slice(&fs::read(image.join("index.json")).unwrap()).unwrap();
    let digest = &index["manifests"][0]["digest"];
    assert_eq!(digest.as_str().unwrap(), format!("sha256:{}", said["digest"].as_str().unwrap()));
    let manifest: Value = serde_json::from_slice(&read(digest)).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    // the image's, those of `base` and `a`, and what the machine changed
    assert_eq!(layers.len(), 4, "{manifest}");
    let names = |layer: &Value| {
        let bytes = read(&layer["digest"]);
        let mut archive = tar_of(&bytes);
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .filter(|name| name.starts_with("usr/share/"))
            .collect();
        names
    };
    assert_eq!(
        names(&layers[3]),
        [
            "usr/share/.wh.gone",
            "usr/share/folder",
            "usr/share/kept",
            "usr/share/shapes/one",
            "usr/share/shapes/three",
            "usr/share/shapes/two",
        ]
    );

    // what comes back is what went: with our own eyes, and with others'
    let before = facts(&tree);
    for (form, words) in [("image", &[][..]), ("image-zstd", &["--compression", "zstd"])] {
        if form != "image" {
            does(&[&["export", "m", form, "--format", "oci"], words].concat());
        }
        does(&["import", form, "again", "--backend", "direct", "--no-start", "--network", "none"]);
        let mut after = facts(&user.path("state/machines/again/rootfs"));
        let mut wanted = before.clone();
        for path in ["etc/hostname", "etc/hosts", "etc/machine-id", "etc/sandbox/machine", "etc/resolv.conf"]
        {
            after.remove(path);
            wanted.remove(path);
        }
        // every backend makes its own devices
        wanted.retain(|path, _| !path.starts_with("dev/"));
        assert_eq!(after, wanted, "{form}");
        does(&["remove", "again", "--yes"]);
        by_others(&image.with_file_name(form), &user.path(&format!("copy-{form}")));
    }
}

fn tar_of(gzip: &[u8]) -> tar::Archive<std::io::Cursor<Vec<u8>>> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(gzip).read_to_end(&mut bytes).unwrap();
    tar::Archive::new(std::io::Cursor::new(bytes))
}

/// Has skopeo read an image, where it is installed.
fn by_others(image: &Path, copy: &Path) {
    if !Path::new("/usr/bin/skopeo").exists() {
        return;
    }
    let skopeo = |words: &[&str]| process::run(&[&["skopeo"], words].concat(), "", Duration::from_secs(60));
    let inspected = skopeo(&["inspect", &format!("oci:{}", image.display())]);
    let inspected: Value = serde_json::from_str(inspected.ok()).unwrap();
    assert_eq!(
        (&inspected["Os"], &inspected["Labels"]["sandbox.profiles"]),
        (&json!("linux"), &json!("base,a"))
    );
    let from = format!("oci:{}:latest", image.display());
    skopeo(&["copy", "-q", &from, &format!("dir:{}", copy.display())]).ok();
}

/// The head of a tar file that says of a machine what a test wants.
pub fn comment(more: &Value) -> Entry {
    let mut carried =
        json!({"name": "a", "image": "trixie", "profiles": ["claude"], "packages": 3, "created": 4});
    carried.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let body = format!(" comment=sandbox machine 1 {carried}\n");
    let mut length = body.len();
    while length != body.len() + length.to_string().len() {
        length = body.len() + length.to_string().len();
    }
    Entry::new("g", 0o644, Kind::Other(b'g', format!("{length}{body}").into_bytes()))
}

/// A secret that is like no token, so that only its place can keep it out.
const PLANTED: &str = "planted-9f3b61c2d07e-that-must-be-nowhere";

#[test]
fn a_login_goes_nowhere() {
    let place = Place::new();
    let passwd = Entry::file(
        "./etc/passwd",
        0o644,
        b"root:x:0:0::/root:/bin/sh\nagent:x:1000:1000::/home/agent:/bin/sh\n",
    );
    let volume =
        |path: &str, kind: &str| json!({"path": path, "kind": kind, "owner": "agent", "mode": "0700"});
    let volumes = [volume("/home/agent/.claude", "auth"), volume("/home/agent/work", "home")];
    // put together here so that no tool takes this file for one that has it
    let key = ["ghp", "_aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5"].concat();
    let entries = [comment(&json!({ "volumes": volumes })), passwd, init()];
    place.import_entries(&entries, "a", &[]).ok();
    let of = |volume: &str| place.path(&format!("state/volumes/a/{volume}"));
    fs::write(of("home-agent-.claude").join("anything"), PLANTED).unwrap();
    fs::write(of("home-agent-work").join("notes"), "of the work").unwrap();
    let forms = [("tar.zst", "1"), ("oci", "2"), ("proxmox", "3.tar.zst")];
    for (form, target) in forms {
        let target = place.word(target);
        let output =
            place.run(&["export", "a", &target, "--format", form, "--with-volumes", "--allow-credentials"]);
        output.ok();
        assert!(output.err.contains("not in it: /home/agent/.claude"), "{}", output.err);
        let found = decoded(Path::new(&target));
        assert!(!found.contains(PLANTED), "{form}");
        assert!(found.contains("of the work"), "{form}");
    }
    let without = place.word("4");
    place.run(&["export", "a", &without]).ok();
    assert!(!decoded(Path::new(&without)).contains("of the work"));

    // what is in the tree, or goes with it, is told by name
    let refused = |path: &Path, words: &str, more: &[&str]| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &key).unwrap();
        let target = place.word("refused");
        let output = place.run(&[&["export", "a", &target], more].concat());
        output.ends_with(4);
        assert!(output.err.contains(words) && !output.err.contains(&key), "{}", output.err);
        assert!(!place.path("refused").exists() && !place.path(".refused.sandbox-partial").exists());
        fs::remove_file(path).unwrap();
    };
    refused(&place.tree("a").join("root/.netrc-old"), "/root/.netrc-old (", &[]);
    refused(&of("home-agent-work").join("deep/note"), "/home/agent/work/deep/note (", &["--with-volumes"]);

    // another machine of the file has the work, and a volume for logins of its own
    place.import(&place.word("1"), "b", &[]).ok();
    let of_b = place.path("state/volumes/b");
    assert_eq!(fs::read_to_string(of_b.join("home-agent-work/notes")).unwrap(), "of the work");
    assert_eq!(fs::read_dir(of_b.join("home-agent-.claude")).unwrap().count(), 0);
}

/// Gives all that is in an export, blobs of an image one after the other.
fn decoded(path: &Path) -> String {
    let mut bytes = Vec::new();
    if path.is_dir() {
        for entry in fs::read_dir(path.join("blobs/sha256")).unwrap() {
            let blob = fs::read(entry.unwrap().path()).unwrap();
            if flate2::read::GzDecoder::new(blob.as_slice()).read_to_end(&mut bytes).is_err() {
                bytes.extend(blob);
            }
        }
    } else {
        bytes = zstd::decode_all(File::open(path).unwrap()).unwrap();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_template_is_as_proxmox_wants_it() {
    let place = made();
    fs::create_dir_all(place.tree("a").join("usr/lib/systemd")).unwrap();
    fs::write(place.tree("a").join("usr/lib/systemd/systemd-networkd"), "").unwrap();
    let folder = place.word("templates");
    fs::create_dir(&folder).unwrap();
    let file = place.run(&["export", "a", &folder, "--format", "proxmox"]).ok().to_owned();
    let name = Path::new(&file).file_name().unwrap().to_str().unwrap();
    let parts: Vec<&str> = name.split('_').collect();
    assert_eq!((parts[0], parts.len()), ("debian-13-a", 3), "{name}");
    assert!(parts[1].len() == 8 && parts[1].bytes().all(|byte| byte.is_ascii_digit()), "{name}");
    assert!(parts[2].ends_with("64.tar.zst"), "{name}");
    let bytes = zstd::decode_all(File::open(&file).unwrap()).unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let names: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| !entry.header().entry_type().is_pax_global_extensions())
        .map(|entry| String::from_utf8(entry.path_bytes().into_owned()).unwrap())
        .collect();
    assert!(names.iter().all(|name| name.starts_with("./")), "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("./dev/") && name != "./dev/"), "{names:?}");
    assert!(names.contains(&"./etc/systemd/network/80-sandbox-eth0.network".to_owned()), "{names:?}");
    place.import(&file, "back", &[]).ok();
}

#[test]
fn who_dies_in_an_export_leaves_what_the_next_one_removes() {
    let place = made();
    let target = place.word("a.oci");
    fs::create_dir_all(place.path(".a.oci.sandbox-partial/blobs/sha256")).unwrap();
    fs::write(place.path(".a.oci.sandbox-partial/blobs/sha256/partial"), "half").unwrap();
    place.run(&["export", "a", &target, "--format", "oci"]).ok();
    assert!(!place.path(".a.oci.sandbox-partial").exists());
    assert!(!place.path("a.oci/blobs/sha256/partial").exists());
    fs::write(place.path(".a.sandbox-partial"), "half of a longer one".repeat(1000)).unwrap();
    place.run(&["export", "a", &place.word("a")]).ok();
    place.import(&place.word("a"), "b", &[]).ok();
}
