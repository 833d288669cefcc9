//! Compressed streams, told by how they begin.

use std::io::{self, BufReader, Read};

/// The most memory that decoding may take: `xz -9` and `zstd --ultra -22` take half of it.
const MEMORY: u64 = 256 << 20;

/// How the forms begin that can be told so.
const GZIP: &[u8] = &[0x1f, 0x8b];
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const BZIP2: &[u8] = b"BZh";

/// A stream of bytes.
pub type Stream = Box<dyn Read>;

/// Decodes a stream, whatever of the known forms it has; one of none of them is given as it is.
///
/// # Errors
/// What read(2) says.
pub fn decode(from: impl Read + 'static) -> io::Result<Stream> {
    let mut from = BufReader::with_capacity(256 << 10, from);
    let mut head = Vec::new();
    (&mut from).take(8).read_to_end(&mut head)?;
    let is = |magic: &[u8]| head.starts_with(magic);
    let kind = (is(GZIP), is(XZ), is(ZSTD), is(BZIP2));
    let whole = io::Cursor::new(head).chain(from);
    Ok(match kind {
        (true, ..) => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        (_, true, ..) => {
            let stream = liblzma::stream::Stream::new_stream_decoder(MEMORY, liblzma::stream::CONCATENATED)?;
            Box::new(liblzma::read::XzDecoder::new_stream(whole, stream))
        }
        (_, _, true, _) => {
            let mut decoder = zstd::Decoder::new(whole)?;
            decoder.window_log_max(MEMORY.ilog2() - 1)?;
            Box::new(decoder)
        }
        (.., true) => Box::new(bzip2::read::MultiBzDecoder::new(whole)),
        _ => Box::new(whole),
    })
}
