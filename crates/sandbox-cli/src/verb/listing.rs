//! `sandbox list`.

use sandbox_core::{
    host::parallel::{parallel, processors},
    machine::{Foreign, State, life, life::Status},
    report::Event,
};

use super::{
    internal,
    layer::{age, size},
    list::{breach, holder, tone, word},
    machine::Host,
};
use crate::{
    args::{List, ListColumn, ListFormat},
    exit::Exit,
    failure::Failure,
    settings::{Display, Settings},
    table::{Cell, Column, Table, Tone},
    ui,
};

/// What an absent value is shown as.
const NONE: &str = "-";

/// A machine that is listed.
struct Row {
    name: String,
    state: State,
    backend: &'static str,
    image: String,
    profiles: Vec<String>,
    addresses: Vec<String>,
    network: Option<String>,
    packages: Option<usize>,
    created: Option<i64>,
    tree: Option<String>,
    disk: Option<u64>,
    json: serde_json::Value,
}

/// Lists the machines.
///
/// # Errors
/// What the user is to be told.
pub fn run(args: &List, settings: &Settings) -> Result<Exit, Failure> {
    settings.need_root("list")?;
    let host = Host::new(settings);
    let all = host.machines()?;
    let (mut machines, worst) = all.list()?;
    let worst = worst.map_or(Exit::OK, Exit::of);
    // one that stopped with the host has nothing else that removes it
    let gone = machines.iter().filter(|machine| machine.ephemeral && machine.state == State::Stopped);
    gone.for_each(|machine| internal::reap(&machine.name, settings));
    // a host where they cannot be listed has none that matter
    let foreign = all.foreign().unwrap_or_default();
    let none = machines.is_empty() && foreign.is_empty();
    machines.retain(|machine| holds(args, &of_status(machine)));
    let foreign = foreign.iter().map(of_foreign).filter(|row| holds(args, row));
    let mut rows: Vec<Row> = machines.iter().map(of_status).chain(foreign).collect();
    let columns = args.columns.as_ref().map_or(ListColumn::usual(), |columns| &columns.0);
    if columns.contains(&ListColumn::Disk) {
        // ours come first
        let disks = parallel(&machines, processors(), Status::disk);
        rows.iter_mut().zip(disks).for_each(|(row, disk)| row.disk = disk);
    }
    match (settings.json(), args.format, settings.display) {
        (true, ..) | (_, ListFormat::Json, _) => json(&rows, args),
        (.., Display::Quiet) => rows.iter().for_each(|row| ui::line(&ui::word(&row.name))),
        (_, ListFormat::Csv, _) => csv(&rows, columns, settings.now),
        (_, ListFormat::Table, _) => {
            if none {
                ui::failure(
                    "no machines\n\nhint: make one:  sandbox create agents --release trixie --profile docker,claude,codex\n",
                );
                return Ok(worst);
            }
            ui::table(&table(&rows, columns, settings.now));
            for text in machines.iter().filter_map(breach) {
                host.reporter().report(Event::Warning { text });
            }
            for text in machines.iter().filter_map(holder) {
                host.reporter().report(Event::Notice { text });
            }
        }
    }
    Ok(worst)
}

fn of_status(machine: &Status) -> Row {
    Row {
        name: machine.name.to_string(),
        state: machine.state,
        backend: life::word(machine.backend),
        // one that is being made may have none yet
        image: if machine.image.is_empty() { NONE.to_owned() } else { machine.image.clone() },
        profiles: machine.profiles.clone(),
        addresses: machine.addresses.iter().map(ToString::to_string).collect(),
        network: Some(format!("{:?}", machine.network).to_lowercase()),
        packages: Some(machine.packages),
        created: Some(machine.created),
        tree: Some(machine.tree.display().to_string()),
        disk: None,
        json: serde_json::json!(machine),
    }
}

/// Makes a row of a machine that another program made.
fn of_foreign(found: &Foreign) -> Row {
    let state = if found.running { State::Running } else { State::Stopped };
    Row {
        name: found.name.clone(),
        state,
        backend: life::word(found.backend),
        image: "foreign".to_owned(),
        profiles: Vec::new(),
        addresses: Vec::new(),
        network: None,
        packages: None,
        created: None,
        tree: found.tree.as_ref().map(|tree| tree.display().to_string()),
        disk: None,
        json: serde_json::json!({
            "name": found.name, "state": word(state), "backend": found.backend,
            "tree": found.tree, "foreign": true,
        }),
    }
}

