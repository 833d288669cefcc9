//! How bytes come over the wire.

use std::time::{Duration, Instant};

use sandbox_core::{
    Class,
    error::Cause as _,
    host::transport::{Get, Http, HttpOptions, Pace, Transport as _, TransportError, read},
};
use tempfile::TempDir;

use crate::kit::server::{Fault, Server};

fn served() -> (TempDir, Server, Http) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), b"0123456789").unwrap();
    let server = Server::new(folder.path());
    (folder, server, Http::new(&HttpOptions::default()).unwrap())
}

#[test]
fn a_range_is_asked_for_and_believed_only_if_it_is_the_right_one() {
    let (_folder, server, http) = served();
    let url = format!("{}/file", server.url());
    let mut got = http.get(&Get { url: &url, offset: 4, limit: 10 }).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut got.body, &mut text).unwrap();
    assert_eq!((text.as_str(), got.resumed_at, got.total), ("456789", 4, Some(10)));
    server.fault("/file", Fault::OtherRange, 1);
    let problem = http.get(&Get { url: &url, offset: 4, limit: 10 }).map(|_| ()).unwrap_err();
    assert!(matches!(problem, TransportError::Offset { offset: 4, .. }));
    let problem = http.get(&Get { url: &url, offset: 10, limit: 10 }).map(|_| ()).unwrap_err();
    assert!(matches!(problem, TransportError::Offset { offset: 10, .. }));
}

#[test]
fn statuses_are_told_apart() {
    let (_folder, server, http) = served();
    let url = format!("{}/file", server.url());
    for (status, transient, class) in [
        (404, false, Class::Unavailable),
        (410, false, Class::Unavailable),
        (403, false, Class::Unreachable),
        (429, true, Class::Unreachable),
        (503, true, Class::Unreachable),
    ] {
        server.fault("/file", Fault::Status(status), 1);
        let problem = read(&http, &url, 10).unwrap_err();
        assert_eq!((problem.is_transient(), problem.class()), (transient, class), "{status}");
        assert!(problem.to_string().contains(&url));
    }
}

#[test]
fn a_silence_ends_in_time() {
    let (_folder, server, _) = served();
    let quick = HttpOptions { idle_timeout: Duration::from_millis(300), ..HttpOptions::default() };
    let http = Http::new(&quick).unwrap();
    server.fault("/file", Fault::Stall(3, 5000), 1);
    let started = Instant::now();
    let problem = read(&http, &format!("{}/file", server.url()), 10).unwrap_err();
    assert!(matches!(problem, TransportError::Broken { .. }), "{problem:?}");
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_drip_ends_in_time_and_is_not_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), [b'x'; 200]).unwrap();
    let server = Server::new(folder.path());
    let pace = Pace { least: 1000, span: Duration::from_millis(500) };
    let http = Http::new(&HttpOptions { pace, ..HttpOptions::default() }).unwrap();
    server.fault("/file", Fault::Drip(100), 1);
    let started = Instant::now();
    let problem = read(&http, &format!("{}/file", server.url()), 1000).unwrap_err();
    assert!(matches!(problem, TransportError::Slow { least: 1000, .. }), "{problem:?}");
    assert_eq!((problem.class(), problem.is_transient()), (Class::Unreachable, false));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn more_than_the_limit_is_refused_before_it_is_read() {
    let (_folder, server, http) = served();
    let problem = read(&http, &format!("{}/file", server.url()), 9).unwrap_err();
    assert!(matches!(problem, TransportError::Long { limit: 9, .. }));
    assert_eq!(problem.class(), Class::Untrusted);
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    let (_folder, server, http) = served();
    server.fault("/elsewhere", Fault::Redirect("/file"), 1);
    assert_eq!(read(&http, &format!("{}/elsewhere", server.url()), 10).unwrap(), b"0123456789");
    server.log();
    server.fault("/loop", Fault::Redirect("/loop"), 99);
    let problem = read(&http, &format!("{}/loop", server.url()), 10).unwrap_err();
    assert!(matches!(problem, TransportError::Unreachable { .. }));
    assert_eq!(server.log().len(), 11, "the first and ten redirects");
}

#[test]
fn a_redirect_does_not_lead_to_a_file() {
    let (_folder, server, http) = served();
    server.fault("/file", Fault::Redirect("file:///etc/passwd"), 1);
    assert!(read(&http, &format!("{}/file", server.url()), 1 << 20).is_err());
}

#[test]
fn a_proxy_is_a_value() {
    let (_folder, server, _) = served();
    let options = HttpOptions {
        http_proxy: Some(server.url().to_owned()),
        no_proxy: Some("127.0.0.1".to_owned()),
        ..HttpOptions::default()
    };
    let http = Http::new(&options).unwrap();
    assert_eq!(read(&http, "http://archive.example.invalid/file", 10).unwrap(), b"0123456789");
    assert_eq!(read(&http, &format!("{}/file", server.url()), 10).unwrap(), b"0123456789");
    let proxied: Vec<bool> = server.log().iter().map(|request| request.proxied).collect();
    assert_eq!(proxied, [true, false]);
}
