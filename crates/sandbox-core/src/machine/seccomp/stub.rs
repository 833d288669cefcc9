//! A program of some bytes that installs the filter and becomes the guest's init: for LXC on x86-64.
//!
//! liblxc installs its policy itself, and libseccomp has no rule for the arguments of 32-bit x86's `socket`, which may
//! also be made by `socketcall`: liblxc leaves such rules out. A container that LXC's own programs start, at the host's
//! boot for example, has no process of this program on its way. So its first program is this one, which is mounted into
//! it read-only, needs nothing of its tree, and is the machine's own: no libc, no dynamic linker.
//!
//! ```text
//! ELF header, one loaded segment, read and executed, at BASE
//! code:   seccomp(SET_MODE_FILTER, SPEC_ALLOW, &sock_fprog); argv[0] = path; execve(path, argv, envp); exit(1)
//! data:   path, sock_fprog, the program of BPF
//! ```
//!
//! **Source**: elf(5); System V ABI, AMD64 supplement, 3.4.1 "Initial Stack and Register State"; syscall(2).

use super::program::Filter;

/// Where the segment is loaded: what static programs have.
const BASE: u64 = 0x40_0000;

/// The sizes of the ELF header and of one program header.
const HEADERS: usize = 64 + 56;

/// The code, with room for three addresses: of `sock_fprog` and twice of the path.
const CODE: [u8; 84] = [
    0xb8, 0x3d, 0x01, 0x00, 0x00, // mov eax, 317 (seccomp)
    0xbf, 0x01, 0x00, 0x00, 0x00, // mov edi, SECCOMP_SET_MODE_FILTER
    0xbe, 0x04, 0x00, 0x00, 0x00, // mov esi, SECCOMP_FILTER_FLAG_SPEC_ALLOW
    0x48, 0xba, 0, 0, 0, 0, 0, 0, 0, 0, // mov rdx, sock_fprog
    0x0f, 0x05, // syscall
    0x48, 0x85, 0xc0, // test rax, rax
    0x75, 0x28, // jnz exit
    0x48, 0xbf, 0, 0, 0, 0, 0, 0, 0, 0, // mov rdi, path
    0x48, 0x89, 0x7c, 0x24, 0x08, // mov [rsp+8], rdi
    0x48, 0x8b, 0x04, 0x24, // mov rax, [rsp]
    0x48, 0x8d, 0x74, 0x24, 0x08, // lea rsi, [rsp+8]
    0x48, 0x8d, 0x54, 0xc4, 0x10, // lea rdx, [rsp+rax*8+16]
    0xb8, 0x3b, 0x00, 0x00, 0x00, // mov eax, 59 (execve)
    0x0f, 0x05, // syscall
    0x90, 0x90, 0x90, 0x90, // nop
    0xbf, 0x01, 0x00, 0x00, 0x00, // exit: mov edi, 1
    0xb8, 0x3c, 0x00, 0x00, 0x00, // mov eax, 60 (exit)
    0x0f, 0x05, // syscall
];
const AT_PROGRAM: usize = 17;
const AT_PATH: usize = 34;

/// Writes the program that installs a filter and executes what is at a path.
pub(in crate::machine) fn stub(filter: &Filter, path: &str) -> Vec<u8> {
    let mut data = path.as_bytes().to_vec();
    // an end for the path, and what follows aligned
    data.resize((path.len() / 8 + 1) * 8, 0);
    let begin = (HEADERS + CODE.len()).next_multiple_of(8);
    let path_at = BASE + begin as u64;
    let program_at = path_at + data.len() as u64;
    let steps = filter.steps();
    data.extend(u64::try_from(steps.len() / 8).unwrap_or(0).to_le_bytes());
    data.extend((program_at + 16).to_le_bytes());
    data.extend(steps);
    let mut body = CODE.to_vec();
    body[AT_PROGRAM..AT_PROGRAM + 8].copy_from_slice(&program_at.to_le_bytes());
    body[AT_PATH..AT_PATH + 8].copy_from_slice(&path_at.to_le_bytes());
    body.resize(begin - HEADERS, 0);
    let mut whole = headers((begin + data.len()) as u64);
    whole.extend(body);
    whole.extend(data);
    whole
}

fn headers(size: u64) -> Vec<u8> {
    let mut all = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let (executable, x86_64, header, entry) = (2_u16, 62_u16, 64_u16, 56_u16);
    all.extend(executable.to_le_bytes());
    all.extend(x86_64.to_le_bytes());
    all.extend(1_u32.to_le_bytes());
    all.extend((BASE + HEADERS as u64).to_le_bytes());
    // program headers follow; there are no sections
    all.extend(u64::from(header).to_le_bytes());
    all.extend(0_u64.to_le_bytes());
    all.extend(0_u32.to_le_bytes());
    for half in [header, entry, 1, 0, 0, 0] {
        all.extend(half.to_le_bytes());
    }
    let (load, read_and_execute) = (1_u32, 5_u32);
    all.extend(load.to_le_bytes());
    all.extend(read_and_execute.to_le_bytes());
    for word in [0, BASE, BASE, size, size, 0x1000] {
        all.extend(word.to_le_bytes());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::seccomp::Dumps;
    use std::os::unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _};

    fn run(argv: &[&std::ffi::OsStr]) -> std::process::Output {
        #[expect(clippy::disallowed_methods, reason = "a test runs what it made")]
        let mut command = std::process::Command::new(argv[0]);
        command.args(&argv[1..]).output().unwrap()
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn it_installs_the_filter_and_becomes_the_program() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("init");
        let filter = Filter::new::<&str>(&[], Dumps::Allowed);
        let mut file = std::fs::File::options().create_new(true).write(true).mode(0o755).open(&path).unwrap();
        std::io::Write::write_all(&mut file, &stub(&filter, "/bin/cat")).unwrap();
        drop(file);
        let file = std::ffi::OsStr::from_bytes(b"/proc/self/status");
        let output = run(&[path.as_os_str(), file]);
        let text = String::from_utf8_lossy(&output.stdout);
        // without the right to it nothing is executed
        if rustix::process::geteuid().is_root() {
            assert!(text.contains("Name:\tcat") && text.contains("Seccomp:\t2"), "{output:?}");
        } else {
            assert_eq!(output.status.code(), Some(1), "{output:?}");
        }
    }
}
