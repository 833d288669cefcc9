//! A stand-in for a node of Proxmox VE: its programs, as far as they are used, and its folder of files.
//!
//! It refuses what Proxmox refuses: a template that is not there, a number that is taken, options and features that it
//! does not know, files that are no template's, what does not run where it has to or runs where it must not.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// `pvesh get /cluster/nextid`.
const PVESH: &str = r#"#!/bin/sh
case "$1 $2" in
  "get /nodes/"*/lxc/*/interfaces) echo '[{"name":"eth0","inet":"192.0.2.9/24"}]'; exit 0 ;;
esac
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

/// `pct`, with a folder `inside/ID` as what the container has.
const PCT: &str = r#"#!/bin/sh
fail() { echo "$1" >&2; exit "${2:-255}"; }
conf="$NODE/etc/lxc/$2.conf"
there() { [ -e "$conf" ] || fail "Configuration file '$conf' does not exist" 2; }
runs() { [ -e "$NODE/running/${conf##*/}" ] || [ -e "$NODE/running/$(basename "$conf" .conf)" ] || fail "container not running!"; }
case $1 in
start)
  there
  [ ! -e "$NODE/running/$2" ] || fail "CT $2 already running"
  mkdir -p "$NODE/running"; : >"$NODE/running/$2"
  echo "$2" >>"$NODE/started"
  ;;
status) there; [ -e "$NODE/running/$2" ] && echo "status: running" || echo "status: stopped" ;;
stop | shutdown) there; runs; rm "$NODE/running/$2" ;;
destroy)
  there
  [ ! -e "$NODE/running/$2" ] || fail "unable to destroy CT $2 - container is running"
  rm -f "$conf" "$NODE/etc/firewall/$2.fw"
  ;;
set)
  there
  id=$2; shift 2
  while [ $# -gt 0 ]; do
    case $1 in
      --delete) for key in $(echo "$2" | tr , ' '); do sed -i "/^$key: /d" "$conf"; done ;;
      --cores|--cpulimit|--memory|--swap|--onboot|--startup)
        sed -i "/^${1#--}: /d" "$conf"; printf '%s: %s\n' "${1#--}" "$2" >>"$conf" ;;
      *) fail "Unknown option: ${1#--}" ;;
    esac
    shift 2
  done
  ;;
snapshot)
  there
  grep -q '^rootfs: plain:' "$conf" && fail "snapshot feature is not available"
  grep -q "^\[$3\]" "$conf" && fail "snapshot name '$3' already used"
  printf '[%s]\nsnaptime: 1760000000\n' "$3" >>"$conf"
  ;;
rollback) there; grep -q "^\[$3\]" "$conf" || fail "snapshot '$3' does not exist"; echo "$2 $3" >>"$NODE/rolled" ;;
delsnapshot) there; grep -q "^\[$3\]" "$conf" || fail "snapshot '$3' does not exist"; sed -i "/^\[$3\]/,+1d" "$conf" ;;
exec)
  there; runs
  id=$2; shift 2
  [ "$1 $2 $3" = "--keep-env 0 --" ] || fail "missing command"
  shift 3
  mkdir -p "$NODE/inside/$id"; cd "$NODE/inside/$id"
  exec env -i PATH="$PATH" container=lxc "$@"
  ;;
push) there; runs; mkdir -p "$NODE/inside/$2"; cp "$3" "$NODE/inside/$2/$(basename "$4")" ;;
pull) there; runs; cp "$NODE/inside/$2/$(basename "$3")" "$4" ;;
create)
  [ -e "$conf" ] && fail "CT $2 already exists on node 'stand-in'"
  template="$NODE/templates/${3#local:vztmpl/}"
  [ -f "$template" ] || fail "unable to create CT $2 - volume '$3' does not exist"
  zstd -qdc "$template" | tar -t >/dev/null || fail "unable to create CT $2 - no tar file"
  [ ! -e "$NODE/slow" ] || { : >"$NODE/begun"; exec sleep 60; }
  shift 3
  : >"$conf.new"
  while [ $# -gt 0 ]; do
    key=${1#--}
    [ "$key" != "$1" ] && [ $# -gt 1 ] || { rm "$conf.new"; fail "400 wrong number of arguments"; }
    case $key in
      description) printf '%s\n' "$2" | sed 's/%/%25/g; s/:/%3A/g; s/^/#/' >>"$conf.new" ;;
      arch|cores|cpulimit|features|hostname|memory|net0|onboot|ostype|startup|swap|tags|unprivileged|dev[0-9]|mp[0-9])
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
