//! What a package's scripts inherit of whoever started the program: nothing.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use sandbox_core::host::{
    runner::{Command, Processes, Runner as _},
    substitute::Substitute,
};

use crate::{
    kit::{archive::Archive, deb::Deb, process, server::Server, system::system},
    user::{BOOTSTRAP, User, said},
};

/// Writes down what a script finds about itself, a word and its value a line.
const PROBE: &str = r#"
exec >/var/probe-$DPKG_MAINTSCRIPT_NAME
ls -l /proc/$$/fd >/var/open
while read -r line; do
  name=${line% -> *}
  case $line in *" -> "*) echo "fd:${name##* } ${line##* -> }" ;; esac
done </var/open
echo "umask $(umask)"
echo "folder $(pwd)"
if (: </dev/tty) 2>/dev/null; then echo "terminal yes"; else echo "terminal no"; fi
while read -r name value; do
  case $name in SigBlk:|SigIgn:|SigCgt:|NoNewPrivs:) echo "$name $value" ;; esac
done </proc/self/status
echo "core $(ulimit -c)"
echo "files $(ulimit -n)"
env | while read -r line; do echo "env:${line%%=*} x"; done
"#;

/// The variables that dpkg and this program give to a script, and the shell's own.
const VARIABLES: &[&str] = &[
    "DEBCONF_NONINTERACTIVE_SEEN",
    "DEBIAN_FRONTEND",
    "DPKG_ADMINDIR",
    "DPKG_FORCE",
    "DPKG_MAINTSCRIPT_ARCH",
    "DPKG_MAINTSCRIPT_DEBUG",
    "DPKG_MAINTSCRIPT_NAME",
    "DPKG_MAINTSCRIPT_PACKAGE",
    "DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT",
    "DPKG_ROOT",
    "DPKG_RUNNING_VERSION",
    "HOME",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "PAGER",
    "SYSTEMD_TMPFILES_FORCE_SUBVOL",
    "PATH",
    "PWD",
    "SHLVL",
    "SOURCE_DATE_EPOCH",
    "_",
];

/// Builds a tree in which a package's preinst and postinst look around, started with all that a caller may
/// have by chance; gives what each of them found.
fn found() -> Vec<BTreeMap<String, String>> {
    let mut archive = Archive::new();
    archive.fill();
    archive.add(&system());
    archive.add(&Deb::new("probe", "1").script("preinst", PROBE).script("postinst", PROBE));
    archive.publish();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());

    let careless = "trap '' HUP INT QUIT PIPE USR1; umask 077; ulimit -c unlimited 2>/dev/null\n\
                    export SECRET=of-the-caller LD_LIBRARY_PATH=/nowhere DPKG_COLORS=always\n\
                    exec 5>\"$1/leak\" 7</ 9<&0; shift; exec \"$@\"";
    let folder = user.path("").to_str().unwrap().trim_end_matches('/').to_owned();
    let program = user.command(&[&BOOTSTRAP[..], &["--include", "probe"]].concat());
    let words = program.get_args().map(|word| word.to_str().unwrap().to_owned());
    let argv = [program.get_program().to_str().unwrap().to_owned()].into_iter().chain(words);
    let quoted: Vec<_> =
        ["sh".to_owned(), "-c".to_owned(), careless.to_owned(), "sh".to_owned(), folder.clone()]
            .into_iter()
            .chain(argv)
            .map(|word| format!("'{}'", word.replace('\'', r"'\''")))
            .collect();
    // script(1) gives it a terminal of its own
    let line = format!("cd '{folder}' && {}", quoted.join(" "));
    let output = process::run(&["script", "-qec", &line, "/dev/null"], "", Duration::from_secs(60));
    output.ok();
    let read = |script: &str| {
        let text = fs::read_to_string(user.path(&format!("tree/var/probe-{script}"))).unwrap();
        text.lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .collect()
    };
    vec![read("preinst"), read("postinst")]
}

