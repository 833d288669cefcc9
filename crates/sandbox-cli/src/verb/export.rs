//! `sandbox export`: a machine as a file.

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::ValueEnum as _;
use sandbox_core::{
    error::Context as _,
    layer::kept::Layers,
    machine::{
        State,
        export::{Consistency, Exported, LayerCompression, Options, Shape, To, template_name},
        life::STOP_DEADLINE,
    },
    name::MachineName,
    output::{Compression, Filesystem, Format, OutputError},
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
    let subject = || format!("machine `{name}`");
    let shape = shape(args).during("export", subject())?;
    if args.target.as_deref() == Some(Path::new("-")) {
        stream_is_sound(shape, settings).during("export", subject())?;
    }
    let host = Host::new(settings);
    let machines = host.machines()?;
    let status = machines.status(&name)?;
    let target = target(args, shape, (&name, &status.tree), settings);
    internal::clean_on_interrupt(settings, &[]);
    let stopped = args.stop && status.state != State::Stopped;
    if stopped {
        machines.stop(&name, STOP_DEADLINE, &holder("export"))?;
    }
    let exported = match args.to {
        Some(args::To::Proxmox) => make(args, &name, &host, settings),
        None => write(args, (&name, &target), shape, &host, settings)
            .map(|exported| tell(&exported, &host, settings)),
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
    (name, target): (&MachineName, &Path),
    shape: Shape,
    host: &Host,
    settings: &Settings,
) -> Result<Exported, Failure> {
    let options = options(args, shape);
    let mut stdout = io::stdout();
    let to = if target == Path::new("-") { To::Stream(&mut stdout) } else { To::Path(target) };
    let layers = Layers::new(&settings.state);
    Ok(host.as_they_are().export(name, options, to, &layers, &holder("export"))?)
}

/// Returns the form of the output: what was requested, else what the target's ending means.
fn shape(args: &args::Export) -> Result<Shape, OutputError> {
    let requested = args.format.map(|format| match (format, args.compression) {
        (args::Format::Tar, _) => Shape::Tar(Compression::Plain),
        (args::Format::TarGz, _) => Shape::Tar(Compression::Gzip),
        (args::Format::TarBz2, _) => Shape::Tar(Compression::Bzip2),
        (args::Format::TarXz, _) => Shape::Tar(Compression::Xz),
        (args::Format::TarZst, _) => Shape::Tar(Compression::Zstd),
        (args::Format::Squashfs, _) => Shape::Image(Filesystem::Squashfs),
        (args::Format::Ext2, _) => Shape::Image(Filesystem::Ext2),
        (args::Format::Ext4, _) => Shape::Image(Filesystem::Ext4),
        (args::Format::Proxmox, _) => Shape::Proxmox,
        (args::Format::Oci, args::Compression::Gzip) => Shape::Oci(LayerCompression::Gzip),
        (args::Format::Oci, args::Compression::Zstd) => Shape::Oci(LayerCompression::Zstd),
    });
    let file = args.target.as_deref().filter(|target| *target != Path::new("-") && !target.is_dir());
    let by_name = file.map_or(Ok(None), Format::of)?;
    let shape = match (requested, by_name) {
        (None, Some(Format::Tar(compression))) => Shape::Tar(compression),
        (None, Some(Format::Image(filesystem))) => Shape::Image(filesystem),
        (requested, None | Some(Format::Directory)) => requested.unwrap_or(Shape::Tar(Compression::Zstd)),
        (Some(shape), Some(by_name)) if fits(shape, by_name) => shape,
        (Some(_), Some(by_name)) => {
            let path = file.unwrap_or(Path::new("-")).to_owned();
            let requested =
                args.format.and_then(|format| Some(format.to_possible_value()?.get_name().to_owned()));
            let (by_name, requested) = (by_name.to_string(), requested.unwrap_or_default());
            return Err(OutputError::Conflict { path, by_name, requested });
        }
    };
    if let Shape::Image(filesystem) = shape {
        filesystem.check(true)?;
    }
    Ok(shape)
}

fn fits(shape: Shape, by_name: Format) -> bool {
    match shape {
        Shape::Tar(compression) => by_name == Format::Tar(compression),
        Shape::Image(filesystem) => by_name == Format::Image(filesystem),
        Shape::Proxmox => by_name == Format::Tar(Compression::Zstd),
        Shape::Oci(_) => false,
    }
}

/// Gives where it goes; into a directory that exists, under the name that it would have here.
fn target(
    args: &args::Export,
    shape: Shape,
    (name, tree): (&MachineName, &Path),
    settings: &Settings,
) -> PathBuf {
    let own = match shape {
        Shape::Tar(compression) => format!("{name}{}", Format::Tar(compression).ending()),
        Shape::Image(filesystem) => format!("{name}{}", Format::Image(filesystem).ending()),
        Shape::Oci(_) => format!("{name}.oci"),
        Shape::Proxmox => template_name(tree, name, settings.now),
    };
    match &args.target {
        None => PathBuf::from(own),
        Some(folder) if !matches!(shape, Shape::Oci(_)) && folder.is_dir() => folder.join(own),
        Some(target) => target.clone(),
    }
}

fn stream_is_sound(shape: Shape, settings: &Settings) -> Result<(), OutputError> {
    match shape {
        Shape::Oci(_) => Err(OutputError::Stream { format: Format::Directory }),
        Shape::Image(filesystem) => Err(OutputError::Stream { format: Format::Image(filesystem) }),
        _ if io::stdout().is_terminal() => Err(OutputError::Terminal),
        _ if settings.json() => Err(OutputError::Events),
        Shape::Tar(_) | Shape::Proxmox => Ok(()),
    }
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
