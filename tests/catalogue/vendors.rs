//! Vendors that cannot be reached from where tests run: their sites as they lay them out, with small programs of
//! ours in place of theirs.

use std::net::Ipv4Addr;

use crate::agents;
use crate::kit::{
    compress::Compression,
    tar::{Entry, tar},
    vendor::{Vendor, sha256},
    zip::zipped,
};

/// The hosts that profiles fetch from.
pub const HOSTS: [&str; 5] = [
    "https://github.com",
    "https://pkgs.tailscale.com",
    "https://update.code.visualstudio.com",
    "https://dl.k8s.io",
    "https://storage.googleapis.com",
];

const PREAMBLE: &str = include_str!("vendor/preamble.pl");

/// Opens the sites at one of this machine's addresses.
pub fn open(address: Ipv4Addr) -> Vendor {
    let vendor = Vendor::at(address);
    forge(&vendor);
    own_sites(&vendor);
    agents::serve(&vendor);
    vendor
}

/// A program of ours that stands in for a vendor's.
fn program(text: &str) -> Vec<u8> {
    [PREAMBLE, text].concat().into_bytes()
}

/// A program that only tells its version.
pub fn speaker(name: &str) -> Vec<u8> {
    program(&include_str!("vendor/said").replace("@NAME@", name))
}

pub fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
    let entries: Vec<Entry> = files.iter().map(|(path, bytes)| Entry::file(path, 0o755, bytes)).collect();
    Compression::Gz.pack(&tar(&entries))
}

/// What is released on the forge.
fn forge(vendor: &Vendor) {
    let release = |repository: &str, tag: &str, name: &str, bytes: &[u8], checksums: &str| {
        vendor.release(repository, tag, &[(name, bytes)]);
        let line = format!("{}  {name}\n", sha256(bytes));
        vendor.put(&format!("/{repository}/releases/download/{tag}/{checksums}"), line.as_bytes());
    };
    let gnu = "x86_64-unknown-linux-gnu";
    let tool = |name: &str| packed(&[("LICENSE", b"free"), (name, &speaker(name))]);
    release("tsl0922/ttyd", "1.7.7", "ttyd.x86_64", &program(include_str!("vendor/ttyd")), "SHA256SUMS");
    release(
        "jesseduffield/lazygit",
        "v0.57.0",
        "lazygit_0.57.0_linux_x86_64.tar.gz",
        &tool("lazygit"),
        "checksums.txt",
    );
    let delta = packed(&[("delta-0.18.2-x86_64-unknown-linux-musl/delta", &speaker("delta"))]);
    release("dandavison/delta", "0.18.2", "delta-0.18.2-x86_64-unknown-linux-musl.tar.gz", &delta, "none");
    release("Wilfred/difftastic", "0.67.0", &format!("difft-{gnu}.tar.gz"), &tool("difft"), "none");
    release("derailed/k9s", "v0.51.0", "k9s_Linux_amd64.tar.gz", &tool("k9s"), "checksums.sha256");
    release(
        "kubernetes-sigs/kind",
        "v0.32.0",
        "kind-linux-amd64",
        &speaker("kind"),
        "kind-linux-amd64.sha256sum",
    );
    let folder = "code-server-4.106.0-linux-amd64";
    let server =
        packed(&[(&format!("{folder}/bin/code-server"), &program(include_str!("vendor/code-server")))]);
    release("coder/code-server", "v4.106.0", &format!("{folder}.tar.gz"), &server, "none");
    let netbird = packed(&[("README.md", b"read me"), ("netbird", &program(include_str!("vendor/netbird")))]);
    release(
        "netbirdio/netbird",
        "v0.60.2",
        "netbird_0.60.2_linux_amd64.tar.gz",
        &netbird,
        "netbird_0.60.2_checksums.txt",
    );
    // not executable, as the vendor's
    let alloy = zipped(&[("alloy-linux-amd64", 0o100_644, &program(include_str!("vendor/alloy")))]);
    release("grafana/alloy", "v1.18.1", "alloy-linux-amd64.zip", &alloy, "SHA256SUMS");
    let netdata = include_str!("vendor/netdata.run").replace("@PREAMBLE@", PREAMBLE);
    release(
        "netdata/netdata",
        "v2.8.0",
        "netdata-x86_64-v2.8.0.gz.run",
        netdata.as_bytes(),
        "sha256sums.txt",
    );
    let nono = packed(&[("nono", &program(include_str!("vendor/nono")))]);
    release("always-further/nono", "v0.64.1", &format!("nono-v0.64.1-{gnu}.tar.gz"), &nono, "SHA256SUMS.txt");
    // these two only tell which version is the newest
    vendor.release("tailscale/tailscale", "v1.92.3", &[]);
    vendor.release("microsoft/vscode", "1.108.0", &[]);
}

/// What vendors have on sites of their own.
fn own_sites(vendor: &Vendor) {
    let folder = "tailscale_1.92.3_amd64";
    let daemon = program(include_str!("vendor/tailscaled"));
    let client = program(include_str!("vendor/tailscale"));
    let files: [(&str, &[u8]); 3] = [
        (&format!("{folder}/tailscale"), &client),
        (&format!("{folder}/tailscaled"), &daemon),
        (&format!("{folder}/systemd/tailscaled.service"), b"[Service]\nExecStart=/bin/false\n"),
    ];
    let tailscale = packed(&files);
    vendor.put(&format!("/stable/{folder}.tgz"), &tailscale);
    vendor.put(&format!("/stable/{folder}.tgz.sha256"), sha256(&tailscale).as_bytes());
    let code = packed(&[("code", &program(include_str!("vendor/code")))]);
    vendor.put("/1.108.0/cli-alpine-x64/stable", &code);
    let kubectl = speaker("kubectl");
    vendor.put("/release/stable.txt", b"v1.34.2");
    vendor.put("/release/v1.34.2/bin/linux/amd64/kubectl", &kubectl);
    vendor.put("/release/v1.34.2/bin/linux/amd64/kubectl.sha256", sha256(&kubectl).as_bytes());
}
