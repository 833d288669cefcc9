//! The filter on system calls and the journal of a guest that means harm, on every backend.

use crate::{
    lab::{Host, Lab, own},
    process::Output,
};

/// Runs a script as a service of a guest's systemd, which has the filter of the machine; what a session has of it is
/// the session's own.
const AS_SERVICE: &str = "printf '[Service]\\nType=oneshot\\nExecStart=/bin/sh /root/probe.sh\\nStandardOutput=\
    truncate:/root/probe.out\\n' >/run/systemd/system/probe.service && systemctl daemon-reload && \
    systemctl start probe && cat /root/probe.out";

/// What each way ends with: the kernel's error numbers.
const WANTED: &str =
    "vsock 97\nalg 97\nring 38\nunix 0\ninet 0\nold vsock 97\nold inet socketcall 38\nold ring 38";

/// Writes a program of a few bytes that makes one call of 32-bit x86 and ends with its error number.
#[cfg(target_arch = "x86_64")]
fn old_way(number: u32, first: u32) -> Vec<u8> {
    let mut code = vec![0xb8];
    code.extend(number.to_le_bytes()); // mov eax, number
    code.push(0xbb);
    code.extend(first.to_le_bytes()); // mov ebx, first
    // mov ecx, 1; xor edx, edx; int 0x80; neg eax; mov edi, eax; mov eax, 60; syscall
    code.extend(b"\xb9\x01\0\0\0\x31\xd2\xcd\x80\xf7\xd8\x89\xc7\xb8\x3c\0\0\0\x0f\x05");
    let size = (120 + code.len()) as u64;
    let mut all = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    for word in [0x40_0078_u64, 64, 0] {
        all.extend(word.to_le_bytes());
    }
    all.extend(b"\0\0\0\0\x40\0\x38\0\x01\0\0\0\0\0\0\0\x01\0\0\0\x05\0\0\0");
    for word in [0_u64, 0x40_0000, 0x40_0000, size, size, 0x1000] {
        all.extend(word.to_le_bytes());
    }
    all.extend(code);
    all
}

/// Writes the script that tries all ways.
#[cfg(target_arch = "x86_64")]
fn script() -> String {
    use std::fmt::Write as _;
    let perl = "perl -e '$! = 0; syscall(@ARGV); print 0 + $!' --";
    let mut text = String::new();
    for (name, call) in [
        ("vsock", "41 40 1 0"),
        ("alg", "41 38 5 0"),
        ("ring", "425 1 0"),
        ("unix", "41 1 1 0"),
        ("inet", "41 2 1 0"),
    ] {
        let numbers: Vec<_> = call.split(' ').map(|word| format!("0+{word}")).collect();
        let call = perl.replace("@ARGV", &numbers.join(", "));
        let _ = writeln!(text, "echo {name} $({call})");
    }
    for (name, number, first) in [("vsock", 359, 40), ("inet socketcall", 102, 1), ("ring", 425, 1)] {
        let octal = old_way(number, first).iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "\\{byte:03o}");
            text
        });
        let _ =
            writeln!(text, "printf '{octal}' >/root/old; chmod +x /root/old; /root/old; echo old {name} $?");
    }
    text
}

#[cfg(target_arch = "x86_64")]
fn holds(machine: &str, exec: &dyn Fn(&[&str]) -> Output) {
    let script = script();
    assert_eq!(exec(&["sh", "-c", &script]).ok(), WANTED, "{machine}: a session");
    exec(&["sh", "-c", "printf %s \"$1\" >/root/probe.sh", "sh", &script]).ok();
    assert_eq!(exec(&["sh", "-c", AS_SERVICE]).ok(), WANTED, "{machine}: a service");
    let privileges = exec(&["grep", "NoNewPrivs", "/proc/1/status"]);
    assert!(privileges.ok().ends_with('0'), "{machine}: sudo works");
}

/// Links and pipes in the places of journal files are not followed, and what is read is shown escaped.
fn keeps_out(machine: &str, exec: &dyn Fn(&[&str]) -> Output, logs: &dyn Fn(&[&str]) -> Output) {
    let hostile = "d=$(echo /var/log/journal/*); ln -sf /etc/passwd \"$d/a.journal\"; mkfifo \"$d/b.journal\"; \
        ln -sfn / /var/log/journal/00000000000000000000000000000000; \
        head -c 9000 /dev/urandom >\"$d/c.journal\"; truncate -s 8T \"$d/d.journal\"; \
        printf 'MESSAGE=said\\033]52;c;eA==\\007here\\n' | logger --journald; \
        mount --bind /bin/false /usr/bin/journalctl";
    exec(&["sh", "-c", hostile]).ok();
    let seen = logs(&["-n", "20"]);
    // versions of journalctl show such a message without its sequences, or as a blob
    assert!(["said", "blob data"].iter().any(|word| seen.ok().contains(word)), "{machine}: {seen:?}");
    assert!(!seen.out.contains('\u{1b}') && !seen.out.contains('\u{7}'), "{machine}: {seen:?}");
    exec(&[
        "sh",
        "-c",
        // a machine's own id may begin with any digit
        "umount /usr/bin/journalctl; rm -f /var/log/journal/*/[abcd].journal /var/log/journal/00000000*",
    ])
    .ok();
}

/// On this machine, without machined.
pub fn it_holds_under_a_supervisor(lab: &Lab) {
    let plain = &own("plain");
    let exec = |argv: &[&str]| lab.sandbox(&[&["exec", plain, "--"], argv].concat());
    #[cfg(target_arch = "x86_64")]
    {
        holds(plain, &exec);
        a_profile_opens_it_for_sessions(lab, plain, &exec);
    }
    keeps_out(plain, &exec, &|more| lab.sandbox(&[&["logs", plain], more].concat()));
}

/// What a profile allows the machine's own processes, it allows those of a session; the record has what profiles allow.
#[cfg(target_arch = "x86_64")]
fn a_profile_opens_it_for_sessions(lab: &Lab, machine: &str, exec: &dyn Fn(&[&str]) -> Output) {
    let path = lab.path("state").join("machines").join(machine).join("machine.json");
    let before = std::fs::read(&path).expect("a record");
    let mut record: serde_json::Value = serde_json::from_slice(&before).expect("JSON");
    record["definition"]["needs"]["system-calls"] = serde_json::json!(["io_uring_setup"]);
    std::fs::write(&path, record.to_string()).expect("written");
    // EFAULT: the kernel has looked at the arguments
    let ring = exec(&["perl", "-e", "$! = 0; syscall(425, 1, 0); print 0 + $!"]);
    std::fs::write(&path, before).expect("written");
    assert_ne!(ring.ok(), "38");
}

/// Under machined and liblxc.
pub fn it_holds_under_machined_and_lxc(lab: &Lab) {
    let host: Host<'_> = lab.host();
    for machine in [host.agents(), "boxed"] {
        let exec = |argv: &[&str]| host.exec(machine, argv);
        #[cfg(target_arch = "x86_64")]
        holds(machine, &exec);
        keeps_out(machine, &exec, &|more| host.sandbox(&[&["logs", machine], more].concat()));
    }
}
