//! Machines that are containers of Proxmox VE: each verb is done by the node, or refused by name.

use std::{
    thread,
    time::{Duration, Instant},
};

use sandbox_core::{
    Hint,
    error::Context as _,
    machine::{
        Kind, State,
        life::Volumes,
        proxmox::{ProxmoxError, cluster::Snapshotting, place::Reach, resident::Resident},
        record::{Record, Records},
    },
    name::MachineName,
};

use super::{
    list,
    machine::{Host, holder},
    within,
};
use crate::{
    args::{self, Snapshot, Until, Verb},
    exit::Exit,
    failure::Failure,
    settings::Settings,
    table::{Cell, Column, Table},
    ui,
};

/// How long a machine that is removed or restored may take to shut down.
const PATIENCE: u64 = 60;
/// The pause between two looks at a machine that is waited for.
const PAUSE: Duration = Duration::from_secs(1);

/// Gives the record of a machine that is a container of Proxmox VE; none of any other.
pub fn record(text: &str, settings: &Settings) -> Option<Record> {
    let record = Records::new(&settings.state).read(&MachineName::new(text).ok()?).ok()?;
    (record.definition.backend == Kind::Proxmox).then_some(record)
}

/// Does a verb with such a machine; none where the verb is the same as with any other.
pub fn run(verb: &Verb, record: Record, settings: &Settings) -> Option<Result<Exit, Failure>> {
    let machine = Machine { name: record.definition.name.clone(), record, settings };
    Some(match verb {
        Verb::Start(_) => machine.start(),
        Verb::Stop(args) => machine.stop(args),
        Verb::Restart(args) => machine.stop(args).and_then(|_| machine.start()),
        Verb::Remove(args) => machine.remove(args),
        Verb::Wait(args) => machine.wait(args),
        Verb::Set(args) => machine.may_set(args).and_then(|()| super::set::run(args, settings)),
        Verb::Enable(args) => machine.autostart(args, true),
        Verb::Disable(args) => machine.autostart(args, false),
        Verb::Status(_) => machine.status(),
        Verb::Snapshot { verb } => machine.snapshot(verb),
        Verb::Exec(args) => machine.inside("exec").and_then(|node| within::exec(&node, args, settings)),
        Verb::Shell(args) => machine.inside("shell").and_then(|node| within::shell(&node, args, settings)),
        Verb::Console(args) => machine.inside("console").and_then(|node| within::console(&node, args)),
        Verb::Logs(args) => machine.inside("logs").and_then(|node| within::logs(&node, args, settings)),
        Verb::Copy(args) => machine.inside("copy").and_then(|node| within::copy(&node, args)),
        other => return refused(other).map(|problem| machine.no(problem)),
    })
}

/// Names why a verb cannot be done; none where it is not about one machine.
fn refused(verb: &Verb) -> Option<ProxmoxError> {
    let not = |verb: &str, why, instead| Some(ProxmoxError::Not { verb: verb.to_owned(), why, instead });
    let note = |text: &str| Some(Hint::Note(text.to_owned()));
    match verb {
        Verb::Kill(args) => not(
            "kill",
            "it has no call that sends a signal",
            Some(Hint::run("end it by force", format!("sandbox stop {} --timeout 0", args.names.first()))),
        ),
        Verb::Mount(_) | Verb::Unmount(_) => not(
            "mount",
            "folders of a node are root@pam's to give, and not while it runs",
            note("on the node, with the container stopped:  pct set ID -mp0 /FOLDER,mp=/PATH"),
        ),
        Verb::Secret { .. } => not("secret", "it gives a container no credentials", None),
        Verb::Move(_) => not("move", "its tree is in a storage of the cluster", note(BACKUP)),
        Verb::Export(_) => not("export", "its tree is in a storage of the cluster", note(BACKUP)),
        Verb::Rename(_) => not(
            "rename",
            "its name is in its tree, which is not here",
            note("on the node:  pct set ID -hostname NAME"),
        ),
        Verb::Clone(_) | Verb::Fork(_) => {
            not("clone", "its tree is in a storage of the cluster", note("on the node:  pct clone ID NEWID"))
        }
        Verb::Health(_) => not("health", "its checks run in it, where only the node comes", None),
        Verb::Top(_) => not(
            "top",
            "the node counts what it uses",
            note("Summary, in the interface; pct status ID --verbose"),
        ),
        _ => None,
    }
}

