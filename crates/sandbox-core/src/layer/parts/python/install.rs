//! The virtual environment, made by the tree's own Python, and filled by its own pip from files that were fetched
//! before.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, FileType, unlinkat};

use super::{PythonError, wheel::Wheel};
use crate::{
    configure,
    host::{
        root::{Meta, Root},
        runner::Command,
    },
    layer::parts::fetched::Into,
    lock::PythonFile,
    spec::Python,
    store::Entry,
};

/// Where pip finds the files; nothing of it stays.
const WORK: &str = "var/tmp/sandbox-python";

/// Compiles all modules so that no time of theirs is in what is compiled, one after the other.
const COMPILE: &str = "import compileall, py_compile, sys\n\
    compileall.compile_dir(sys.argv[1], quiet=2, workers=1, force=True, \
    invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)";

/// Makes the environment and has pip install some files into it.
pub(super) fn install(
    part: &Python,
    files: &[(&PythonFile, Entry)],
    to: Into<'_>,
) -> Result<(), PythonError> {
    let root = to.rootfs.root();
    let installed = lent(root, files, to).and_then(|()| run(part, to));
    let cleaned = clean(root);
    installed?;
    cleaned?;
    compiled(part, to)
}

fn lent(root: &Root, files: &[(&PythonFile, Entry)], to: Into<'_>) -> Result<(), PythonError> {
    let work = Path::new(WORK);
    root.make_folders(work, Meta::of_root(0o755, to.lock.epoch)).map_err(written(work))?;
    let meta = Meta::of_root(0o644, to.lock.epoch);
    let mut wanted = String::new();
    for (file, entry) in files {
        let path = work.join(&file.file);
        let mut from = File::open(entry.path()).map_err(written(&path))?;
        root.write_from(&path, &mut from, meta).map_err(written(&path))?;
        if let Some(Wheel { name, version, .. }) = Wheel::parse(&file.file) {
            wanted.push_str(&format!("{name}=={version} --hash=sha256:{}\n", file.sha256));
        }
    }
    let path = work.join("requirements.txt");
    root.write(&path, wanted.as_bytes(), meta).map_err(written(&path))
}

fn run(part: &Python, to: Into<'_>) -> Result<(), PythonError> {
    let into = part.into.display().to_string();
    let work = format!("/{WORK}");
    let wanted = format!("{work}/requirements.txt");
    let python = format!("{into}/bin/python");
    let interpreter = part.python.as_ref().map(|python| python.path.display().to_string());
    by(part, to, &[interpreter.as_deref().unwrap_or("python3"), "-m", "venv", &into])?;
    let pip = [&python, "-m", "pip", "--isolated", "--disable-pip-version-check", "install", "--quiet"];
    let offline = ["--no-index", "--no-deps", "--require-hashes", "--no-compile", "--no-cache-dir"];
    let rest =
        ["--no-warn-script-location", "--root-user-action=ignore", "--find-links", &work, "-r", &wanted];
    by(part, to, &[&pip[..], &offline, &rest].concat())
}

/// Takes away what was compiled with times in it, and compiles all again without.
fn compiled(part: &Python, to: Into<'_>) -> Result<(), PythonError> {
    let library = part.into.join("lib");
    uncompile(to.rootfs.root(), &library).map_err(written(&library))?;
    let python = part.into.join("bin/python").display().to_string();
    // what is imported when Python starts must not be compiled before, with a time
    by(part, to, &[&python, "-ISB", "-c", COMPILE, &library.display().to_string()])
}

fn by(part: &Python, to: Into<'_>, argv: &[&str]) -> Result<(), PythonError> {
    let command = configure::environment(Command::new(argv).in_tree(to.rootfs.path()), to.lock.epoch);
    // what is in a set has an order of its own in each run otherwise
    let command = command.env("PYTHONHASHSEED", "0").env("PYTHONDONTWRITEBYTECODE", "1");
    let ran = to.doors.runner.run(&command);
    ran.map(drop)
        .map_err(|source| PythonError::Pip { package: part.package.clone(), source: Box::new(source) })
}

/// Removes every `__pycache__` below a folder.
fn uncompile(root: &Root, top: &Path) -> std::io::Result<()> {
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for name in root.list(&folder)? {
            let path = folder.join(&name);
            if root.kind(&path)? != Some(FileType::Directory) {
                continue;
            }
            if name == Path::new("__pycache__") {
                root.empty(&path)?;
                let (parent, name) = root.parent(&path)?;
                unlinkat(&parent, &name, AtFlags::REMOVEDIR)?;
            } else {
                folders.push(path);
            }
        }
    }
    Ok(())
}

fn clean(root: &Root) -> Result<(), PythonError> {
    let work = PathBuf::from(WORK);
    root.empty(&work).map_err(written(&work))?;
    let (folder, name) = root.parent(&work).map_err(written(&work))?;
    match unlinkat(&folder, &name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(errno) => Err(written(&work)(errno.into())),
    }
}

fn written(path: &Path) -> impl FnOnce(std::io::Error) -> PythonError + use<> {
    let path = path.to_owned();
    move |source| PythonError::Write { path, source }
}
