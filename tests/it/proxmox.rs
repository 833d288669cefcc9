//! Machines as containers of a node of Proxmox VE: a stand-in, that refuses what Proxmox refuses.

use std::{fs, time::Duration};

use sandbox_core::machine::proxmox::config;
use serde_json::json;

use crate::{
    carried::{Place, init},
    export::comment,
    kit::{
        compress::Compression,
        process::{self, Output, until},
        pve::Pve,
        tar::{Entry, tar},
    },
};

const OS: &[u8] = b"ID=debian\nVERSION_ID=\"13\"\n";

fn machine(place: &Place, more: &serde_json::Value) {
    let entries = [comment(more), Entry::file("./etc/os-release", 0o644, OS), init()];
    place.import_entries(&entries, "a", &["--accept-costs"]).ok();
}

#[track_caller]
fn export(place: &Place, more: &[&str]) -> Output {
    place.run(&[&["export", "a", "--to", "proxmox", "--stand-in", &place.word("pve")], more].concat())
}

#[test]
fn a_machine_becomes_a_container_with_a_wall() {
    let place = Place::new();
    let pve = Pve::new(&place.path("pve"), true);
    machine(
        &place,
        &json!({
            "needs": {"nesting": 1, "devices": ["/dev/null"]},
            "chosen": {"limits": {"cpus": 1500, "memory": 1 << 30}, "autostart": {"order": 2, "delay": 5}},
        }),
    );
    let output = export(&place, &["--rootfs", "local-lvm:8", "--start"]);
    assert!(output.ok().starts_with("container 100 of local:vztmpl/debian-13-a_"), "{}", output.out);
    let read = config::read(&pve.read("etc/lxc/100.conf")).unwrap();
    let expected = [
        ("arch", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }),
        ("cores", "2"),
        ("cpulimit", "1.5"),
        ("dev0", "/dev/null"),
        ("features", "keyctl=1,nesting=1"),
        ("hostname", "a"),
        ("memory", "1024"),
        ("net0", "name=eth0,bridge=vmbr0,firewall=1,ip=dhcp,ip6=auto,type=veth"),
        ("onboot", "1"),
        ("ostype", "debian"),
        ("rootfs", "local-lvm:subvol,size=8G"),
        ("startup", "order=2,up=5"),
        ("swap", "0"),
        ("tags", "sandbox"),
        ("unprivileged", "1"),
    ];
    let found: Vec<(&str, &str)> = read.values.iter().map(|(key, value)| (&**key, &**value)).collect();
    assert_eq!(found, expected);
    assert!(read.description.contains("made by sandbox"), "{}", read.description);
    let wall = pve.read("etc/firewall/100.fw");
    assert!(wall.contains("policy_in: DROP") && wall.contains("OUT DROP -dest 192.168.0.0/16\n"), "{wall}");
    assert_eq!(pve.read("started"), "100\n");
    assert_eq!(pve.names("templates").len(), 1);
}

#[test]
fn what_cannot_be_had_is_said_before_anything_is_made() {
    let place = Place::new();
    let pve = Pve::new(&place.path("pve"), false);
    machine(&place, &json!({}));
    let untouched = |output: Output, code: i32, word: &str| {
        output.ends_with(code);
        assert!(output.err.contains(word), "{}", output.err);
        assert_eq!((pve.names("templates"), pve.names("etc/lxc")), (vec![], vec![]), "{word}");
        assert_eq!(pve.names("etc/firewall"), ["cluster.fw"], "{word}");
    };
    untouched(export(&place, &[]), 6, "packet filter of this cluster is off");
    drop(Pve::new(&place.path("pve"), true));
    untouched(export(&place, &["--storage", "nowhere"]), 6, "storage 'nowhere' does not exist");
    // Proxmox refuses at its own time: template and wall go again
    untouched(export(&place, &["--rootfs", "x:y"]), 6, "rootfs: invalid format");
    fs::remove_dir_all(place.path("pve/etc")).unwrap();
    let output = export(&place, &[]);
    output.ends_with(6);
    assert!(output.err.contains("no node of Proxmox VE"), "{}", output.err);
}

#[test]
fn no_network_is_no_link_and_needs_no_filter() {
    let place = Place::new();
    let pve = Pve::new(&place.path("pve"), false);
    machine(&place, &json!({"network": "none"}));
    export(&place, &["--id", "142"]).ok();
    let read = config::read(&pve.read("etc/lxc/142.conf")).unwrap();
    assert!(!read.values.contains_key("net0"), "{read:?}");
    assert_eq!(pve.names("etc/firewall"), ["cluster.fw"]);
    // the number is taken, and what has it keeps all it has
    fs::write(place.path("pve/etc/firewall/142.fw"), "of another").unwrap();
    let template = pve.names("templates");
    fs::remove_file(place.path("pve/templates").join(&template[0])).unwrap();
    export(&place, &["--id", "142"]).ends_with(1);
    assert_eq!(pve.read("etc/firewall/142.fw"), "of another");
    assert_eq!(pve.names("templates"), Vec::<String>::new());
}

