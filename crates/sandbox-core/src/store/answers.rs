//! What services answered, kept for as long as they say that it stays true.
//!
//! ```text
//! <cache>/answers/ab12…    of the address and what was accepted; a line with the end of its time, one with the
//!                          address that it came from, then the answer
//! ```
//!
//! A second machine of the same profiles asks the same registries within minutes; some of them count how often.
//!
//! **Source**: RFC 9111 §4.2, §5.2.2; a private cache.

use std::{
    fs,
    io::{Cursor, Read as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use super::Store;
use crate::{
    digest::Sha256,
    host::transport::{Answer, Ask, Get, Got, Transport, TransportError, broken},
};

/// The longest that anything is believed, whatever was said: who waits for a release asks again soon.
const LONGEST: Duration = Duration::from_secs(600);

/// A transport that does not ask again what was answered a moment ago.
pub struct Answers<'a> {
    folder: PathBuf,
    inner: &'a dyn Transport,
    now: i64,
}

impl Store {
    /// Gives a transport that does not ask again what was answered a moment before `now`, in seconds since 1970.
    #[must_use]
    pub fn answers<'a>(&self, inner: &'a dyn Transport, now: i64) -> Answers<'a> {
        let answers = Answers { folder: self.root.join("answers"), inner, now };
        answers.forget();
        answers
    }
}

impl Answers<'_> {
    /// Removes what is no longer true. Nothing depends on it.
    fn forget(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_old = fs::File::open(&path).is_ok_and(|file| {
                let mut head = String::new();
                let read = file.take(24).read_to_string(&mut head);
                // a head that is cut within a letter is not read as text
                read.is_ok() && self.is_true(head.lines().next().unwrap_or_default()).is_none()
            });
            if is_old {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Tells whether an answer is to be believed until the moment that its first line has.
    fn is_true(&self, until: &str) -> Option<()> {
        let left = until.parse::<i64>().ok()?.checked_sub(self.now)?;
        // a clock that was set back makes nothing last longer
        let longest = i64::try_from(LONGEST.as_secs()).ok()?;
        (1..=longest).contains(&left).then_some(())
    }

    fn path(&self, ask: &Ask<'_>) -> PathBuf {
        let key = format!("{}\n{}", ask.url, ask.accept.unwrap_or_default());
        self.folder.join(Sha256::of(key.as_bytes()).to_string())
    }

    fn recalled(&self, path: &Path, limit: u64) -> Option<Answer> {
        let bytes = fs::read(path).ok()?;
        let mut parts = bytes.splitn(3, |&byte| byte == b'\n');
        let mut text = || std::str::from_utf8(parts.next()?).ok();
        let (until, url) = (text()?, text()?.to_owned());
        let body = parts.next()?.to_vec();
        self.is_true(until)?;
        (body.len() as u64 <= limit).then(|| Answer {
            url,
            fresh: Duration::ZERO,
            body: Box::new(Cursor::new(body)),
        })
    }

    fn keep(&self, path: &Path, url: &str, fresh: Duration, body: &[u8]) -> std::io::Result<()> {
        let fresh = i64::try_from(fresh.min(LONGEST).as_secs()).unwrap_or_default();
        fs::create_dir_all(&self.folder)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        writeln!(file, "{}\n{url}", self.now.saturating_add(fresh))?;
        file.write_all(body)?;
        file.persist(path)?;
        Ok(())
    }
}

impl Transport for Answers<'_> {
    fn get(&self, request: &Get<'_>) -> Result<Got, TransportError> {
        self.inner.get(request)
    }

    fn ask(&self, request: &Ask<'_>) -> Result<Answer, TransportError> {
        if request.post.is_some() {
            return self.inner.ask(request);
        }
        let path = self.path(request);
        if let Some(answer) = self.recalled(&path, request.limit) {
            return Ok(answer);
        }
        let mut answer = self.inner.ask(request)?;
        if answer.fresh.is_zero() || answer.url.contains('\n') {
            return Ok(answer);
        }
        let mut body = Vec::new();
        answer.body.read_to_end(&mut body).map_err(|source| broken(&answer.url, request.limit, source))?;
        // a disk that is full is not for this to tell
        let _ = self.keep(&path, &answer.url, answer.fresh, &body);
        Ok(Answer { body: Box::new(Cursor::new(body)), ..answer })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A service that answers with how often it was asked.
    struct Service {
        fresh: u64,
        asked: AtomicU64,
    }

    impl Transport for Service {
        fn get(&self, request: &Get<'_>) -> Result<Got, TransportError> {
            Err(TransportError::Missing { url: request.url.to_owned() })
        }

        fn ask(&self, request: &Ask<'_>) -> Result<Answer, TransportError> {
            let body = self.asked.fetch_add(1, Ordering::Relaxed).to_string().into_bytes();
            let fresh = Duration::from_secs(self.fresh);
            Ok(Answer { url: format!("{}/1", request.url), fresh, body: Box::new(Cursor::new(body)) })
        }
    }

    fn said(store: &Store, service: &Service, now: i64, ask: &Ask<'_>) -> String {
        let Answer { url, mut body, .. } = store.answers(service, now).ask(ask).unwrap();
        assert_eq!(url, format!("{}/1", ask.url));
        let mut text = String::new();
        body.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn an_answer_is_believed_as_long_as_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let service = Service { fresh: 300, asked: AtomicU64::new(0) };
        let ask = Ask::at("http://a.example/x", 100);
        let json = Ask { accept: Some("application/json"), ..ask };
        let post = Ask { post: Some(("text/plain", b"x")), ..ask };
        assert_eq!(said(&store, &service, 1000, &ask), "0");
        assert_eq!(said(&store, &service, 1299, &ask), "0");
        assert_eq!(said(&store, &service, 1299, &json), "1", "another form is another answer");
        assert_eq!(said(&store, &service, 1299, &post), "2", "what is sent may change something");
        assert_eq!(said(&store, &service, 1300, &ask), "3", "its time is over");
        assert_eq!(said(&store, &service, 900, &ask), "4", "the clock was set back: it would last too long");
        assert_eq!(fs::read_dir(folder.path().join("answers")).unwrap().count(), 1, "what is old is removed");
    }

    #[test]
    fn nothing_is_believed_longer_than_ten_minutes_or_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let ask = Ask::at("http://a.example/x", 100);
        let service = Service { fresh: 1 << 40, asked: AtomicU64::new(0) };
        assert_eq!(said(&store, &service, 1000, &ask), "0");
        assert_eq!(said(&store, &service, 1599, &ask), "0");
        assert_eq!(said(&store, &service, 1600, &ask), "1");
        let service = Service { fresh: 0, asked: AtomicU64::new(0) };
        let other = Ask::at("http://a.example/y", 100);
        assert_eq!(said(&store, &service, 1000, &other), "0");
        assert_eq!(said(&store, &service, 1000, &other), "1");
    }
}
