//! Bytes behind a URL.
//!
//! The door is one method on plain values, so that retries, mirrors, resumption and digests are decided by the
//! stage that asks. Nothing here reads a proxy, a credential or a certificate path from the environment: a
//! proxy is a value in [`HttpOptions`].

mod pace;

use std::{
    fs::File,
    io::{self, Read, Seek as _, SeekFrom},
    sync::Once,
    time::Duration,
};

use reqwest::{
    StatusCode, Url,
    blocking::{Client, RequestBuilder, Response},
    header::{
        ACCEPT, AGE, AUTHORIZATION, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, RANGE, RETRY_AFTER,
    },
    redirect,
};

pub use self::pace::Pace;
use self::pace::{Paced, TooSlow};
use super::address;
use crate::error::{Cause, Class, Hint};

/// How many redirects are followed.
const REDIRECTS: usize = 10;

/// How often a service is asked that answers with a passing error.
const TRIES: u32 = 4;

/// The wait before the second try; it doubles from there.
const PAUSE: Duration = Duration::from_millis(250);

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

/// What is asked of a service, rather than fetched as a file.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The address.
    pub url: &'a str,
    /// The most bytes that the answer may have.
    pub limit: u64,
    /// The media types that are understood, best first.
    pub accept: Option<&'a str>,
    /// What is sent, with its media type; nothing is sent otherwise.
    pub post: Option<(&'a str, &'a [u8])>,
}

impl<'a> Ask<'a> {
    /// Asks for what is at an address.
    #[must_use]
    pub const fn at(url: &'a str, limit: u64) -> Self {
        Self { url, limit, accept: None, post: None }
    }
}

/// What a service answered.
pub struct Answer {
    /// Where it came from in the end: redirects were followed.
    pub url: String,
    /// For how long it stays true, as the other side says; zero where it does not, or it is not for everybody.
    pub fresh: Duration,
    /// The bytes, as those of [`Got`].
    pub body: Box<dyn Read + Send>,
}

/// Fetches bytes. Used from several threads at once.
pub trait Transport: Send + Sync {
    /// Begins to fetch.
    ///
    /// # Errors
    /// [`TransportError`] names the address. Errors of the body come from its reader.
    fn get(&self, request: &Get<'_>) -> Result<Got, TransportError>;

    /// Asks a service. One that only fetches files answers as for the file.
    ///
    /// # Errors
    /// As [`Self::get`].
    fn ask(&self, request: &Ask<'_>) -> Result<Answer, TransportError> {
        let got = self.get(&Get { url: request.url, offset: 0, limit: request.limit })?;
        Ok(Answer { url: request.url.to_owned(), fresh: Duration::ZERO, body: got.body })
    }
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
    #[error("{url} cannot be reached: {}", innermost(client))]
    Unreachable {
        /// The address.
        url: String,
        /// What the client says: a chain of six errors, of which the last one alone says something.
        client: reqwest::Error,
    },
    /// Certificates are none.
    #[error("the certificates to be trusted cannot be read")]
    Authority {
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
    /// The answer comes more slowly than an answer may.
    #[error("{url} sent less than {least} bytes in {seconds} s")]
    Slow {
        /// The address.
        url: String,
        /// The fewest bytes that must come in that time.
        least: u64,
        /// The time that was waited for them.
        seconds: u64,
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
            Self::Unreachable { client, .. } => !client.is_redirect(),
            Self::Broken { .. } => true,
            _ => false,
        }
    }
}

impl TransportError {
    /// Returns whether there was no connection at all.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        matches!(self, Self::Unreachable { client, .. } if client.is_connect())
    }
}

/// Returns what the last of a chain of errors says: `Connection refused (os error 111)`.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

impl Cause for TransportError {
    fn class(&self) -> Class {
        match self {
            Self::Address { .. } | Self::Authority { .. } => Class::File,
            Self::Proxy { .. } => Class::Usage,
            Self::Missing { .. } => Class::Unavailable,
            Self::Long { .. } => Class::Untrusted,
            Self::Status { .. }
            | Self::Offset { .. }
            | Self::Unreachable { .. }
            | Self::Broken { .. }
            | Self::Slow { .. }
            | Self::File { .. } => Class::Unreachable,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Unreachable { .. } | Self::Slow { .. } => {
                vec![Hint::Note("check the network, the proxy settings and the address".into())]
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
    /// The slowest answer.
    pub pace: Pace,
    /// The address of a proxy for `http` addresses.
    pub http_proxy: Option<String>,
    /// The address of a proxy for `https` addresses.
    pub https_proxy: Option<String>,
    /// Hosts that no proxy is for, comma-separated, as in `NO_PROXY`.
    pub no_proxy: Option<String>,
    /// Addresses that are asked elsewhere: what they begin with, and what stands there instead.
    pub elsewhere: Vec<(String, String)>,
    /// Certificates of authorities that are trusted beside the system's, PEM.
    pub authorities: Vec<u8>,
    /// Credentials, each by what the addresses begin with that it is for, as the value of `Authorization`.
    pub credentials: Credentials,
}

/// Credentials by the beginning of addresses; never shown.
#[derive(Clone, Default)]
pub struct Credentials(pub Vec<(String, String)>);

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(prefix, _)| prefix)).finish()
    }
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(30),
            pace: Pace::default(),
            http_proxy: None,
            https_proxy: None,
            no_proxy: None,
            elsewhere: Vec::new(),
            authorities: Vec::new(),
            credentials: Credentials::default(),
        }
    }
}

