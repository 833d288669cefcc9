//! Programs of packages that scripts run, and what runs in their place and does the same faster.
//!
//! A program that starts others for each of hundreds of files takes most of its time to start them. What is replaced
//! whole is known by its digest. Any other version runs itself, and so does a known one with what its substitute does
//! not know.

use std::path::{Path, PathBuf};

use crate::{
    digest::Sha256,
    host::{root::Root, substitute::Substitute},
};

/// No program that is replaced is larger.
const LARGEST: u64 = 64 << 10;

const PERL: &str = "/usr/bin/perl";

/// A program that is replaced, and how its substitute is made of it and of the path where it is meanwhile.
struct Known {
    path: &'static str,
    made: fn(&[u8], &str) -> Option<Vec<u8>>,
    /// From the first preinst on. A preinst may divert a file, which dpkg cannot rename while it is covered.
    early: bool,
}

const KNOWN: &[Known] = &[
    Known { path: "/usr/sbin/update-ca-certificates", made: update_ca_certificates, early: false },
    Known {
        path: "/var/lib/dpkg/info/ca-certificates.config",
        made: config_of_ca_certificates,
        early: false,
    },
    Known { path: "/usr/bin/dpkg-maintscript-helper", made: maintscript_helper, early: true },
];

/// Returns the program that runs in place of a package's, where one is known that does the same.
///
/// It runs the package's own at the path `original` where it is not sure that it does.
#[must_use]
pub fn substitute_for(path: &Path, program: &[u8], original: &Path) -> Option<Vec<u8>> {
    let known = KNOWN.iter().find(|known| Path::new(known.path) == path)?;
    let original = original.to_str().filter(|original| !original.contains(['\'', '\\']))?;
    (known.made)(program, original)
}

/// Returns what replaces programs of a tree while a preinst runs.
pub fn early(root: &Root) -> Vec<Substitute> {
    chosen(root, |known| known.early)
}

/// Returns what replaces programs of a tree while its packages are configured.
pub fn all(root: &Root) -> Vec<Substitute> {
    chosen(root, |_| true)
}

fn chosen(root: &Root, is: impl Fn(&Known) -> bool) -> Vec<Substitute> {
    let replaced = |known: &Known| {
        let path = PathBuf::from(known.path);
        let program = root.read_up_to(below_root(known.path), LARGEST).ok()?;
        let content = substitute_for(&path, &program, &Substitute::original(&path))?;
        Some(Substitute::new(path, content))
    };
    // essential; without it the substitutes would not start
    let is_there = root.has(below_root(PERL));
    KNOWN.iter().filter(|known| is_there && is(known)).filter_map(replaced).collect()
}

fn below_root(path: &str) -> &Path {
    Path::new(path.trim_start_matches('/'))
}

/// The versions of ca-certificates' program: digests, and in what the version differs from the others.
///
/// **Source**: the packages of Debian 10 to 14 and Ubuntu 20.04 to 26.04.
const UPDATES: &[(&str, &str)] = &[
    // 20190110 to 20210119
    ("7ad4af5c16cfe26de17f76a3b2217f011a651fe1f25ed1608584765aeeffb7f9", "bundle_goes_first => 1"),
    // 20211016
    ("5673a8b671d0656d1e1977eac3ac11767e1afa8db28c835b5ec54c2b13eb0893", ""),
    // 20230311, and what is derived of it for Debian 11, Ubuntu 20.04 and 22.04
    ("395364bffc7ce85ccbe2de71215f9c6c85c024af3bbd991c75a01c2d2aa3080a", ""),
    // 20240203, 20241223
    ("e4c6e910eab5ab006fc1c3cc4d7efd782b1a07ec083847383e27ea5fffbfab4d", ""),
    // from 20250419 on, and for Debian 12
    ("2cb06c85b5f01c4f6b72c3983d9f66d44aac0a7ac997ee55e7e429aedbc3934d", ""),
    // 20260816ubuntu0.24.04
    ("503e94c9d6ba1a880704bf9d16702597e3361c74e33e12339c694096b8cd29da", "hooks_get_fresh => 1"),
];

