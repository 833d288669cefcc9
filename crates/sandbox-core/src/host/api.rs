//! A service that is asked by name of what it serves, with a secret: methods, fields and files, over TLS.
//!
//! Nothing here is tried again by itself: a request may have been carried out though its answer did not come. No proxy
//! stands between, and redirects are not followed: the secret goes to the address that was given, and nowhere else.

use std::{
    error::Error as StdError,
    fmt,
    io::{self, Cursor, Read},
    sync::Arc,
    time::Duration,
};

use reqwest::{
    Method, Url,
    blocking::{Body, Client, ClientBuilder, Response},
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
    redirect,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use zeroize::Zeroizing;

use super::transport::innermost;
use crate::{
    digest::Sha256,
    error::{Cause, Class, Hint},
};

/// The longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// The longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(60);
/// The longest wait for bytes that were sent to be seen by the other side.
const SENT: Duration = Duration::from_secs(60);
/// The most bytes of an answer.
const LIMIT: u64 = 16 << 20;

/// A secret: never shown, gone from memory when it is dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a text for one.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The SHA-256 of a certificate.
///
/// **Shape**: 32 bytes in hexadecimal with colons between: `AA:BB:…`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: Vec<String> = self.0.iter().map(|byte| format!("{byte:02X}")).collect();
        f.write_str(&bytes.join(":"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits: String = text.chars().filter(|letter| *letter != ':').collect();
        let digest = Sha256::parse(digits.to_ascii_lowercase().as_bytes());
        let wrong = || format!("`{text}` is no SHA-256 of a certificate: 32 bytes, AA:BB:…");
        digest.map(|digest| Self(*digest.as_bytes())).ok_or_else(wrong)
    }
}

impl serde::Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// By what the other side is known.
#[derive(Clone, Debug)]
pub enum Trust {
    /// The authorities of the system.
    System,
    /// These authorities alone, PEM.
    Authorities(Vec<u8>),
    /// This certificate alone, whatever it says of names and dates.
    Pinned(Fingerprint),
}

/// A file that is sent.
pub struct Sent {
    /// Its name, of letters, digits, `-`, `_`, `+` and `.`.
    pub name: String,
    /// The digest of its bytes.
    pub digest: Sha256,
    /// How many bytes it has.
    pub length: u64,
    /// The bytes.
    pub file: Box<dyn Read + Send>,
}

/// What a service answered.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// Why a service cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The address is not one, or is not protected.
    #[error("`{url}` is not an https address")]
    Address {
        /// As given.
        url: String,
    },
    /// Certificates are none.
    #[error("the certificates to be trusted cannot be read")]
    Authority {
        /// What the client says.
        #[source]
        source: reqwest::Error,
    },
    /// It shows a certificate that is not trusted.
    #[error("{url} shows a certificate that is not trusted")]
    Untrusted {
        /// The address.
        url: String,
        /// What the client says.
        #[source]
        source: rustls::Error,
    },
    /// No answer.
    #[error("{url} cannot be reached: {}", innermost(client))]
    Unreachable {
        /// The address.
        url: String,
        /// What the client says.
        client: reqwest::Error,
    },
    /// The answer broke off, or is too long.
    #[error("the answer of {url} broke off")]
    Broken {
        /// The address.
        url: String,
        /// What the reader says.
        #[source]
        source: io::Error,
    },
}

impl Cause for ApiError {
    fn class(&self) -> Class {
        match self {
            Self::Address { .. } => Class::Usage,
            Self::Authority { .. } => Class::File,
            Self::Untrusted { .. } => Class::Untrusted,
            Self::Unreachable { .. } | Self::Broken { .. } => Class::Unreachable,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Untrusted { .. } => vec![Hint::Note(
                "compare with what the node shows (System, Certificates), then pin it with --fingerprint, or name \
                 its authority with --api-ca"
                    .to_owned(),
            )],
            _ => Vec::new(),
        }
    }
}

/// A service.
#[derive(Debug)]
pub struct Api {
    client: Client,
    patient: Client,
    base: Url,
    secret: Secret,
}

impl Api {
    /// Makes the client. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ApiError::Address`], [`ApiError::Authority`].
    pub fn new(url: &str, trust: &Trust, secret: Secret) -> Result<Self, ApiError> {
        let address = || ApiError::Address { url: url.to_owned() };
        let base = Url::parse(url).map_err(|_| address())?;
        let plain = base.username().is_empty() && base.password().is_none() && base.query().is_none();
        if base.scheme() != "https" || !plain {
            return Err(address());
        }
        let client = client(trust)?.timeout(ANSWER).build();
        // the head of an answer comes once all was sent
        let patient = client_of_uploads(trust)?.build();
        let failed = |source: reqwest::Error| ApiError::Authority { source: source.without_url() };
        Ok(Self { client: client.map_err(failed)?, patient: patient.map_err(failed)?, base, secret })
    }

    /// Asks for something.
    ///
    /// # Errors
    /// [`ApiError`]; an answer that says no is none.
    pub fn call(&self, method: Method, path: &str, fields: &[(&str, &str)]) -> Result<Reply, ApiError> {
        let mut url = self.place(path);
        let in_body = method == Method::POST || method == Method::PUT;
        let mut encoded = url.clone();
        encoded.query_pairs_mut().extend_pairs(fields);
        if !in_body && !fields.is_empty() {
            url = encoded.clone();
        }
        let mut sent = self.client.request(method, url.clone()).header(AUTHORIZATION, self.header());
        if in_body {
            let body = encoded.query().unwrap_or_default().to_owned();
            sent = sent.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
        }
        self.read(sent.send())
    }

