//! https, and the variables that name proxies, as users of the program have them.

use std::{fs, process::Output};

use crate::{
    kit::{
        archive::Archive,
        server::Server,
        tls::{Tls, Tunnel},
    },
    user::{BOOTSTRAP, User, said},
};

/// A host that no resolver knows: what is asked of it goes through a proxy or nowhere.
const NOWHERE: &str = "archive.example.invalid";

fn build(user: &User, variables: &[(&str, &str)]) -> Output {
    let mut command = user.command(&BOOTSTRAP);
    command.envs(variables.iter().copied());
    drop(fs::remove_dir_all(user.path("cache")));
    command.output().unwrap()
}

/// These packages hold no dpkg: a build that fetched all ends where the tree is to be configured.
fn came_through(output: &Output) {
    assert!(matches!(output.status.code(), Some(1 | 6)), "{}", said(output));
    assert!(said(output).contains("dpkg"), "{}", said(output));
}

#[test]
fn https_is_trusted_by_the_systems_certificates_or_those_that_are_named() {
    let archive = Archive::small();
    let server = Server::new(archive.root());
    let tls = Tls::before(&server);
    let user = User::new(&archive, &tls.url());
    let refused = build(&user, &[]);
    assert_eq!(refused.status.code(), Some(5), "{}", said(&refused));
    assert!(said(&refused).contains("certificate"), "{}", said(&refused));
    assert_eq!(server.log(), [], "nothing is asked of one who is not trusted");
    fs::write(user.path("outside/roots.pem"), &tls.authority).unwrap();
    let roots = user.path("outside/roots.pem");
    came_through(&build(&user, &[("SSL_CERT_FILE", roots.to_str().unwrap())]));
    assert!(server.log().iter().any(|request| request.path.ends_with(".deb")));
}

#[test]
fn http_goes_through_the_proxy_that_a_variable_names() {
    let archive = Archive::small();
    let proxy = Server::new(archive.root());
    let user = User::new(&archive, &format!("http://{NOWHERE}"));
    let output = build(&user, &[]);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    let other = "http://127.0.0.1:9";
    for variables in [
        &[("http_proxy", proxy.url())][..],
        &[("HTTP_PROXY", proxy.url())],
        &[("ALL_PROXY", proxy.url())],
        &[("all_proxy", other), ("http_proxy", proxy.url())],
        &[("HTTP_PROXY", other), ("http_proxy", proxy.url())],
        &[("https_proxy", other), ("http_proxy", proxy.url()), ("no_proxy", "example.org")],
    ] {
        came_through(&build(&user, variables));
        let log = proxy.log();
        assert!(log.len() > 2 && log.iter().all(|request| request.proxied), "{variables:?}: {log:?}");
    }
    for none in ["no_proxy", "NO_PROXY"] {
        for except in [NOWHERE, "example.invalid", "*"] {
            let output = build(&user, &[("http_proxy", proxy.url()), (none, except)]);
            assert_eq!(output.status.code(), Some(5), "{none}={except}: {}", said(&output));
        }
    }
    // a proxy for https is none for http
    let output = build(&user, &[("https_proxy", proxy.url())]);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert_eq!(proxy.log(), []);
    let output = build(&user, &[("http_proxy", "http://user:secret@[")]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(!said(&output).contains("secret"), "{}", said(&output));
}

#[test]
fn https_goes_through_a_tunnel_and_stays_closed_to_the_proxy() {
    let archive = Archive::small();
    let server = Server::new(archive.root());
    let tls = Tls::before(&server);
    let proxy = Tunnel::to(&tls);
    let user = User::new(&archive, &format!("https://{NOWHERE}"));
    fs::write(user.path("outside/roots.pem"), &tls.authority).unwrap();
    let roots = user.path("outside/roots.pem");
    let roots = ("SSL_CERT_FILE", roots.to_str().unwrap());
    for name in ["https_proxy", "HTTPS_PROXY", "all_proxy"] {
        came_through(&build(&user, &[roots, (name, &proxy.url())]));
        let log = proxy.log();
        assert!(!log.is_empty(), "{name}");
        assert!(log.iter().all(|line| line == "CONNECT archive.example.invalid:443 HTTP/1.1"), "{log:?}");
    }
    let output = build(&user, &[roots, ("http_proxy", &proxy.url())]);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert!(proxy.log().is_empty());
}

#[test]
fn a_folder_is_read_without_any_network_or_proxy() {
    let archive = Archive::small();
    let user = User::new(&archive, &format!("file://{}", archive.root().display()));
    came_through(&build(
        &user,
        &[("http_proxy", "http://127.0.0.1:9"), ("https_proxy", "http://127.0.0.1:9")],
    ));
}