/// The real transport: HTTP/1.1 and HTTP/2, with TLS checked against the system's certificates, and files.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client,
    pace: Pace,
    elsewhere: Vec<(String, String)>,
    credentials: Credentials,
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
        let failed = |client| TransportError::Unreachable { url: "the network".to_owned(), client };
        let no_proxy = |address: &str, source: reqwest::Error| TransportError::Proxy {
            address: address::without_user(address).0,
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
        if !options.authorities.is_empty() {
            let found = reqwest::Certificate::from_pem_bundle(&options.authorities);
            let found = found.map_err(|source| TransportError::Authority { source: source.without_url() })?;
            builder = builder.tls_certs_merge(found);
        }
        Ok(Self {
            client: match builder.build() {
                Err(source) if !options.authorities.is_empty() => {
                    return Err(TransportError::Authority { source });
                }
                built => built.map_err(failed)?,
            },
            pace: options.pace,
            elsewhere: options.elsewhere.clone(),
            credentials: options.credentials.clone(),
        })
    }

    /// Gives the address that is asked in place of one.
    fn place_of(&self, url: &str) -> String {
        match below(url, &self.elsewhere) {
            Some((rest, other)) => format!("{}{rest}", other.trim_end_matches('/')),
            None => url.to_owned(),
        }
    }

    fn send(&self, sent: RequestBuilder, url: &str) -> Result<Response, TransportError> {
        let sent = match below(url, &self.credentials.0) {
            Some((_, value)) => sent.header(AUTHORIZATION, value),
            None => sent,
        };
        let client = match sent.send() {
            Ok(answer) => return Ok(answer),
            Err(client) => client.without_url(),
        };
        Err(TransportError::Unreachable { url: url.to_owned(), client })
    }

    fn fetch(&self, url: Url, request: &Get<'_>) -> Result<Got, TransportError> {
        let mut sent = self.client.get(url);
        if request.offset > 0 {
            sent = sent.header(RANGE, format!("bytes={}-", request.offset));
        }
        let answer = self.send(sent, request.url)?;
        let url = || request.url.to_owned();
        let (total, resumed_at) = match answer.status() {
            StatusCode::PARTIAL_CONTENT => content_range(&answer)
                .filter(|(start, _)| *start == request.offset)
                .map(|(start, total)| (total, start))
                .ok_or_else(|| TransportError::Offset { url: url(), offset: request.offset })?,
            StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(TransportError::Offset { url: url(), offset: request.offset });
            }
            StatusCode::OK => (answer.content_length(), 0),
            _ => return Err(refused(request.url, &answer)),
        };
        limited(request, total, resumed_at, Box::new(Paced::new(answer, self.pace)))
    }
}

impl Transport for Http {
    fn get(&self, request: &Get<'_>) -> Result<Got, TransportError> {
        let place = self.place_of(request.url);
        let request = &Get { url: &place, ..*request };
        let address = || TransportError::Address { url: place.clone() };
        let url = Url::parse(&place).map_err(|_| address())?;
        match url.scheme() {
            "http" | "https" => self.fetch(url, request),
            "file" => open(&url, request),
            _ => Err(address()),
        }
    }

    fn ask(&self, request: &Ask<'_>) -> Result<Answer, TransportError> {
        let place = self.place_of(request.url);
        let address = || TransportError::Address { url: place.clone() };
        let url = Url::parse(&place).map_err(|_| address())?;
        if url.scheme() == "file" {
            let got = open(&url, &Get { url: &place, offset: 0, limit: request.limit })?;
            return Ok(Answer { url: place, fresh: Duration::ZERO, body: got.body });
        }
        if !matches!(url.scheme(), "http" | "https") {
            return Err(address());
        }
        let mut sent = match request.post {
            Some((kind, body)) => self.client.post(url).header(CONTENT_TYPE, kind).body(body.to_vec()),
            None => self.client.get(url),
        };
        if let Some(accept) = request.accept {
            sent = sent.header(ACCEPT, accept);
        }
        let answer = self.send(sent, &place)?;
        if answer.status() != StatusCode::OK {
            return Err(refused(&place, &answer));
        }
        let url = answer.url().to_string();
        let is_secret = below(&place, &self.credentials.0).is_some();
        let fresh =
            if is_secret || request.post.is_some() { Duration::ZERO } else { fresh(answer.headers()) };
        let total = answer.content_length();
        let whole = Get { url: &place, offset: 0, limit: request.limit };
        let got = limited(&whole, total, 0, Box::new(Paced::new(answer, self.pace)))?;
        Ok(Answer { url, fresh, body: got.body })
    }
}

