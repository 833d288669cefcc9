//! Files that machines are made of: those of others, and those that mean harm.

use std::{fs, os::unix::fs::MetadataExt as _};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    carried::{Place, facts, init},
    export::comment,
    kit::{
        compress::Compression,
        tar::{Entry, Kind, head, tar},
    },
};

#[test]
fn files_of_others_are_taken_whatever_compressed_them() {
    let docker = [
        init(),
        Entry::file(".dockerenv", 0o755, b""),
        Entry::folder("etc/"),
        Entry::file("etc/hosts", 0o644, b""),
        Entry::file("etc/resolv.conf", 0o644, b""),
        Entry::new("dev/null", 0o666, Kind::Character(1, 3)),
        Entry::file(
            "var/lib/dpkg/status",
            0o644,
            b"Package: a\nStatus: install ok installed\n\nPackage: b\nStatus: deinstall ok config-files\n",
        ),
    ];
    let place = Place::new();
    for form in [Compression::None, Compression::Gz, Compression::Bz2, Compression::Xz, Compression::Zst] {
        let file = place.word("in");
        fs::write(&file, form.pack(&tar(&docker))).unwrap();
        let output = place.import(&file, "a", &[]);
        output.ok();
        assert!(output.err.contains("1 devices were left out"), "{}", output.err);
        let tree = place.tree("a");
        assert!(!tree.join(".dockerenv").exists() && !tree.join("dev/null").exists());
        assert!(fs::read_to_string(tree.join("etc/hosts")).unwrap().contains("127.0.1.1\ta\n"));
        let status: Value = serde_json::from_str(place.run(&["--json", "status", "a"]).ok()).unwrap();
        assert_eq!(status["packages"], 1);
        place.run(&["remove", "a", "--yes"]).ok();
    }
    // a name is needed where the file does not say one
    fs::write(place.path("in"), tar(&docker)).unwrap();
    place.run(&["import", &place.word("in")]).ends_with(2);
}

#[test]
fn what_cannot_boot_is_refused_with_what_to_do() {
    let place = Place::new();
    let arm = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x28\0";
    let cases: [(&[Entry], &str); 5] = [
        (&[Entry::file("bin/sh", 0o755, b"x")], "systemd-sysv"),
        (&[Entry::file("sbin/init", 0o755, arm)], "armhf"),
        (
            &[Entry::file("manifest.json", 0o644, b"[]"), Entry::file("x/layer.tar", 0o644, b"")],
            "docker export",
        ),
        (&[Entry::file("oci-layout", 0o644, b"{}")], "into a folder"),
        (&[], "empty"),
    ];
    for (entries, word) in cases {
        let output = place.import_entries(entries, "a", &[]);
        output.ends_with(3);
        assert!(output.err.contains(word), "{}", output.err);
        place.has_no_machine(word);
    }
    for (bytes, code) in
        [(&b"BZh91AY&SY"[..], 4), (b"no tar file", 4), (&[0x1f, 0x8b, 8, 0, 1][..], 4), (b"", 3)]
    {
        fs::write(place.path("in"), bytes).unwrap();
        place.import(&place.word("in"), "a", &[]).ends_with(code);
    }
    place.import(&place.word("nowhere"), "a", &[]).ends_with(2);
    place.import(&place.word("outside"), "a", &[]).ends_with(3);
    place.has_no_machine("no tar file");
}

