use super::*;

/// Resolves wishes of files that are stacked, and shows `layer: packages; …` in the lock's order.
fn layered(catalog: &Catalog, files: &[(&str, &[&str])]) -> String {
    let mut all = request(&[]);
    for (layer, (name, wishes)) in files.iter().enumerate() {
        all.layers.push((*name).to_owned());
        let wanted = |name: &&str| Wanted { name: (*name).to_owned(), by: format!("file {layer}"), layer };
        all.install.extend(wishes.iter().map(wanted));
    }
    let packages = resolve(catalog, &all).unwrap();
    let parts = packages.chunk_by(|one, other| one.layer == other.layer);
    parts.map(|part| format!("{}: {}", part[0].layer, shown(part))).collect::<Vec<_>>().join("; ")
}

#[test]
fn a_package_is_of_the_first_file_that_needs_it() {
    let all = catalog(&[
        "e: Essential: yes; Depends: libc",
        "libc",
        "shared: Pre-Depends: libc",
        "a: Depends: shared",
        "b: Depends: shared, own, a",
        "own",
        "c: Depends: own",
    ]);
    assert_eq!(
        layered(&all, &[("i", &[]), ("p", &["a"]), ("q", &["b", "a"])]),
        "i: libc e; p: shared a; q: own b"
    );
    let found = layered(&all, &[("i", &[]), ("q", &["b"]), ("p", &["a"]), ("r", &["c"])]);
    assert_eq!(found, "i: libc e; q: shared a own b; r: c");
}

#[test]
fn a_layer_is_the_same_whatever_is_stacked_on_it() {
    let all = catalog(&["e: Essential: yes; Depends: x | y", "x", "y", "v: Provides: x", "a: Depends: y, v"]);
    assert_eq!(layered(&all, &[("i", &[])]), "i: x e");
    assert_eq!(layered(&all, &[("i", &[]), ("p", &["a"])]), "i: x e; p: v y a");
    // what all were resolved to together is what there is
    assert_eq!(layered(&all, &[("i", &[]), ("p", &["y"])]), "i: y e");
}

#[test]
fn a_reason_is_of_the_packages_own_layer() {
    let all = catalog(&["e: Essential: yes; Depends: x", "x", "y: Depends: x"]);
    let mut wish = request(&["x", "y"]);
    wish.layers = vec!["i".to_owned(), "p".to_owned()];
    wish.install.iter_mut().for_each(|wanted| wanted.layer = 1);
    let reasons: Vec<_> =
        resolve(&all, &wish).unwrap().into_iter().map(|package| (package.name, package.reason)).collect();
    assert_eq!(reasons[0], ("x".to_owned(), Reason::Dependency("e".to_owned())));
    assert_eq!(reasons[2], ("y".to_owned(), Reason::Requested("a test".to_owned())));
}

#[test]
fn recommended_packages_are_of_the_layer_that_recommends_them() {
    let all = catalog(&["e: Essential: yes; Recommends: x", "x: Depends: z", "z", "y: Depends: z"]);
    let mut wish = request(&["y"]);
    wish.recommends = true;
    wish.layers = vec!["i".to_owned(), "p".to_owned()];
    wish.install.iter_mut().for_each(|wanted| wanted.layer = 1);
    let layers: Vec<_> = resolve(&all, &wish)
        .unwrap()
        .into_iter()
        .map(|package| package.name + ":" + &package.layer)
        .collect();
    assert_eq!(layers, ["e:i", "z:i", "x:i", "y:p"]);
}
