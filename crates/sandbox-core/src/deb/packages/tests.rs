use super::*;

fn stanza(name: &str, version: &str, more: &str) -> String {
    let sum = "0".repeat(64);
    format!(
        "Package: {name}\nVersion: {version}\nArchitecture: amd64\nFilename: pool/{name}.deb\nSize: 1\n\
         SHA256: {sum}\n{more}\n"
    )
}

fn read(pockets: &[(&str, String)]) -> Result<Catalog, Error> {
    let indexes = pockets.iter().map(|(id, text)| ((*id).to_owned(), text.clone().into_bytes()));
    Catalog::read(indexes.collect(), "amd64")
}

#[test]
fn puts_the_newest_first_whatever_pocket_it_is_in() {
    let release = stanza("a", "1.9", "") + &stanza("b", "1", "") + &stanza("a", "1.10", "");
    let security = stanza("a", "1.10", "") + &stanza("a", "2~", "");
    let catalog = read(&[("release", release), ("security", security)]).unwrap();
    let name = catalog.name("a").unwrap();
    let all: Vec<_> = catalog.versions(name).map(|id| catalog.package(id)).collect();
    let shown: Vec<_> = all.iter().map(|p| (p.version_text(), p.source())).collect();
    assert_eq!(shown, [("2~", "security"), ("1.10", "release"), ("1.9", "release")]);
    assert!(catalog.name("c").is_none());
    assert_eq!(all[1].path().unwrap(), "pool/a.deb");
}

#[test]
fn finds_providers_with_their_versions_in_the_order_of_the_archive() {
    let text = stanza("z", "1", "Provides: v (= 3), w\n") + &stanza("y", "1", "Provides: v\n");
    let catalog = read(&[("release", text)]).unwrap();
    let shown: Vec<_> = catalog
        .providers("v")
        .map(|(id, version)| (catalog.package(id).name(), version.map(|v| v.to_string())))
        .collect();
    assert_eq!(shown, [("z", Some("3".to_owned())), ("y", None)]);
}

#[test]
fn leaves_out_other_architectures() {
    let text = stanza("a", "1", "").replace("amd64", "arm64") + &stanza("b", "1", "").replace("amd64", "all");
    let catalog = read(&[("release", text)]).unwrap();
    assert!(catalog.name("a").is_none() && catalog.name("b").is_some());
}

#[test]
fn names_the_source_and_the_stanza_that_is_wrong() {
    let bad = [
        (stanza("b", "1", "").replace("Size: 1\n", ""), Problem::Lacks("Size")),
        (stanza("b", "1", "Version: 2\n"), Problem::Twice("Version")),
        (stanza("b", "1", "Depends: a\ndepends: c\n"), Problem::Twice("Depends")),
        (stanza("b", "1", "nonsense\n"), Problem::Line),
        (stanza("../b", "1", ""), Problem::Wrong("Package")),
    ];
    for (text, problem) in bad {
        let package = if text.contains("../") { "../b" } else { "b" }.to_owned();
        let wrong = read(&[("release", stanza("a", "1", "") + &text)]).unwrap_err();
        assert_eq!(
            wrong,
            Error::Stanza { pocket: "release".into(), package, line: 8, problem: Box::new(problem) }
        );
    }
}

#[test]
fn refuses_paths_that_lead_out_of_the_mirror() {
    for path in ["../a.deb", "/a.deb", "pool//a.deb", "pool/../../a", "pool/a b", "pool/./a"] {
        let text = stanza("a", "1", "").replace("pool/a.deb", path);
        let catalog = read(&[("release", text)]).unwrap();
        let id = catalog.versions(catalog.name("a").unwrap()).next().unwrap();
        assert!(catalog.package(id).path().is_err(), "{path} was accepted");
    }
}

#[test]
fn versions_of_higher_priority_stand_before_newer_ones() {
    let backports =
        Origin { names: vec!["trixie-backports".to_owned()], priority: 100, ..Origin::new("backports") };
    let indexes = vec![
        (backports, stanza("a", "3", "") + &stanza("a", "1", "") + &stanza("b", "9", "")),
        (Origin::new("release"), stanza("a", "1", "") + &stanza("a", "2", "")),
    ];
    let indexes = indexes.into_iter().map(|(origin, text)| (origin, text.into_bytes())).collect();
    let catalog = Catalog::of(indexes, "amd64").unwrap();
    let all: Vec<_> = catalog.versions(catalog.name("a").unwrap()).map(|id| catalog.package(id)).collect();
    let shown: Vec<_> = all.iter().map(|p| (p.version_text(), p.source())).collect();
    assert_eq!(shown, [("2", "release"), ("1", "release"), ("3", "backports")]);
    let of: Vec<_> = all.iter().map(|package| package.is_of("trixie-backports")).collect();
    assert_eq!(of, [false, true, true], "a version belongs to every suite that has it");
    assert!(catalog.name("b").is_some());
}

#[test]
fn a_path_is_quoted_as_apt_quotes_it() {
    for (path, url) in [
        ("pool/main/a/a_1~rc1-2_amd64.deb", "pool/main/a/a_1~rc1-2_amd64.deb"),
        ("pool/a/a_1%3a2_amd64.deb", "pool/a/a_1%253a2_amd64.deb"),
        ("pool/g/g++_1+b1_amd64.deb", "pool/g/g%2b%2b_1%2bb1_amd64.deb"),
        ("pool/with blanks/a.deb", "pool/with%20blanks/a.deb"),
    ] {
        assert_eq!(package::quoted(path), url);
    }
}
