//! git's smart HTTP, as far as one commit needs it.
//!
//! **Source**: gitprotocol-common(5), gitprotocol-http(5), gitprotocol-pack(5).

use super::GitError;
use crate::host::transport::{Ask, Transport, TransportError, asked};

/// The most bytes of a list of references.
const REFERENCES: u64 = 256 << 20;

/// The most bytes of a pack.
const PACK: u64 = 1 << 30;

/// The parts of a stream that each say how long they are.
struct Lines<'a>(&'a [u8]);

enum Line<'a> {
    /// The end of a section.
    Flush,
    Data(&'a [u8]),
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<Line<'a>> {
        let length = std::str::from_utf8(self.0.get(..4)?).ok()?;
        let length = usize::from_str_radix(length, 16).ok()?;
        if length < 4 {
            self.0 = &self.0[4..];
            return Some(Line::Flush);
        }
        let data = self.0.get(4..length)?;
        self.0 = &self.0[length..];
        Some(Line::Data(data))
    }
}

/// Tells whether a text is a whole commit id.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Finds the commit that a branch, a tag or `HEAD` is at.
pub(super) fn commit_of(url: &str, revision: &str, transport: &dyn Transport) -> Result<String, GitError> {
    if is_commit(revision) {
        return Ok(revision.to_owned());
    }
    let url = url.trim_end_matches('/');
    let address = format!("{url}/info/refs?service=git-upload-pack");
    let (_, bytes) = asked(transport, &Ask::at(&address, REFERENCES)).map_err(ask)?;
    let references = references(&bytes).ok_or_else(|| GitError::Protocol { url: url.to_owned() })?;
    let find = |name: String| references.iter().find(|(_, known)| *known == name).map(|(id, _)| id.clone());
    // as gitrevisions(7) has it; of a tag, what it is a tag of
    let places = [revision.to_owned(), format!("refs/tags/{revision}"), format!("refs/heads/{revision}")];
    let found = places.into_iter().find_map(|name| find(format!("{name}^{{}}")).or_else(|| find(name)));
    found
        .filter(|id| is_commit(id))
        .ok_or_else(|| GitError::Revision { url: url.to_owned(), revision: revision.to_owned() })
}

fn ask(source: TransportError) -> GitError {
    GitError::Ask { source }
}

/// Reads a list of references: names and what they are at.
fn references(bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let mut lines = Lines(bytes);
    let Some(Line::Data(b"# service=git-upload-pack\n" | b"# service=git-upload-pack")) = lines.next() else {
        return None;
    };
    let Some(Line::Flush) = lines.next() else { return None };
    let mut found = Vec::new();
    while let Some(Line::Data(line)) = lines.next() {
        let line = line.split(|byte| *byte == 0).next().unwrap_or_default();
        let (id, name) = std::str::from_utf8(line).ok()?.trim_end().split_once(' ')?;
        found.push((id.to_owned(), name.to_owned()));
    }
    Some(found)
}

/// Fetches the pack with a commit and its files, without what came before it.
pub(super) fn pack(url: &str, commit: &str, transport: &dyn Transport) -> Result<Vec<u8>, GitError> {
    let url = url.trim_end_matches('/');
    let agent = concat!("sandbox/", env!("CARGO_PKG_VERSION"));
    let want = line(&format!("want {commit} shallow ofs-delta no-progress agent={agent}\n"));
    let body = [want, line("deepen 1\n"), "0000".to_owned(), line("done\n")].concat();
    let address = format!("{url}/git-upload-pack");
    let kind = "application/x-git-upload-pack-request";
    let request = Ask {
        accept: Some("application/x-git-upload-pack-result"),
        post: Some((kind, body.as_bytes())),
        ..Ask::at(&address, PACK)
    };
    let (_, bytes) = asked(transport, &request).map_err(ask)?;
    let mut lines = Lines(&bytes);
    loop {
        if lines.0.starts_with(b"PACK") {
            return Ok(lines.0.to_vec());
        }
        match lines.next() {
            Some(Line::Data(data)) if data.starts_with(b"ERR ") => {
                let said = String::from_utf8_lossy(&data[4..]);
                let said = said.trim().chars().filter(|one| !one.is_control()).take(200).collect();
                return Err(GitError::Refused { said });
            }
            Some(_) => {}
            None => return Err(GitError::Protocol { url: url.to_owned() }),
        }
    }
}

fn line(text: &str) -> String {
    format!("{:04x}{text}", text.len() + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_and_nothing_else() {
        let id = "ab".repeat(20);
        let text = [
            line("# service=git-upload-pack\n"),
            "0000".to_owned(),
            line(&format!("{id} HEAD\0shallow agent=x\n")),
            line(&format!("{id} refs/heads/main\n")),
            "0000".to_owned(),
        ]
        .concat();
        let found = references(text.as_bytes()).unwrap();
        assert_eq!(found, [(id.clone(), "HEAD".to_owned()), (id.clone(), "refs/heads/main".to_owned())]);
        for other in ["", "0000", "<html>", "zzzz", "ffff", &format!("{id}\trefs/heads/main\n")] {
            assert_eq!(references(other.as_bytes()), None, "{other}");
        }
    }
}
