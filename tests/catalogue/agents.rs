//! Agents: real ones where their registry is reached, as their user, and what all of them find: who they are told
//! they are, their servers, their skills. And remote control, whose unit must neither hammer nor start where it
//! cannot work.

use crate::{
    kit::vendor::{Vendor, sha256},
    lab::Host,
    machines::{Machine, Place},
    process::Output,
    promises::{LISTENER, give},
    stack::lab_and,
    vendors::{packed, speaker},
};

/// Agents, and what is registered with them: the machine `lab`, with what else the catalogue has for agents on top.
pub const AGENTS: Machine =
    Machine { name: "agents", release: "trixie", profiles: lab_and!("agy", "herdr", "aoe", "browser") };

/// The unit of remote control.
const UNIT: &str = "claude-remote@home-agent-work.service";

/// What breaks remote control.
const REFUSED: [&str; 7] = [
    "ANTHROPIC_API_KEY",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "DISABLE_TELEMETRY",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
    "DO_NOT_TRACK",
    "CLAUDE_CODE_DISABLE_FEATURE_FLAGS",
    "DISABLE_GROWTHBOOK",
];

/// Serves what agents come from where that cannot be reached.
pub fn serve(vendor: &Vendor) {
    let archive = packed(&[("aoe-linux-amd64", &speaker("aoe")), ("LICENSE", b"free")]);
    let line = format!("{}  aoe-linux-amd64.tar.gz\n", sha256(&archive));
    let repository = "agent-of-empires/agent-of-empires";
    vendor.release(
        repository,
        "v1.9.0",
        &[("aoe-linux-amd64.tar.gz", &archive), ("aoe-linux-amd64.tar.gz.sha256", line.as_bytes())],
    );
    vendor.release("ogulcancelik/herdr", "v0.9.0", &[("herdr-linux-x86_64", &speaker("herdr"))]);
    let server = packed(&[("github-mcp-server", &speaker("github-mcp-server"))]);
    let line = format!("{}  github-mcp-server_Linux_x86_64.tar.gz\n", sha256(&server));
    vendor.release(
        "github/github-mcp-server",
        "v1.8.0",
        &[
            ("github-mcp-server_Linux_x86_64.tar.gz", &server),
            ("github-mcp-server_1.8.0_checksums.txt", line.as_bytes()),
        ],
    );
    let skill =
        |name: &str| format!("---\nname: {name}\ndescription: A skill that is called {name}\n---\nDo.\n");
    vendor.commit(
        "obra/superpowers",
        "Skills",
        &[
            ("skills/brainstorming/SKILL.md", &skill("brainstorming")),
            ("skills/using-superpowers/SKILL.md", &skill("using-superpowers")),
        ],
    );
}

/// Serves agy, and tells the test host its digest in place of the real one's.
pub fn serve_agy(vendor: &Vendor, host: &Host<'_>) {
    const REAL: &str = include_str!("../../profiles/agy.toml");
    let archive = packed(&[("antigravity", &speaker("agy"))]);
    let version = REAL.lines().find_map(|line| line.strip_prefix("version = \"")).expect("a version");
    let version = version.trim_end_matches('"');
    vendor.put(
        &format!("/antigravity-public/antigravity-cli/{version}/linux-x64/cli_linux_x64.tar.gz"),
        &archive,
    );
    let old = REAL.split_once("cli_linux_x64\", sha256 = \"").expect("a digest").1;
    let text = REAL.replace(&old[..64], &sha256(&archive));
    host.put("/etc/sandbox/profiles/agy.toml", "0644", text.into_bytes());
}

#[track_caller]
fn as_agent(host: &Host<'_>, script: &str) -> Output {
    host.sandbox(&["exec", AGENTS.name, "--user", "agent", "--", "bash", "-lc", script])
}

#[track_caller]
fn as_root(host: &Host<'_>, script: &str) -> Output {
    host.exec(AGENTS.name, &["bash", "-c", script])
}

