//! `sandbox bootstrap`: a tree of a suite, as a directory, a tar file, a stream or an image of a file system.

use std::{
    fs,
    io::{self, IsTerminal as _},
    path::Path,
};

use sandbox_core::{
    error::Context as _,
    host::runner::Processes,
    layer::{self, Doors, Image, Packing},
    output::{Compression, Format, OutputError, Place},
    report::Reporter,
};

use super::{build, internal, locked};
use crate::{args::Bootstrap, exit::Exit, failure::Failure, progress::Progress, settings::Settings, ui};

/// Builds a tree on its target's file system, and moves it there when it is whole.
///
/// # Errors
/// What the user is to be told; then nothing is left at the target.
pub fn run(args: &Bootstrap, settings: &Settings) -> Result<Exit, Failure> {
    settings.need_root("bootstrap")?;
    // With a lock the suite may be left out: the only word is then the target.
    let (suite, target) = match &args.target {
        Some(target) => (Some(args.suite.as_str()), target.as_path()),
        None => (None, Path::new(&args.suite)),
    };
    let target = Target::new(target, args.format, settings)?;
    let lock = args.locked.locked.as_deref();
    let hostname = args.hostname.as_deref();
    let order = locked::or_not(lock, &args.build, suite, &args.profile, hostname, settings)?;
    let store = build::store(settings)?;
    let http = build::transport(&args.build, settings)?;
    let transport = store.answers(&http, settings.now);
    let progress = Progress::new(settings);
    build::hidden(&order, &progress, settings);
    let doors = Doors {
        transport: &transport,
        runner: &Processes::new(),
        store: &store,
        reporter: &progress,
        now: settings.now,
    };

    let (place, work) = (&target.place, target.place.work().to_owned());
    internal::clean_on_interrupt(settings, std::slice::from_ref(&work));
    let tree = work.join("tree");
    place.begin().during("create", work.display().to_string())?;
    let built = fs::create_dir(&tree)
        .map_err(|error| Failure::said(Exit::HOST, format!("{} cannot be made: {error}", tree.display())))
        .and_then(|()| Ok(layer::build(&order, &tree, &doors)?))
        .and_then(|image| target.write(&tree, &image, &progress).map(|()| image));
    // the tree itself has moved to its target; whatever is still at the working place is of no use
    let removed = place.remove();
    let image = built?;
    removed.during("remove", work.display().to_string())?;
    if settings.json() {
        ui::line(
            &serde_json::json!({
                "event": "built", "target": place.target(), "packages": image.lock.packages.len(),
                "epoch": image.lock.epoch,
            })
            .to_string(),
        );
    }
    Ok(Exit::OK)
}

/// Where the tree goes, and in which format.
struct Target {
    place: Place,
    format: Format,
    is_stream: bool,
}

impl Target {
    /// Plans the output; everything that can be known before the work is checked.
    fn new(path: &Path, requested: Option<Format>, settings: &Settings) -> Result<Self, Failure> {
        let is_stream = path == Path::new("-");
        let planned = if is_stream {
            stream_is_sound(requested, settings)
                .map(|format| (Place::for_stream(&settings.temporary, std::process::id()), format))
        } else {
            Self::file(path, requested)
        };
        let checked = planned.and_then(|(place, format)| {
            format.check()?;
            place.check(format != Format::Directory)?;
            Ok(Self { place, format, is_stream })
        });
        Ok(checked
            .during("write", if is_stream { "stdout".to_owned() } else { path.display().to_string() })?)
    }

    fn file(path: &Path, requested: Option<Format>) -> Result<(Place, Format), OutputError> {
        let absolute = std::path::absolute(path).map_err(|_| OutputError::Name { path: path.to_owned() })?;
        let is_directory = fs::symlink_metadata(&absolute).is_ok_and(|found| found.is_dir());
        let by_name = if is_directory { Some(Format::Directory) } else { Format::of(path)? };
        let format = match (requested, by_name) {
            (Some(requested), Some(by_name)) if requested != by_name => {
                let (by_name, requested) = (by_name.to_string(), requested.to_string());
                return Err(OutputError::Conflict { path: path.to_owned(), by_name, requested });
            }
            (Some(format), _) | (None, Some(format)) => format,
            (None, None) => Format::Directory,
        };
        let place = match format {
            Format::Directory => Place::for_directory(&absolute)?,
            Format::Tar(_) | Format::Image(_) => Place::for_file(&absolute)?,
        };
        Ok((place, format))
    }

    /// Writes a built tree to the target.
    fn write(&self, tree: &Path, image: &Image, reporter: &dyn Reporter) -> Result<(), Failure> {
        let (file, epoch) = (self.place.target(), image.lock.epoch);
        let subject = || file.display().to_string();
        let packing = |compression| Packing { file, work: self.place.work(), compression, epoch };
        match self.format {
            Format::Directory => self.place.put(tree).during("write", subject())?,
            Format::Tar(compression) if self.is_stream => {
                let out = (&mut io::stdout() as &mut dyn io::Write, Path::new("-"));
                layer::stream(tree, out, compression, epoch, reporter).during("write", "stdout")?;
            }
            Format::Tar(compression) => {
                layer::pack(tree, packing(compression), reporter).during("pack", subject())?;
            }
            Format::Image(filesystem) => {
                let packing = packing(Compression::Plain);
                layer::image(tree, filesystem, packing, &Processes::new(), reporter)?;
            }
        }
        Ok(())
    }
}

fn stream_is_sound(requested: Option<Format>, settings: &Settings) -> Result<Format, OutputError> {
    match requested.unwrap_or(Format::Tar(Compression::Plain)) {
        format @ (Format::Directory | Format::Image(_)) => Err(OutputError::Stream { format }),
        Format::Tar(_) if io::stdout().is_terminal() => Err(OutputError::Terminal),
        Format::Tar(_) if settings.json() => Err(OutputError::Events),
        format @ Format::Tar(_) => Ok(format),
    }
}
