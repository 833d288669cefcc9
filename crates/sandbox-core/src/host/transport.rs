//! Bytes behind a URL.
//!
//! The door is one method on plain values, so that retries, mirrors, resumption and digests are decided by the
//! stage that asks. Nothing here reads a proxy, a credential or a certificate path from the environment: a
//! proxy is a value in [`HttpOptions`].

use std::{
    fs::File,
    io::{self, Read, Seek as _, SeekFrom},
    sync::Once,
    time::Duration,
};

use reqwest::{
    StatusCode, Url,
    blocking::{Client, Response},
    header::{CONTENT_RANGE, RANGE, RETRY_AFTER},
    redirect,
};

use crate::error::{Cause, Class, Hint};

/// How many redirects are followed.
const REDIRECTS: usize = 10;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Get<'a> {
    /// The address: `http`, `https` or `file`.
    pub url: &'a str,
    /// From which byte on; the answer says whether that was heeded.
    pub offset: u64,
    /// The most bytes that the whole may have. A longer one is an error, not cut off.
    pub limit: u64,
}

/// What came.
pub struct Got {
    /// The size of the whole, where the other side said it.
    pub total: Option<u64>,
    /// The byte that `body` begins at: the wanted offset, or 0 where only the whole is to be had.
    pub resumed_at: u64,
    /// The bytes. An answer that breaks off gives an error, not an early end, where the size is known.
    pub body: Box<dyn Read + Send>,
}

/// Fetches bytes. Used from several threads at once.
pub trait Transport: Send + Sync {
    /// Begins to fetch.
    ///
    /// # Errors
    /// [`TransportError`] names the address. Errors of the body come from its reader.
    fn get(&self, request: &Get<'_>) -> Result<Got, TransportError>;
}

/// Why bytes cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The address is not one, or of a scheme that is not spoken.
    #[error("`{url}` is not an http, https or file address")]
    Address {
        /// As given.
        url: String,
    },
    /// The other side answered that it does not have it (404, 410), or there is no such file.
    #[error("{url} does not exist")]
    Missing {
        /// The address.
        url: String,
    },
    /// The other side answered with another error.
    #[error("{url} answered with status {status}")]
    Status {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// After how many seconds it may be asked again, where it says so.
        retry_after: Option<u64>,
    },
    /// The wanted offset lies beyond the end (416), or another part came than was asked for.
    #[error("{url} cannot be resumed at byte {offset}")]
    Offset {
        /// The address.
        url: String,
        /// What was asked for.
        offset: u64,
    },
    /// The whole has more bytes than wanted.
    #[error("{url} has more than the {limit} bytes that it may have")]
    Long {
        /// The address.
        url: String,
        /// The most bytes.
        limit: u64,
    },
    /// No answer: name, connection, TLS, time-out, redirects.
    #[error("{url} cannot be reached")]
    Unreachable {
        /// The address.
        url: String,
        /// What the client says.
        #[source]
        source: reqwest::Error,
    },
    /// A proxy's address is not one.
    #[error("`{address}` is not the address of a proxy")]
    Proxy {
        /// As given, without a password.
        address: String,
        /// What the client says.
        #[source]
        source: reqwest::Error,
    },
    /// The answer broke off.
    #[error("the transfer of {url} broke off")]
    Broken {
        /// The address.
        url: String,
        /// What the reader says.
        #[source]
        source: io::Error,
    },
    /// A `file:` address that cannot be read.
    #[error("{url} cannot be read")]
    File {
        /// The address.
        url: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl TransportError {
    /// Tells whether the same request may well succeed a moment later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            // A loop of redirects is there a moment later too.
            Self::Unreachable { source, .. } => !source.is_redirect(),
            Self::Broken { .. } => true,
            _ => false,
        }
    }
}

impl Cause for TransportError {
    fn class(&self) -> Class {
        match self {
            Self::Address { .. } => Class::File,
            Self::Proxy { .. } => Class::Usage,
            Self::Missing { .. } => Class::Unavailable,
            Self::Long { .. } => Class::Untrusted,
            Self::Status { .. }
            | Self::Offset { .. }
            | Self::Unreachable { .. }
            | Self::Broken { .. }
            | Self::File { .. } => Class::Unreachable,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Unreachable { .. } => {
                vec![Hint::Note("check the network, the proxy settings and the mirror's address".into())]
            }
            _ => Vec::new(),
        }
    }
}

