//! `sandbox export --to proxmox`: a machine as a container of the node that this is.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sandbox_core::{
    error::Context as _,
    host::{foreign::NATIVE, runner::Processes},
    layer::kept::Layers,
    machine::{
        export::{Shape, To, template_name},
        network,
        proxmox::{
            config::{self, Container},
            firewall,
            pct::Node,
        },
    },
    name::MachineName,
    report::Event,
};

use super::{
    super::machine::{Host, holder},
    options,
};
use crate::{args, failure::Failure, settings::Settings, ui};

/// Makes a template, a container of it and its wall; what cannot be had is said before anything is made.
///
/// # Errors
/// What the user is to be told; then neither template nor container is left.
pub fn make(
    args: &args::Export,
    name: &MachineName,
    host: &Host,
    settings: &Settings,
) -> Result<(), Failure> {
    let subject = || format!("machine `{name}`");
    let machines = host.as_they_are();
    let definition = machines.records.definition(name).during("export", subject())?;
    let runner = Processes::new();
    let own = |part: &str| args.node.node.as_ref().map(|folder| folder.join(part));
    let (files, programs) = (own("etc").unwrap_or_else(|| PathBuf::from("/etc/pve")), own("bin"));
    let node = Node { runner: &runner, files: &files, programs: programs.as_deref() };
    let ostype = config::ostype(&definition.tree);
    let container = Container::of(&definition, ostype, NATIVE, (&args.node.rootfs, &args.node.bridge))
        .map_err(sandbox_core::machine::proxmox::ProxmoxError::from)
        .during("export", subject())?;
    node.check(&container).during("export", subject())?;
    let file = template_name(&definition.tree, name, settings.now);
    let (template, path) = node.template(&args.node.storage, &file).during("export", subject())?;
    let wall = container.link.as_ref().is_some_and(|link| link.firewall);
    let wall = wall.then(|| firewall::text(&definition.exceptions, &network::on_link()));

    let layers = Layers::new(&settings.state);
    machines.export(name, options(args, Shape::Proxmox), To::Path(&path), &layers, &holder("export"))?;
    let made = node.create(args.node.id, &template, &container, wall.as_deref()).during("export", subject());
    let made = match made {
        Ok(made) => made,
        Err(problem) => {
            remove(&path, host);
            return Err(problem.into());
        }
    };
    if args.node.start {
        node.start(made.id).during("start", format!("container {}", made.id))?;
    }
    if settings.json() {
        ui::line(
            &serde_json::json!({"event": "exported", "container": made.id, "template": made.template})
                .to_string(),
        );
    } else {
        ui::line(&format!("container {} of {}", made.id, made.template));
    }
    Ok(())
}

fn remove(template: &Path, host: &Host) {
    if let Err(problem) = fs::remove_file(template) {
        let text = format!("{} is left: {problem}", template.display());
        host.reporter().report(Event::Warning { text });
    }
}
