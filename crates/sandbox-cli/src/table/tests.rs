use super::*;

fn list() -> Table {
    let columns = [
        Column::new("NAME"),
        Column::new("STATE"),
        Column::new("BACKEND").rank(3),
        Column::new("PROFILES").cut().rank(1),
        Column::new("ADDRESS").rank(2),
    ];
    let row = |cells: [&str; 5]| cells.iter().map(Cell::from).collect::<Vec<_>>();
    Table::new(
        &columns,
        vec![
            row(["agents", "running", "nspawn", "docker,claude,codex,desktop,tailscale", "10.80.0.2"]),
            row(["web", "stopped", "direct", "ssh", "-"]),
        ],
    )
}

fn plain(table: &Table, width: usize) -> String {
    table.lines(Room { width: Some(width), colors: false }).join("\n")
}

#[test]
fn a_table_fits_its_terminal() {
    let whole = "\
NAME    STATE    BACKEND  PROFILES                               ADDRESS
agents  running  nspawn   docker,claude,codex,desktop,tailscale  10.80.0.2
web     stopped  direct   ssh                                    -";
    assert_eq!(list().lines(Room { width: None, colors: false }).join("\n"), whole);
    assert_eq!(plain(&list(), 80), whole);
    assert_eq!(
        plain(&list(), 60),
        "\
NAME    STATE    BACKEND  PROFILES               ADDRESS
agents  running  nspawn   docker,claude,codex,…  10.80.0.2
web     stopped  direct   ssh                    -"
    );
    assert_eq!(
        plain(&list(), 40),
        "\
NAME    STATE    PROFILES  ADDRESS
agents  running  docker,…  10.80.0.2
web     stopped  ssh       -"
    );
    assert_eq!(plain(&list(), 20), "NAME    STATE\nagents  running\nweb     stopped");
    for width in 13..200 {
        let lines = list().lines(Room { width: Some(width), colors: false });
        assert!(lines.iter().all(|line| line.width() <= width), "{width}: {lines:#?}");
    }
    // narrower than what must stay
    for width in 0..13 {
        list().lines(Room { width: Some(width), colors: false });
    }
}

#[test]
fn prose_goes_on_between_words() {
    let columns = [Column::new("CHECK").wrap(), Column::new("STATUS").wrap()];
    let status = "failed, status 1: Cannot connect to the Docker daemon at unix:///run/docker.sock";
    let table = Table::new(&columns, vec![vec!["docker answers".into(), Cell::toned(status, Tone::Bad)]]);
    for width in [80, 60, 40] {
        let shown = plain(&table, width);
        assert!(shown.lines().all(|line| line.width() <= width), "{shown}");
        let found: Vec<_> = shown.split_whitespace().collect();
        for word in status.split(' ') {
            assert!(found.contains(&word), "{word} is broken in:\n{shown}");
        }
        assert!(!shown.contains(REST), "{shown}");
    }
    assert_eq!(wrapped("one two three", 8), ["one two", "three"]);
    assert_eq!(wrapped("in /var/lib/sandbox/machines now", 12), ["in", "/var/lib/sandbox/machines", "now"]);
    assert_eq!(wrapped("", 8), [""]);
}

#[test]
fn cells_are_cut_behind_words_where_they_can_be() {
    for (text, width, expected) in [
        ("docker,claude", 13, "docker,claude"),
        ("docker,claude", 12, "docker,…"),
        ("docker,claude", 8, "docker,…"),
        ("docker,claude", 7, "docker…"),
        ("agents", 4, "age…"),
        ("日本語", 5, "日本…"),
        ("日本語", 4, "日…"),
        ("x", 0, "…"),
    ] {
        assert_eq!(cut(text, width), expected, "{text} in {width}");
    }
}

#[test]
fn values_go_on_below_themselves() {
    let all = [("name", Cell::from("agents")), ("profiles", Cell::from("docker, claude, codex, desktop"))];
    let shown = fields(&all, Room { width: Some(30), colors: false });
    assert_eq!(shown, ["    name: agents", "profiles: docker, claude,\n          codex, desktop"]);
    let whole = fields(&all, Room { width: None, colors: false });
    assert_eq!(whole[1], "profiles: docker, claude, codex, desktop");
}

#[test]
fn colours_take_no_room_and_cells_bring_none() {
    let columns = [Column::new("NAME"), Column::new("STATE"), Column::new("IMAGE")];
    let rows = vec![vec!["a\u{1b}[31m".into(), Cell::toned("running", Tone::Good), "trixie".into()]];
    let table = Table::new(&columns, rows);
    let painted = table.lines(Room { width: Some(80), colors: true });
    assert_eq!(painted[1], "a\\u001b[31m  \u{1b}[32mrunning\u{1b}[0m  trixie");
    let plain = table.lines(Room { width: Some(80), colors: false });
    assert_eq!(plain[1], painted[1].replace("\u{1b}[32m", "").replace("\u{1b}[0m", ""));
}