const BACKUP: &str = "on the node:  vzdump ID, or Backup in the interface";

struct Machine<'a> {
    name: MachineName,
    record: Record,
    settings: &'a Settings,
}

impl Machine<'_> {
    fn subject(&self) -> String {
        format!("machine `{}`", self.name)
    }

    fn no(&self, problem: ProxmoxError) -> Result<Exit, Failure> {
        Ok(Err(problem).during("do that with", self.subject())?)
    }

    /// Holds the machine, so that nobody else changes it meanwhile, and finds its container.
    fn hold<T>(
        &self,
        verb: &'static str,
        what: impl FnOnce(&Resident) -> Result<T, ProxmoxError>,
    ) -> Result<T, Failure> {
        self.settings.need_root(verb)?;
        let host = Host::new(self.settings);
        let machines = host.machines()?;
        let held = machines.claim(&self.name, &holder(verb), verb)?;
        let done = Resident::find(&held.1.definition).and_then(|found| what(&found));
        Ok(done.during(verb, self.subject())?)
    }

    fn find(&self, verb: &'static str) -> Result<Resident, Failure> {
        self.settings.need_root(verb)?;
        Ok(Resident::find(&self.record.definition).during(verb, self.subject())?)
    }

    fn start(&self) -> Result<Exit, Failure> {
        let runs = self.hold("start", |found| {
            let runs = found.state()? == State::Running;
            if runs { Ok(true) } else { found.start().map(|()| false) }
        })?;
        if runs {
            let text = format!("machine `{}` runs already", self.name);
            return Err(Failure::said(Exit::UNAVAILABLE, text));
        }
        self.say("started");
        Ok(Exit::OK)
    }

    fn stop(&self, args: &args::Stop) -> Result<Exit, Failure> {
        self.hold("stop", |found| found.stop(args.timeout))?;
        Ok(Exit::OK)
    }

    fn say(&self, event: &str) {
        if self.settings.json() {
            ui::line(&serde_json::json!({"event": event, "name": self.name.as_str()}).to_string());
        }
    }

    fn status(&self) -> Result<Exit, Failure> {
        // why it is not reached is what its user wants to know then
        let found = self.find("show")?;
        found.state().during("show", self.subject())?;
        list::status(&args::Named { name: self.name.to_string() }, self.settings)
    }

    fn remove(&self, args: &args::Remove) -> Result<Exit, Failure> {
        match Resident::find(&self.record.definition) {
            // what is not there any more needs no removal
            Ok(_) | Err(ProxmoxError::Gone { .. }) => {}
            Err(problem) => return Ok(Err(problem).during("remove", self.subject())?),
        }
        self.settings.need_root("remove")?;
        let host = Host::new(self.settings);
        host.as_they_are().refuse_protected(&self.name, "remove")?;
        let place = self.record.definition.place.as_ref().map(|place| place.words()).unwrap_or_default();
        if !args.yes {
            let question = format!("Remove machine `{}` with all that is in it ({place})?", self.name);
            let command = format!("sandbox remove {} --yes", self.name);
            if !ui::confirm(&question, self.settings.interactive, &command)? {
                return Ok(Exit::UNAVAILABLE);
            }
        }
        host.machines()?.remove(&self.name, Volumes::Removed, &holder("remove"))?;
        Ok(Exit::OK)
    }

    fn may_set(&self, args: &args::Set) -> Result<(), Failure> {
        let refused: [(bool, &str, &'static str); 6] = [
            (args.limits.tasks.is_some(), "set --tasks", "a container of it has no such limit"),
            (args.cpu_weight.is_some(), "set --cpu-weight", "a container of it has another scale"),
            (args.core_dumps.is_some(), "set --core-dumps", "a container of it has no such limit"),
            (args.limits.disk.is_some(), "set --disk", "its disks grow by `pct resize`, and do not shrink"),
            (
                !args.env.is_empty() || !args.unset_env.is_empty(),
                "set --env",
                "variables are in the tree, which is not here",
            ),
            (args.restart.is_some(), "set --restart", "it does not start again what ends by itself"),
        ];
        for (asked, verb, why) in refused {
            if asked {
                let not = ProxmoxError::Not { verb: verb.to_owned(), why, instead: None };
                return Ok(Err(not).during("change", self.subject())?);
            }
        }
        Ok(())
    }

    fn autostart(&self, _args: &args::Several, wanted: bool) -> Result<Exit, Failure> {
        self.settings.need_root(if wanted { "enable" } else { "disable" })?;
        let host = Host::new(self.settings);
        let chosen = host.machines()?.choose(&self.name, &holder("enable"), false, |chosen| {
            chosen.autostart = wanted.then(|| chosen.autostart.unwrap_or_default());
        })?;
        if self.settings.json() {
            ui::json(&serde_json::json!({"name": self.name.as_str(), "autostart": chosen.autostart}));
        }
        Ok(Exit::OK)
    }

    fn wait(&self, args: &args::Wait) -> Result<Exit, Failure> {
        let wanted = match args.until {
            Until::Running => State::Running,
            Until::Stopped => State::Stopped,
            Until::Healthy | Until::Port(_) => {
                let why = "only whether it runs is seen from outside";
                return self.no(ProxmoxError::Not { verb: "wait".to_owned(), why, instead: None });
            }
        };
        let found = self.find("wait")?;
        let begun = Instant::now();
        loop {
            let state = found.state().during("look at", self.subject())?;
            let over = args.timeout.is_some_and(|most| begun.elapsed() >= Duration::from_secs(most));
            if state == wanted || over {
                let reached = state == wanted;
                if self.settings.json() {
                    ui::json(&serde_json::json!({
                        "name": self.name.as_str(), "reached": reached, "seen": (!reached).then(|| list::word(state)),
                        "seconds": begun.elapsed().as_secs_f64(),
                    }));
                }
                if reached {
                    return Ok(Exit::OK);
                }
                let seconds = args.timeout.unwrap_or(0);
                let text = format!("machine `{}` is {} after {seconds} s", self.name, list::word(state));
                return Err(Failure::said(Exit::UNAVAILABLE, text));
            }
            thread::sleep(PAUSE);
        }
    }

    fn snapshot(&self, verb: &Snapshot) -> Result<Exit, Failure> {
        match verb {
            Snapshot::Create { snapshot, .. } => {
                let time = jiff::Timestamp::from_second(self.settings.now).unwrap_or_default();
                // a letter comes first, as Proxmox has it
                let own = || time.strftime("s%Y%m%d-%H%M%S").to_string();
                let snapshot = snapshot.clone().unwrap_or_else(own);
                self.hold("keep", |found| found.snapshot(&snapshot, Snapshotting::Take))?;
                if self.settings.json() {
                    let machine = self.name.as_str();
                    ui::json(
                        &serde_json::json!({"name": snapshot, "machine": machine, "created": self.settings.now}),
                    );
                } else {
                    ui::line(&snapshot);
                }
                Ok(Exit::OK)
            }
            Snapshot::List { .. } => self.list_snapshots(),
            Snapshot::Restore(args) => self.restore(args),
            Snapshot::Remove { snapshots, .. } => {
                self.hold("change", |found| {
                    snapshots.iter().try_for_each(|one| found.snapshot(one, Snapshotting::Remove))
                })?;
                Ok(Exit::OK)
            }
            Snapshot::Diff { .. } => {
                let why = "its tree is in a storage of the cluster";
                self.no(ProxmoxError::Not { verb: "snapshot diff".to_owned(), why, instead: None })
            }
            Snapshot::Schedule(_) => {
                let why = "it has backups of its own that come by themselves, and snapshots that do not";
                let instead = Some(Hint::Note("Datacenter, Backup, in the interface".to_owned()));
                self.no(ProxmoxError::Not { verb: "snapshot schedule".to_owned(), why, instead })
            }
            Snapshot::Run { due: _ } => Ok(Exit::OK),
        }
    }

    fn list_snapshots(&self) -> Result<Exit, Failure> {
        let all = self.find("show")?.snapshots().during("show", self.subject())?;
        if self.settings.json() {
            let machine = self.name.as_str();
            let one = |(name, created): &(String, i64)| serde_json::json!({"name": name, "machine": machine, "created": created});
            ui::json(&all.iter().map(one).collect::<Vec<_>>());
            return Ok(Exit::OK);
        }
        let row = |(name, created): &(String, i64)| {
            vec![Cell::from(self.name.as_str()), name.into(), super::snapshot::moment(*created).into()]
        };
        let columns =
            [Column::new("MACHINE").rank(1), Column::new("SNAPSHOT"), Column::new("TAKEN (UTC)").rank(2)];
        ui::table(&Table::new(&columns, all.iter().map(row).collect()));
        Ok(Exit::OK)
    }

    fn restore(&self, args: &args::Restore) -> Result<Exit, Failure> {
        Host::new(self.settings).as_they_are().refuse_protected(&self.name, "restore")?;
        let runs = self.find("restore")?.state().during("restore", self.subject())? == State::Running;
        if runs && !args.restart {
            let text = format!("machine `{}` runs: what is in it is replaced while it is stopped", self.name);
            return Err(Failure::said(Exit::UNAVAILABLE, text).hint(
                "stop it first, and start it afterwards",
                format!("sandbox snapshot restore {} {} --restart", self.name, args.snapshot),
            ));
        }
        if !args.yes {
            let question = format!(
                "Replace what is in machine `{}` by the snapshot `{}`? What is there now is lost.",
                self.name, args.snapshot
            );
            let command = format!("sandbox snapshot restore {} {} --yes", self.name, args.snapshot);
            if !ui::confirm(&question, self.settings.interactive, &command)? {
                return Ok(Exit::UNAVAILABLE);
            }
        }
        self.hold("restore", |found| {
            found.stop(PATIENCE)?;
            let restored = found.snapshot(&args.snapshot, Snapshotting::Restore);
            if runs {
                // also where it is as it was
                let started = found.start();
                restored.and(started)
            } else {
                restored
            }
        })?;
        Ok(Exit::OK)
    }

    /// Gives the words that lead into the container: through the node's programs, and there alone.
    fn inside(&self, verb: &'static str) -> Result<within::Pct, Failure> {
        self.settings.need_root(verb)?;
        let place = self.record.definition.place.as_ref();
        let place = place.ok_or(ProxmoxError::Nowhere).during(verb, self.subject())?;
        let (Reach::Programs { folder }, Some(id)) = (&place.reach, place.id) else {
            let not = ProxmoxError::Not {
                verb: verb.to_owned(),
                why: "its interface has no call that runs something in a container, or that reads one's files",
                instead: Some(Hint::Note(format!(
                    "on node {}:  pct exec {} -- CMD, pct enter, pct push, pct pull; or ssh into it",
                    place.node,
                    place.id.unwrap_or(0)
                ))),
            };
            return Ok(Err(not).during(verb, self.subject())?);
        };
        let found = self.find(verb)?;
        if found.state().during(verb, self.subject())? != State::Running {
            let text = format!("machine `{}` does not run", self.name);
            return Err(Failure::said(Exit::UNAVAILABLE, text)
                .hint("start it", format!("sandbox start {}", self.name)));
        }
        let folder = folder.as_ref().map(|folder| folder.join("bin"));
        Ok(within::Pct { name: self.name.clone(), id, folder })
    }
}
