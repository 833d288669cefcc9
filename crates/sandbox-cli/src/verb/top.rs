//! `sandbox top`.

use std::{
    collections::BTreeMap,
    io::IsTerminal as _,
    thread,
    time::{Duration, Instant},
};

use sandbox_core::{
    machine::{Leader, life::Machines, usage, usage::Usage},
    name::MachineName,
};

use super::machine::{Host, name};
use crate::{
    args::Top,
    exit::Exit,
    failure::Failure,
    keys::Keys,
    settings::Settings,
    table::{Cell, Column, Table},
    ui,
};

/// How far the two looks of a single show are apart.
const APART: Duration = Duration::from_millis(500);

/// A machine at two times.
#[derive(serde::Serialize)]
struct Row {
    name: String,
    /// Processor time per time, in percent of one processor.
    cpu_percent: Option<f64>,
    #[serde(flatten)]
    usage: Usage,
    /// Bytes a second.
    read_rate: Option<f64>,
    write_rate: Option<f64>,
    receive_rate: Option<f64>,
    send_rate: Option<f64>,
}

/// Shows what machines use, until it is told to end.
///
/// # Errors
/// What the user is to be told.
pub fn run(args: &Top, settings: &Settings) -> Result<Exit, Failure> {
    settings.need_root("top")?;
    let asked = args.names.iter().map(|text| name(text)).collect::<Result<Vec<_>, _>>()?;
    if !args.interval.is_finite() || !(0.1..=3600.0).contains(&args.interval) {
        return Err(Failure::said(Exit::USAGE, "--interval takes 0.1 to 3600 seconds"));
    }
    let host = Host::new(settings);
    let machines = host.as_they_are();
    let live = std::io::stdout().is_terminal() && !args.once && !settings.json();
    let pause = if live { Duration::from_secs_f64(args.interval) } else { APART };
    let mut before = seen(&machines, &asked)?;
    let keys = live.then(Keys::new).transpose();
    let mut keys =
        keys.map_err(|error| Failure::said(Exit::HOST, format!("signals cannot be listened to: {error}")))?;
    let mut first = true;
    loop {
        let pause = if first { APART.min(pause) } else { pause };
        match &mut keys {
            None => thread::sleep(pause),
            Some(keys) => {
                if let Some(exit) = keys.wait(pause) {
                    return Ok(exit);
                }
            }
        }
        first = false;
        let now = seen(&machines, &asked)?;
        let rows = rows(&before, &now);
        if settings.json() {
            ui::json(&rows);
        } else {
            if live {
                // to the top, and all below it away
                ui::clear();
            }
            show(&rows);
        }
        if !live {
            return Ok(Exit::OK);
        }
        before = now;
    }
}

type Seen = BTreeMap<MachineName, (Leader, Instant, Usage)>;

fn seen(machines: &Machines<'_>, asked: &[MachineName]) -> Result<Seen, Failure> {
    let mut all = Seen::new();
    let names = if asked.is_empty() {
        let (records, _) = machines.readable("list")?;
        let here = records.into_iter().filter(|record| record.definition.place.is_none());
        here.map(|record| record.definition.name).collect()
    } else {
        asked.to_vec()
    };
    for name in names {
        let leader = match asked.is_empty() {
            // one that cannot be looked at is no reason to show none
            true => machines.look_at(&name).ok().and_then(|(_, leader)| leader),
            false => Some(machines.leader(&name, "look at")?),
        };
        if let Some(leader) = leader {
            let (now, usage) = (Instant::now(), usage::of(&leader));
            all.insert(name, (leader, now, usage));
        }
    }
    Ok(all)
}

fn rows(before: &Seen, now: &Seen) -> Vec<Row> {
    let row = |(name, (leader, at, usage)): (&MachineName, &(Leader, Instant, Usage))| {
        // one that was started anew meanwhile has other counters
        let earlier = before.get(name).filter(|(old, ..)| old == leader);
        let rate = |of: fn(&Usage) -> Option<u64>| {
            let (_, then, old) = earlier?;
            let seconds = at.duration_since(*then).as_secs_f64();
            let more = of(usage)?.saturating_sub(of(old)?);
            (seconds > 0.0).then(|| more as f64 / seconds)
        };
        Row {
            name: name.to_string(),
            cpu_percent: rate(|usage| usage.cpu_usec).map(|microseconds| microseconds / 10_000.0),
            usage: *usage,
            read_rate: rate(|usage| usage.read),
            write_rate: rate(|usage| usage.written),
            receive_rate: rate(|usage| usage.received),
            send_rate: rate(|usage| usage.sent),
        }
    };
    now.iter().map(row).collect()
}

fn show(rows: &[Row]) {
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), |bytes| short(bytes as f64));
    let rate =
        |bytes: Option<f64>| bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{}/s", short(bytes)));
    let table: Vec<_> = rows
        .iter()
        .map(|row| {
            let usage = &row.usage;
            let memory = match usage.memory_max {
                Some(most) => format!("{} of {}", size(usage.memory), short(most as f64)),
                None => size(usage.memory),
            };
            vec![
                Cell::from(&row.name),
                row.cpu_percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.1}%")).into(),
                memory.into(),
                usage.tasks.map_or_else(|| "-".to_owned(), |tasks| tasks.to_string()).into(),
                rate(row.read_rate).into(),
                rate(row.write_rate).into(),
                rate(row.receive_rate).into(),
                rate(row.send_rate).into(),
            ]
        })
        .collect();
    let columns = [
        Column::new("NAME"),
        Column::new("CPU"),
        Column::new("MEMORY"),
        Column::new("TASKS").rank(1),
        Column::new("READ").rank(3),
        Column::new("WRITE").rank(3),
        Column::new("IN").rank(2),
        Column::new("OUT").rank(2),
    ];
    ui::table(&Table::new(&columns, table));
}

/// Gives bytes in at most three digits and a unit.
fn short(bytes: f64) -> String {
    let mut rest = bytes;
    for unit in ["B", "K", "M", "G"] {
        if rest < 999.5 {
            let digits = usize::from(rest < 9.95 && unit != "B");
            return format!("{rest:.digits$}{unit}");
        }
        rest /= 1024.0;
    }
    format!("{rest:.1}T")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_short() {
        let shown = [0.0, 999.0, 1024.0, 1536.0, 123_456_789.0, 5e12].map(short);
        assert_eq!(shown, ["0B", "999B", "1.0K", "1.5K", "118M", "4.5T"]);
    }

    #[test]
    fn rates_are_of_the_same_run_alone() {
        let name = MachineName::new("a").unwrap();
        let at = Instant::now();
        let usage = |cpu| Usage { cpu_usec: Some(cpu), ..Usage::default() };
        let seen = |pid, at, cpu| Seen::from([(name.clone(), (Leader::new(pid), at, usage(cpu)))]);
        let later = at + Duration::from_secs(2);
        let same = rows(&seen(1, at, 1_000_000), &seen(1, later, 2_000_000));
        assert_eq!(same[0].cpu_percent, Some(50.0));
        let other = rows(&seen(1, at, 1_000_000), &seen(2, later, 2_000_000));
        assert_eq!(other[0].cpu_percent, None);
    }
}
