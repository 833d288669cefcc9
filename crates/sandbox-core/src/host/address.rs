//! Addresses (URLs) and the secrets in them: user and password are for the transport alone, and in no lock, tree,
//! record or message.

/// Splits an address into scheme with `://`, authority and the rest; the scheme may be missing.
///
/// **Source**: RFC 3986 §3.2.
fn split(url: &str) -> (&str, &str, &str) {
    let begin = url.find("://").map_or(0, |at| at + 3);
    let end = url[begin..].find(['/', '?', '#']).map_or(url.len(), |at| begin + at);
    (&url[..begin], &url[begin..end], &url[end..])
}

/// Returns an address without its user and password, and those as they are written.
#[must_use]
pub fn without_user(url: &str) -> (String, Option<String>) {
    let (scheme, authority, rest) = split(url);
    match authority.rsplit_once('@') {
        Some((user, host)) => (format!("{scheme}{host}{rest}"), Some(user.to_owned())),
        None => (url.to_owned(), None),
    }
}

/// Reports whether an address has a user or a password.
#[must_use]
pub fn has_user(url: &str) -> bool {
    split(url).1.contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_keeps_its_password() {
        for (url, plain, user) in [
            ("http://h.invalid/debian", "http://h.invalid/debian", None),
            ("https://u:s3cret@h.invalid/d/", "https://h.invalid/d/", Some("u:s3cret")),
            ("https://s3cret@h.invalid", "https://h.invalid", Some("s3cret")),
            ("https://u:a@b:s3cret@h.invalid:8443/x@y", "https://h.invalid:8443/x@y", Some("u:a@b:s3cret")),
            ("https://u:s3cret@[::1]:80/d", "https://[::1]:80/d", Some("u:s3cret")),
            ("https://u:s3cret@h.invalid?a=b@c", "https://h.invalid?a=b@c", Some("u:s3cret")),
            ("https://h.invalid?a=b@c", "https://h.invalid?a=b@c", None),
            ("https://h.invalid/@scope/name#a@b", "https://h.invalid/@scope/name#a@b", None),
            ("git+https://s3cret@h.invalid/r.git", "git+https://h.invalid/r.git", Some("s3cret")),
            // a proxy may have no scheme
            ("u:s3cret@proxy.invalid:3128", "proxy.invalid:3128", Some("u:s3cret")),
            ("proxy.invalid:3128", "proxy.invalid:3128", None),
            ("file:///srv/a@b", "file:///srv/a@b", None),
            ("", "", None),
        ] {
            let (found, secret) = without_user(url);
            assert_eq!((found.as_str(), secret.as_deref()), (plain, user), "{url}");
            assert_eq!(has_user(url), user.is_some(), "{url}");
            assert!(!has_user(&found) && !found.contains("s3cret"), "{url}");
        }
    }
}
