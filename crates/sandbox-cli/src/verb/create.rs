//! `sandbox create`: a machine, built, started and seen to run.

use std::{
    net::{IpAddr, ToSocketAddrs as _},
    path::Path,
    time::Duration,
};

use sandbox_core::{
    error::Context as _,
    host::runner::Processes,
    layer::{self, Doors, Keeping, Order, kept::Layers},
    machine::{
        Chosen, Declared, Definition, Exception, Kind, Limits, Network,
        guest::GuestState,
        life::{self, Built, Plan},
        limits, network,
        provision::Provision,
        volume,
    },
    name::MachineName,
    report::{Event, Reporter},
};

use super::{
    build, costs, health, internal, locked,
    machine::{Host, holder, name, say_next, say_state},
    names, provision, proxmox,
};
use crate::{args, exit::Exit, failure::Failure, settings::Settings, ui};

/// Makes a machine.
///
/// # Errors
/// What the user is to be told; then nothing of the machine is left.
pub fn run(args: &args::Create, settings: &Settings) -> Result<Exit, Failure> {
    let typed = args.name.as_deref().map(name).transpose()?;
    let variables = provision::variables(&args.given, typed.as_ref())?;
    settings.need_root("create")?;
    let name = typed.clone().map_or_else(|| names::made_up(settings), Ok)?;
    let order = order(args, &name, settings)?;
    let host = Host::new(settings);
    let kind = backend(args.backend, &host);
    build::hidden(&order, host.reporter(), settings);
    order.spec.ports().during("stack", "the profiles")?;
    provision::check_variables(&variables, &order)?;
    let mut definition = definition(args, &name, kind, &order, &host, settings)?;
    provision::choose(&mut definition.chosen, args, variables);
    let provision = provision::of(&args.given, &order, settings)?;
    admit(args, &definition, &provision, &host)?;
    costs::accept(&args.costs, &order, settings)?;
    tell_of(&definition, host.reporter());
    let plan = Plan {
        definition,
        declared: Declared::of(&order.spec),
        image: order.spec.image.clone(),
        profiles: order.spec.profiles.clone(),
        now: settings.now,
        boot: (!args.no_start).then(|| Duration::from_secs(args.timeout)),
        holder: holder("create"),
        verb: None,
        provision,
        delivery: proxmox::of(kind, &args.node, !args.no_start, settings)?,
    };
    let state = build(args, &plan, &order, &host, settings)?;
    if typed.is_none() {
        say_name(&name, settings);
    }
    if let Some(state) = state {
        say_state(&name, &state, settings);
    }
    if args.wait_healthy {
        health::wait(&name, settings)?;
    }
    say_next(&name, &plan.declared, !args.no_start, settings);
    Ok(Exit::OK)
}

/// Prints a name that was made up.
fn say_name(name: &MachineName, settings: &Settings) {
    if settings.json() {
        ui::line(&serde_json::json!({"event": "named", "name": name.as_str()}).to_string());
    } else {
        ui::line(name.as_str());
    }
}

/// Makes the order of the machine's tree.
fn order(args: &args::Create, name: &MachineName, settings: &Settings) -> Result<Order, Failure> {
    let lock = args.locked.locked.as_deref();
    // Every machine has `base`; a lock that was made without it lacks its packages, and says so.
    let mut profiles = vec!["base".to_owned()];
    profiles.extend(args.profile.iter().cloned());
    if let (Some(path), []) = (lock, args.profile.as_slice()) {
        profiles.extend(locked::read(path)?.asked.profiles);
    }
    let release = args.release.as_deref();
    let order = locked::or_not(lock, &args.build, release, &profiles, Some(name.as_str()), settings)?;
    if order.architecture != build::ARCHITECTURE {
        return Err(Failure::said(
            Exit::HOST,
            format!(
                "a machine runs on this host's processor, which is {}; `sandbox bootstrap` makes trees of others",
                build::ARCHITECTURE
            ),
        ));
    }
    Ok(order)
}

/// Checks before anything is fetched that the machine can have what was asked for.
fn admit(
    args: &args::Create,
    definition: &Definition,
    provision: &Provision,
    host: &Host,
) -> Result<(), Failure> {
    let machines = host.machines()?;
    machines.check_free(&definition.name)?;
    provision::admit(definition, provision)?;
    machines.check_provision(definition, provision)?;
    // a node's limits are its own to enforce
    if definition.backend != Kind::Proxmox {
        let checked = limits::check(definition, &Limits::default(), args.given.unenforced);
        checked.during("create", format!("machine `{}`", definition.name))?;
    }
    Ok(())
}

/// Reports what an earlier machine left for it, and what its wall lets through.
fn tell_of(definition: &Definition, reporter: &dyn Reporter) {
    let name = &definition.name;
    for volume in definition.volumes.iter().filter(|volume| volume.source.exists()) {
        let text = format!("the volume {} of an earlier machine `{name}` is taken up", volume.path.display());
        reporter.report(Event::Notice { text });
    }
    for exception in &definition.exceptions {
        reporter.report(Event::Notice {
            text: format!(
                "the wall lets through {} port {}: {}",
                exception.address, exception.port, exception.reason
            ),
        });
    }
}