#[test]
fn a_machine_lives_on_the_node_under_the_same_verbs() {
    let place = Place::new();
    let pve = Pve::new(&place.path("pve"), true);
    let (file, node) = (place.word("in.tar.zst"), place.word("pve"));
    let entries = [comment(&json!({})), Entry::file("./etc/os-release", 0o644, OS), init()];
    fs::write(&file, Compression::Zst.pack(&tar(&entries))).unwrap();
    let mount = ["--mount-point", "/srv=local-lvm:4", "--rootfs", "local-lvm:8"];
    let fixed = ["import", &file, "b", "--backend", "proxmox", "--stand-in", &node];
    place.run(&[&fixed[..], &mount].concat()).ok();
    assert_eq!((pve.names("templates"), pve.names("running")), (vec![], vec!["100".to_owned()]));
    let config = || config::read(&pve.read("etc/lxc/100.conf")).unwrap();
    assert_eq!(config().values["mp0"], "local-lvm:4,mp=/srv,backup=1");
    assert!(pve.read("etc/firewall/100.fw").contains("policy_in: DROP"));
    let shown: serde_json::Value = serde_json::from_str(place.run(&["status", "b", "--json"]).ok()).unwrap();
    assert_eq!((&shown["state"], &shown["addresses"]), (&json!("running"), &json!(["192.0.2.9"])));

    // a command's words, variables, folder, output and status are its own
    let run = |words: &[&str]| place.run(&[&["exec", "b"], words].concat());
    assert_eq!(run(&["--env", "A=b c", "--cwd", "/", "--", "sh", "-c", "pwd; echo $A$HOME"]).ok(), "/\nb c");
    run(&["--", "sh", "-c", "exit 7"]).ends_with(7);
    fs::write(place.path("hello"), "hello").unwrap();
    place.run(&["copy", &place.word("hello"), "b:/root/there"]).ok();
    assert_eq!(run(&["--", "cat", "there"]).ok(), "hello");
    place.run(&["copy", "b:/root/there", &place.word("back")]).ok();
    assert_eq!(fs::read_to_string(place.path("back")).unwrap(), "hello");
    let output = place.run(&["copy", "b:/root", "-"]);
    assert!(output.ends_with(1).err.contains("tar c"), "{}", output.err);

    place.run(&["set", "b", "--memory", "512M", "--autostart", "yes"]).ok();
    assert_eq!((config().values["memory"].as_str(), config().values["onboot"].as_str()), ("512", "1"));
    place.run(&["set", "b", "--memory", "none", "--autostart", "no"]).ok();
    assert!(!config().values.contains_key("memory") && !config().values.contains_key("onboot"));
    place.run(&["snapshot", "create", "b", "before"]).ok();
    assert!(place.run(&["snapshot", "list", "b"]).ok().contains("before"));
    place.run(&["snapshot", "restore", "b", "before", "--yes", "--restart"]).ok();
    assert_eq!(pve.read("rolled"), "100 before\n");
    place.run(&["snapshot", "remove", "b", "before"]).ok();
    assert!(config().snapshots.is_empty());
    place.run(&["stop", "b"]).ok();
    run(&["--", "true"]).ends_with(125);
    place.run(&["start", "b"]).ok();
    place.run(&["remove", "b", "--yes"]).ok();
    assert_eq!((pve.names("etc/lxc"), pve.names("running")), (vec![], vec![]));
    assert_eq!(pve.names("etc/firewall"), ["cluster.fw"]);
}

#[test]
fn a_killed_export_leaves_nothing_on_the_node() {
    let place = Place::new();
    let pve = Pve::new(&place.path("pve"), true);
    machine(&place, &json!({}));
    fs::write(place.path("pve/slow"), "").unwrap();
    let (state, cache, node) = (place.word("state"), place.word("cache"), place.word("pve"));
    let fixed = [env!("CARGO_BIN_EXE_sandbox"), "--state-dir", &state, "--cache-dir", &cache];
    let argv = [&fixed[..], &["export", "a", "--to", "proxmox", "--stand-in", &node]].concat();
    let mut child = process::start(&argv);
    until("pct begins", Duration::from_secs(60), || place.path("pve/begun").exists().then_some(()));
    assert_eq!((pve.names("templates").len(), pve.names("etc/firewall").len()), (1, 2));
    child.kill().unwrap();
    drop(child.wait());
    fs::write(place.path("pve/etc/firewall/101.fw"), "of another").unwrap();
    place.run(&["repair"]).ok();
    assert_eq!((pve.names("templates"), pve.names("etc/lxc")), (vec![], vec![]));
    assert_eq!(pve.names("etc/firewall"), ["101.fw", "cluster.fw"]);
    fs::remove_file(place.path("pve/slow")).unwrap();
    export(&place, &[]).ok();
}
