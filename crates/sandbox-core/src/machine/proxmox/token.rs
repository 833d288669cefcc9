//! The token of an interface: read from a file, never from a command line.
//!
//! **Shape**: one line, `USER@REALM!ID=SECRET`, as Proxmox shows the two when it makes one; `PVEAPIToken=` may stand
//! before it.

use std::{fs, io::Read as _, os::unix::fs::MetadataExt as _, path::Path};

use zeroize::Zeroizing;

use super::error::ProxmoxError;
use crate::host::api::Secret;

/// The word before a token in a header.
const SCHEME: &str = "PVEAPIToken=";
/// The most bytes of a token's file.
const LIMIT: u64 = 4096;

/// A token: whose it is, and the secret.
#[derive(Clone, Debug)]
pub struct Token {
    /// `USER@REALM!ID`.
    pub owner: String,
    /// The whole value of the header.
    pub secret: Secret,
}

impl Token {
    /// Reads a token's file, which nobody but its owner may read.
    ///
    /// # Errors
    /// [`ProxmoxError::Token`].
    pub fn read(path: &Path) -> Result<Self, ProxmoxError> {
        let wrong = |what: &'static str| ProxmoxError::Token { path: path.to_owned(), what };
        let failed = |source| ProxmoxError::Read { path: path.to_owned(), source };
        let mut file = fs::File::open(path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        if !found.is_file() {
            return Err(wrong("is no file"));
        }
        if found.mode() & 0o077 != 0 {
            return Err(wrong("can be read by others than its owner"));
        }
        let mut text = Zeroizing::new(String::new());
        file.by_ref().take(LIMIT).read_to_string(&mut text).map_err(failed)?;
        parse(&text).ok_or_else(|| wrong("holds no token: one line, USER@REALM!ID=SECRET"))
    }
}

fn parse(text: &str) -> Option<Token> {
    let line = text.trim();
    let line = line.strip_prefix(SCHEME).unwrap_or(line);
    let (owner, secret) = line.split_once('=')?;
    let (user, id) = owner.split_once('!')?;
    let sound = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    let (name, realm) = user.rsplit_once('@')?;
    let all = [name, realm, id, secret].iter().all(|part| sound(part));
    all.then(|| Token { owner: owner.to_owned(), secret: Secret::new(format!("{SCHEME}{line}")) })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const TOKEN: &str = "robot@pve!sandbox=11111111-2222-3333-4444-555555555555";

    #[test]
    fn a_token_is_one_line_and_is_not_shown() {
        for text in [TOKEN.to_owned(), format!("{TOKEN}\n"), format!("PVEAPIToken={TOKEN}\n")] {
            let token = parse(&text).unwrap();
            assert_eq!(token.owner, "robot@pve!sandbox");
            assert!(!format!("{token:?}").contains("1111"), "{token:?}");
        }
        for text in
            ["", "robot@pve=x", "robot!id=x", "robot@pve!id", "robot@pve!id=", "a@b!c=d e", "a@b!c=d\ne"]
        {
            assert!(parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, TOKEN).unwrap();
        let with = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        for mode in [0o640, 0o604, 0o666] {
            with(mode);
            assert!(matches!(Token::read(&path), Err(ProxmoxError::Token { .. })), "{mode:o}");
        }
        with(0o400);
        assert_eq!(Token::read(&path).unwrap().owner, "robot@pve!sandbox");
        assert!(matches!(Token::read(&folder.path().join("none")), Err(ProxmoxError::Read { .. })));
    }
}