/// Builds the tree, and makes the machine of it.
fn build(
    args: &args::Create,
    plan: &Plan,
    order: &Order,
    host: &Host,
    settings: &Settings,
) -> Result<Option<GuestState>, Failure> {
    let store = build::store(settings)?;
    let http = build::transport(&args.build, settings)?;
    let transport = store.answers(&http, settings.now);
    let runner = Processes::new();
    let doors = Doors {
        transport: &transport,
        runner: &runner,
        store: &store,
        reporter: host.reporter(),
        now: settings.now,
    };
    internal::clean_on_interrupt(settings, &[]);
    let layers = Layers::new(&settings.state);
    // nobody removes what this machine is made of before its record says so
    let mut held = Vec::new();
    let state = host.as_they_are().create(plan, |tree: &Path| {
        if args.fresh {
            let packages = layer::build(order, tree, &doors)?.lock.packages.len();
            return Ok(Built { packages, layers: Vec::new() });
        }
        let keeping = Keeping { layers: &layers, holder: &plan.holder };
        let made = layer::build_of_layers(order, tree, keeping, &doors)?;
        held = made.held;
        Ok(Built { packages: made.image.lock.packages.len(), layers: made.layers })
    })?;
    if let (Some(path), false) = (args.locked.locked.as_deref(), held.is_empty()) {
        let needs: Vec<_> = held.iter().map(|held| held.made.id).collect();
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        layers.note_lock(&path, &needs).during("note", format!("the lock {}", path.display()))?;
    }
    if let Some(top) = held.last()
        && plan.definition.backend != Kind::Proxmox
        && layers.wants_spare(top.made.id, &plan.definition.tree)
    {
        internal::make_spare(top.made.id, settings);
    }
    Ok(state)
}

/// Picks what runs the machine, and says so where nobody chose.
pub fn backend(asked: args::Backend, host: &Host) -> Kind {
    match asked {
        args::Backend::Nspawn => Kind::Nspawn,
        args::Backend::Lxc => Kind::Lxc,
        args::Backend::Direct => Kind::Direct,
        args::Backend::Proxmox => Kind::Proxmox,
        args::Backend::Auto => {
            let systemd = Path::new("/run/systemd/system").exists();
            let machined = Path::new("/usr/lib/systemd/systemd-machined").exists();
            let (kind, why) = match (systemd, machined) {
                (true, true) => (Kind::Nspawn, "systemd-machined is here".to_owned()),
                _ => {
                    let no_nspawn = match systemd {
                        true => "systemd-machined is not installed",
                        false => "systemd is not PID 1 here",
                    };
                    match host.lxc().probe() {
                        Ok(version) => (Kind::Lxc, format!("{no_nspawn}, LXC {version} is")),
                        Err(_) => (Kind::Direct, no_nspawn.to_owned()),
                    }
                }
            };
            host.reporter().report(Event::Notice { text: format!("backend `{}`: {why}", life::word(kind)) });
            kind
        }
    }
}

fn definition(
    args: &args::Create,
    name: &MachineName,
    kind: Kind,
    order: &Order,
    host: &Host,
    settings: &Settings,
) -> Result<Definition, Failure> {
    let machines = host.as_they_are();
    let backend = machines.backend(kind).during("use", format!("backend `{}`", life::word(kind)))?;
    let network = args.network.into();
    let exceptions = if network == Network::Internet { exceptions(order) } else { Vec::new() };
    Ok(Definition {
        name: name.clone(),
        backend: kind,
        tree: backend.tree(name),
        needs: order.spec.layer.machine.clone(),
        network,
        exceptions,
        // a container has all of it in its own disks
        volumes: match kind {
            Kind::Proxmox => Vec::new(),
            _ => volume::of(&settings.state, name, &order.spec.layer.volumes),
        },
        privileged: args.privileged,
        program: settings.program.clone(),
        chosen: chosen(kind),
        place: None,
    })
}

/// What counts for a new machine where its user chooses nothing.
pub fn chosen(kind: Kind) -> Chosen {
    // a node's memory is another's, and its containers have limits of their own
    let limits = if kind == Kind::Proxmox { Limits::default() } else { Limits::of_host() };
    Chosen { limits, ..Chosen::default() }
}

/// Private addresses of mirrors and resolvers, which the wall must let through.
fn exceptions(order: &Order) -> Vec<Exception> {
    let mut mirrors: Vec<String> = order.mirrors.values().flatten().cloned().collect();
    for (archive, file) in &order.spec.layer.archive {
        if !order.mirrors.contains_key(archive) {
            mirrors.push(file.mirror_of(&order.architecture).to_owned());
        }
    }
    mirrors.extend(order.spec.sources.iter().flat_map(|extra| extra.source.uris.clone()));
    network::exceptions(&mirrors, network::Names::of_host().uplink(), &addresses)
}

/// Looks a host's addresses up.
pub fn addresses(host: &str) -> Vec<IpAddr> {
    (host, 0_u16)
        .to_socket_addrs()
        .map(|found| found.map(|address| address.ip()).collect())
        .unwrap_or_default()
}
