//! A stand-in for a node of Proxmox VE: its programs, as far as they are used, and its folder of files.
//!
//! It refuses what Proxmox refuses: a template that is not there, a number that is taken, options and features that it
//! does not know, files that are no template's.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// `pvesh get /cluster/nextid`.
const PVESH: &str = r#"#!/bin/sh
[ "$1 $2" = "get /cluster/nextid" ] || { echo "no such path '$2'" >&2; exit 2; }
id=100
while [ -e "$NODE/etc/lxc/$id.conf" ]; do id=$((id + 1)); done
echo $id
"#;

/// `pvesm path local:vztmpl/NAME`.
const PVESM: &str = r#"#!/bin/sh
[ "$1" = path ] || { echo "unknown command '$1'" >&2; exit 255; }
case $2 in
  local:vztmpl/*/*) echo "unable to parse directory volume name" >&2; exit 255 ;;
  local:vztmpl/*.tar.zst | local:vztmpl/*.tar.gz) echo "$NODE/templates/${2#local:vztmpl/}" ;;
  local:*) echo "unable to parse directory volume name" >&2; exit 255 ;;
  *) echo "storage '${2%%:*}' does not exist" >&2; exit 255 ;;
esac
"#;

/// `pct create`, `pct start`.
const PCT: &str = r#"#!/bin/sh
fail() { echo "$1" >&2; exit "${2:-255}"; }
conf="$NODE/etc/lxc/$2.conf"
case $1 in
start)
  [ -e "$conf" ] || fail "Configuration file '$conf' does not exist" 2
  echo "$2" >>"$NODE/started"
  ;;
create)
  [ -e "$conf" ] && fail "CT $2 already exists on node 'stand-in'"
  template="$NODE/templates/${3#local:vztmpl/}"
  [ -f "$template" ] || fail "unable to create CT $2 - volume '$3' does not exist"
  zstd -qdc "$template" | tar -t >/dev/null || fail "unable to create CT $2 - no tar file"
  shift 3
  : >"$conf.new"
  while [ $# -gt 0 ]; do
    key=${1#--}
    [ "$key" != "$1" ] && [ $# -gt 1 ] || { rm "$conf.new"; fail "400 wrong number of arguments"; }
    case $key in
      description) printf '%s\n' "$2" | sed 's/%/%25/g; s/:/%3A/g; s/^/#/' >>"$conf.new" ;;
      arch|cores|cpulimit|features|hostname|memory|net0|onboot|ostype|startup|swap|tags|unprivileged|dev[0-9])
        printf '%s: %s\n' "$key" "$2" >>"$conf.new" ;;
      rootfs)
        case $2 in *[!0-9]*:*[!0-9]* | *:) rm "$conf.new"; fail "rootfs: invalid format" ;; esac
        printf 'rootfs: %s,size=%sG\n' "${2%%:*}:subvol" "${2##*:}" >>"$conf.new" ;;
      *) rm "$conf.new"; fail "Unknown option: $key" ;;
    esac
    case "$key $2" in
      "features "*) for part in $(echo "$2" | tr , ' '); do case $part in
          fuse=[01]|keyctl=[01]|nesting=[01]|mknod=[01]) ;;
          *) rm "$conf.new"; fail "features: invalid format" ;;
        esac; done ;;
    esac
    shift 2
  done
  mv "$conf.new" "$conf"
  ;;
*) fail "unknown command" ;;
esac
"#;

/// A node.
pub struct Pve {
    folder: PathBuf,
}

impl Pve {
    /// Makes one in a folder, whose packet filter is on or off.
    pub fn new(folder: &Path, filter: bool) -> Self {
        for name in ["bin", "etc/lxc", "etc/firewall", "templates"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        for (name, text) in [("pct", PCT), ("pvesm", PVESM), ("pvesh", PVESH)] {
            let path = folder.join("bin").join(name);
            let head = format!("#!/bin/sh\nNODE='{}'\n", folder.display());
            fs::write(&path, text.replacen("#!/bin/sh\n", &head, 1)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let text = format!("[OPTIONS]\n\nenable: {}\n", u8::from(filter));
        fs::write(folder.join("etc/firewall/cluster.fw"), text).unwrap();
        Self { folder: folder.to_owned() }
    }

    /// Gives the names in one of its folders.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.folder.join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Gives a file's text.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.folder.join(path)).unwrap()
    }
}
