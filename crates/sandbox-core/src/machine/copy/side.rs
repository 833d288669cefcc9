//! The machine's side: a process of ours in a running machine, a thread of ours for a stopped one.

use std::{
    fs::File,
    io::{self, PipeReader, PipeWriter, Read as _},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread::{self, JoinHandle},
};

use super::{Carried, CopyError, Errand, Trust, host, run, tree};
use crate::machine::{Definition, Leader, processes};

/// How a machine is reached.
#[derive(Clone, Debug)]
pub enum Side {
    /// It runs: by this program, started again and entered.
    Running {
        /// Its first process.
        leader: Leader,
        /// This program.
        program: PathBuf,
    },
    /// It does not: by its tree and its volumes.
    Stopped {
        /// What it is.
        definition: Box<Definition>,
    },
}

/// What the process in the machine says at its end, on stderr.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// All is done.
    Carried(Carried),
    /// It failed, and why.
    Failed(String),
    /// What the machine has is over a limit, and which.
    Refused(String),
}

enum Begun {
    Process(Child),
    Thread(JoinHandle<Result<Carried, CopyError>>),
}

fn enter(step: &'static str) -> impl FnOnce(io::Error) -> CopyError {
    move |source| CopyError::Enter { step, source }
}

impl Side {
    fn begin(&self, errand: Errand, input: Stdio, output: Stdio, files: Files) -> Result<Begun, CopyError> {
        match self {
            Self::Running { leader, program } => {
                drop(files);
                process(leader, program, &errand, input, output).map(Begun::Process)
            }
            Self::Stopped { definition } => {
                let (root, errand) = place(definition, errand)?;
                let root = tree(&root)?;
                Ok(Begun::Thread(thread::spawn(move || {
                    let Files { mut input, mut output } = files;
                    match (&mut input, &mut output) {
                        (Some(input), _) => run(&errand, &root, Trust::Host, input, &mut io::sink()),
                        (None, Some(output)) => run(&errand, &root, Trust::Host, &mut io::empty(), output),
                        (None, None) => run(&errand, &root, Trust::Host, &mut io::empty(), &mut io::sink()),
                    }
                })))
            }
        }
    }
}

/// The ends of a stream that a thread has; a process has copies of its own.
#[derive(Default)]
struct Files {
    input: Option<File>,
    output: Option<File>,
}

#[expect(
    clippy::disallowed_methods,
    reason = "what joins namespaces is a process of its own, with one thread"
)]
fn process(
    leader: &Leader,
    program: &Path,
    errand: &Errand,
    input: Stdio,
    output: Stdio,
) -> Result<Child, CopyError> {
    let began = processes::began(leader.pid)
        .ok_or_else(|| enter("opening the machine's first process")(io::ErrorKind::NotFound.into()))?;
    let errand = serde_json::to_string(errand).map_err(|error| enter("wording the errand")(error.into()))?;
    std::process::Command::new(program)
        .args(["internal", "carry", &leader.pid.to_string(), &began.to_string(), &errand])
        .env_clear()
        .current_dir("/")
        .stdin(input)
        .stdout(output)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(enter("starting this program"))
}

impl Begun {
    fn finish(self) -> Result<Carried, CopyError> {
        match self {
            Self::Thread(thread) => {
                thread.join().unwrap_or_else(|_| Err(CopyError::Other { said: "it panicked".to_owned() }))
            }
            Self::Process(mut child) => {
                let mut said = Vec::new();
                if let Some(stderr) = child.stderr.take() {
                    stderr.take(1 << 20).read_to_end(&mut said).map_err(enter("reading its answer"))?;
                }
                child.wait().map_err(enter("waiting for it"))?;
                match serde_json::from_slice(&said) {
                    Ok(Answer::Carried(carried)) => Ok(carried),
                    Ok(Answer::Failed(said)) => Err(CopyError::Other { said }),
                    Ok(Answer::Refused(said)) => Err(CopyError::Refused { said }),
                    Err(_) => {
                        let said = String::from_utf8_lossy(&said).trim().to_owned();
                        let said = if said.is_empty() { "it was killed".to_owned() } else { said };
                        Err(CopyError::Other { said })
                    }
                }
            }
        }
    }
}

/// Gives the tree that a path of a stopped machine is in, and the errand there: a volume is a tree of its own.
fn place(definition: &Definition, mut errand: Errand) -> Result<(PathBuf, Errand), CopyError> {
    let path = match &mut errand {
        Errand::Pack { path } | Errand::Read { path } | Errand::MakeFolder { path } => path,
        Errand::Unpack { target, .. } | Errand::Write { target, .. } => target,
    };
    let Some(volume) = definition.volumes.iter().rev().find(|volume| path.starts_with(&volume.path)) else {
        return Ok((definition.tree.clone(), errand));
    };
    if volume.kind == crate::spec::VolumeKind::Auth {
        return Err(CopyError::Auth { path: volume.path.clone() });
    }
    let source = volume.source.clone();
    *path = Path::new("/").join(path.strip_prefix(&volume.path).unwrap_or(path));
    Ok((source, errand))
}

