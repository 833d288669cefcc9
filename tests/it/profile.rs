//! Profiles as their writers meet them: where they are looked for, what is shown and found wrong, what they put
//! into a tree that really is built, and what must be accepted before a machine is made of them.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, process::Output};

use serde_json::Value;

use crate::{
    kit::{archive::Archive, server::Server, skips},
    stack::Stack,
    user::{User, said},
};

fn nobody() -> User {
    User::new(&Archive::small(), "http://127.0.0.1:9")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn json(user: &User, args: &[&str]) -> Value {
    let output = user.sandbox(args);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{args:?}: {}", said(&output)))
}

fn put(user: &User, path: &str, text: &str) {
    let path = user.path(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn plain(name: &str, more: &str) -> String {
    format!("schema = 1\nname = \"{name}\"\nsummary = \"s\"\n{more}\n[[health]]\nargv = [\"true\"]\n")
}

fn repository() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn a_new_profile_is_right_and_not_written_over() {
    let user = nobody();
    let output = user.sandbox(&["profile", "new", "mine"]);
    assert_eq!(
        (output.status.code(), out(&output).trim()),
        (Some(0), "profiles/mine.toml"),
        "{}",
        said(&output)
    );
    let checked = user.sandbox(&["profile", "check"]);
    assert_eq!(checked.status.code(), Some(0), "{}", out(&checked));
    assert!(
        fs::read_to_string(user.path("profiles/mine.toml"))
            .unwrap()
            .starts_with("#:schema ./profile.schema.json\n")
    );
    assert!(user.path("profiles/profile.schema.json").exists());
    user.ends(&["profile", "new", "mine"], 1, "exists");
    user.ends(&["profile", "new", "../mine"], 2, "no name");
    assert_eq!(user.sandbox(&["profile", "new", "other", "--in", "deep/er"]).status.code(), Some(0));
    // what is commented out is right too
    let text = fs::read_to_string(user.path("profiles/mine.toml")).unwrap();
    let open: Vec<_> = text
        .lines()
        .map(|line| {
            line.strip_prefix("# ")
                .filter(|line| !line.starts_with(char::is_uppercase) || line.contains('='))
                .unwrap_or(line)
        })
        .collect();
    fs::write(user.path("profiles/mine.toml"), open.join("\n")).unwrap();
    let checked = user.sandbox(&["profile", "check"]);
    assert_eq!(checked.status.code(), Some(0), "{}\n{}", out(&checked), open.join("\n"));
}

#[test]
fn every_problem_of_a_folder_is_told_with_file_and_line() {
    let user = nobody();
    put(&user, "ci/one.toml", &plain("one", "requires = [\"bsae\"]\nfoo = 1\n[limits]\nnofiles = 3"));
    put(&user, "ci/two.toml", &plain("two", "[[unit]]\nname = \"x\"\ncontent = \"\"\n[[steps]]\nargv = []"));
    put(&user, "ci/three.toml", &plain("three", "requires = [\"bsae\"]"));
    put(&user, "ci/four.toml", "schema = ");
    let output = user.sandbox(&["profile", "check", "ci"]);
    assert_eq!(output.status.code(), Some(3));
    let text = out(&output);
    for line in [
        "ci/four.toml:1: ",
        "ci/one.toml:5: foo: unknown key `foo`",
        "ci/three.toml:4: there is no profile `bsae`; did you mean `base`?",
        "ci/two.toml:5: unit[0].name: ",
        "ci/two.toml:8: steps[0].argv: ",
    ] {
        assert!(text.lines().any(|found| found.starts_with(line)), "{line}: {text}");
    }
    let told = json(&user, &["profile", "check", "ci", "--json"]);
    assert_eq!(told["files"], 4);
    assert_eq!(told["problems"][1]["line"], 5, "{told}");
    user.ends(&["profile", "check", "gone"], 3, "gone cannot be read");
}

#[test]
fn what_is_shipped_is_right_and_its_papers_are_new() {
    let user = nobody();
    let profiles = repository().join("profiles");
    let checked = user.sandbox(&["profile", "check", profiles.to_str().unwrap()]);
    assert_eq!(checked.status.code(), Some(0), "{}", out(&checked));
    for (args, file) in [
        (&["profile", "schema"][..], "docs/reference/profile.schema.json"),
        (&["profile", "schema", "--reference"], "docs/reference/profile.md"),
    ] {
        let now = out(&user.sandbox(args));
        let kept = fs::read_to_string(repository().join(file)).unwrap();
        assert!(now == kept, "{file} is old: sandbox {} > {file}", args.join(" "));
    }
}

#[test]
fn profiles_are_looked_for_here_then_at_home_then_in_the_program() {
    let user = nobody();
    let origin = |config: Option<&str>| {
        let mut command = user.command(&["profile", "list", "--json"]);
        command.env("HOME", user.path("outside"));
        if let Some(config) = config {
            command.env("XDG_CONFIG_HOME", user.path(config));
        }
        let all: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
        let all = all.as_array().unwrap();
        let docker = all.iter().find(|one| one["name"] == "docker").unwrap();
        (docker["origin"].as_str().unwrap().to_owned(), docker["hides_built_in"] == true)
    };
    assert_eq!(origin(None), ("built-in profiles/docker.toml".to_owned(), false));
    put(&user, "outside/.config/sandbox/profiles/docker.toml", &plain("docker", ""));
    assert!(origin(None).0.ends_with("outside/.config/sandbox/profiles/docker.toml"));
    assert_eq!(origin(Some("elsewhere")).0, "built-in profiles/docker.toml");
    put(&user, "elsewhere/sandbox/profiles/docker.toml", &plain("docker", ""));
    assert!(origin(Some("elsewhere")).0.ends_with("elsewhere/sandbox/profiles/docker.toml"));
    put(&user, "profiles/docker.toml", &plain("docker", ""));
    assert_eq!(origin(Some("elsewhere")), ("./profiles/docker.toml".to_owned(), true));
    // the old word does the same
    assert!(out(&user.sandbox(&["profiles"])).contains("./profiles/docker.toml"));
}

#[test]
fn every_value_is_shown_with_its_line() {
    let user = nobody();
    put(&user, "team/a.toml", &plain("a", "requires = [\"./sub/b.toml\"]\n[environment]\nA = \"2\""));
    put(&user, "team/sub/b.toml", &plain("b", "[environment]\nA = \"1\"\n[machine]\nnesting = 2"));
    let shown = out(&user.sandbox(&["profile", "show", "./team/a.toml"]));
    let line = shown.lines().find(|line| line.contains("environment.A = \"2\"")).unwrap();
    assert!(line.ends_with("./team/a.toml:6"), "{shown}");
    let told = json(&user, &["profile", "show", "./team/a.toml", "--release", "kit", "--json"]);
    let stack: Vec<_> =
        told["stack"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(stack, ["kit", "base", "b", "a"]);
    assert!(
        told["stack"][2]["required_by"][0].as_str().unwrap().ends_with("team/a.toml:4"),
        "{}",
        told["stack"]
    );
    let values = told["values"].as_array().unwrap();
    let of = |value: &str| {
        values.iter().find(|one| one["key"] == "environment.A" && one["value"] == value).unwrap()
    };
    assert!(of("1")["but"].as_str().unwrap().ends_with("team/a.toml:6 counts instead"), "{}", of("1"));
    assert_eq!(of("2")["but"], Value::Null);
    user.ends(&["profile", "show", "dokcer"], 2, "did you mean `docker`?");
    put(&user, "bad.toml", &plain("bad", "[[volumes]]\npath = \"/a/b\"\nkind = \"home\"\nmdoe = \"0700\""));
    user.ends(&["profile", "show", "./bad.toml"], 3, "did you mean `mode`?");
}

/// What the profile refuses while it is checked, its script refuses in the machine, each with its reason.
#[test]
fn remote_control_refuses_the_same_before_and_after_it_is_built() {
    let text = fs::read_to_string(repository().join("profiles/claude-remote.toml")).unwrap();
    let table = text.split_once("\n[refuses]\n").unwrap().1.split("\n\n").next().unwrap();
    let refused: Vec<&str> = table.lines().map(|line| line.split_once(" = ").unwrap().0).collect();
    let names = text.split_once("\nnames='").unwrap().1.split('\'').next().unwrap();
    assert_eq!(names.split_whitespace().collect::<Vec<_>>(), refused);
    assert!(refused.len() >= 7, "{refused:?}");
    // a reason of its own, or that of all the others
    let reasons = text.split_once("case $1 in\n").unwrap().1.split_once("esac").unwrap().0;
    let other = "turns off the feature flags";
    assert!(reasons.lines().any(|line| line.trim_start().starts_with("*)") && line.contains(other)));
    for line in table.lines() {
        let (name, why) = line.split_once(" = ").unwrap();
        assert_eq!(reasons.contains(name), !why.contains(other), "{name}: {why}");
    }
}

const PEOPLE: &str = "
[[files]]
path = \"/etc/passwd\"
content = \"root:x:0:0::/root:/bin/sh\\nagent:x:1000:1000::/home/agent:/bin/sh\\n\"
[[files]]
path = \"/etc/group\"
content = \"root:x:0:\\nagent:x:1000:\\nextra:x:700:agent\\n\"
[[files]]
path = \"/home/agent/.keep\"
content = \"\"
owner = \"agent\"
group = \"extra\"
";

#[test]
fn parts_are_put_into_the_tree() {
    let stack = Stack::new();
    stack.profile(&format!(
        "{PEOPLE}
[[unit]]
name = \"ssh.service.d/50-p.conf\"
content = \"\"\"
[Service]
Nice=1
\"\"\"
[sysctl]
\"net.core.somaxconn\" = 512
[limits]
nofile = \"1024:4096\"
[environment]
A = \"x $HOME\"
PATH = \"/opt/p:${{PATH}}\"
[[steps]]
argv = [\"sh\", \"-c\", \"echo $HOME $USER $A >/home/agent/who; ls /home/agent; cat /proc/net/dev >/home/agent/net\"]
user = \"agent\"
environment = {{ A = \"1\" }}
[[agent]]
name = \"a\"
instructions = \"/home/agent/.a/A.md\"
mcp = {{ path = \"/home/agent/.a.toml\", format = \"codex-toml\", owner = \"agent\" }}
skills = \"/home/agent/.a/skills\"
[[mcp]]
name = \"memory\"
argv = [\"m\", \"--x\"]
[[skills]]
name = \"s\"
path = \"/usr/share/s\"
"
    ));
    let tree = stack.built();
    let read =
        |path: &str| fs::read_to_string(tree.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let owner = |path: &str| {
        let found = fs::symlink_metadata(tree.join(path)).unwrap();
        (found.uid(), found.gid())
    };
    assert_eq!(owner("home/agent/.keep"), (1000, 700));
    assert_eq!(read("etc/systemd/system/ssh.service.d/50-p.conf"), "[Service]\nNice=1\n");
    assert_eq!(read("etc/sysctl.d/50-p.conf"), "net.core.somaxconn = 512\n");
    assert!(read("etc/security/limits.d/50-p.conf").contains("* hard nofile 4096\n"));
    assert_eq!(read("etc/systemd/system.conf.d/50-p.conf"), "[Manager]\nDefaultLimitNOFILE=1024:4096\n");
    assert_eq!(read("etc/profile.d/50-p.sh"), "export A=\"x \\$HOME\"\nexport PATH=\"/opt/p:${PATH}\"\n");
    assert_eq!(read("etc/environment.d/50-p.conf"), "A=\"x \\$HOME\"\nPATH=\"/opt/p:${PATH}\"\n");
    assert_eq!(read("home/agent/who"), "/home/agent agent 1\n");
    assert_eq!(owner("home/agent/who"), (1000, 1000));
    let links = read("home/agent/net").lines().skip(2).map(str::to_owned).collect::<Vec<_>>();
    assert!(links.iter().all(|link| link.trim_start().starts_with("lo:")), "a step has a network: {links:?}");
    assert!(read("home/agent/.a/A.md").contains("/etc/sandbox/machine"));
    assert_eq!(owner("home/agent/.a/A.md"), (1000, 1000));
    assert_eq!(read("home/agent/.a.toml"), "[mcp_servers.memory]\ncommand = \"m\"\nargs = [\"--x\"]\n");
    assert_eq!(fs::read_link(tree.join("home/agent/.a/skills/s")).unwrap(), Path::new("/usr/share/s"));
}

#[test]
fn a_step_that_fails_tells_its_story_and_leaves_nothing() {
    let stack = Stack::new();
    stack.profile(&format!(
        "{PEOPLE}[[steps]]\nargv = [\"sh\", \"-c\", \"echo first; echo the reason >&2; exit 7\"]\n"
    ));
    stack
        .refuses_to_build(1, "because step `sh -c echo first; echo the reason >&2; exit 7` cannot be set up");
    let output = stack.build("tree");
    for word in ["status 7", "the reason"] {
        assert!(said(&output).contains(word), "{word}: {}", said(&output));
    }
    stack.profile("[[steps]]\nargv = [\"true\"]\nuser = \"nobdy\"\n");
    stack.refuses_to_build(3, "`nobdy`, who is to run the step `true`");
}

#[test]
fn only_a_step_that_says_so_has_the_hosts_resolvers_and_it_is_told() {
    let stack = Stack::new();
    let step = "argv = [\"sh\", \"-c\", \"cat /etc/resolv.conf >/var/seen 2>&1 || :; cat /proc/net/dev >>/var/seen\"]\n";
    stack.profile(&format!("[[steps]]\n{step}network = true\n"));
    stack.locked();
    let output = stack.build("tree");
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("what it fetches is in no lock"), "{}", said(&output));
    let seen = fs::read_to_string(stack.user.path("tree/var/seen")).unwrap();
    let own = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert!(seen.starts_with(&own), "{seen}");
    let left = fs::read_to_string(stack.user.path("tree/etc/resolv.conf")).unwrap_or_default();
    assert!(own.is_empty() || left != own, "the host's resolvers stayed in the tree");
}

/// A user whose `base` is nothing, so that a machine of the test archive can be made and left stopped.
fn maker() -> (User, Server, Archive) {
    let mut archive = Archive::new();
    archive.fill();
    archive.add(&crate::kit::system::system());
    archive.publish();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    put(&user, "profiles/base.toml", &plain("base", PEOPLE));
    (user, server, archive)
}

fn create<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["create", "mine", "--release", "kit", "--no-start", "--backend", "direct"];
    let build = ["--variant", "essential", "--keyring", "key"];
    [&fixed[..], &build, more].concat()
}

/// Tells whether machines can be made here; where not, the rest of the test is skipped, and says so.
fn has_nspawn(test: &str) -> bool {
    let has = ["/usr/bin/systemd-nspawn", "/bin/systemd-nspawn"].iter().any(|path| Path::new(path).exists());
    if !has {
        skips::skipped(&format!("profile::{test}"), "this host has no systemd-nspawn");
    }
    has
}

#[test]
fn costs_are_accepted_before_anything_is_made() {
    let (user, server, _archive) = maker();
    put(&user, "profiles/dear.toml", &plain("dear", "costs = [\"everything is open\"]"));
    let output = user.sandbox(&create(&["--profile", "dear"]));
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    for word in ["profile `dear` costs", "- everything is open", "--accept-costs", "hides the built-in one"] {
        assert!(said(&output).contains(word), "{word}: {}", said(&output));
    }
    assert!(server.log().is_empty(), "something was fetched before the costs were accepted");
    assert!(!user.path("state").exists());
    if !has_nspawn("costs_are_accepted_before_anything_is_made") {
        return;
    }
    let output =
        user.command(&create(&["--profile", "dear"])).env("SANDBOX_ACCEPT_COSTS", "1").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("costs  accepted: dear (1)"), "{}", said(&output));
    // a name is asked for first
    user.ends(&create(&["--profile", "dear"]), 1, "mine");
    assert!(user.sandbox(&["remove", "mine", "--yes"]).status.success());
    // what was accepted is remembered by its words
    let output = user.sandbox(&create(&["--profile", "dear"]));
    assert!(output.status.success() && !said(&output).contains("everything is open"), "{}", said(&output));
    assert!(said(&output).contains("next:\n  sandbox start mine"), "{}", said(&output));
    assert!(user.sandbox(&["remove", "mine", "--yes"]).status.success());
    std::fs::remove_file(user.path("state/costs.json")).unwrap();

    // a lock was made with the costs on show: what it was made with is accepted, what changed since is not
    let lock = ["lock", "kit", "--profile", "base,dear", "--variant", "essential", "--keyring", "key"];
    let output = user.sandbox(&lock);
    assert!(output.status.success() && said(&output).contains("everything is open"), "{}", said(&output));
    let locked = ["create", "mine", "--no-start", "--backend", "direct", "--locked", "--keyring", "key"];
    let output = user.sandbox(&locked);
    assert!(output.status.success(), "{}", said(&output));
    assert!(user.sandbox(&["remove", "mine", "--yes"]).status.success());
    put(&user, "profiles/dear.toml", &plain("dear", "costs = [\"still more is open\"]"));
    assert_eq!(user.sandbox(&locked).status.code(), Some(2));
}

#[test]
fn what_the_host_lacks_and_what_clashes_is_said_before_anything_is_made() {
    let (user, server, _archive) = maker();
    let asks = |what: &str| put(&user, "profiles/asks.toml", &plain("asks", what));
    asks("[machine.host-sysctl]\n\"kernel.pid_max\" = 99999999999");
    let output = user.sandbox(&create(&["--profile", "asks"]));
    assert_eq!(output.status.code(), Some(6), "{}", said(&output));
    assert!(said(&output).contains("sysctl -w kernel.pid_max=99999999999"), "{}", said(&output));
    asks("[machine]\ndevices = [\"/dev/no-such-device\"]");
    user.ends(&create(&["--profile", "asks"]), 6, "/dev/no-such-device");
    asks("[[ports]]\nport = 8080\nwhat = \"a\"");
    put(
        &user,
        "profiles/also.toml",
        &plain("also", "[[ports]]\nport = 8080\naddress = \"0.0.0.0\"\nwhat = \"b\""),
    );
    user.ends(&create(&["--profile", "asks,also"]), 3, "port 8080 is served by ./profiles/also.toml and by");
    assert!(server.log().is_empty());
    assert!(!user.path("state").exists());
}

#[test]
fn volumes_stay_where_they_are_asked_to() {
    if !has_nspawn("volumes_stay_where_they_are_asked_to") {
        return;
    }
    let (user, _server, _archive) = maker();
    put(
        &user,
        "profiles/kept.toml",
        &plain(
            "kept",
            "[[volumes]]\npath = \"/home/agent/.login\"\nkind = \"auth\"\nmode = \"0755\"\n[[files]]\n\
             path = \"/home/agent/.login/settings\"\ncontent = \"of the profile\"\nowner = \"agent\"\n\
             [[ports]]\nport = 8080\nwhat = \"a page\"",
        ),
    );
    let made = |more: &[&str]| {
        let output = user.sandbox(&create(&[&["--profile", "kept"], more].concat()));
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    };
    made(&[]);
    let volume = user.path("state/volumes/mine/home-agent-.login");
    let found = fs::metadata(&volume).unwrap();
    assert_eq!((found.uid(), found.mode() & 0o777), (1000, 0o700), "a login that others may read");
    assert_eq!(fs::read_to_string(volume.join("settings")).unwrap(), "of the profile");
    let status = json(&user, &["status", "mine", "--json"]);
    assert_eq!(status["ports"][0]["port"]["port"], 8080, "{status}");
    assert_eq!(status["volumes"][0]["kind"], "auth");
    assert!(out(&user.sandbox(&["status", "mine"])).contains("127.0.0.1:8080/tcp: a page (kept)"));
    let machine = fs::read_to_string(user.path("state/machines/mine/rootfs/etc/sandbox/machine")).unwrap();
    assert!(machine.contains("NAME=mine\nNETWORK=internet\n"), "{machine}");

    fs::write(volume.join("settings"), "of the guest").unwrap();
    let output = user.sandbox(&["remove", "mine", "--yes", "--keep-volumes"]);
    assert!(output.status.success() && said(&output).contains("volumes stay"), "{}", said(&output));
    assert!(made(&[]).contains("/home/agent/.login of an earlier machine `mine` is taken up"));
    assert_eq!(fs::read_to_string(volume.join("settings")).unwrap(), "of the guest");

    // a machine that does not come about takes no volume with it that was there before
    assert!(user.sandbox(&["remove", "mine", "--yes", "--keep-volumes"]).status.success());
    put(&user, "profiles/fails.toml", &plain("fails", "[[steps]]\nargv = [\"sh\", \"-c\", \"exit 1\"]"));
    assert_eq!(user.sandbox(&create(&["--profile", "kept,fails"])).status.code(), Some(1));
    assert!(volume.join("settings").exists(), "a failed create removed the volume of an earlier machine");
    made(&[]);
    let output = user.sandbox(&["remove", "mine", "--yes"]);
    assert!(said(&output).contains("volumes go with it"), "{}", said(&output));
    assert!(!user.path("state/volumes").exists());
    assert_eq!(user.sandbox(&create(&["--profile", "kept,fails"])).status.code(), Some(1));
    assert!(!user.path("state/volumes").exists(), "a failed create left a volume");
}