#[test]
fn nothing_is_made_outside() {
    let place = Place::new();
    let outside = place.word("outside");
    let climbing = "../".repeat(40) + outside.trim_start_matches('/');
    let file = |path: &str| Entry::file(path, 0o644, b"dead");
    let cases: Vec<(Vec<Entry>, i32)> = vec![
        (vec![file("../outside/canary")], 4),
        (vec![file("a/../../outside/canary")], 4),
        // the root of a path is the tree's
        (vec![file(&format!("{outside}/canary"))], 0),
        (vec![file(&format!("/../{outside}/canary"))], 4),
        (vec![Entry::folder("/"), Entry::hardlink("/x", "/../etc/passwd")], 4),
        // through links, absolute and relative: the tree has no such folders
        (vec![Entry::symlink("out", &outside), file("out/canary")], 4),
        (vec![Entry::symlink("out", &climbing), file("out/x")], 4),
        (vec![Entry::symlink("out", &format!("{outside}/canary")), file("out")], 0),
        (vec![Entry::symlink("out", &outside), Entry::hardlink("x", "out/canary")], 4),
        (vec![Entry::hardlink("x", "../../../../../etc/passwd")], 4),
        (vec![Entry::hardlink("x", "/etc/passwd")], 4),
        (vec![Entry::hardlink("x", "x")], 4),
        (vec![Entry::hardlink("x", "missing")], 4),
        (vec![Entry::symlink("./", &outside)], 4),
        (vec![Entry::new("x", 0o600, Kind::Block(8, 0))], 4),
        (vec![Entry::new("x", 0o600, Kind::Character(1, 1))], 4),
        (vec![Entry::new("x", 0o600, Kind::Other(b'V', vec![]))], 4),
        (vec![Entry::symlink("etc", &outside)], 4),
        (vec![Entry::symlink("etc/hostname", &format!("{outside}/canary"))], 0),
        (vec![Entry::symlink("etc/machine-id", &format!("{outside}/canary"))], 0),
        (vec![Entry::symlink("etc/sandbox", &outside)], 4),
    ];
    for (at, (mut entries, code)) in cases.into_iter().enumerate() {
        entries.push(init());
        let output = place.import_entries(&entries, "a", &[]);
        assert_eq!(output.code, code, "case {at}: {}", output.err);
        if code == 0 {
            place.run(&["remove", "a", "--yes"]).ok();
        }
        place.has_no_machine(&format!("case {at}: {}", output.err));
    }
    let device = [Entry::new("x", 0o600, Kind::Block(8, 0)), init()];
    place.import_entries(&device, "a", &["--devices", "skip"]).ok();
    assert!(!place.tree("a").join("x").exists());
}

#[test]
fn what_is_too_large_or_makes_no_sense_ends_early() {
    let place = Place::new();
    let record = |text: &str| format!("{} {text}\n", text.len() + 4).into_bytes();
    let sparse = |size: u64| {
        let mut block = tar::Header::new_gnu();
        block.set_entry_type(tar::EntryType::GNUSparse);
        block.set_path("sparse").unwrap();
        block.set_mode(0o644);
        block.set_uid(0);
        block.set_gid(0);
        block.set_mtime(0);
        block.set_size(0);
        block.as_gnu_mut().unwrap().set_real_size(size);
        block.set_cksum();
        block.as_bytes().to_vec()
    };
    let cases: Vec<(Vec<u8>, &str)> = vec![
        ([tar(&[init()])[..1024].to_vec(), head(b"x", b'0', 1 << 40, b"x")].concat(), "more than"),
        ([tar(&[init()])[..1024].to_vec(), head(b"x", b'0', 4096, b"x")].concat(), "breaks off"),
        (head(b"x", b'L', 1 << 40, b"x"), "more than a megabyte"),
        (head(b"x", b'x', 9, b"9999 a=b\n"), "a record"),
        (head(b"x", b'x', 14, &record("GNU.sparse")), "a record"),
        (head(b"x", b'x', 4, &record("x")).repeat(40), ""),
        (sparse(1 << 62), "more than"),
        (
            {
                let mut bytes = tar(&[init()]);
                bytes[0] ^= 1;
                bytes
            },
            "checksum",
        ),
    ];
    for (bytes, word) in cases {
        fs::write(place.path("in"), &bytes).unwrap();
        let output = place.import(&place.word("in"), "a", &["--max-size", "1G"]);
        assert!(matches!(output.code, 1 | 4), "{}: {}", output.code, output.err);
        assert!(output.err.contains(word), "{word}: {}", output.err);
        place.has_no_machine(word);
    }
}

#[test]
fn attributes_that_are_held_for_folders_are_bounded() {
    let place = Place::new();
    let large = |at: u32| Entry::folder(&format!("d{at}/")).xattr("user.large", &vec![0; 1_000_000]);
    let entries: Vec<Entry> = [init()].into_iter().chain((0..70).map(large)).collect();
    let output = place.import_entries(&entries, "a", &[]);
    output.ends_with(1);
    assert!(output.err.contains("access control lists"), "{}", output.err);
    place.has_no_machine("attributes");
}