fn update_ca_certificates(program: &[u8], original: &str) -> Option<Vec<u8>> {
    let digest = Sha256::of(program).to_string();
    let (_, differs) = UPDATES.iter().find(|(version, _)| *version == digest)?;
    let head = format!("#!{PERL}\nmy ($original, %differs) = ('{original}', {differs});\n");
    Some([head.as_bytes(), include_bytes!("substitute/update-ca-certificates.pl")].concat())
}

/// The config script of ca-certificates but for the line that lists the package's certificates.
///
/// **Source**: all the packages that [`UPDATES`] names.
const CONFIG: &str = "526302268981f40a3e43e3b68036b8229125420fecb14b7227943ee328a5be44";

/// Replaces the two pipelines that the script runs for each certificate by a function; the rest is the script.
fn config_of_ca_certificates(program: &[u8], _original: &str) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(program).ok()?;
    let is_list = |line: &&str| line.starts_with("CERTS_LIST=\"");
    let rest: String = text.split_inclusive('\n').filter(|line| !is_list(line)).collect();
    if text.lines().filter(is_list).count() != 1 || Sha256::of(rest.as_bytes()).to_string() != CONFIG {
        return None;
    }
    let function = include_str!("substitute/listed.sh");
    let mut text = text.replacen("set -e\n", &format!("set -e\n{function}"), 1);
    for list in ["CERTS_DISABLED", "CERTS_TRUST"] {
        let pipeline = format!("(echo \"${list}\" | grep -F -q -x \"$crt\") > /dev/null 2>&1; then\n");
        text = text.replacen(&pipeline, &format!("listed \"${list}\" \"$crt\"; then\n"), 1);
    }
    Some(text.into_bytes())
}

/// Replaces the programs that dpkg-maintscript-helper(1) starts in each of its calls; the rest is the script.
///
/// A package calls it for each configuration file that it ever removed, in its preinst and its postinst. What is
/// replaced means the same whatever stands around it, so that the versions need not be known.
///
/// **Source**: dpkg 1.20 to 1.23; deb-version(7).
fn maintscript_helper(program: &[u8], _original: &str) -> Option<Vec<u8>> {
    const ASKS: &str = "  if ! VERSIONCHECK=$(dpkg --validate-version -- \"$VERSION\" 2>&1); then\n";
    const BEGINS: &str = "\nset -e\n";
    const NAMES: &str = "\nPROGNAME=$(basename \"$0\")\n";
    const NAMES_LATER: &str = "\n. \"$PKGDATADIR/sh/dpkg-error.sh\"\n";
    let text = std::str::from_utf8(program).ok().filter(|text| text.starts_with("#!/bin/sh\n"))?;
    let once = |part: &str| text.matches(part).count() == 1;
    // since 1.22.12 the library takes the name of its caller where it is not set
    let (names, named) = match (once(NAMES), once(NAMES_LATER)) {
        (true, true) => (NAMES, "\nPROGNAME=${0##*/}\n".to_owned()),
        (false, true) => (NAMES_LATER, format!("\n: \"${{PROGNAME:=${{0##*/}}}}\"{NAMES_LATER}")),
        _ => return None,
    };
    if !once(ASKS) || !once(BEGINS) {
        return None;
    }
    let function = include_str!("substitute/version.sh");
    let asks = ASKS.replace("if ! ", "if ! is_plain_version \"$VERSION\" && ! ");
    let text =
        text.replace(names, &named).replace(ASKS, &asks).replace(BEGINS, &format!("{BEGINS}{function}"));
    Some(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::root::Links;

    #[test]
    fn an_unknown_program_runs_itself() {
        let tree = tempfile::tempdir().unwrap();
        let write = |path: &str, content: &str| {
            let path = tree.path().join(below_root(path));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        let root = Root::open(tree.path(), Links::InTree).unwrap();
        write(PERL, "");
        assert_eq!(all(&root), Vec::new(), "none is there");
        for known in KNOWN {
            write(known.path, "#!/bin/sh -e\nset -e\nCERTS_LIST=\"mozilla/A.crt\"\n");
        }
        assert_eq!(all(&root), Vec::new(), "of versions that are not known");
    }
}
