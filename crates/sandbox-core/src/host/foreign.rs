//! Programs of other processors: whether this host runs them.
//!
//! The kernel's list of interpreters (`/proc/sys/fs/binfmt_misc`) is not asked: it may be out of sight in a
//! container and in force all the same, and what it lists may not work in a tree, where the interpreter's own
//! path does not exist. A program of a few instructions, run as maintainer scripts will be, tells.

use std::{fs, io, os::unix::fs::PermissionsExt as _};

use super::runner::{Command, Runner, RunnerError};

/// The Debian architecture that this program was built for.
pub const NATIVE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// Runs the smallest program of a Debian architecture in an empty tree.
///
/// # Errors
/// Where it cannot be run or does not end well. [`io::ErrorKind::Unsupported`] for an architecture of which no
/// program is known.
pub fn try_program(architecture: &str, runner: &dyn Runner) -> Result<(), RunnerError> {
    let command = Command::new(["/true"]);
    let start = |source| RunnerError::start(&command, source);
    let program = smallest(architecture).ok_or_else(|| start(io::ErrorKind::Unsupported.into()))?;
    let tree = tempfile::tempdir().map_err(start)?;
    let path = tree.path().join("true");
    fs::write(&path, program).map_err(start)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(start)?;
    let mut inside = command.clone().in_tree(tree.path());
    inside.unsynced = true;
    runner.run(&inside).map(drop)
}

/// Makes a program that ends with status 0 and does nothing else.
///
/// **Shape**: ELF for 64 bits, little endian: the header, one segment that is the whole file, the instructions.
///
/// **Source**: elf(5); syscall(2) for the registers.
fn smallest(architecture: &str) -> Option<Vec<u8>> {
    // the numbers are EM_X86_64 and EM_AARCH64; the instructions are exit(0)
    let (machine, code): (u16, &[u8]) = match architecture {
        // mov eax, 60; xor edi, edi; syscall
        "amd64" => (62, &[0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05]),
        // mov x0, #0; mov x8, #93; svc #0
        "arm64" => (183, &[0x00, 0x00, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4]),
        _ => return None,
    };
    const HEADERS: u64 = 64 + 56;
    const BASE: u64 = 0x40_0000;
    let size = HEADERS + code.len() as u64;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // executable, its machine, version 1
    file.extend([2_u16.to_le_bytes(), machine.to_le_bytes(), [1, 0], [0, 0]].concat());
    // entry, program headers, no section headers
    file.extend([BASE + HEADERS, 64, 0].map(u64::to_le_bytes).concat());
    // flags; sizes of the header, a program header and their number; of section headers, none
    file.extend([0; 4]);
    file.extend([64_u16, 56, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
    // PT_LOAD, readable and executable
    file.extend([1_u32, 5].map(u32::to_le_bytes).concat());
    // from the file's start, to the base, whole, aligned to a large page
    file.extend([0, BASE, BASE, size, size, 0x1_0000].map(u64::to_le_bytes).concat());
    file.extend(code);
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::runner::Processes;

    #[test]
    fn the_smallest_programs_are_whole() {
        for architecture in ["amd64", "arm64"] {
            let file = smallest(architecture).unwrap();
            let size = u64::from_le_bytes(file[96..104].try_into().unwrap());
            assert_eq!(size, file.len() as u64, "{architecture}");
        }
        assert!(smallest("vax").is_none());
    }

    #[test]
    fn this_host_runs_its_own_programs() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        try_program(NATIVE, &Processes::new()).unwrap();
        try_program("vax", &Processes::new()).unwrap_err();
    }
}
