//! What the verbs of Proxmox VE share: where a container goes, and what is told of it.

use std::path::PathBuf;

use sandbox_core::machine::{
    Kind,
    proxmox::{
        Delivered, Delivery,
        config::Without,
        place::{Connection, Reach},
    },
};

use crate::{
    args::{LeaveOut, Node},
    exit::Exit,
    failure::Failure,
    settings::Settings,
    ui,
};

/// The name of the credential that systemd gives.
const CREDENTIAL: &str = "proxmox-token";

/// Makes of what was typed what is to be delivered.
///
/// # Errors
/// Where no token is named.
pub fn delivery(args: &Node, start: bool, settings: &Settings) -> Result<Delivery, Failure> {
    let Node { api: _, token_file: _, api_ca: _, fingerprint: _, stand_in: _, .. } = args;
    let Node { node, storage, rootfs, mount_point, bridge, id, leave_out, .. } = args;
    let word = |typed: &Option<String>, other: &str| typed.clone().unwrap_or_else(|| other.to_owned());
    let without = leave_out.iter().map(|what| match what {
        LeaveOut::Keyctl => Without::Keyctl,
        LeaveOut::Fuse => Without::Fuse,
        LeaveOut::Devices => Without::Devices,
    });
    Ok(Delivery {
        reach: reach(args, settings)?,
        node: node.clone(),
        storage: word(storage, "local"),
        rootfs: word(rootfs, "local-lvm:16"),
        bridge: word(bridge, "vmbr0"),
        mounts: mount_point.clone(),
        without: without.collect(),
        id: *id,
        start,
        now: settings.now,
    })
}

/// Gives the same for a new machine, none where it is one of another backend.
///
/// # Errors
/// As [`delivery`], and where options are of no use.
pub fn of(kind: Kind, args: &Node, start: bool, settings: &Settings) -> Result<Option<Delivery>, Failure> {
    match kind {
        Kind::Proxmox => delivery(args, start, settings).map(Some),
        _ if args.is_asked_for() => {
            Err(Failure::said(Exit::USAGE, "options of Proxmox VE want `--backend proxmox`"))
        }
        _ => Ok(None),
    }
}

fn reach(args: &Node, settings: &Settings) -> Result<Reach, Failure> {
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let Some(url) = &args.api else {
        return Ok(Reach::Programs { folder: args.stand_in.as_ref().map(absolute) });
    };
    let given = settings.credentials.as_ref().map(|folder| folder.join(CREDENTIAL));
    let token = args.token_file.as_ref().map(absolute).or_else(|| given.filter(|path| path.exists()));
    let token = token.ok_or_else(|| {
        let text = "the interface of Proxmox VE wants an API token, and no file of one is named";
        Failure::said(Exit::USAGE, text).hint(
            "name a file that nobody else may read, with USER@REALM!ID=SECRET in it",
            format!("--api {url} --token-file FILE"),
        )
    })?;
    Ok(Reach::Interface(Connection {
        url: url.trim_end_matches('/').to_owned(),
        authority: args.api_ca.as_ref().map(absolute),
        fingerprint: args.fingerprint,
        token,
    }))
}

/// Tells which container was made.
pub fn tell(event: &str, made: &Delivered, settings: &Settings) {
    let Delivered { container, node, template } = made;
    if settings.json() {
        let line = serde_json::json!({
            "event": event, "container": container, "node": node, "template": template,
        });
        ui::line(&line.to_string());
    } else {
        let of = template.as_ref().map(|template| format!(" of {template}")).unwrap_or_default();
        ui::line(&format!("container {container}{of}"));
    }
}