/// Each agent lists the servers that `mcp` and `browser` brought; Claude Code and Gemini CLI also talk to them.
pub fn every_agent_knows_the_servers(place: &Place) {
    place.machine(&AGENTS);
    let host = place.host();
    for (agent, command) in [
        ("claude", "claude mcp list"),
        ("codex", "codex mcp list"),
        ("gemini", "gemini mcp list 2>&1"),
        ("opencode", "opencode mcp list 2>&1"),
    ] {
        let said = as_agent(&host, &format!("cd /tmp && timeout 120 {command}"));
        for server in ["memory", "filesystem", "github", "playwright"] {
            assert!(said.out.contains(server), "{agent} does not know `{server}`: {said:?}");
        }
        if agent != "codex" {
            for server in ["memory", "filesystem", "playwright"] {
                let well =
                    |line: &str| line.contains(server) && ["✓", "✔"].iter().any(|mark| line.contains(mark));
                assert!(said.out.lines().any(well), "{agent} cannot use `{server}`: {}", said.out);
            }
        }
    }
    let agy = as_agent(&host, "cat ~/.gemini/config/mcp_config.json").ok().to_owned();
    assert!(agy.contains("\"memory\""), "{agy}");
}

/// What can be seen without a login: Codex shows the prompt that it would send, OpenCode its configuration, Claude
/// Code what it loads, Gemini CLI its skills.
pub fn every_agent_is_told_and_skilled(place: &Place) {
    place.machine(&AGENTS);
    let host = place.host();
    let prompt = as_agent(&host, "mkdir -p ~/r && cd ~/r && git init -q . && codex debug prompt-input hello");
    for words in ["You work in a sandbox", "A skill that is called brainstorming"] {
        assert!(prompt.out.contains(words), "Codex is not told `{words}`");
    }
    let opencode = as_agent(&host, "opencode debug config && opencode debug skill");
    assert!(opencode.out.contains("/etc/opencode/AGENTS.md"), "{opencode:?}");
    assert!(opencode.out.contains("A skill that is called brainstorming"), "OpenCode lacks the skills");
    let claude = "cd ~/r; claude --debug -p hello >/dev/null 2>&1; grep -h 'Loaded .* unique skills' ~/.claude/debug/*";
    let claude = as_agent(&host, claude);
    assert!(claude.out.contains("managed: 2"), "{claude:?}");
    let gemini = as_agent(&host, "cd /tmp && timeout 60 gemini skills list 2>&1");
    assert!(gemini.out.contains("brainstorming [Enabled]"), "{gemini:?}");
    for file in [
        "/etc/claude-code/CLAUDE.md",
        "~/.codex/AGENTS.md",
        "~/.gemini/GEMINI.md",
        "/etc/opencode/AGENTS.md",
        "~/.gemini/config/skills/brainstorming/SKILL.md",
    ] {
        as_agent(&host, &format!("test -s {file}")).ok();
    }
    assert!(as_agent(&host, "cat ~/.gemini/GEMINI.md").ok().contains("You work in a sandbox"));
}

