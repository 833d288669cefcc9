//! Machines as containers of Proxmox VE that is elsewhere: through the interface of a stand-in, which refuses what
//! Proxmox refuses.

use std::{fs, time::Duration};

use serde_json::json;

use crate::{
    carried::{Place, init},
    export::comment,
    kit::{
        cluster::{Cluster, SECRET, write_token},
        compress::Compression,
        process::{self, Output, until},
        tar::{Entry, tar},
    },
};

const OS: &[u8] = b"ID=debian\nVERSION_ID=\"13\"\n";

fn entries(more: &serde_json::Value) -> [Entry; 3] {
    [comment(more), Entry::file("./etc/os-release", 0o644, OS), init()]
}

/// A machine of this host, to be exported.
fn machine(place: &Place, more: &serde_json::Value) {
    place.import_entries(&entries(more), "a", &["--accept-costs"]).ok();
}

fn words<'a>(first: &[&'a str], reach: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    first.iter().copied().chain(reach.iter().map(String::as_str)).chain(more.iter().copied()).collect()
}

#[track_caller]
fn export(place: &Place, cluster: &Cluster, more: &[&str]) -> Output {
    let reach = cluster.words(&place.path(""));
    place.run(&words(&["export", "a", "--to", "proxmox"], &reach, more))
}

