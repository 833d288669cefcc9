//! `sandbox snapshot`.

use sandbox_core::{
    error::Context as _,
    host::parallel::parallel,
    machine::{
        life::{Machines, STOP_DEADLINE, Volumes},
        record::Hold,
        snapshot::{
            Snapshot, Wanted, What,
            retention::Keep,
            schedule::{self, LastRun, Ran, Schedule, interval},
            timer,
        },
    },
    name::MachineName,
    report::Event,
};

use super::{
    machine::{BOOT, Host, holder, name, say_state},
    part,
};
use crate::{
    args::{self, Snapshot as Verb},
    exit::Exit,
    failure::Failure,
    settings::Settings,
    table::{Cell, Column, Table},
    ui,
};

/// Gives the machine that a verb of snapshots is about.
pub fn machine_of(verb: &Verb) -> Option<&str> {
    match verb {
        Verb::Create { name, .. } | Verb::Remove { name, .. } | Verb::Diff { name, .. } => Some(name),
        Verb::List { name } => name.as_deref(),
        Verb::Restore(args) => Some(&args.name),
        Verb::Schedule(args) => args.name.as_deref(),
        Verb::Run { due: _ } => None,
    }
}

/// Runs a verb of snapshots.
///
/// # Errors
/// What the user is to be told.
pub fn run(verb: &Verb, settings: &Settings) -> Result<Exit, Failure> {
    settings.need_root("snapshot")?;
    let host = Host::new(settings);
    match verb {
        Verb::Create { name, snapshot } => create(&host, name, snapshot.as_deref(), settings),
        Verb::List { name } => list(&host, name.as_deref(), settings),
        Verb::Restore(args) => restore(&host, args, settings),
        Verb::Remove { name: machine, snapshots } => {
            let machine = name(machine)?;
            let holder = holder("snapshot remove");
            host.machines()?.remove_snapshots(&machine, snapshots, &holder, Hold::Exclusive)?;
            ui::done(settings, &serde_json::json!({"machine": machine.as_str(), "removed": snapshots}));
            Ok(Exit::OK)
        }
        Verb::Diff { name, before, after } => {
            diff(&host, name, (before.as_deref(), after.as_deref()), settings)
        }
        Verb::Schedule(args) => set_schedule(&host, args, settings),
        Verb::Run { due: _ } => run_due(&host, settings),
    }
}

fn create(host: &Host, machine: &str, wanted: Option<&str>, settings: &Settings) -> Result<Exit, Failure> {
    let wanted = Wanted {
        name: wanted.map(name).transpose()?,
        scheduled: false,
        now: settings.now,
        holder: holder("snapshot create"),
    };
    let name = name(machine)?;
    let machines = host.machines()?;
    super::internal::clean_on_interrupt(settings, &[]);
    let taken = machines.take_snapshot(&name, &wanted)?;
    if settings.json() {
        ui::json(&value(&taken));
    } else {
        ui::line(&format!("{} ({})", taken.name, taken.consistency.word()));
    }
    Ok(Exit::OK)
}

fn value(snapshot: &Snapshot) -> serde_json::Value {
    serde_json::json!({
        "name": snapshot.name,
        "machine": snapshot.record.definition.name,
        "created": snapshot.created,
        "consistency": snapshot.consistency,
        "scheduled": snapshot.scheduled,
        "frozen_ms": snapshot.frozen_ms,
        "packages": snapshot.record.packages,
        "profiles": snapshot.record.profiles,
        "volumes": snapshot.volumes,
        "folder": snapshot.folder,
    })
}