/// What a user registered, and the rest of the state, outlive the merge at boot.
pub fn claude_state_is_added_to_and_never_replaced(place: &Place) {
    place.machine(&AGENTS);
    let host = place.host();
    as_agent(&host, "claude mcp add --scope user own -- /bin/own").ok();
    as_agent(&host, "jq '.theme = \"dark\" | .mcpServers.memory.command = \"/bin/mine\"' ~/.claude.json >/tmp/j && cat /tmp/j >~/.claude.json").ok();
    as_root(&host, "systemctl restart claude-state.service").ok();
    let said = as_agent(
        &host,
        "test -L ~/.claude.json && jq -c '[.theme, .mcpServers.memory.command, .mcpServers.own.command, (.mcpServers | has(\"playwright\"))]' ~/.claude.json",
    );
    assert_eq!(said.ok(), r#"["dark","/bin/mine","/bin/own",true]"#);
    let mode = as_agent(&host, "stat -c '%a %U' ~/.claude/.claude.json");
    assert_eq!(mode.ok(), "600 agent");
    as_agent(&host, "cp ~/.claude.json /tmp/kept && echo '[' >~/.claude.json").ok();
    as_root(&host, "systemctl restart claude-state.service").ends_with(1);
    assert_eq!(as_agent(&host, "cat ~/.claude.json").ok(), "[", "a broken file was replaced");
    as_agent(&host, "cat /tmp/kept >~/.claude.json").ok();
    as_root(&host, "systemctl restart claude-state.service").ok();
}

fn state(host: &Host<'_>) -> String {
    // one at a time: systemctl has an order of its own
    let show = format!(
        "for name in ActiveState ExecMainStatus NRestarts; do systemctl show --value -p $name {UNIT}; done"
    );
    as_root(host, &show).ok().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Starts the unit, waits until it has settled, and gives what it said.
fn started(host: &Host<'_>, wanted: &str) -> String {
    let script = format!(
        "systemctl reset-failed {UNIT}; since=$(date +%s); systemctl restart {UNIT}
         for try in $(seq 100); do test \"$(systemctl is-active {UNIT})\" = {wanted} && break; sleep 0.2; done
         journalctl -q -u {UNIT} -o cat --no-pager --since @$since"
    );
    as_root(host, &script).out
}

/// Without a login it waits; with one that is refused it is tried again, ever later.
pub fn remote_control_waits_for_a_login_and_does_not_hammer(place: &Place) {
    place.machine(&AGENTS);
    let host = place.host();
    as_root(&host, &format!("systemctl restart {UNIT}")).ok();
    assert!(state(&host).starts_with("inactive"), "{}", state(&host));
    let condition = as_root(&host, &format!("systemctl show --value -p ConditionResult {UNIT}"));
    assert_eq!(condition.ok(), "no");
    // the login comes: no one has to start it
    as_agent(&host, "umask 077; echo '{}' >~/.claude/.credentials.json").ok();
    let waited = "for try in $(seq 150); do systemctl show --value -p ExecMainStatus \"$0\" | grep -qx 1 && exit; sleep 0.2; done; exit 9";
    host.exec(AGENTS.name, &["bash", "-c", waited, UNIT]).ok();
    let said = as_root(&host, &format!("journalctl -q -u {UNIT} -o cat --no-pager")).out;
    assert!(said.contains("You must be logged in to use Remote Control"), "{said}");
    let seconds = "sleep 25; systemctl show --value -p NRestarts \"$0\"";
    let restarts: u32 =
        host.exec(AGENTS.name, &["bash", "-c", seconds, UNIT]).ok().trim().parse().expect("a number");
    assert!((1..=3).contains(&restarts), "it is started {restarts} times in 25 s");
    let steps = as_root(&host, &format!("systemctl show -p RestartMaxDelayUSec -p RestartSteps {UNIT}"));
    assert!(
        steps.out.contains("RestartSteps=6") && steps.out.contains("RestartMaxDelayUSec=10min"),
        "{steps:?}"
    );
    as_root(&host, &format!("systemctl stop {UNIT}"));
}

/// Each variable, wherever it is set, by name and place and with no value; and the unit is not started again.
pub fn remote_control_refuses_what_breaks_it(place: &Place) {
    place.machine(&AGENTS);
    let host = place.host();
    as_agent(&host, "umask 077; echo '{}' >~/.claude/.credentials.json").ok();
    let folder = format!("/etc/systemd/system/{UNIT}.d");
    for name in REFUSED {
        let write = format!(
            "mkdir -p {folder} && printf '[Service]\\nEnvironment=\"{name}=not-to-be-shown\"\\n' >{folder}/x.conf && systemctl daemon-reload"
        );
        as_root(&host, &write).ok();
        let said = started(&host, "failed");
        assert!(said.contains(&format!("refused: {name} is set by {folder}/x.conf:2: ")), "{said}");
        assert!(!said.contains("not-to-be-shown"), "{said}");
        assert_eq!(state(&host), "failed 78 0", "{said}");
    }
    as_root(&host, &format!("rm -r {folder} && systemctl daemon-reload")).ok();
    for (set, unset, place) in [
        (
            "echo 'export DO_NOT_TRACK=1' >/etc/profile.d/x.sh",
            "rm /etc/profile.d/x.sh",
            "/etc/profile.d/x.sh:1",
        ),
        (
            "echo '{\"env\": {\"DO_NOT_TRACK\": \"1\"}}' >/home/agent/.claude/settings.json",
            "rm /home/agent/.claude/settings.json",
            "/home/agent/.claude/settings.json:1",
        ),
        (
            "systemctl set-environment DO_NOT_TRACK=1",
            "systemctl unset-environment DO_NOT_TRACK",
            "the environment of the service manager",
        ),
    ] {
        as_root(&host, set).ok();
        let said = started(&host, "failed");
        as_root(&host, unset).ok();
        assert!(said.contains(&format!("refused: DO_NOT_TRACK is set by {place}: ")), "{said}");
    }
    as_root(&host, &format!("systemctl reset-failed {UNIT}"));
}

/// A unit that gives up tells the phone, by the unit that `ntfy` brought.
pub fn remote_control_that_fails_is_told_of(place: &Place) {
    place.machine(&AGENTS);
    let host = place.host();
    give(&host, AGENTS.name, "/etc/credstore/ntfy.url", "http://127.0.0.1:8999/a-topic\n");
    give(&host, AGENTS.name, "/root/listener.pl", LISTENER);
    // what failed often in the tests before this one is not told of again so soon
    let listen =
        "rm -f /run/told; systemctl reset-failed; systemd-run -q --unit=listener perl /root/listener.pl";
    as_root(&host, listen).ok();
    as_agent(&host, "umask 077; echo '{}' >~/.claude/.credentials.json").ok();
    as_root(&host, "systemctl set-environment DO_NOT_TRACK=1").ok();
    let said = started(&host, "failed");
    as_root(&host, "systemctl unset-environment DO_NOT_TRACK").ok();
    let wait = "for try in $(seq 150); do test -e /run/told && break; sleep 0.2; done; cat /run/told";
    let told = as_root(&host, wait);
    for word in ["POST /a-topic ", &format!("Title: {UNIT} failed on {}", AGENTS.name), "exit-code exited 78"]
    {
        assert!(told.out.contains(word), "{word}: {told:?}\n{said}");
    }
    as_root(&host, &format!("systemctl reset-failed {UNIT}; rm /etc/credstore/ntfy.url"));
}

/// With a stand-in for who can log in: a terminal, the folder's trust, a worktree where there can be one, no way up.
pub fn remote_control_runs_behind_its_walls(place: &Place) {
    const STAND_IN: &str = "#!/bin/sh\ntest -t 0 && test -t 1 && test -t 2 || { echo no terminal; exit 1; }\n\
        echo \"runs: $* in $PWD as $(id -un)\"; sudo -n true 2>/dev/null && echo has sudo\n\
        touch /usr/x 2>/dev/null && echo writes /usr; while read -r line; do :; done; echo its input ended\n";
    place.machine(&AGENTS);
    let host = place.host();
    as_agent(&host, "umask 077; echo '{}' >~/.claude/.credentials.json").ok();
    let install = "cat >/usr/local/bin/x && chmod 755 /usr/local/bin/x && mv /usr/local/bin/claude /usr/local/bin/claude.real && mv /usr/local/bin/x /usr/local/bin/claude";
    host.sandbox_on(&["exec", AGENTS.name, "--", "sh", "-c", install], STAND_IN).ok();
    let runs = |spawn: &str| {
        started(&host, "active");
        let script =
            format!("sleep 6; systemctl is-active {UNIT} && journalctl -q -u {UNIT} -o cat --no-pager -n 3");
        let said = as_root(&host, &script).out;
        let wanted =
            format!("runs: remote-control --name agents work --spawn {spawn} in /home/agent/work as agent");
        assert!(said.contains(&wanted), "{said}");
        for wrong in ["has sudo", "writes /usr", "its input ended", "no terminal"] {
            assert!(!said.contains(wrong), "{said}");
        }
    };
    runs("same-dir");
    let trusted =
        as_agent(&host, "jq '.projects[\"/home/agent/work\"].hasTrustDialogAccepted' ~/.claude.json");
    assert_eq!(trusted.ok(), "true");
    as_agent(
        &host,
        "cd ~/work && git init -q . && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m a",
    )
    .ok();
    runs("worktree");
    let exposure = as_root(&host, &format!("systemd-analyze security --no-pager {UNIT} | tail -n 1")).out;
    let figure = exposure.split_whitespace().find_map(|word| word.parse::<f32>().ok()).expect("a figure");
    assert!(figure <= 2.6, "the guide says 2.6: {exposure}");
    as_root(&host, &format!("systemctl stop {UNIT}; mv /usr/local/bin/claude.real /usr/local/bin/claude; rm /home/agent/.claude/.credentials.json")).ok();
}
