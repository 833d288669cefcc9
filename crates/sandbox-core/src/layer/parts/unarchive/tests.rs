use super::*;

#[test]
fn a_links_words_tell_whether_it_stays_inside() {
    for (target, depth, inside) in [
        ("tool", 0, true),
        ("../README", 1, true),
        ("../../lib/x", 2, true),
        ("./a/b", 0, true),
        ("../x", 0, false),
        ("../../x", 1, false),
        ("a/../b", 1, false),
        ("/etc/passwd", 3, false),
        ("", 1, false),
        ("a\0b", 1, false),
    ] {
        assert_eq!(stays_inside(target.as_bytes(), depth), inside, "{target} at {depth}");
    }
}

#[test]
fn paths_lose_their_first_folders_and_never_lead_out() {
    let path = |text: &str| Some(PathBuf::from(text));
    assert_eq!(stripped(b"./a/b/c", 1).unwrap(), path("b/c"));
    assert_eq!(stripped(b"a/", 1).unwrap(), None);
    assert_eq!(stripped(br"dev-\x2d.mount", 0).unwrap(), path(r"dev-\x2d.mount"));
    for name in [&b"/a"[..], b"a/../b", b"..", b"a\xff", b"a\0"] {
        assert!(matches!(stripped(name, 0), Err(UnarchiveError::Escape { .. })), "{name:?}");
    }
}