#[test]
fn a_script_inherits_nothing_of_the_caller() {
    for found in found() {
        let is = |word: &str| found.get(word).map_or("", String::as_str);
        let beside: Vec<_> = found
            .iter()
            .filter(|(word, to)| {
                // the shell keeps its script open, and what it writes to
                let own = to.starts_with("/var/");
                word.starts_with("fd:") && !["fd:0", "fd:1", "fd:2"].contains(&word.as_str()) && !own
            })
            .collect();
        assert!(beside.is_empty(), "{beside:?}");
        assert_eq!(is("fd:0"), "/dev/null", "{found:#?}");
        assert_eq!((is("umask"), is("folder"), is("terminal")), ("0022", "/", "no"), "{found:#?}");
        for set in ["SigBlk:", "SigIgn:"] {
            assert_eq!(u64::from_str_radix(is(set).trim(), 16), Ok(0), "{set} {found:#?}");
        }
        assert_eq!(is("core"), "0", "{found:#?}");
        assert_ne!(is("files"), "", "{found:#?}");
        let strange: Vec<_> = found
            .keys()
            .filter_map(|word| word.strip_prefix("env:"))
            .filter(|name| !VARIABLES.contains(name))
            .collect();
        assert!(strange.is_empty(), "{strange:?}");
    }
}

/// What the program itself inherits does not keep it from building: ignored signals, few descriptors, a missing TMPDIR.
#[test]
fn a_build_does_not_depend_on_what_is_inherited() {
    let mut archive = Archive::new();
    archive.fill();
    archive.add(&system());
    archive.publish();
    let server = Server::new(archive.root());
    for careless in ["trap '' CHLD", "ulimit -Sn 64", "export TMPDIR=/nowhere/at/all"] {
        let user = User::new(&archive, server.url());
        let program = user.command(&[&BOOTSTRAP[..], &["--include", "hello"]].concat());
        let words = [program.get_program()].into_iter().chain(program.get_args());
        let words: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
        let script = format!("cd '{}' && {careless} && exec \"$@\"", user.path("").display());
        let argv = [&["sh", "-c", &script, "sh"], &words[..]].concat();
        process::run(&argv, "", Duration::from_secs(60)).ok();
        assert!(user.path("tree/var/lib/dpkg/status").exists(), "{careless}");
    }
}

#[test]
fn the_kits_system_builds_and_nothing_is_left_beside_it() {
    let mut archive = Archive::new();
    archive.fill();
    archive.add(&system());
    archive.publish();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    let output = user.bootstrap("hello");
    assert!(output.status.success(), "{}", said(&output));
    let status = fs::read_to_string(user.path("tree/var/lib/dpkg/status")).unwrap();
    assert_eq!(status.matches("Status: install ok installed").count(), 3, "{status}");
    assert!(!user.path(".tree.sandbox-partial").exists());
}

/// What a command finds replaced is replaced in its own namespace, and is at hand at the other path.
#[test]
fn a_substitute_covers_a_program_for_one_command() {
    let mut archive = Archive::new();
    archive.fill();
    archive.add(&system());
    archive.add(&Deb::new("tool", "1").file("usr/bin/tool", 0o755, b"#!/bin/sh\necho the tool itself\n"));
    archive.publish();
    let server = Server::new(archive.root());
    let user = User::new(&archive, server.url());
    let output = user.bootstrap("tool");
    assert!(output.status.success(), "{}", said(&output));
    let path = user.path("tree/usr/bin/tool");
    let before = fs::read(&path).unwrap();
    let run = |substitutes: &[&str]| {
        let mut command = Command::new(["sh", "-c", "tool; cat /usr/bin/tool"]).in_tree(&user.path("tree"));
        let original = Substitute::original(Path::new("/usr/bin/tool"));
        let content = format!("#!/bin/sh\necho the substitute\nexec {}\n", original.display());
        command.substitutes =
            substitutes.iter().map(|path| Substitute::new(path.into(), content.clone().into())).collect();
        Processes::new().run(&command).unwrap().text
    };
    let itself = "the tool itself\n#!/bin/sh\necho the tool itself\n";
    assert_eq!(run(&[]), itself);
    // none that is missing, and none that is outside of the tree, is in the way
    let outside = path.to_str().unwrap();
    assert_eq!(run(&["/usr/bin/missing", "/nowhere/tool", outside]), itself);
    let found = run(&["/usr/bin/missing", "/usr/bin/tool"]);
    assert!(
        found.starts_with("the substitute\nthe tool itself\n#!/bin/sh\necho the substitute\n"),
        "{found}"
    );
    assert_eq!((fs::read(&path).unwrap(), run(&[])), (before, itself.to_owned()));
}
