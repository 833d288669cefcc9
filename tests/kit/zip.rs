//! zip files, as evil as a test wants.

/// Writes a zip file, entry by entry, with modes of Unix.
///
/// **Source**: PKWARE's APPNOTE 4.3.
pub fn zipped(entries: &[(&str, u32, &[u8])]) -> Vec<u8> {
    use std::io::Write as _;
    let (mut out, mut central) = (Vec::new(), Vec::new());
    for (name, mode, content) in entries {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(content).unwrap();
        let packed = encoder.finish().unwrap();
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let size = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_le_bytes();
        let length = u16::try_from(name.len()).unwrap().to_le_bytes();
        let common = [
            &[20, 0, 0, 0, 8, 0, 0, 0, 0x21, 0x58][..],
            &crc.sum().to_le_bytes(),
            &size(&packed),
            &size(content),
            &length,
            &[0, 0],
        ]
        .concat();
        let offset = size(&out);
        central.extend([b"PK\x01\x02\x14\x03".as_slice(), &common, &[0; 6]].concat());
        central.extend((mode << 16).to_le_bytes());
        central.extend([&offset[..], name.as_bytes()].concat());
        out.extend([b"PK\x03\x04".as_slice(), &common, name.as_bytes(), &packed].concat());
    }
    let count = u16::try_from(entries.len()).unwrap().to_le_bytes();
    let at = u32::try_from(out.len()).unwrap().to_le_bytes();
    let length = u32::try_from(central.len()).unwrap().to_le_bytes();
    out.extend(&central);
    out.extend([b"PK\x05\x06\0\0\0\0".as_slice(), &count, &count, &length, &at, &[0, 0]].concat());
    out
}
