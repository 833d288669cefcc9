//! What makes a tree one of its own: host name, apt sources, locale, resolver.

use std::{ffi::OsStr, path::Path};

use rustix::fs::FileType;

use super::{ConfigureError, Options, tree};
use crate::host::root::{Meta, Root};

/// Writes what scripts look for while they run.
pub fn before(root: &Root, options: &Options) -> Result<(), ConfigureError> {
    write(root, "etc/hostname", &format!("{}\n", options.hostname), options)?;
    write(root, "etc/fstab", "# a machine's file systems are its backend's\n", options)
}

/// Writes the rest, over what packages brought.
pub fn after(root: &Root, options: &Options) -> Result<(), ConfigureError> {
    let name = &options.hostname;
    write(root, "etc/hostname", &format!("{name}\n"), options)?;
    let hosts = format!(
        "127.0.0.1\tlocalhost\n127.0.1.1\t{name}\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
    );
    write(root, "etc/hosts", &hosts, options)?;
    locale(root, options)?;
    sources(root, options)?;
    resolver(root, options)
}

/// The one locale that needs no package. Where systemd has made one of the two files a link to the other, it
/// stays one (locale.conf(5), and Debian's systemd.postinst).
fn locale(root: &Root, options: &Options) -> Result<(), ConfigureError> {
    for file in ["etc/locale.conf", "etc/default/locale"] {
        let path = Path::new(file);
        if root.kind(path).map_err(tree(path))? != Some(FileType::Symlink) {
            write(root, file, "LANG=C.UTF-8\n", options)?;
        }
    }
    Ok(())
}

fn sources(root: &Root, options: &Options) -> Result<(), ConfigureError> {
    if !root.has(Path::new("etc/apt")) {
        return Ok(());
    }
    let folder = Path::new("etc/apt/sources.list.d");
    root.make_folders(folder, Meta::of_root(0o755, options.epoch)).map_err(tree(folder))?;
    let file = folder.join(&options.sources.file);
    write(root, &file.to_string_lossy(), &options.sources.text, options)?;
    for (path, bytes) in &options.sources.beside {
        let path = Path::new(path);
        let relative = path.strip_prefix("/").unwrap_or(path);
        put(root, relative, bytes, options)?;
    }
    let old = format!("# the sources are in {}\n", Path::new("/").join(&file).display());
    write(root, "etc/apt/sources.list", &old, options)
}

/// The stub of systemd-resolved where it is installed, else an empty file: never the host's.
fn resolver(root: &Root, options: &Options) -> Result<(), ConfigureError> {
    let path = Path::new("etc/resolv.conf");
    if root.has(Path::new("usr/lib/systemd/systemd-resolved")) {
        let target = OsStr::new("../run/systemd/resolve/stub-resolv.conf");
        return root.link(path, target, options.epoch).map_err(tree(path));
    }
    write(root, "etc/resolv.conf", "", options)
}

fn write(root: &Root, path: &str, text: &str, options: &Options) -> Result<(), ConfigureError> {
    put(root, Path::new(path), text.as_bytes(), options)
}

fn put(root: &Root, path: &Path, bytes: &[u8], options: &Options) -> Result<(), ConfigureError> {
    if let Some(folder) = path.parent() {
        root.make_folders(folder, Meta::of_root(0o755, options.epoch)).map_err(tree(folder))?;
    }
    root.write(path, bytes, Meta::of_root(0o644, options.epoch)).map_err(tree(path))
}