/// Reports whether a machine is one of those that are asked for.
fn holds(args: &List, row: &Row) -> bool {
    let words = |key| match key {
        ListColumn::State => vec![word(row.state).to_owned()],
        ListColumn::Backend => vec![row.backend.to_owned()],
        ListColumn::Image => vec![row.image.clone()],
        ListColumn::Profiles => row.profiles.clone(),
        ListColumn::Address => row.addresses.clone(),
        ListColumn::Network => row.network.iter().cloned().collect(),
        _ => vec![row.name.clone()],
    };
    args.filter.iter().all(|filter| {
        let mut same = args.filter.iter().filter(|other| other.key == filter.key);
        same.any(|other| other.holds(&words(other.key)))
    })
}

/// Returns a value as people read it, or as programs do.
fn value(row: &Row, column: ListColumn, now: i64, raw: bool) -> Option<String> {
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    match column {
        ListColumn::Name => some(row.name.clone()),
        ListColumn::State => some(word(row.state).to_owned()),
        ListColumn::Backend => some(row.backend.to_owned()),
        ListColumn::Image => some(row.image.clone()),
        ListColumn::Profiles => some(row.profiles.join(",")),
        ListColumn::Address => row.addresses.first().cloned(),
        ListColumn::Addresses => some(row.addresses.join(",")),
        ListColumn::Age if raw => row.created.map(|created| (now - created).to_string()),
        ListColumn::Age => row.created.map(|created| age(now - created)),
        ListColumn::Disk if raw => row.disk.map(|bytes| bytes.to_string()),
        ListColumn::Disk => row.disk.map(size),
        ListColumn::Created => {
            let time = jiff::Timestamp::from_second(row.created?).ok()?;
            Some(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
        }
        ListColumn::Network => row.network.clone(),
        ListColumn::Packages => row.packages.map(|count| count.to_string()),
        ListColumn::Tree => row.tree.clone(),
    }
}

fn table(rows: &[Row], columns: &[ListColumn], now: i64) -> Table {
    let heads: Vec<_> = columns.iter().map(|column| head(*column)).collect();
    let cell = |row: &Row, column: ListColumn| {
        let text = value(row, column, now, false);
        match (column, text) {
            (_, None) => Cell::toned(NONE, Tone::Faint),
            (ListColumn::State, Some(text)) => Cell::toned(&text, tone(row.state)),
            (_, Some(text)) => text.into(),
        }
    };
    let rows = rows.iter().map(|row| columns.iter().map(|column| cell(row, *column)).collect());
    Table::new(&heads, rows.collect())
}

/// Returns how a column is shown: name and state always, then what distinguishes machines.
const fn head(column: ListColumn) -> Column {
    match column {
        ListColumn::Name => Column::new("NAME"),
        ListColumn::State => Column::new("STATE"),
        ListColumn::Backend => Column::new("BACKEND").rank(7),
        ListColumn::Image => Column::new("IMAGE").rank(6),
        ListColumn::Profiles => Column::new("PROFILES").cut().rank(2),
        ListColumn::Address => Column::new("ADDRESS").rank(3),
        ListColumn::Age => Column::new("AGE").rank(5),
        ListColumn::Disk => Column::new("DISK").rank(1),
        ListColumn::Addresses => Column::new("ADDRESSES").cut().rank(4),
        ListColumn::Created => Column::new("CREATED").rank(8),
        ListColumn::Network => Column::new("NETWORK").rank(8),
        ListColumn::Packages => Column::new("PACKAGES").rank(8),
        ListColumn::Tree => Column::new("TREE").rank(8),
    }
}

/// Prints rows as RFC 4180 has them.
fn csv(rows: &[Row], columns: &[ListColumn], now: i64) {
    let heads = columns.iter().map(|column| column.word().to_owned());
    ui::line(&heads.collect::<Vec<_>>().join(","));
    for row in rows {
        let fields = columns.iter().map(|column| quoted(&value(row, *column, now, true).unwrap_or_default()));
        ui::line(&fields.collect::<Vec<_>>().join(","));
    }
}

fn quoted(field: &str) -> String {
    let text = ui::word(field);
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// Prints all that is known of each machine, or what is asked for.
fn json(rows: &[Row], args: &List) {
    let Some(columns) = &args.columns else {
        return ui::json(&rows.iter().map(|row| &row.json).collect::<Vec<_>>());
    };
    let one = |row: &Row| {
        let field = |column: &ListColumn| match column {
            ListColumn::Disk => ("disk", serde_json::json!(row.disk)),
            ListColumn::Address => ("address", serde_json::json!(row.addresses.first())),
            ListColumn::Age => ("created", serde_json::json!(row.created)),
            column => (column.word(), row.json[column.word()].clone()),
        };
        let fields = columns.0.iter().map(field).map(|(key, value)| (key.to_owned(), value));
        serde_json::Value::Object(fields.collect())
    };
    ui::json(&rows.iter().map(one).collect::<Vec<_>>());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Room;

    const NOW: i64 = 1_000_000;

    fn rows() -> Vec<Row> {
        let row = |name: &str, state, profiles: &[&str], addresses: &[&str]| Row {
            name: name.to_owned(),
            state,
            backend: "nspawn",
            image: "trixie".to_owned(),
            profiles: profiles.iter().map(|word| (*word).to_owned()).collect(),
            addresses: addresses.iter().map(|word| (*word).to_owned()).collect(),
            network: Some("internet".to_owned()),
            packages: Some(321),
            created: Some(NOW - 7200),
            tree: None,
            disk: Some(2_100_000_000),
            json: serde_json::json!({"name": name}),
        };
        vec![
            row(
                "agents",
                State::Running,
                &["docker", "claude", "codex", "desktop"],
                &["10.80.0.2", "fd00::2"],
            ),
            row("web", State::Stopped, &["ssh"], &[]),
            row("web2", State::Degraded, &[], &["10.80.0.3"]),
        ]
    }

    fn args(filters: &[&str]) -> List {
        let filter = filters.iter().map(|text| text.parse().unwrap()).collect();
        List { format: ListFormat::Table, columns: None, filter }
    }

    #[test]
    fn filters_of_one_key_are_alternatives_and_those_of_others_are_not() {
        let cases: &[(&[&str], &[&str])] = &[
            (&[], &["agents", "web", "web2"]),
            (&["state=running"], &["agents"]),
            (&["state=running", "state=stopped"], &["agents", "web"]),
            (&["state=running", "state=stopped", "name=web*"], &["web"]),
            (&["profile=claude"], &["agents"]),
            (&["profiles=none"], &[]),
            (&["address=fd00::2"], &["agents"]),
            (&["network=internet", "image=trixie", "backend=lxc"], &[]),
        ];
        for (filters, expected) in cases {
            let args = args(filters);
            let all = rows();
            let found: Vec<_> =
                all.iter().filter(|row| holds(&args, row)).map(|row| row.name.as_str()).collect();
            assert_eq!(found, *expected, "{filters:?}");
        }
    }

    #[test]
    fn narrow_terminals_show_what_tells_machines_apart() {
        let all = [ListColumn::usual(), &[ListColumn::Disk]].concat();
        let shown = |width| {
            let lines = table(&rows(), &all, NOW).lines(Room { width: Some(width), colors: false });
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{lines:#?}");
            lines
        };
        for (width, heads) in [
            (100, "NAME STATE BACKEND IMAGE PROFILES ADDRESS AGE DISK"),
            (80, "NAME STATE BACKEND IMAGE PROFILES ADDRESS AGE DISK"),
            (60, "NAME STATE IMAGE PROFILES ADDRESS AGE DISK"),
            (40, "NAME STATE PROFILES DISK"),
        ] {
            assert_eq!(shown(width)[0].split_whitespace().collect::<Vec<_>>().join(" "), heads, "{width}");
        }
        let text = shown(40)[1].clone();
        assert!(text.starts_with("agents  running   docker,…"), "{text}");
    }

    #[test]
    fn programs_get_numbers_and_quoted_lists() {
        let row = &rows()[0];
        let text = |column| value(row, column, NOW, true).unwrap();
        assert_eq!(
            (text(ListColumn::Age), text(ListColumn::Disk)),
            ("7200".to_owned(), "2100000000".to_owned())
        );
        assert_eq!(text(ListColumn::Created), "1970-01-12T11:46:40Z");
        assert_eq!(quoted(&text(ListColumn::Addresses)), "\"10.80.0.2,fd00::2\"");
        assert_eq!(quoted("a\"b\n"), "\"a\"\"b\\n\"");
    }
}