fn list(host: &Host, machine: Option<&str>, settings: &Settings) -> Result<Exit, Failure> {
    let machines = host.machines()?;
    let mut worst = Exit::OK;
    let names = match machine {
        Some(machine) => vec![name(machine)?],
        None => {
            let (records, unread) = machines.readable("list")?;
            worst = unread.map_or(Exit::OK, Exit::of);
            records.into_iter().map(|record| record.definition.name).collect()
        }
    };
    let mut all = Vec::new();
    for name in &names {
        match machines.snapshots(name).map_err(Failure::from) {
            Ok(snapshots) => all.extend(snapshots.into_iter().map(|snapshot| (name, snapshot))),
            Err(failure) if machine.is_some() => return Err(failure),
            // those of the other machines are listed all the same
            Err(failure) => {
                worst = worst.or_worse(failure.exit());
                host.reporter().report(Event::Warning { text: failure.sentence() });
            }
        }
    }
    if settings.json() {
        // a machine may have another name by now
        let with_name = |(name, snapshot): &(_, Snapshot)| {
            let mut value = value(snapshot);
            value["machine"] = serde_json::json!(name);
            value
        };
        ui::json(&all.iter().map(with_name).collect::<Vec<_>>());
        return Ok(worst);
    }
    let row = |(name, snapshot): &(&MachineName, Snapshot)| {
        vec![
            Cell::from(name.as_str()),
            (&snapshot.name).into(),
            moment(snapshot.created).into(),
            snapshot.consistency.word().into(),
            if snapshot.scheduled { "schedule" } else { "hand" }.into(),
        ]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    let columns = [
        Column::new("MACHINE").rank(1),
        Column::new("SNAPSHOT"),
        Column::new("TAKEN (UTC)").rank(2),
        Column::new("CONSISTENCY").rank(3),
        Column::new("BY").rank(4),
    ];
    ui::table(&Table::new(&columns, rows));
    Ok(worst)
}

pub fn moment(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    time.strftime("%Y-%m-%d %H:%M").to_string()
}

fn restore(host: &Host, args: &args::Restore, settings: &Settings) -> Result<Exit, Failure> {
    let name = name(&args.name)?;
    let machines = host.machines()?;
    machines.refuse_protected(&name, "restore")?;
    let runs = machines.status(&name)?.leader.is_some();
    if !args.yes {
        let volumes = if args.keep_volumes { "" } else { ", its work (--keep-volumes leaves that)" };
        let question = format!(
            "Replace what is in machine `{name}`{volumes} by the snapshot `{}`? What is there now is lost.",
            args.snapshot
        );
        let command = format!("sandbox snapshot restore {name} {} --yes", args.snapshot);
        if !ui::confirm(&question, settings.interactive, &command)? {
            return Ok(Exit::UNAVAILABLE);
        }
    }
    let holder = holder("snapshot restore");
    if args.restart && runs {
        machines.stop(&name, STOP_DEADLINE, &holder)?;
    }
    let volumes = if args.keep_volumes { Volumes::Kept } else { Volumes::Removed };
    super::internal::clean_on_interrupt(settings, &[]);
    let restored = machines.restore(&name, &args.snapshot, volumes, &holder);
    if args.restart && runs {
        let started = machines.start(&name, BOOT, &holder);
        if restored.is_ok() {
            say_state(&name, &started?, settings);
        }
    }
    restored?;
    ui::done(settings, &serde_json::json!({"machine": name.as_str(), "restored": args.snapshot}));
    Ok(Exit::OK)
}

fn diff(
    host: &Host,
    machine: &str,
    (before, after): (Option<&str>, Option<&str>),
    settings: &Settings,
) -> Result<Exit, Failure> {
    let name = name(machine)?;
    let machines = host.machines()?;
    let before = match before {
        Some(before) => before.to_owned(),
        None => match machines.snapshots(&name)?.pop() {
            Some(last) => last.name,
            None => {
                let text = format!("machine `{name}` has no snapshot to compare with");
                let command = format!("sandbox snapshot create {name}");
                return Err(Failure::said(Exit::UNAVAILABLE, text).hint("take one", command));
            }
        },
    };
    let differences = machines.differences(&name, &before, after)?;
    if settings.json() {
        ui::json(&differences);
    } else {
        for one in &differences {
            let sign = match one.what {
                What::Added => '+',
                What::Removed => '-',
                What::Changed => '~',
                What::Attributes => '%',
            };
            let path = one.path.display().to_string();
            ui::line(&format!("{sign} {}", path.escape_debug()));
        }
    }
    Ok(if differences.is_empty() { Exit::OK } else { Exit::UNAVAILABLE })
}

fn set_schedule(host: &Host, args: &args::Schedule, settings: &Settings) -> Result<Exit, Failure> {
    let machines = host.machines()?;
    if let Some(text) = &args.name {
        let name = name(text)?;
        let subject = || format!("machine `{name}`");
        let wanted = match (&args.every, &args.keep) {
            (Some(every), Some(keep)) => Some(Schedule {
                every: interval(every).during("schedule", subject())?,
                keep: Keep::parse(keep).during("schedule", subject())?,
            }),
            _ => None,
        };
        if wanted.is_some() || args.off {
            let every = wanted.as_ref().map(|schedule| schedule.every);
            machines.set_schedule(&name, wanted, &holder("snapshot schedule"))?;
            ui::done(settings, &serde_json::json!({"machine": name.as_str(), "every": every}));
            if !set_timer(&machines, settings)? && wanted.is_some() {
                let text = "systemd is not PID 1 here: have cron run `sandbox snapshot run --due`";
                host.reporter().report(Event::Notice { text: text.to_owned() });
            }
            return Ok(Exit::OK);
        }
        machines.records.read(&name).during("show", subject())?;
    }
    let (mut all, worst) = machines.schedules()?;
    all.retain(|(name, _)| args.name.as_ref().is_none_or(|wanted| wanted == name.as_str()));
    let worst = worst.map_or(Exit::OK, Exit::of);
    if settings.json() {
        let value = |(name, schedule): &(_, Schedule)| {
            serde_json::json!({
                "machine": name, "every": schedule.every, "keep": schedule.keep.to_string(),
                "last_run": machines.last_run(name),
            })
        };
        ui::json(&all.iter().map(value).collect::<Vec<_>>());
        return Ok(worst);
    }
    let row = |(name, schedule): &(MachineName, Schedule)| {
        let every = schedule::interval_text(schedule.every);
        let last = machines.last_run(name);
        vec![
            Cell::from(name.as_str()),
            every.into(),
            schedule.keep.to_string().into(),
            last.as_ref().map_or_else(|| "-".to_owned(), |last| moment(last.at)).into(),
            last.map_or_else(|| "-".to_owned(), |last| last.words()).into(),
        ]
    };
    let columns = [
        Column::new("MACHINE"),
        Column::new("EVERY"),
        Column::new("KEEP"),
        Column::new("LAST RUN (UTC)").rank(1),
        Column::new("OUTCOME").wrap(),
    ];
    ui::table(&Table::new(&columns, all.iter().map(row).collect()));
    Ok(worst)
}

/// Has systemd come as often as the schedules need, and tells whether systemd is there.
///
/// # Errors
/// What the user is to be told.
pub fn set_timer(machines: &Machines<'_>, settings: &Settings) -> Result<bool, Failure> {
    let (records, unread) = machines.records.list_readable().during("list", "the machines")?;
    if !unread.is_empty() {
        // one of those that cannot be read may have a schedule
        return Ok(true);
    }
    let schedules: Vec<Schedule> = records.into_iter().filter_map(|record| record.schedule).collect();
    Ok(timer::set(&settings.state, &settings.program, &schedules).during("set", "the timer of snapshots")?)
}

/// Does what is due, each machine's in a process of its own: what becomes of one is nothing to the others.
fn run_due(host: &Host, settings: &Settings) -> Result<Exit, Failure> {
    let machines = host.machines()?;
    super::internal::clean_on_interrupt(settings, &[]);
    let (schedules, unread) = machines.schedules()?;
    let names: Vec<_> = schedules.into_iter().map(|(name, _)| name).collect();
    let ran = parallel(&names, timer::AT_ONCE, |name| run_one(name, settings));
    // what a part left that was killed
    host.recover(part::BRIEFLY)?;
    // a removed machine's schedule went with it
    set_timer(&machines, settings)?;
    let unread = unread.map_or(Exit::OK, Exit::of);
    let worst = ran.iter().fold(unread, |worst, (_, exit)| worst.or_worse(*exit));
    let ran: Vec<Ran> = ran.into_iter().map(|(ran, _)| ran).filter(|ran| !ran.is_nothing()).collect();
    if settings.json() {
        ui::json(&ran);
    }
    for one in &ran {
        machines.note_run(&LastRun { at: settings.now, ran: one.clone() });
        tell(one, host, settings);
    }
    Ok(worst)
}

/// Does what is due for one machine, and returns what was done and the exit code of that.
fn run_one(name: &MachineName, settings: &Settings) -> (Ran, Exit) {
    let job = part::job(&["--no-wait", "internal", "snapshot", name.as_str()], settings);
    let failed = |ran: Ran, exit, problem| (Ran { problem: Some(problem), ..ran }, exit);
    let ended = match job.run(timer::DEADLINE) {
        Ok(ended) => ended,
        Err(error) => {
            let problem = format!("its process cannot be started: {error}");
            return failed(Ran::new(name.clone()), Exit::HOST, problem);
        }
    };
    let said = String::from_utf8_lossy(&ended.out).into_owned();
    let mut lines: Vec<_> = said.lines().collect();
    let last = lines.last().and_then(|line| serde_json::from_str::<Ran>(line).ok());
    if last.is_some() {
        lines.pop();
    }
    lines.into_iter().for_each(ui::line);
    let ran = last.unwrap_or_else(|| Ran::new(name.clone()));
    match part::outcome(ended.ending, timer::DEADLINE) {
        (exit, Some(how)) => failed(ran, exit, how),
        (exit, None) if exit.is_interrupted() => {
            (Ran { skipped: Some("it was interrupted".to_owned()), ..ran }, Exit::OK)
        }
        (exit, None) if exit != Exit::OK && ran.problem.is_none() => {
            failed(ran, exit, format!("its process ended with exit code {}", exit.0))
        }
        (exit, None) => (ran, exit),
    }
}

/// Reports what was done for one machine.
fn tell(ran: &Ran, host: &Host, settings: &Settings) {
    if let Some(problem) = &ran.problem {
        let text = format!("machine `{}`: {problem}", ran.name);
        host.reporter().report(Event::Warning { text });
    }
    if let Some(why) = &ran.skipped {
        let text = format!("machine `{}` is left to the next run: {why}", ran.name);
        host.reporter().report(Event::Notice { text });
    }
    if settings.json() {
        return;
    }
    if let Some(taken) = &ran.taken {
        ui::line(&format!("machine `{}`: took {taken}", ran.name));
    }
    if !ran.removed.is_empty() {
        ui::line(&format!("machine `{}`: removed {}", ran.name, ran.removed.join(", ")));
    }
}
