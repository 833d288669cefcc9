//! An npm registry and a Python index among a vendor's sites, with packages made on the fly.

use std::sync::{Arc, Mutex};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha2::Digest as _;

use super::{
    compress::Compression,
    tar::{Entry, tar},
    vendor::{Vendor, sha256},
    zip::zipped,
};

/// An npm registry at `/npm` of a vendor's sites.
pub struct Npm<'a> {
    vendor: &'a Vendor,
    packages: Arc<Mutex<Vec<(String, Value)>>>,
}

impl<'a> Npm<'a> {
    /// Opens one without packages.
    pub fn at(vendor: &'a Vendor) -> Self {
        let packages: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let known = Arc::clone(&packages);
        let answer = move |path: &str, _: &[u8]| {
            let name = path.strip_prefix("/npm/")?.replace("%2f", "/");
            let known = known.lock().unwrap();
            let found = known.iter().find(|(package, _)| *package == name)?;
            Some(("application/json".to_owned(), found.1.to_string().into_bytes()))
        };
        vendor.server().service("/npm/", Box::new(answer));
        Self { vendor, packages }
    }

    /// Publishes a version, and makes it the latest: what else its description says, and its files.
    pub fn publish(&self, name: &str, version: &str, description: &Value, files: &[(&str, &str)]) {
        let mut own = json!({ "name": name, "version": version });
        for (key, value) in description.as_object().unwrap() {
            own[key] = value.clone();
        }
        let mut entries = vec![Entry::file("package/package.json", 0o644, own.to_string().as_bytes())];
        entries.extend(
            files.iter().map(|(path, text)| Entry::file(&format!("package/{path}"), 0o755, text.as_bytes())),
        );
        let bytes = Compression::Gz.pack(&tar(&entries));
        let path = format!("/npm/{name}/-/{}-{version}.tgz", name.rsplit('/').next().unwrap());
        self.vendor.put(&path, &bytes);
        let integrity = format!("sha512-{}", STANDARD.encode(sha2::Sha512::digest(&bytes)));
        own["dist"] = json!({ "tarball": format!("{}{path}", self.vendor.url()), "integrity": integrity });
        let mut packages = self.packages.lock().unwrap();
        if !packages.iter().any(|(known, _)| known == name) {
            packages.push((name.to_owned(), json!({ "name": name, "dist-tags": {}, "versions": {} })));
        }
        let (_, document) = packages.iter_mut().find(|(known, _)| known == name).unwrap();
        document["versions"][version] = own;
        document["dist-tags"]["latest"] = Value::from(version);
    }

    /// Changes what the registry says of a version.
    pub fn edit(&self, name: &str, version: &str, edit: impl FnOnce(&mut Value)) {
        let mut packages = self.packages.lock().unwrap();
        let (_, document) = packages.iter_mut().find(|(known, _)| known == name).unwrap();
        edit(&mut document["versions"][version]);
    }
}

/// Publishes a wheel in the index at `/simple` of a vendor's sites: its name, and what it needs.
pub fn wheel(vendor: &Vendor, file: &str, needs: &[&str]) {
    let mut parts = file.split('-');
    let (name, version) = (parts.next().unwrap(), parts.next().unwrap());
    let mut text = format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n");
    text.extend(needs.iter().map(|need| format!("Requires-Dist: {need}\n")));
    let path = format!("{name}-{version}.dist-info/METADATA");
    let bytes = zipped(&[
        (&format!("{name}.py"), 0o100_644, format!("version = '{version}'\n").as_bytes()),
        (&path, 0o100_644, text.as_bytes()),
    ]);
    vendor.put(&format!("/files/{file}"), &bytes);
    let place = format!("/simple/{}/index.html", name.to_ascii_lowercase().replace('_', "-"));
    let before = vendor.read(&place).unwrap_or_else(|| "<!DOCTYPE html><html><body>\n".to_owned());
    let link = format!("<a href=\"../../files/{file}#sha256={}\">{file}</a><br/>\n", sha256(&bytes));
    vendor.put(&place, (before + &link).as_bytes());
}