    /// Sends a file, with fields before it; it is not held in memory.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn upload(&self, path: &str, fields: &[(&str, &str)], sent: Sent) -> Result<Reply, ApiError> {
        let Sent { name, digest, length, file } = sent;
        // no file has a line in it that is made of its own digest
        let boundary = format!("sandbox-{digest}");
        let part = |head: &str, rest: &str| {
            format!("--{boundary}\r\nContent-Disposition: form-data; {head}\r\n{rest}\r\n")
        };
        let mut before: String = fields
            .iter()
            .map(|(key, value)| part(&format!("name=\"{key}\""), &format!("\r\n{value}")))
            .collect();
        before += &part(
            &format!("name=\"filename\"; filename=\"{name}\""),
            "Content-Type: application/octet-stream\r\n",
        );
        let after = format!("\r\n--{boundary}--\r\n");
        let whole = before.len() as u64 + length + after.len() as u64;
        let body =
            Cursor::new(before.into_bytes()).chain(file.take(length)).chain(Cursor::new(after.into_bytes()));
        let kind = format!("multipart/form-data; boundary={boundary}");
        let sent = self.patient.post(self.place(path)).header(AUTHORIZATION, self.header());
        self.read(sent.header(CONTENT_TYPE, kind).body(Body::sized(body, whole)).send())
    }

    fn place(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url
    }

    fn header(&self) -> HeaderValue {
        // what cannot stand in a header was refused where the secret was read
        let mut value = HeaderValue::from_str(&self.secret.0).unwrap_or(HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    }

    fn read(&self, sent: Result<Response, reqwest::Error>) -> Result<Reply, ApiError> {
        let url = || self.base.as_str().trim_end_matches('/').to_owned();
        let answer = sent.map_err(|source| match of_tls(&source) {
            Some(source) => ApiError::Untrusted { url: url(), source },
            None => ApiError::Unreachable { url: url(), client: source.without_url() },
        })?;
        let status = answer.status().as_u16();
        let mut body = Vec::new();
        answer
            .take(LIMIT)
            .read_to_end(&mut body)
            .map_err(|source| ApiError::Broken { url: url(), source })?;
        Ok(Reply { status, body })
    }
}

fn client_of_uploads(trust: &Trust) -> Result<ClientBuilder, ApiError> {
    Ok(client(trust)?.timeout(None).tcp_user_timeout(SENT))
}

fn client(trust: &Trust) -> Result<ClientBuilder, ApiError> {
    // a second installation is refused, and the first is as good
    let _ = ring::default_provider().install_default();
    let builder = Client::builder()
        .user_agent(concat!("sandbox/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .http1_only();
    Ok(match trust {
        Trust::System => builder,
        Trust::Authorities(pem) => {
            let failed = |source: reqwest::Error| ApiError::Authority { source: source.without_url() };
            builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(pem).map_err(failed)?)
        }
        Trust::Pinned(fingerprint) => {
            let provider = Arc::new(ring::default_provider());
            let verifier = Pinned { fingerprint: *fingerprint, provider };
            let config = ClientConfig::builder()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
                .with_no_client_auth();
            builder.tls_backend_preconfigured(config)
        }
    })
}

/// Finds what TLS said below what the client says.
fn of_tls(error: &(dyn StdError + 'static)) -> Option<rustls::Error> {
    if let Some(found) = error.downcast_ref::<rustls::Error>()
        && matches!(found, rustls::Error::InvalidCertificate(_) | rustls::Error::General(_))
    {
        return Some(found.clone());
    }
    // such an error hides the one in it from its chain
    let hidden = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let hidden = hidden.and_then(|hidden| of_tls(hidden));
    hidden.or_else(|| error.source().and_then(of_tls))
}

/// Takes one certificate, and that one only.
#[derive(Debug)]
struct Pinned {
    fingerprint: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _above: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = Fingerprint(*Sha256::of(certificate.as_ref()).as_bytes());
        if found == self.fingerprint {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::General(format!("its fingerprint is {found}, and {} is pinned", self.fingerprint)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_it_is_shown() {
        let shown = (0..32).map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":");
        let read: Fingerprint = shown.parse().unwrap();
        assert_eq!(read.to_string(), shown);
        assert_eq!(shown.to_lowercase().replace(':', "").parse(), Ok(read));
        for wrong in ["", "AA:BB", &shown[3..], &format!("{shown}:00"), &shown.replace('F', "G")] {
            assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_secret_is_not_shown_and_goes_nowhere_unprotected() {
        let secret = || Secret::new("PVEAPIToken=a@b!c=very-secret".to_owned());
        let api = Api::new("https://192.0.2.1:8006", &Trust::System, secret()).unwrap();
        assert!(!format!("{api:?}").contains("very"));
        for url in
            ["http://192.0.2.1", "https://user:word@192.0.2.1", "https://192.0.2.1/?a", "node", "file:///x"]
        {
            assert!(
                matches!(Api::new(url, &Trust::System, secret()), Err(ApiError::Address { .. })),
                "{url}"
            );
        }
    }
}
