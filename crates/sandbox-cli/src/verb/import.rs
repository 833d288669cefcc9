//! `sandbox import`: a machine made of a file.

use std::{io, path::Path, time::Duration};

use sandbox_core::{
    error::Context as _,
    machine::{
        Declared, Definition, Kind, Network,
        export::Carried,
        import::{self, Left, Limits, Source},
        life::{self, Built, Plan},
        network,
        provision::Provision,
        volume,
    },
    name::MachineName,
    report::{Event, Reporter},
};

use super::{
    create, internal,
    machine::{Host, holder, name, say_state},
    proxmox,
};
use crate::{args, exit::Exit, failure::Failure, settings::Settings, ui};

/// The most paths that a tree may have.
const PATHS: u64 = 16 << 20;

/// Imports a machine.
///
/// # Errors
/// What the user is to be told; then nothing of the machine is left.
pub fn run(args: &args::Import, settings: &Settings) -> Result<Exit, Failure> {
    settings.need_root("import")?;
    let asked = args.name.as_deref().map(name).transpose()?;
    let subject = || args.source.display().to_string();
    let source =
        Source::open(&args.source, io::stdin(), args.reference.as_deref()).during("import", subject())?;
    let Some(name) = asked.or_else(|| source.carried().map(|carried| carried.name.clone())) else {
        return Err(Failure::said(
            Exit::USAGE,
            "it does not say what its machine was called: give it a name",
        )
        .hint("with a name", format!("sandbox import {} NAME", subject())));
    };
    let host = Host::new(settings);
    let machines = host.machines()?;
    let carried = source.carried().cloned();
    let plan = plan(args, &name, carried.as_ref(), &host, settings)?;
    accept(args, &plan.definition, settings)?;
    let limits = Limits { bytes: args.max_size.0, paths: PATHS, devices: devices(args) };
    internal::clean_on_interrupt(settings, &[]);
    let reporter = host.reporter();
    let state = machines.create(&plan, |tree: &Path| {
        let imported = source.unpack(tree, &name, limits, reporter).during("import", subject())?;
        told(imported.left, reporter);
        Ok(Built { packages: imported.packages, layers: Vec::new() })
    })?;
    if let Some(state) = state {
        say_state(&name, &state, settings);
    }
    Ok(Exit::OK)
}

const fn devices(args: &args::Import) -> import::Devices {
    match args.devices {
        args::Devices::Refuse => import::Devices::Refused,
        args::Devices::Skip => import::Devices::Skipped,
    }
}

/// Sees that whoever imports agrees to what the file asks of the host: anybody may have written it.
fn accept(args: &args::Import, definition: &Definition, settings: &Settings) -> Result<(), Failure> {
    let needs = &definition.needs;
    let mut asked = Vec::new();
    // of an earlier machine of the name: its logins would be this one's
    for volume in definition.volumes.iter().filter(|volume| volume.source.exists()) {
        asked
            .push(format!("what the volume {} of an earlier machine of the name has", volume.path.display()));
    }
    if needs.nesting.is_any() {
        asked.push("containers in the machine (nesting)".to_owned());
    }
    if !needs.system_calls.is_empty() {
        asked.push(format!("the system calls {}", needs.system_calls.join(", ")));
    }
    for device in &needs.devices {
        asked.push(format!("the host's device {}", device.display()));
    }
    if asked.is_empty() {
        return Ok(());
    }
    if settings.json() {
        asked
            .iter()
            .for_each(|cost| ui::line(&serde_json::json!({"event": "cost", "cost": cost}).to_string()));
    } else {
        let text: String = asked.iter().map(|cost| format!("  - {cost}\n")).collect();
        let text = format!("{} asks for:\n{text}", args.source.display());
        ui::notice(&text);
    }
    if args.costs.accept_costs {
        return Ok(());
    }
    let command = format!("{} --accept-costs", settings.typed);
    // what is imported may come over stdin: then nobody can be asked there
    let interactive = settings.interactive && args.source != Path::new("-");
    if ui::confirm("Give the machine what the file asks for?", interactive, &command)? {
        return Ok(());
    }
    Err(Failure::said(Exit::UNAVAILABLE, "it was not accepted; nothing was made"))
}

fn plan(
    args: &args::Import,
    name: &MachineName,
    carried: Option<&Carried>,
    host: &Host,
    settings: &Settings,
) -> Result<Plan, Failure> {
    let kind = create::backend(args.backend, host);
    let machines = host.as_they_are();
    let backend = machines.backend(kind).during("use", format!("backend `{}`", life::word(kind)))?;
    let network = network(args, carried, host.reporter());
    let exceptions = match network {
        Network::Internet => network::exceptions(&[], network::Names::of_host().uplink(), &create::addresses),
        _ => Vec::new(),
    };
    let definition = Definition {
        name: name.clone(),
        backend: kind,
        tree: backend.tree(name),
        needs: carried.map(|carried| carried.needs.clone()).unwrap_or_default(),
        network,
        exceptions,
        // a container has all of it in its own disks
        volumes: match carried {
            Some(carried) if kind != Kind::Proxmox => volume::of(&settings.state, name, &carried.volumes()),
            _ => Vec::new(),
        },
        privileged: false,
        program: settings.program.clone(),
        chosen: carried.map_or_else(|| create::chosen(kind), |carried| carried.chosen.clone()),
        place: None,
    };
    Ok(Plan {
        verb: Some("import".to_owned()),
        provision: Provision::default(),
        delivery: proxmox::of(kind, &args.node, !args.no_start, settings)?,
        definition,
        declared: carried.map_or_else(Declared::default, |carried| carried.declared.clone()),
        image: carried.map_or_else(|| "imported".to_owned(), |carried| carried.image.clone()),
        profiles: carried.map(|carried| carried.profiles.clone()).unwrap_or_default(),
        now: settings.now,
        boot: (!args.no_start).then(|| Duration::from_secs(args.timeout)),
        holder: holder("import"),
    })
}

/// Gives what the machine may reach: no more than the default on a file's word.
fn network(args: &args::Import, carried: Option<&Carried>, reporter: &dyn Reporter) -> Network {
    if let Some(asked) = args.network {
        return asked.into();
    }
    match carried.map(|carried| carried.network).unwrap_or_default() {
        Network::None => Network::None,
        Network::Internet => Network::Internet,
        wider => {
            let text = format!(
                "the machine had the network `{0}`, which a file cannot grant: it gets `internet` (--network {0})",
                wider.word()
            );
            reporter.report(Event::Warning { text });
            Network::Internet
        }
    }
}

fn told(left: Left, reporter: &dyn Reporter) {
    let words = [
        (left.devices, "devices were left out: every backend makes its own in /dev"),
        (left.attributes, "extended attributes that belong to a host's kernel were left out"),
        (left.entries, "entries of access control lists were left out: the tree has no such user or group"),
        (
            left.unsupported,
            "paths lost attributes or access control lists, which the file system does not support",
        ),
        (left.owners, "paths belong to owners from 65536 on, whom a machine shows as `nobody`"),
    ];
    for (count, text) in words {
        if count > 0 {
            reporter.report(Event::Notice { text: format!("{count} {text}") });
        }
    }
}
