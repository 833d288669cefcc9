//! `sandbox export`: a machine as a file.

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    time::Duration,
};

use sandbox_core::{
    layer::kept::Layers,
    machine::{
        State,
        export::{Compression, Consistency, Exported, Options, Shape, To, template_name},
        life::STOP_DEADLINE,
    },
    name::MachineName,
    report::Event,
};

use super::{
    internal,
    machine::{Host, holder, name, say_state},
    proxmox,
};
use crate::{args, exit::Exit, failure::Failure, settings::Settings, ui};

/// How long a machine may take to come up again.
const BOOT: Duration = Duration::from_secs(120);

/// Exports a machine.
///
/// # Errors
/// What the user is to be told; then nothing of the file is left.
pub fn run(args: &args::Export, settings: &Settings) -> Result<Exit, Failure> {
    let name = name(&args.name)?;
    if args.to.is_none() && args.node.is_asked_for() {
        return Err(Failure::said(Exit::USAGE, "options of Proxmox VE want `--to proxmox`"));
    }
    settings.need_root("export")?;
    let host = Host::new(settings);
    let machines = host.machines()?;
    let status = machines.status(&name)?;
    let target = target(args, &name, &status.tree, settings);
    if target == Path::new("-") {
        stream_is_sound(args)?;
    }
    internal::clean_on_interrupt(settings, &[]);
    let stopped = args.stop && status.state != State::Stopped;
    if stopped {
        machines.stop(&name, STOP_DEADLINE, &holder("export"))?;
    }
    let exported = match args.to {
        Some(args::To::Proxmox) => make(args, &name, &host, settings),
        None => write(args, &name, &target, &host, settings).map(|exported| tell(&exported, &host, settings)),
    };
    if stopped {
        let state = machines.start(&name, BOOT, &holder("export"))?;
        say_state(&name, &state, settings);
    }
    exported.map(|()| Exit::OK)
}

/// Makes a container of Proxmox VE; what cannot be had is said before anything is made.
fn make(args: &args::Export, name: &MachineName, host: &Host, settings: &Settings) -> Result<(), Failure> {
    let delivery = proxmox::delivery(&args.node, args.start, settings)?;
    let layers = Layers::new(&settings.state);
    let options = options(args, Shape::Proxmox);
    let made = host.as_they_are().deliver(name, &delivery, (options, &layers), &holder("export"))?;
    proxmox::tell("exported", &made, settings);
    Ok(())
}

fn options(args: &args::Export, shape: Shape) -> Options {
    let (volumes, credentials) = (args.with_volumes, args.allow_credentials);
    Options { shape, live: args.live, volumes, credentials }
}

fn write(
    args: &args::Export,
    name: &MachineName,
    target: &Path,
    host: &Host,
    settings: &Settings,
) -> Result<Exported, Failure> {
    let shape = match (args.format, args.compression) {
        (args::Format::TarZst, _) => Shape::TarZst,
        (args::Format::Proxmox, _) => Shape::Proxmox,
        (args::Format::Oci, args::Compression::Gzip) => Shape::Oci(Compression::Gzip),
        (args::Format::Oci, args::Compression::Zstd) => Shape::Oci(Compression::Zstd),
    };
    let options =
        Options { shape, live: args.live, volumes: args.with_volumes, credentials: args.allow_credentials };
    let mut stdout = io::stdout();
    let to = if target == Path::new("-") { To::Stream(&mut stdout) } else { To::Path(target) };
    let layers = Layers::new(&settings.state);
    Ok(host.as_they_are().export(name, options, to, &layers, &holder("export"))?)
}

/// Gives where it goes; into a folder that is there, under the name that it would have here.
fn target(args: &args::Export, name: &MachineName, tree: &Path, settings: &Settings) -> PathBuf {
    let own = match args.format {
        args::Format::TarZst => format!("{name}.tar.zst"),
        args::Format::Oci => format!("{name}.oci"),
        args::Format::Proxmox => template_name(tree, name, settings.now),
    };
    match &args.target {
        None => PathBuf::from(own),
        Some(folder) if args.format != args::Format::Oci && folder.is_dir() => folder.join(own),
        Some(target) => target.clone(),
    }
}

fn stream_is_sound(args: &args::Export) -> Result<(), Failure> {
    if args.format == args::Format::Oci {
        return Err(Failure::said(Exit::USAGE, "an OCI image is a folder, which does not go to stdout")
            .hint("write the folder", format!("sandbox export {} DIR --format oci", args.name)));
    }
    if io::stdout().is_terminal() {
        return Err(Failure::said(Exit::USAGE, "stdout is a terminal, which has no use for a tar file")
            .hint("write a file", format!("sandbox export {}", args.name)));
    }
    Ok(())
}

fn tell(exported: &Exported, host: &Host, settings: &Settings) {
    if exported.consistency == Consistency::CrashConsistent {
        let text = "the machine ran meanwhile: the files are as after a crash".to_owned();
        host.reporter().report(Event::Warning { text });
    }
    if !exported.left_out.is_empty() {
        let paths: Vec<_> = exported.left_out.iter().map(|path| path.display().to_string()).collect();
        let text = format!("volumes that are not in it: {}", paths.join(", "));
        host.reporter().report(Event::Notice { text });
    }
    let Some(path) = &exported.path else { return };
    if settings.json() {
        let mut event = serde_json::json!({"event": "exported"});
        if let (Some(event), Ok(serde_json::Value::Object(more))) =
            (event.as_object_mut(), serde_json::to_value(exported))
        {
            event.extend(more);
        }
        ui::line(&event.to_string());
    } else {
        ui::line(&path.display().to_string());
    }
}
