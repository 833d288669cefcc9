//! The keyrings that are compiled in.

/// Gives a keyring that the program ships, by the name that image files use.
///
/// **Shape**: `debian-archive-keyring`, `ubuntu-archive-keyring`. The bytes are binary OpenPGP; where they come
/// from stands in `keyrings/README.md`.
#[must_use]
pub fn shipped(name: &str) -> Option<&'static [u8]> {
    match name {
        "debian-archive-keyring" => {
            Some(include_bytes!("../../../../keyrings/debian-archive-keyring.pgp").as_slice())
        }
        "ubuntu-archive-keyring" => {
            Some(include_bytes!("../../../../keyrings/ubuntu-archive-keyring.pgp").as_slice())
        }
        _ => None,
    }
}
