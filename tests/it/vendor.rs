//! The vendor's sites of the kit, and that the program is led to them as to a mirror.

use sandbox_core::host::transport::{Ask, Http, HttpOptions, TransportError, asked, read};

use crate::{
    kit::vendor::Vendor,
    user::{User, said},
};

fn http(vendor: &Vendor, authority: bool) -> Http {
    let options = HttpOptions {
        elsewhere: vec![("https://forge.example.invalid".to_owned(), vendor.url())],
        authorities: if authority { std::fs::read(vendor.authority()).unwrap() } else { Vec::new() },
        ..HttpOptions::default()
    };
    Http::new(&options).unwrap()
}

#[test]
fn a_forge_and_an_install_site_are_laid_out_as_vendors_do() {
    let vendor = Vendor::new();
    vendor.release("o/tool", "v1.2.3", &[("tool-x86_64", b"#!/bin/sh\n")]);
    vendor.site("install", "0.9", &[("agent", b"agent")]);
    let http = http(&vendor, true);
    let forge = "https://forge.example.invalid";
    let (url, _) = asked(&http, &Ask::at(&format!("{forge}/o/tool/releases/latest"), 99)).unwrap();
    assert_eq!(url, format!("{}/o/tool/releases/tag/v1.2.3", vendor.url()));
    let sums = read(&http, &format!("{forge}/o/tool/releases/download/v1.2.3/checksums.txt"), 999).unwrap();
    assert!(String::from_utf8(sums).unwrap().ends_with("  tool-x86_64\n"));
    assert_eq!(read(&http, &format!("{forge}/install/version"), 99).unwrap(), b"0.9\n");
    assert_eq!(read(&http, &format!("{forge}/install/0.9/agent.sha256"), 99).unwrap().len(), 65);
    // another host is not led here, and nobody is trusted unasked
    let other = read(&http, "https://forge.example.invalid.example/x", 9).unwrap_err();
    assert!(matches!(other, TransportError::Unreachable { .. }), "{other:?}");
}

#[test]
fn an_authority_is_trusted_only_where_it_is_named() {
    let vendor = Vendor::new();
    vendor.put("/x", b"x");
    let url = "https://forge.example.invalid/x";
    assert!(matches!(read(&http(&vendor, false), url, 9), Err(TransportError::Unreachable { .. })));
    assert_eq!(read(&http(&vendor, true), url, 9).unwrap(), b"x");
}

#[test]
fn a_mirror_that_is_none_and_a_file_that_is_no_certificate_are_refused() {
    let archive = crate::kit::archive::Archive::small();
    let user = User::new(&archive, "http://127.0.0.1:9");
    let lock = ["lock", "kit", "--variant", "essential", "--keyring", "key"];
    let with = |more: &[&str]| user.sandbox(&[&lock, more].concat());
    for wrong in ["https://a.invalid", "a.invalid=b.invalid", "=https://b.invalid"] {
        let output = with(&["--vendor-mirror", wrong]);
        assert_eq!(output.status.code(), Some(2), "{wrong}: {}", said(&output));
    }
    for file in ["nowhere.pem", "key"] {
        let output = with(&["--ca", file]);
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    }
    std::fs::write(user.path("ca.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .unwrap();
    let output = with(&["--ca", "ca.pem"]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
}