#[test]
fn names_in_access_control_lists_are_those_of_the_tree() {
    let place = Place::new();
    let list = |kind: &str| {
        let text =
            "user::rw-,user:agent:rw-,user:stranger:rwx,group::r--,group:team:r--,mask::rw-,other::---";
        let body = format!(" SCHILY.acl.{kind}={text}\n");
        Entry::new("x", 0o644, Kind::Other(b'x', format!("{}{body}", body.len() + 3).into_bytes()))
    };
    let entries = [
        init(),
        list("access"),
        Entry::file("srv/file", 0o640, b"x"),
        list("access"),
        Entry::file("srv/replaced", 0o640, b"with a list"),
        Entry::file("srv/replaced", 0o640, b"without"),
        list("default"),
        Entry::folder("srv/shared/"),
        // known when all of the rest is there
        Entry::file("etc/passwd", 0o644, b"root:x:0:0::/root:/bin/sh\nagent:x:1234:1234::/:/bin/sh\n"),
        Entry::file("etc/group", 0o644, b"root:x:0:\nteam:x:2345:\n"),
    ];
    let output = place.import_entries(&entries, "a", &[]);
    output.ok();
    assert!(output.err.contains("2 entries of access control lists"), "{}", output.err);
    let attribute = |path: &str, name: &str| {
        let mut value = vec![0; 1024];
        let length = rustix::fs::getxattr(place.tree("a").join(path), name, &mut *value).ok()?;
        let entries = value[4..length].chunks(8);
        let ids = entries.map(|entry| u32::from_le_bytes(entry[4..].try_into().unwrap()));
        Some(ids.filter(|id| *id != u32::MAX).collect::<Vec<_>>())
    };
    assert_eq!(attribute("srv/file", "system.posix_acl_access"), Some(vec![1234, 2345]));
    assert_eq!(attribute("srv/shared", "system.posix_acl_default"), Some(vec![1234, 2345]));
    assert_eq!(attribute("srv/replaced", "system.posix_acl_access"), None);
}