/// Sees that nothing of a container is there, nor of a template, on either side.
#[track_caller]
fn nothing_is_left(place: &Place, cluster: &Cluster) {
    let mut state = cluster.state();
    assert!(state.containers.is_empty(), "{:?}", state.containers);
    assert_eq!(state.all_templates(), Vec::<String>::new());
    drop(state);
    let left: Vec<String> = fs::read_dir(place.path("state/machines/a"))
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("tar.zst") || name.contains("journal"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_machine_becomes_a_container_with_a_wall() {
    let (place, cluster) = (Place::new(), Cluster::new());
    let exception = json!([{"address": "192.168.1.1", "port": 53, "reason": "resolver"}]);
    machine(&place, &json!({"chosen": {"limits": {"cpus": 1500, "memory": 1 << 30}}}));
    let record = place.path("state/machines/a/machine.json");
    let mut value: serde_json::Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    value["definition"]["exceptions"] = exception;
    fs::write(&record, value.to_string()).unwrap();
    let more = ["--rootfs", "local-lvm:8", "--mount-point", "/srv=plain:4", "--start", "--json"];
    let output = export(&place, &cluster, &more);
    let told: serde_json::Value = serde_json::from_str(output.ok().lines().last().unwrap()).unwrap();
    assert_eq!((&told["container"], &told["node"]), (&json!(100), &json!("pve1")), "{told}");
    assert!(told["template"].as_str().unwrap().starts_with("local:vztmpl/debian-13-a_"), "{told}");
    let state = cluster.state();
    let made = &state.containers[&100];
    let value = |key: &str| made.config[key].as_str();
    assert_eq!((value("hostname"), value("ostype"), value("tags")), ("a", "debian", "sandbox"));
    assert_eq!((value("cores"), value("cpulimit"), value("memory")), ("2", "1.5", "1024"));
    assert_eq!((value("rootfs"), value("mp0")), ("local-lvm:8", "plain:4,mp=/srv,backup=1"));
    assert_eq!(value("net0"), "name=eth0,bridge=vmbr0,firewall=1,ip=dhcp,ip6=auto,type=veth");
    assert!(value("description").contains("made by sandbox"), "{}", value("description"));
    assert!(made.running && !made.config.contains_key("features"));
    // the first rule that fits counts, and what the node is on is out of reach
    let dest = |at: usize| (made.rules[at]["action"].as_str(), made.rules[at]["dest"].as_str());
    assert_eq!((dest(0), dest(1)), (("ACCEPT", "192.168.1.1"), ("ACCEPT", "192.168.1.1")));
    assert_eq!((dest(2), made.rules[0]["dport"].as_str()), (("DROP", "0.0.0.0/8"), "53"));
    let ranges: Vec<_> = made.rules.iter().map(|rule| rule["dest"].as_str()).collect();
    for range in ["192.168.0.0/16", "203.0.113.0/24", "2001:db8::/64"] {
        assert!(ranges.contains(&range), "{range}");
    }
    assert_eq!((made.options["enable"].as_str(), made.options["policy_in"].as_str()), ("1", "DROP"));
    // the wall stands before it runs
    let position = |call: &str| state.log.iter().rposition(|made| made == call).unwrap();
    let wall = position("PUT /nodes/pve1/lxc/100/firewall/options");
    assert!(wall < position("POST /nodes/pve1/lxc/100/status/start"));
    assert_eq!(state.templates.len(), 1);
    drop(state);
    assert!(!place.path("state/machines/a/journal.json").exists());
    assert!(!output.err.contains(SECRET) && !output.out.contains(SECRET));
}

#[test]
fn a_certificate_is_trusted_by_its_authority_or_its_fingerprint_and_else_not() {
    let (place, cluster) = (Place::new(), Cluster::new());
    machine(&place, &json!({}));
    write_token(&place.path("token"), &format!("{}={SECRET}", crate::kit::cluster::OWNER));
    let (url, token) = (cluster.url(), place.word("token"));
    let with = |more: &[&str]| {
        let fixed = ["export", "a", "--to", "proxmox", "--api", &url, "--token-file", &token];
        place.run(&[&fixed, more].concat())
    };
    let output = with(&[]);
    assert!(output.ends_with(4).err.contains("certificate that is not trusted"), "{}", output.err);
    let other = Cluster::new();
    let output = with(&["--fingerprint", &other.fingerprint]);
    assert!(output.ends_with(4).err.contains(&cluster.fingerprint), "{}", output.err);
    assert!(cluster.state().log.is_empty(), "a token went to somebody who is not trusted");
    with(&["--fingerprint", &cluster.fingerprint]).ok();
    assert_eq!(cluster.state().containers.len(), 1);
    let output = with(&["--fingerprint", "AA:BB"]);
    assert!(output.ends_with(2).err.contains("SHA-256"), "{}", output.err);
}

#[test]
fn what_cannot_be_had_is_said_before_anything_is_made() {
    let (place, cluster) = (Place::new(), Cluster::new());
    machine(&place, &json!({}));
    let untouched = |output: Output, code: i32, words: &[&str]| {
        output.ends_with(code);
        for word in words {
            assert!(output.err.contains(word), "`{word}` is not in: {}", output.err);
        }
        assert_eq!(cluster.state().changes(), Vec::<&str>::new());
        nothing_is_left(&place, &cluster);
    };
    let export = |more: &[&str]| export(&place, &cluster, more);
    untouched(export(&["--storage", "nowhere"]), 1, &["no storage `nowhere`", "it has: local"]);
    untouched(export(&["--rootfs", "local:8"]), 1, &["no storage `local`", "local-lvm, plain"]);
    untouched(export(&["--bridge", "vmbr7"]), 1, &["no bridge `vmbr7`", "it has: vmbr0"]);
    untouched(export(&["--node", "pve9"]), 2, &["there is no such node", "pve1"]);
    cluster.state().containers.insert(100, crate::kit::cluster::state::Container::default());
    let output = export(&["--id", "100"]);
    assert!(output.ends_with(1).err.contains("100 is taken"), "{}", output.err);
    cluster.state().containers.clear();
    cluster.state().filter = false;
    untouched(export(&[]), 6, &["packet filter of this cluster is off"]);
    cluster.state().filter = true;
    cluster.state().lack("VM.Allocate", "/vms/100");
    cluster.state().lack("SDN.Use", "/sdn/zones/localnetwork/vmbr0");
    untouched(export(&[]), 6, &["lacks SDN.Use on /sdn/zones/localnetwork/vmbr0, VM.Allocate on /vms/100"]);
    cluster.state().lacks.clear();
    cluster.state().nodes.push("pve2".to_owned());
    untouched(export(&[]), 2, &["several nodes", "pve1, pve2"]);
    cluster.state().nodes.pop();

    let reach = cluster.words(&place.path(""));
    let run = |more: &[&str]| place.run(&words(&["export", "a", "--to", "proxmox"], &reach, more));
    write_token(&place.path("token"), "robot@pve!sandbox=another");
    untouched(run(&[]), 6, &["token of `robot@pve!sandbox` is not taken"]);
    write_token(&place.path("token"), "no token");
    untouched(run(&[]), 3, &["holds no token"]);
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(place.path("token"), open).unwrap();
    untouched(run(&[]), 3, &["can be read by others", "chmod 600"]);
    let output = place.run(&["export", "a", "--to", "proxmox", "--api", &cluster.url()]);
    untouched(output, 2, &["wants an API token"]);
    let output =
        place.run(&["export", "a", "--to", "proxmox", "--api", "http://127.0.0.1:1", "--token-file", "x"]);
    assert_ne!(output.code, 0);
}

#[test]
fn what_no_token_may_do_is_named_and_can_be_left_out_by_name() {
    let (place, cluster) = (Place::new(), Cluster::new());
    machine(&place, &json!({"needs": {"nesting": 1, "devices": ["/dev/null", "/dev/fuse"]}}));
    let output = export(&place, &cluster, &[]);
    output.ends_with(6);
    for word in ["`keyctl`", "`fuse`", "/dev/null", "root@pam", "--leave-out keyctl,fuse,devices"] {
        assert!(output.err.contains(word), "`{word}` is not in: {}", output.err);
    }
    assert!(cluster.state().changes().is_empty());
    export(&place, &cluster, &["--leave-out", "keyctl,fuse,devices"]).ok();
    assert_eq!(cluster.state().containers[&100].config["features"], "nesting=1");
}

#[test]
fn a_step_that_fails_undoes_those_before_it() {
    let (place, cluster) = (Place::new(), Cluster::new());
    machine(&place, &json!({}));
    for kind in ["imgcopy", "vzcreate", "vzstart"] {
        cluster.state().fails = [(kind.to_owned(), format!("{kind} went wrong"))].into();
        let output = export(&place, &cluster, &["--start"]);
        output.ends_with(6);
        let said = format!("the task `{kind}` ended with `{kind} went wrong`");
        assert!(output.err.contains(&said), "{}", output.err);
        assert!(output.err.contains(&format!("TASK ERROR: {kind} went wrong")), "{}", output.err);
        nothing_is_left(&place, &cluster);
    }
    cluster.state().fails.clear();
    // no wall, no container
    for broken in ["firewall/rules", "firewall/options"] {
        cluster.state().broken = Some(format!("lxc/100/{broken}"));
        let output = export(&place, &cluster, &[]);
        assert!(output.ends_with(6).err.contains("start worker failed"), "{}", output.err);
        cluster.state().broken = None;
        nothing_is_left(&place, &cluster);
    }
    // and the template of another is nobody's to remove
    export(&place, &cluster, &[]).ok();
    let output = export(&place, &cluster, &[]);
    assert!(output.ends_with(1).err.contains("is there already"), "{}", output.err);
    assert_eq!(cluster.state().templates.len(), 1);
}

#[test]
fn an_interrupted_or_killed_export_leaves_nothing() {
    let (place, cluster) = (Place::new(), Cluster::new());
    machine(&place, &json!({}));
    let reach = cluster.words(&place.path(""));
    let (state, cache) = (place.word("state"), place.word("cache"));
    let fixed = [env!("CARGO_BIN_EXE_sandbox"), "--state-dir", &state, "--cache-dir", &cache];
    let argv = [&fixed[..], &words(&["export", "a", "--to", "proxmox"], &reach, &[])].concat();
    for (kind, call) in
        [("vzcreate", "POST /nodes/pve1/lxc"), ("imgcopy", "POST /nodes/pve1/storage/local/upload")]
    {
        for killed in [false, true] {
            cluster.state().log.clear();
            cluster.state().takes = [(kind.to_owned(), Duration::from_secs(3))].into();
            let mut child = process::start(&argv);
            until("the task begins", Duration::from_secs(60), || {
                cluster.state().log.iter().any(|made| made == call).then_some(())
            });
            if killed {
                child.kill().unwrap();
                drop(child.wait());
                place.run(&["repair"]).ok();
            } else {
                let pid = rustix::process::Pid::from_child(&child);
                rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
                let output = process::finish(child, &argv, Duration::from_secs(60));
                assert_ne!(output.code, 0, "{}", output.err);
            }
            nothing_is_left(&place, &cluster);
        }
    }
    cluster.state().takes.clear();
    export(&place, &cluster, &[]).ok();
}

/// Imports a machine that is a container of the cluster.
#[track_caller]
fn resident(place: &Place, reach: &[String], more: &[&str]) -> Output {
    let file = place.word("in.tar.zst");
    fs::write(&file, Compression::Zst.pack(&tar(&entries(&json!({}))))).unwrap();
    place.run(&words(&["import", &file, "b", "--backend", "proxmox"], reach, more))
}

#[test]
fn a_machine_lives_elsewhere_under_the_same_verbs() {
    let (place, cluster) = (Place::new(), Cluster::new());
    let reach = cluster.words(&place.path(""));
    machine(&place, &json!({}));
    resident(&place, &reach, &["--rootfs", "local-lvm:8"]).ok();
    {
        let mut state = cluster.state();
        assert!(state.containers[&100].running);
        assert_eq!(state.all_templates(), Vec::<String>::new(), "the template is of no use any more");
    }
    // neither its tree nor the token is here
    let left: Vec<_> = fs::read_dir(place.path("state/machines/b"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["machine.json"]);
    let record = fs::read_to_string(place.path("state/machines/b/machine.json")).unwrap();
    assert!(!record.contains(SECRET) && record.contains(&place.word("token")), "{record}");

    let json = |words: &[&str]| -> serde_json::Value {
        serde_json::from_str(place.run(&[words, &["--json"]].concat()).ok()).unwrap()
    };
    let listed = json(&["list"]);
    assert_eq!((&listed[0]["name"], &listed[0]["backend"]), (&json!("a"), &json!("direct")));
    assert_eq!((&listed[1]["name"], &listed[1]["backend"]), (&json!("b"), &json!("proxmox")));
    assert_eq!((&listed[1]["state"], &listed[1]["addresses"]), (&json!("running"), &json!(["203.0.113.50"])));
    let shown = json(&["status", "b"]);
    assert_eq!((&shown["place"]["id"], &shown["place"]["node"]), (&json!(100), &json!("pve1")));
    assert!(place.run(&["status", "b"]).ok().contains("container 100 on node pve1"));

    place.run(&["start", "b"]).ends_with(1);
    place.run(&["stop", "b"]).ok();
    place.run(&["stop", "b"]).ok();
    assert_eq!(json(&["status", "b"])["state"], "stopped");
    place.run(&["wait", "b", "--for", "stopped"]).ok();
    place.run(&["wait", "b", "--timeout", "0"]).ends_with(1);
    place.run(&["start", "b"]).ok();
    place.run(&["wait", "b", "--for", "running"]).ok();
    place.run(&["restart", "b"]).ok();
    assert!(cluster.state().containers[&100].running);

    let config = |key: &str| cluster.state().containers[&100].config.get(key).cloned();
    let is = |key: &str, value: &str| assert_eq!(config(key).as_deref(), Some(value), "{key}");
    place.run(&["set", "b", "--cpus", "1.5", "--memory", "512M", "--start-order", "3"]).ok();
    [("cores", "2"), ("cpulimit", "1.5"), ("memory", "512"), ("swap", "0"), ("startup", "order=3,up=0")]
        .into_iter()
        .for_each(|(key, value)| is(key, value));
    place.run(&["set", "b", "--memory", "none"]).ok();
    place.run(&["disable", "b"]).ok();
    assert_eq!((config("memory"), config("onboot"), config("startup")), (None, None, None));
    is("cores", "2");
    place.run(&["enable", "b"]).ok();
    is("onboot", "1");
    // what the cluster refuses is not written down here
    cluster.state().lack("VM.Config.Memory", "/vms/100");
    let output = place.run(&["set", "b", "--memory", "1G"]);
    assert!(output.ends_with(6).err.contains("Permission check failed"), "{}", output.err);
    assert_eq!(json(&["set", "b"])["limits"]["memory"], json!(null));

    place.run(&["snapshot", "create", "b", "before"]).ok();
    assert!(place.run(&["snapshot", "create", "b"]).ok().starts_with('s'));
    assert_eq!(json(&["snapshot", "list", "b"]).as_array().unwrap().len(), 2);
    place.run(&["snapshot", "create", "b", "2026-01-01"]).ends_with(1);
    place.run(&["snapshot", "restore", "b", "before", "--yes"]).ends_with(1);
    place.run(&["set", "b", "--cpus", "4"]).ok();
    place.run(&["snapshot", "restore", "b", "before", "--yes", "--restart"]).ok();
    is("cores", "2");
    assert!(cluster.state().containers[&100].running);
    place.run(&["snapshot", "remove", "b", "before"]).ok();
    place.run(&["snapshot", "restore", "b", "before", "--yes", "--restart"]).ends_with(6);

    // by hand, the record stays and says so
    cluster.state().containers.get_mut(&100).unwrap().config.insert("description".into(), "mine".into());
    for verb in [&["status", "b"][..], &["stop", "b"], &["remove", "b", "--yes"]] {
        let output = place.run(verb);
        assert!(output.ends_with(1).err.contains("none that `sandbox` made"), "{}", output.err);
    }
    assert!(cluster.state().containers[&100].running);
    cluster.state().containers.clear();
    let output = place.run(&["start", "b"]);
    assert!(output.ends_with(1).err.contains("not there any more"), "{}", output.err);
    place.run(&["remove", "b", "--yes"]).ok();
    assert!(!place.path("state/machines/b").exists());
}

#[test]
fn what_is_not_to_be_had_elsewhere_is_refused_by_name() {
    let (place, cluster) = (Place::new(), Cluster::new());
    let reach = cluster.words(&place.path(""));
    resident(&place, &reach, &["--no-start", "--rootfs", "plain:8"]).ok();
    assert!(!cluster.state().containers[&100].running);
    let before = cluster.state().changes().len();
    let file = place.word("token");
    for (verb, code) in [
        (&["exec", "b", "--", "true"][..], 125),
        (&["shell", "b"], 125),
        (&["console", "b"], 1),
        (&["logs", "b"], 1),
        (&["copy", &file, "b:/root/"], 1),
        (&["copy", "b:/etc/passwd", "-"], 1),
        (&["kill", "b"], 1),
        (&["top", "b"], 1),
        (&["health", "b"], 1),
        (&["mount", "b", "/srv", "/srv"], 1),
        (&["unmount", "b", "/srv"], 1),
        (&["rename", "b", "c"], 1),
        (&["clone", "b", "c"], 1),
        (&["fork", "b", "c"], 1),
        (&["export", "b"], 1),
        (&["move", "b", "--to", "direct"], 1),
        (&["set", "b", "--tasks", "5"], 1),
        (&["set", "b", "--env", "A=b"], 1),
        (&["wait", "b", "--for", "healthy"], 1),
        (&["snapshot", "diff", "b"], 1),
        (&["snapshot", "schedule", "b", "--every", "1h", "--keep", "6h"], 1),
    ] {
        let output = place.run(verb);
        let said = output.ends_with(code).err.contains("is not to be had for a machine on Proxmox VE");
        assert!(said && output.err.contains("because"), "{}", output.err);
    }
    assert_eq!(cluster.state().changes().len(), before);
    let output = place.run(&["snapshot", "create", "b", "now"]);
    assert!(output.ends_with(6).err.contains("snapshot feature is not available"), "{}", output.err);
    place.run(&["repair"]).ok();
    place.run(&["top", "--once"]).ok();
    // one that cannot be asked keeps no other from being listed
    let url = cluster.url();
    let path = place.path("state/machines/b/machine.json");
    let record = fs::read_to_string(&path).unwrap();
    fs::write(&path, record.replace(&url, "https://127.0.0.1:1")).unwrap();
    assert!(place.run(&["list"]).ok().contains("unreachable"));
    place.run(&["status", "b"]).ends_with(5);
    place.run(&["remove", "b", "--yes"]).ends_with(5);
    fs::write(&path, record).unwrap();
    place.run(&["remove", "b", "--yes"]).ok();
    nothing_is_left(&place, &cluster);
    // `move` says what there is instead
    machine(&place, &json!({}));
    let output = place.run(&["move", "a", "--to", "proxmox"]);
    assert!(output.ends_with(1).err.contains("sandbox export a --to proxmox"), "{}", output.err);
}

#[test]
fn a_new_machine_is_whole_or_absent() {
    let (place, cluster) = (Place::new(), Cluster::new());
    let reach = cluster.words(&place.path(""));
    let gone = || {
        nothing_is_left(&place, &cluster);
        place.has_no_machine("b");
    };
    cluster.state().filter = false;
    resident(&place, &reach, &[]).ends_with(6);
    gone();
    cluster.state().filter = true;
    cluster.state().fails = [("vzstart".to_owned(), "no".to_owned())].into();
    resident(&place, &reach, &[]).ends_with(6);
    gone();
    cluster.state().fails.clear();
    cluster.state().takes = [("vzcreate".to_owned(), Duration::from_secs(2))].into();
    let (state, cache) = (place.word("state"), place.word("cache"));
    let fixed = [env!("CARGO_BIN_EXE_sandbox"), "--state-dir", &state, "--cache-dir", &cache];
    let file = place.word("in.tar.zst");
    let argv = [&fixed[..], &words(&["import", &file, "b", "--backend", "proxmox"], &reach, &[])].concat();
    let mut child = process::start(&argv);
    until("the container is being made", Duration::from_secs(60), || {
        (!cluster.state().containers.is_empty()).then_some(())
    });
    child.kill().unwrap();
    drop(child.wait());
    place.run(&["list"]).ok();
    gone();
}
