//! Few bytes that decode to many: refused before they fill memory or disk.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    kit::{
        archive::Archive,
        compress::Compression,
        deb::{Built, Deb, ar},
        server::Server,
        tar::{Entry, head, tar},
    },
    user::{BOOTSTRAP, User},
};

const MIB: u64 = 1 << 20;
const FORMATS: [Compression; 3] = [Compression::Xz, Compression::Gz, Compression::Zst];

/// What a program took.
struct Taken {
    code: Option<i32>,
    said: String,
    /// The most memory of its own, in bytes.
    memory: u64,
    time: Duration,
}

/// Runs a program to its end and measures it.
///
/// The kernel's own sum (getrusage(2)) begins with what the parent had when it forked, which is much here; so
/// the high-water mark is looked at until the end.
fn measured(command: &mut Command) -> Taken {
    let begun = Instant::now();
    let mut words = tempfile::tempfile().unwrap();
    let errors = words.try_clone().unwrap();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut memory = 0;
    let ended = loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let mark = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"));
        memory = memory.max(mark.map_or(0, |kib| kib.trim().parse::<u64>().unwrap() << 10));
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => thread::sleep(Duration::from_millis(1)),
        }
    };
    let mut said = String::new();
    words.seek(SeekFrom::Start(0)).unwrap();
    words.read_to_string(&mut said).unwrap();
    assert!(memory > 0, "a program that takes no memory: {said}");
    Taken { code: ended.code(), said, memory, time: begun.elapsed() }
}

/// Sees a build refused as untrusted within bounds.
fn refused(what: &str, archive: &Archive, memory: u64) {
    let server = Server::new(archive.root());
    let user = User::new(archive, server.url());
    let taken = measured(&mut user.command(&[&BOOTSTRAP[..], &["--include", "evil"]].concat()));
    assert_eq!(taken.code, Some(4), "{what}: {}", taken.said);
    assert!(taken.memory < memory, "{what}: {} MiB, {}", taken.memory / MIB, taken.said);
    assert!(taken.time < Duration::from_secs(60), "{what}: {:?}", taken.time);
    user.has_nothing_left(what);
}

fn with(built: Built) -> Archive {
    let mut archive = Archive::new();
    archive.fill();
    archive.add_built(built);
    archive.publish();
    archive
}

/// Compresses some bytes and so many zeros after them, as one stream.
fn packed(format: Compression, start: &[u8], zeros: u64) -> Vec<u8> {
    let write = |to: &mut dyn std::io::Write| {
        to.write_all(start).unwrap();
        (0..zeros / MIB).for_each(|_| to.write_all(&[0; MIB as usize]).unwrap());
    };
    match format {
        Compression::Xz => {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
            write(&mut encoder);
            encoder.finish().unwrap()
        }
        Compression::Gz => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            write(&mut encoder);
            encoder.finish().unwrap()
        }
        Compression::Zst => {
            let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
            write(&mut encoder);
            encoder.finish().unwrap()
        }
        Compression::None | Compression::Bz2 => unreachable!("no bomb"),
    }
}

/// Makes a package of a control archive and a data archive as they are.
fn package(control: (&str, &[u8]), data: (&str, &[u8])) -> Built {
    let bytes = ar(&[("debian-binary", b"2.0\n"), control, data]);
    Built { bytes, ..Deb::new("evil", "1").build() }
}

fn control() -> Vec<u8> {
    tar(&[Entry::file("./control", 0o644, Deb::new("evil", "1").stanza().as_bytes())])
}

#[test]
fn a_package_that_decodes_to_a_disk_full_is_refused() {
    for format in FORMATS {
        let size = 400 * MIB;
        let data = packed(format, &head(b"./zeros", b'0', size, b""), size);
        let name = format!("data.tar{}", format.suffix());
        refused(&name, &with(package(("control.tar", &control()), (&name, &data))), 128 * MIB);

        // what would be one name in memory
        let data = packed(format, &head(b"./name", b'L', size, b""), size);
        refused(&name, &with(package(("control.tar", &control()), (&name, &data))), 128 * MIB);

        // md5sums of 100 MB
        let size = 100 * MIB;
        let members = [&control()[..control().len() - 1024], &head(b"./md5sums", b'0', size, b"")].concat();
        let packed = packed(format, &members, size);
        let name = format!("control.tar{}", format.suffix());
        let data = tar(&[Entry::folder("./")]);
        refused(&name, &with(package((&name, &packed), ("data.tar", &data))), 256 * MIB);
    }
}

#[test]
fn an_index_that_decodes_to_more_than_is_listed_is_refused() {
    for format in FORMATS {
        let bomb = packed(format, b"", 300 * MIB);
        for listed in [true, false] {
            let mut archive = Archive::new();
            archive.fill();
            archive.formats = if listed { vec![Compression::None, format] } else { vec![format] };
            archive.publish();
            // the index is replaced, and the Release file signed anew for it
            let path = format!("main/binary-amd64/Packages{}", format.suffix());
            let digest = sandbox_core::digest::Sha256::of(&bomb);
            let (line, length) = (path.clone(), bomb.len());
            archive.edit_release = Some(Box::new(move |text| {
                let lines = text.lines().map(|old| match old.ends_with(&line) {
                    true => format!(" {digest} {length} {line}"),
                    false => old.to_owned(),
                });
                lines.collect::<Vec<_>>().join("\n") + "\n"
            }));
            archive.publish();
            archive.write(&archive.dist(&path), &bomb);
            // vectors double as they grow
            let most = if listed { 128 * MIB } else { 768 * MIB };
            refused(&format!("{path}, listed: {listed}"), &archive, most);
        }
    }
}

#[test]
fn a_stream_that_wants_a_huge_dictionary_is_refused() {
    let small = tar(&[Entry::folder("./")]);
    let mut data = packed(Compression::Xz, &small, MIB);
    // the first block's head follows the stream's: size, flags, filter, length of properties, dictionary
    let block = 12;
    let length = (usize::from(data[block]) + 1) * 4;
    assert_eq!(&data[block + 2..block + 4], [0x21, 1], "LZMA2");
    data[block + 4] = 40; // 4 GiB - 1
    let mut sum = flate2::Crc::new();
    sum.update(&data[block..block + length - 4]);
    data[block + length - 4..block + length].copy_from_slice(&sum.sum().to_le_bytes());
    refused("a package", &with(package(("control.tar", &control()), ("data.tar.xz", &data))), 128 * MIB);
}