#[test]
fn a_tree_below_a_directory_is_moved_up_where_it_is_the_only_one() {
    let place = Place::new();
    let moved = |path: &str, entry: Entry| Entry { path: format!("{path}/{}", entry.path), ..entry };
    let file = |path: &str| Entry::file(path, 0o644, b"x");
    let tree = |path: &str| {
        vec![
            Entry::new(&format!("{path}/"), 0o751, Kind::Folder).owned(7, 8),
            moved(path, init()),
            // its own name, and a device that every backend makes
            file(&format!("{path}/{path}/inner")),
            Entry::new(&format!("{path}/dev/null"), 0o666, Kind::Character(1, 3)),
        ]
    };
    let with = |path: &str, more: Vec<Entry>| [tree(path), more].concat();
    let image = vec![file("metadata.yaml"), file("templates/hosts.tpl")];
    for (at, path, entries, code) in [
        (0, "any", tree("any"), 0),
        (1, "rootfs", with("rootfs", image.clone()), 0),
        (2, "backup/container/rootfs", with("backup/container/rootfs", vec![file("backup/index.yaml")]), 0),
        (3, "any", with("any", image), 3),
        (4, "rootfs", with("rootfs", vec![file("other")]), 3),
        (5, "any", vec![Entry::symlink("any", &place.word("outside"))], 3),
    ] {
        let output = place.import_entries(&entries, "a", &[]);
        assert_eq!(output.code, code, "{at}: {}", output.err);
        if code == 0 {
            assert!(output.err.contains(&format!("`{path}/`")), "{}", output.err);
            let top = fs::metadata(place.tree("a")).unwrap();
            assert_eq!((top.mode() & 0o7777, top.uid(), top.gid()), (0o751, 7, 8), "{at}");
            let mut names: Vec<_> =
                fs::read_dir(place.tree("a")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            let first = path.split('/').next().unwrap();
            let mut expected = vec!["dev", "etc", first, "sbin"];
            expected.sort_unstable();
            assert!(!place.tree("a").join("dev/null").exists(), "{at}");
            assert_eq!(names, expected, "{at}");
            assert!(place.tree("a").join(path).join("inner").exists(), "{at}");
            place.run(&["remove", "a", "--yes"]).ok();
        }
        place.has_no_machine(path);
    }
}

#[test]
fn a_file_grants_nothing_by_itself() {
    let place = Place::new();
    let import = |more: Value, words: &[&str]| place.import_entries(&[comment(&more), init()], "a", words);
    let output = import(json!({"network": "host"}), &[]);
    output.ok();
    assert!(output.err.contains("--network host"), "{}", output.err);
    let status: Value = serde_json::from_str(place.run(&["--json", "status", "a"]).ok()).unwrap();
    assert_eq!((&status["network"], &status["image"]), (&json!("internet"), &json!("trixie")));
    place.run(&["remove", "a", "--yes"]).ok();

    let needs = json!({"needs": {"nesting": 1, "devices": ["/dev/null"]}});
    let output = import(needs.clone(), &[]);
    output.ends_with(2);
    assert!(output.err.contains("/dev/null") && output.err.contains("--accept-costs"), "{}", output.err);
    place.has_no_machine("devices");
    import(needs, &["--accept-costs"]).ok();
    place.run(&["remove", "a", "--yes"]).ok();

    // what an earlier machine of the name left is not the file's either
    let login = json!({"volumes": [{"path": "/srv/login", "kind": "auth", "owner": "root", "mode": "0700"}]});
    import(login.clone(), &[]).ok();
    fs::write(place.path("state/volumes/a/srv-login/token"), "x").unwrap();
    place.run(&["remove", "a", "--yes", "--keep-volumes"]).ok();
    let output = import(login.clone(), &[]);
    output.ends_with(2);
    assert!(output.err.contains("/srv/login of an earlier machine"), "{}", output.err);
    import(login, &["--accept-costs"]).ok();
    place.run(&["remove", "a", "--yes"]).ok();

    let volume =
        |path: &str| json!({"volumes": [{"path": path, "kind": "auth", "owner": "root", "mode": "0700"}]});
    for bad in
        [volume("/../.."), volume("/a/.."), volume("/x"), volume("/a/b\nBind=/"), json!({"name": "../a"})]
    {
        import(bad.clone(), &[]).ends_with(4);
        place.has_no_machine(&bad.to_string());
    }
}

/// An image of layers, each a tar file, and what of it is to be wrong.
fn image(place: &Place, layers: &[Vec<u8>], wrong: &dyn Fn(&mut Value, &mut Value)) -> String {
    let folder = place.path("image");
    let _ = fs::remove_dir_all(&folder);
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let digest =
        |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let blob = |bytes: &[u8], media: &str| {
        fs::write(blobs.join(digest(bytes)), bytes).unwrap();
        json!({"mediaType": media, "digest": format!("sha256:{}", digest(bytes)), "size": bytes.len()})
    };
    let packed: Vec<Value> = layers
        .iter()
        .map(|layer| blob(&Compression::Gz.pack(layer), "application/vnd.oci.image.layer.v1.tar+gzip"))
        .collect();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let diff_ids: Vec<_> = layers.iter().map(|layer| format!("sha256:{}", digest(layer))).collect();
    let mut config = json!({
        "architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let mut manifest = json!({"schemaVersion": 2, "layers": packed});
    wrong(&mut config, &mut manifest);
    let config = blob(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
    manifest["config"] = config;
    let manifest = blob(manifest.to_string().as_bytes(), "application/vnd.oci.image.manifest.v1+json");
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(folder.join("index.json"), json!({"schemaVersion": 2, "manifests": [manifest]}).to_string())
        .unwrap();
    folder.to_str().unwrap().to_owned()
}

#[test]
fn whiteouts_take_away_what_lower_layers_have() {
    let place = Place::new();
    let file = |path: &str| Entry::file(path, 0o644, path.as_bytes());
    let layers = [
        tar(&[
            init(),
            file("a/one"),
            file("a/two"),
            file("opaque/low"),
            file("opaque/deep/low"),
            file("b/c/d"),
            Entry::symlink("link", "/b"),
        ]),
        tar(&[
            // whiteouts mean lower layers wherever they stand, and what this layer has stays
            file("opaque/new"),
            file("opaque/deep/new"),
            file("opaque/.wh..wh..opq"),
            file("a/.wh.one"),
            file("a/.wh.never-there"),
            file(".wh..wh.plnk"),
            // through a link of the layer below: within the tree
            file("link/c/.wh.d"),
        ]),
        tar(&[file("a/one"), file(".wh.b"), file("outside/.wh.canary")]),
    ];
    let image = image(&place, &layers, &|_, _| {});
    place.import(&image, "a", &["--network", "none"]).ok();
    let tree = place.tree("a");
    let there = |path: &str| tree.join(path).symlink_metadata().is_ok();
    for path in ["a/one", "a/two", "opaque/new", "opaque/deep/new", "link"] {
        assert!(there(path), "{path}");
    }
    for path in ["opaque/low", "opaque/deep/low", "b", "opaque/.wh..wh..opq", ".wh..wh.plnk", "a/.wh.one"] {
        assert!(!there(path), "{path}");
    }
    place.run(&["remove", "a", "--yes"]).ok();
    place.has_no_machine("whiteouts");
}

#[test]
fn an_image_that_is_not_what_it_says_is_refused() {
    let place = Place::new();
    let good = tar(&[init()]);
    let refused = |layers: &[Vec<u8>], wrong: &dyn Fn(&mut Value, &mut Value), code: i32, word: &str| {
        let output = place.import(&image(&place, layers, wrong), "a", &[]);
        assert_eq!(output.code, code, "{word}: {}", output.err);
        assert!(output.err.contains(word), "{word}: {}", output.err);
        place.has_no_machine(word);
    };
    let layers = std::slice::from_ref(&good);
    let zeros = format!("sha256:{}", "0".repeat(64));
    refused(
        layers,
        &|config, _| config["rootfs"]["diff_ids"][0] = json!(zeros),
        4,
        "not what its digest says",
    );
    refused(layers, &|config, _| config["architecture"] = json!("s390x"), 3, "s390x");
    refused(layers, &|config, _| config["rootfs"]["diff_ids"] = json!([]), 4, "as many layers");
    refused(layers, &|_, manifest| manifest["layers"][0]["size"] = json!(5), 4, "not what its digest says");
    refused(
        layers,
        &|_, manifest| manifest["layers"][0]["digest"] = json!("sha256:../../index.json"),
        4,
        "no SHA-256",
    );
    refused(layers, &|_, manifest| manifest["layers"][0]["digest"] = json!("md5:00"), 4, "no SHA-256");
    refused(layers, &|_, manifest| manifest["layers"][0]["mediaType"] = json!("text/html"), 4, "text/html");
    for name in [".wh...", ".wh..", ".wh.", "../.wh.canary"] {
        refused(&[good.clone(), tar(&[Entry::file(&format!("x/{name}"), 0, b"")])], &|_, _| {}, 4, "");
    }
    // a blob that leads elsewhere, and one that was changed
    let folder = image(&place, layers, &|_, _| {});
    let layer = fs::read_dir(place.path("image/blobs/sha256"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| fs::read(path).unwrap().starts_with(&[0x1f, 0x8b]))
        .unwrap();
    let bytes = fs::read(&layer).unwrap();
    fs::write(place.path("elsewhere"), &bytes).unwrap();
    fs::remove_file(&layer).unwrap();
    std::os::unix::fs::symlink(place.path("elsewhere"), &layer).unwrap();
    place.import(&folder, "a", &[]).ends_with(4);
    fs::remove_file(&layer).unwrap();
    fs::write(&layer, [&bytes[..bytes.len() - 1], b"x"].concat()).unwrap();
    place.import(&folder, "a", &[]).ends_with(4);
    place.has_no_machine("blobs");
}

#[test]
fn names_as_long_as_a_file_system_takes_them_go_every_way() {
    let place = Place::new();
    let long = |letter: &str| letter.repeat(255);
    let (first, second) = (format!("./srv/work/{}", long("a")), format!("./srv/work/{}", long("b")));
    let volumes =
        json!({"volumes": [{"path": "/srv/work", "kind": "home", "owner": "root", "mode": "0755"}]});
    let entries = [
        comment(&volumes),
        init(),
        Entry::folder("./srv/work/"),
        Entry::file(&first, 0o640, b"long").xattr("user.note", b"kept"),
        Entry::hardlink(&second, &first),
    ];
    place.import_entries(&entries, "a", &[]).ok();
    let volume = place.path("state/volumes/a/srv-work");
    let all = facts(&volume);
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(all[&long("a")], all[&long("b")]);
    assert!(all[&long("a")].contains(" 2 4 ") && all[&long("a")].contains("user.note"), "{all:?}");

    fs::write(place.path(&long("c")), "copied").unwrap();
    place.run(&["copy", &place.word(&long("c")), "a:/srv/"]).ok();
    place.run(&["copy", &format!("a:/srv/{}", long("c")), &place.word(&long("d"))]).ok();
    assert_eq!(fs::read_to_string(place.path(&long("d"))).unwrap(), "copied");

    let file = place.word(&format!("{}.tar", "e".repeat(251)));
    place.run(&["export", "a", &file]).ok();
    place.run(&["import", &file, "b", "--backend", "direct", "--no-start"]).ok();
    assert!(place.tree("b").join("srv").join(long("c")).exists());
    place.run(&["clone", "a", "c"]).ok();
    assert_eq!(facts(&place.path("state/volumes/c/srv-work")), all);
}