/// Finds the longest beginning that an address has, at the end of one of its parts: gives the rest, and what
/// stands beside the beginning.
fn below<'a, 'b>(url: &'a str, known: &'b [(String, String)]) -> Option<(&'a str, &'b str)> {
    let rest = |prefix: &str| {
        let rest = url.strip_prefix(prefix.trim_end_matches('/'))?;
        (rest.is_empty() || rest.starts_with(['/', '?'])).then_some(rest)
    };
    let fits = known.iter().filter_map(|(prefix, value)| Some((rest(prefix)?, value.as_str())));
    fits.min_by_key(|(rest, _)| rest.len())
}

/// Makes an error of a status that is no success.
fn refused(url: &str, answer: &Response) -> TransportError {
    let url = url.to_owned();
    if matches!(answer.status(), StatusCode::NOT_FOUND | StatusCode::GONE) {
        return TransportError::Missing { url };
    }
    let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|value| value.trim().parse().ok());
    TransportError::Status { url, status: answer.status().as_u16(), retry_after }
}

/// Reads for how long an answer stays true.
///
/// **Source**: RFC 9111 §4.2.1, §5.1, §5.2.2.
fn fresh(headers: &HeaderMap) -> Duration {
    let words = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let words: Vec<String> =
        words.flat_map(|value| value.split(',')).map(|word| word.trim().to_ascii_lowercase()).collect();
    if words.iter().any(|word| ["no-store", "no-cache"].iter().any(|no| word.starts_with(no))) {
        return Duration::ZERO;
    }
    let age =
        words.iter().find_map(|word| word.strip_prefix("max-age=")?.trim_matches('"').parse::<u64>().ok());
    let since = headers.get(AGE).and_then(|value| value.to_str().ok()?.trim().parse().ok()).unwrap_or(0);
    Duration::from_secs(age.unwrap_or(0).saturating_sub(since))
}

/// Asks a service and reads the whole answer, a few times where it breaks off; gives where it came from too.
///
/// # Errors
/// As [`Transport::ask`], and [`TransportError::Broken`] where the answer breaks off.
pub fn asked(transport: &dyn Transport, ask: &Ask<'_>) -> Result<(String, Vec<u8>), TransportError> {
    let once = || {
        let Answer { url, mut body, .. } = transport.ask(ask)?;
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes).map_err(|source| broken(&url, ask.limit, source))?;
        Ok((url, bytes))
    };
    let mut tries = 1;
    loop {
        match once() {
            Err(problem) if TransportError::is_transient(&problem) && tries < TRIES => {
                std::thread::sleep(PAUSE * 2_u32.pow(tries - 1));
                tries += 1;
            }
            outcome => return outcome,
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
    let inner = source.get_ref();
    if inner.is_some_and(|inner| inner.is::<TooLong>()) {
        return TransportError::Long { url, limit };
    }
    if let Some(TooSlow(Pace { least, span })) = inner.and_then(|inner| inner.downcast_ref()) {
        return TransportError::Slow { url, least: *least, seconds: span.as_secs() };
    }
    TransportError::Broken { url, source }
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
    fn an_answer_says_how_long_it_stays_true() {
        for (control, age, seconds) in [
            ("public, max-age=300", "", 300),
            ("Max-Age=\"60\", s-maxage=5", "", 60),
            ("max-age=600", "590", 10),
            ("max-age=600", "700", 0),
            ("max-age=600, no-cache", "", 0),
            ("no-store", "", 0),
            ("private", "", 0),
            ("max-age=-1", "", 0),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, control.parse().unwrap());
            if !age.is_empty() {
                headers.insert(AGE, age.parse().unwrap());
            }
            assert_eq!(fresh(&headers), Duration::from_secs(seconds), "{control} {age}");
        }
        assert_eq!(fresh(&HeaderMap::new()), Duration::ZERO, "nobody said anything");
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
    fn an_address_is_asked_elsewhere_by_its_longest_beginning() {
        let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        let known = [pair("https://a.invalid", "one"), pair("https://a.invalid/b/", "two")];
        assert_eq!(below("https://a.invalid/c", &known), Some(("/c", "one")));
        assert_eq!(below("https://a.invalid/b/c", &known), Some(("/c", "two")));
        assert_eq!(below("https://a.invalid", &known), Some(("", "one")));
        assert_eq!(below("https://a.invalid.example/b", &known), None);
        let credentials = Credentials(vec![pair("https://a.invalid", "Bearer secret")]);
        assert!(!format!("{credentials:?}").contains("secret"));
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