/// How the real transport behaves.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// The longest wait for a connection.
    pub connect_timeout: Duration,
    /// The longest silence, before the answer and within it.
    pub idle_timeout: Duration,
    /// The address of a proxy for `http` addresses.
    pub http_proxy: Option<String>,
    /// The address of a proxy for `https` addresses.
    pub https_proxy: Option<String>,
    /// Hosts that no proxy is for, comma-separated, as in `NO_PROXY`.
    pub no_proxy: Option<String>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(30),
            http_proxy: None,
            https_proxy: None,
            no_proxy: None,
        }
    }
}

/// The real transport: HTTP/1.1 and HTTP/2, with TLS checked against the system's certificates, and files.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client,
}

impl Http {
    /// Makes the client. Nothing is sent yet.
    ///
    /// # Errors
    /// [`TransportError::Unreachable`] where the system's certificates cannot be read, or the proxy's address
    /// is not one.
    pub fn new(options: &HttpOptions) -> Result<Self, TransportError> {
        static PROVIDER: Once = Once::new();
        // A second installation is refused, and the first is as good: another crate may have been earlier.
        PROVIDER.call_once(|| {
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let failed = |source| TransportError::Unreachable { url: "the network".to_owned(), source };
        let no_proxy = |address: &str, source: reqwest::Error| TransportError::Proxy {
            address: without_password(address),
            source: source.without_url(),
        };
        let mut builder = Client::builder()
            .user_agent(concat!("sandbox/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.connect_timeout)
            // For a blocking client this is the longest wait for the head and for each piece of the body.
            .timeout(options.idle_timeout)
            .redirect(redirect::Policy::custom(follow))
            .no_proxy();
        let except = options.no_proxy.as_deref().and_then(reqwest::NoProxy::from_string);
        if let Some(address) = &options.http_proxy {
            let proxy = reqwest::Proxy::http(address).map_err(|source| no_proxy(address, source))?;
            builder = builder.proxy(proxy.no_proxy(except.clone()));
        }
        if let Some(address) = &options.https_proxy {
            let proxy = reqwest::Proxy::https(address).map_err(|source| no_proxy(address, source))?;
            builder = builder.proxy(proxy.no_proxy(except));
        }
        Ok(Self { client: builder.build().map_err(failed)? })
    }

    fn fetch(&self, url: Url, request: &Get<'_>) -> Result<Got, TransportError> {
        let mut sent = self.client.get(url);
        if request.offset > 0 {
            sent = sent.header(RANGE, format!("bytes={}-", request.offset));
        }
        let answer = sent.send().map_err(|source| TransportError::Unreachable {
            url: request.url.to_owned(),
            source: source.without_url(),
        })?;
        let url = || request.url.to_owned();
        let (total, resumed_at) = match answer.status() {
            StatusCode::PARTIAL_CONTENT => content_range(&answer)
                .filter(|(start, _)| *start == request.offset)
                .map(|(start, total)| (total, start))
                .ok_or_else(|| TransportError::Offset { url: url(), offset: request.offset })?,
            StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(TransportError::Offset { url: url(), offset: request.offset });
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => return Err(TransportError::Missing { url: url() }),
            StatusCode::OK => (answer.content_length(), 0),
            status => {
                let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                let retry_after = retry_after.and_then(|value| value.trim().parse().ok());
                return Err(TransportError::Status { url: url(), status: status.as_u16(), retry_after });
            }
        };
        limited(request, total, resumed_at, Box::new(answer))
    }
}

impl Transport for Http {
    fn get(&self, request: &Get<'_>) -> Result<Got, TransportError> {
        let address = || TransportError::Address { url: request.url.to_owned() };
        let url = Url::parse(request.url).map_err(|_| address())?;
        match url.scheme() {
            "http" | "https" => self.fetch(url, request),
            "file" => open(&url, request),
            _ => Err(address()),
        }
    }
}

/// Fetches a whole into memory, once.
///
/// # Errors
/// As [`Transport::get`], and [`TransportError::Broken`] where the body breaks off.
pub fn read(transport: &dyn Transport, url: &str, limit: u64) -> Result<Vec<u8>, TransportError> {
    let mut got = transport.get(&Get { url, offset: 0, limit })?;
    let mut bytes = Vec::new();
    got.body.read_to_end(&mut bytes).map_err(|source| broken(url, limit, source))?;
    Ok(bytes)
}

/// Makes an error of what a body's reader says.
#[must_use]
pub fn broken(url: &str, limit: u64, source: io::Error) -> TransportError {
    let url = url.to_owned();
    if source.get_ref().is_some_and(|inner| inner.is::<TooLong>()) {
        TransportError::Long { url, limit }
    } else {
        TransportError::Broken { url, source }
    }
}

/// Takes what stands before the `@` away, for messages.
fn without_password(address: &str) -> String {
    address.rsplit_once('@').map_or(address, |(_, host)| host).to_owned()
}

fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let downgrade =
        attempt.url().scheme() != "https" && attempt.previous().iter().any(|url| url.scheme() == "https");
    if downgrade {
        attempt.error("a redirect leads from https to an unprotected address")
    } else if attempt.previous().len() > REDIRECTS {
        attempt.error("too many redirects")
    } else {
        attempt.follow()
    }
}

/// Reads `bytes 10-99/100` or `bytes 10-99/*`.
fn content_range(answer: &Response) -> Option<(u64, Option<u64>)> {
    let text = answer.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _end) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, total.trim().parse().ok()))
}

