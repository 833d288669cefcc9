//! Directories of the host in a machine, on whatever backend it is.

use crate::lab::Host;

/// A permanent mount is of one directory, with the same flags after a start, and goes at once.
pub fn kept_at_starts(host: &Host<'_>) {
    let agents = host.agents();
    host.sandbox(&["mount", agents, "/srv/share", "/mnt/kept", "--permanent"]).ok();
    host.exec(agents, &["touch", "/mnt/kept/of-the-guest"]).ok();
    host.sh("mkdir -p /srv/inner").ok();
    host.sandbox(&["mount", agents, "/srv/inner", "/mnt/kept/in", "--permanent", "--read-only"]).ok();
    // a guest that can write above a source could replace it
    host.sh("mkdir -p /srv/share/sub && ln -s /srv/share/sub /srv/way").ok();
    for source in ["/srv/share/sub", "/srv/way"] {
        host.sandbox(&["mount", agents, source, "/mnt/sub", "--read-only", "--permanent"]).ends_with(4);
    }
    host.sandbox(&["mount", agents, "/srv", "/mnt/sub", "--permanent"]).ends_with(4);
    // one that lasts until the machine ends counts until then
    host.sh("mkdir -p /srv/transient/sub").ok();
    let below = ["mount", agents, "/srv/transient/sub", "/mnt/below", "--read-only"];
    host.sandbox(&["mount", agents, "/srv/transient", "/mnt/transient"]).ok();
    host.sandbox(&below).ends_with(4);
    host.sandbox(&["unmount", agents, "/mnt/transient"]).ok();
    host.sandbox(&below).ends_with(4);
    host.sandbox(&["restart", agents]).ok();
    host.sandbox(&below).ok();
    host.sandbox(&["unmount", agents, "/mnt/below"]).ok();
    host.sh("rm -r /srv/transient").ok();
    assert_eq!(host.exec(agents, &["ls", "/mnt/kept"]).ok(), "in\nof-the-guest\nsub\nx");
    let flags = "grep -c ' /mnt/kept[^ ]* r[ow],nosuid,nodev' /proc/self/mountinfo";
    assert_eq!(host.exec(agents, &["sh", "-c", flags]).ok(), "2");
    let tricks = "mount -o remount,bind,suid,dev /mnt/kept || mount -o remount,bind,rw /mnt/kept/in || \
                  umount /mnt/kept/in || umount -l /mnt/kept/in || mv /mnt/kept/in /mnt/kept/out";
    assert_ne!(host.exec(agents, &["sh", "-c", tricks]).code, 0);

    // a link, then another directory in place of the source
    host.sandbox(&["stop", agents]).ok();
    host.sh("mv /srv/share /srv/aside && ln -s / /srv/share").ok();
    host.sandbox(&["start", agents]).ends_with(4);
    host.sh("rm /srv/share && mkdir /srv/share").ok();
    let refused = host.sandbox(&["start", agents]);
    refused.ends_with(4);
    assert!(refused.err.contains("/srv/share is another directory"), "{refused:?}");
    // as the host's service manager or LXC starts it
    let past = format!("! systemctl start systemd-nspawn@{agents} && ! lxc-start {agents}");
    host.sh(&format!("{{ {past}; }} 2>/dev/null")).ok();
    host.sh("rmdir /srv/share && mv /srv/aside /srv/share").ok();
    host.sandbox(&["start", agents]).ok();

    host.sandbox(&["unmount", agents, "/mnt/kept"]).ok();
    assert_eq!(host.exec(agents, &["ls", "/mnt/kept"]).ok(), "");
    host.sandbox(&["unmount", agents, "/mnt/kept/in"]).ok();
    host.sandbox(&["restart", agents]).ok();
    assert_eq!(host.exec(agents, &["ls", "/mnt/kept"]).ok(), "");
    host.sh("rm -r /srv/inner /srv/way").ok();
}

/// What a guest makes in a user's directory is never the host's root's, but where that is asked for.
pub fn owners_are_mapped(host: &Host<'_>) {
    let agents = host.agents();
    host.sh("mkdir -p /srv/mine && chown 1234:1234 /srv/mine").ok();
    let make =
        "cp /bin/true /mnt/mine/tool && chmod 6755 /mnt/mine/tool; stat -c %u /mnt/mine /mnt/mine/tool";
    let owner_of = |options: &[&str], user: &str| {
        host.sandbox(&[&["mount", agents, "/srv/mine", "/mnt/mine"][..], options].concat()).ok();
        let inside = host.exec(agents, &["setpriv", "--reuid", user, "--clear-groups", "sh", "-c", make]);
        host.sandbox(&["unmount", agents, "/mnt/mine"]).ok();
        let outside = host.sh("stat -c %u /srv/mine/tool; rm /srv/mine/tool");
        (inside.ok().to_owned(), outside.ok().to_owned())
    };
    let pair = |inside: &str, outside: &str| (inside.to_owned(), outside.to_owned());
    assert_eq!(owner_of(&["--owner", "root"], "0"), pair("0\n0", "1234"));
    assert_eq!(owner_of(&["--owner", "agent"], "agent"), pair("1000\n1000", "1234"));
    assert_eq!(owner_of(&[], "0"), pair("1000\n0", "2147352576"), "the machine has a user `agent`");
    assert_eq!(owner_of(&["--same-ids"], "0"), pair("1234\n0", "0"));
    host.sandbox(&["mount", agents, "/srv/mine", "/mnt/mine", "--owner", "no-such-user"]).ends_with(1);
    host.sandbox(&["mount", agents, "/srv/mine", "/mnt/mine", "--owner", "root", "--same-ids"]).ends_with(2);
    host.sh("rm -r /srv/mine").ok();
}