fn pipe() -> Result<(PipeReader, PipeWriter), CopyError> {
    io::pipe().map_err(enter("making a pipe"))
}

fn copy_of(end: &impl std::os::fd::AsFd) -> Result<File, CopyError> {
    let copy = end.as_fd().try_clone_to_owned().map_err(enter("copying a descriptor"))?;
    Ok(copy.into())
}

fn both(here: Result<Carried, CopyError>, there: Result<Carried, CopyError>) -> Result<Carried, CopyError> {
    match (here, there) {
        (Ok(mut here), Ok(there)) => {
            here.join(there);
            Ok(here)
        }
        // a stream that ended early is what the other side's failure looks like
        (Err(CopyError::Stream { .. }) | Ok(_), Err(there)) => Err(there),
        (Err(here), _) => Err(here),
    }
}

/// Copies a file or tree out of a machine onto the host: into the target where that is a folder, else as the target.
///
/// # Errors
/// [`CopyError`]; a directory that the copy made is removed, what it put into one that was there stays.
pub fn out(side: &Side, path: &Path, target: &Path, owner: Option<String>) -> Result<Carried, CopyError> {
    let name = path.file_name().map_or_else(|| PathBuf::from("."), PathBuf::from);
    let (mut from, to) = pipe()?;
    let files = Files { output: Some(copy_of(&to)?), ..Files::default() };
    let begun = side.begin(Errand::Pack { path: path.to_owned() }, Stdio::null(), to.into(), files)?;
    let errand = Errand::Unpack { target: target.to_owned(), name, owner };
    let here = host().and_then(|host| run(&errand, &host, Trust::Guest, &mut from, &mut io::sink()));
    drop(from);
    both(here, begun.finish())
}

/// Writes a file of a machine into a stream as it is, a folder as tar.
///
/// # Errors
/// [`CopyError`].
pub fn out_to(side: &Side, path: &Path, to: File) -> Result<Carried, CopyError> {
    let files = Files { output: Some(copy_of(&to)?), ..Files::default() };
    side.begin(Errand::Read { path: path.to_owned() }, Stdio::null(), to.into(), files)?.finish()
}

/// Copies a file or tree of the host into a machine: into the target where that is a folder, else as the target.
///
/// # Errors
/// [`CopyError`]; a directory that the copy made is removed, what it put into one that was there stays.
pub fn into(side: &Side, path: &Path, target: &Path, owner: Option<String>) -> Result<Carried, CopyError> {
    let name = path.file_name().map_or_else(|| PathBuf::from("."), PathBuf::from);
    let (from, mut to) = pipe()?;
    let files = Files { input: Some(copy_of(&from)?), ..Files::default() };
    let errand = Errand::Unpack { target: target.to_owned(), name, owner };
    let begun = side.begin(errand, from.into(), Stdio::null(), files)?;
    let pack = Errand::Pack { path: path.to_owned() };
    let here = host().and_then(|host| run(&pack, &host, Trust::Host, &mut io::empty(), &mut to));
    drop(to);
    let there = begun.finish();
    let broke = |error: &CopyError| match error {
        CopyError::Io { source, .. } | CopyError::Stream { source } => {
            source.kind() == io::ErrorKind::BrokenPipe
        }
        _ => false,
    };
    match (here, there) {
        // the stream ended early for the other side, because this one could not go on
        (Err(here), Err(_)) if !broke(&here) => Err(here),
        // our own pipe broke because the other side gave up
        (Err(_), Err(there @ (CopyError::Other { .. } | CopyError::Refused { .. }))) => Err(there),
        (here, there) => both(there, here),
    }
}

/// Writes a stream into a machine as a file, or unpacks it into a folder there.
///
/// # Errors
/// [`CopyError`].
pub fn into_from(
    side: &Side,
    target: &Path,
    owner: Option<String>,
    from: File,
) -> Result<Carried, CopyError> {
    let files = Files { input: Some(copy_of(&from)?), ..Files::default() };
    let errand = Errand::Write { target: target.to_owned(), owner };
    side.begin(errand, from.into(), Stdio::null(), files)?.finish()
}

/// Makes a folder in a machine, its root's, where there is none.
///
/// # Errors
/// [`CopyError`].
pub fn make_folder(side: &Side, path: &Path) -> Result<(), CopyError> {
    let errand = Errand::MakeFolder { path: path.to_owned() };
    side.begin(errand, Stdio::null(), Stdio::null(), Files::default())?.finish().map(drop)
}