fn open(url: &Url, request: &Get<'_>) -> Result<Got, TransportError> {
    let path = url.to_file_path().map_err(|()| TransportError::Address { url: request.url.to_owned() })?;
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => TransportError::Missing { url: request.url.to_owned() },
        _ => TransportError::File { url: request.url.to_owned(), source },
    };
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(TransportError::Missing { url: request.url.to_owned() });
    }
    if request.offset > metadata.len() {
        return Err(TransportError::Offset { url: request.url.to_owned(), offset: request.offset });
    }
    file.seek(SeekFrom::Start(request.offset)).map_err(failed)?;
    limited(request, Some(metadata.len()), request.offset, Box::new(file))
}

fn limited(
    request: &Get<'_>,
    total: Option<u64>,
    resumed_at: u64,
    body: Box<dyn Read + Send>,
) -> Result<Got, TransportError> {
    if total.is_some_and(|total| total > request.limit) {
        return Err(TransportError::Long { url: request.url.to_owned(), limit: request.limit });
    }
    let left = request.limit.saturating_sub(resumed_at);
    Ok(Got { total, resumed_at, body: Box::new(Limited { body, left }) })
}

/// A reader that fails, rather than ends, once more came than may.
struct Limited {
    body: Box<dyn Read + Send>,
    left: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("more bytes came than wanted")]
struct TooLong;

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read(buffer)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::new(io::ErrorKind::InvalidData, TooLong)),
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http() -> Http {
        Http::new(&HttpOptions::default()).unwrap()
    }

    #[test]
    fn reads_a_file_from_an_offset_and_keeps_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a b");
        std::fs::write(&path, b"0123456789").unwrap();
        let url = Url::from_file_path(&path).unwrap().to_string();
        assert_eq!(read(&http(), &url, 10).unwrap(), b"0123456789");
        assert!(matches!(read(&http(), &url, 9), Err(TransportError::Long { limit: 9, .. })));
        let mut got = http().get(&Get { url: &url, offset: 7, limit: 10 }).unwrap();
        let mut rest = String::new();
        got.body.read_to_string(&mut rest).unwrap();
        assert_eq!((rest.as_str(), got.resumed_at, got.total), ("789", 7, Some(10)));
        let beyond = http().get(&Get { url: &url, offset: 11, limit: 20 });
        assert!(matches!(beyond, Err(TransportError::Offset { offset: 11, .. })));
    }

    #[test]
    fn tells_a_missing_file_and_a_wrong_address_apart() {
        assert!(matches!(read(&http(), "file:///does/not/exist", 1), Err(TransportError::Missing { .. })));
        assert!(matches!(read(&http(), "file:///", 1), Err(TransportError::Missing { .. })));
        assert!(matches!(read(&http(), "gopher://x/", 1), Err(TransportError::Address { .. })));
        assert!(matches!(read(&http(), "no address", 1), Err(TransportError::Address { .. })));
    }

    #[test]
    fn an_endless_body_ends_in_an_error() {
        let mut body = Limited { body: Box::new(io::repeat(0)), left: 100 };
        let problem = io::copy(&mut body, &mut io::sink()).unwrap_err();
        assert!(matches!(broken("x", 100, problem), TransportError::Long { .. }));
    }
}
