//! Users and groups of the tree.

use crate::spec::{Group, Layer, User};

/// One user of several entries of the same name: later entries add groups.
pub(super) fn users(layer: &Layer) -> Vec<User> {
    let mut merged: Vec<User> = Vec::new();
    for user in &layer.users {
        match merged.iter_mut().find(|known| known.name == user.name) {
            Some(known) => {
                let new = user.groups.iter().filter(|group| !known.groups.contains(group)).cloned();
                let new: Vec<_> = new.collect();
                known.groups.extend(new);
            }
            None => merged.push(user.clone()),
        }
    }
    merged
}

/// The commands that make the groups and users; a user that the tree has, of a layer below, is given groups.
pub(super) fn commands(layer: &Layer, passwd: &str) -> Vec<(String, Vec<String>)> {
    let mut commands: Vec<_> = layer.groups.iter().map(group).collect();
    for user in users(layer) {
        let system = user.groups.iter().filter(|name| !layer.groups.iter().any(|group| group.name == **name));
        commands.extend(system.map(|name| group(&Group { name: name.clone(), gid: None })));
        let there = passwd.lines().any(|line| line.split(':').next() == Some(&user.name));
        let argv = match (there, user.groups.as_slice()) {
            (false, _) => add(&user),
            (true, []) => continue,
            (true, groups) => {
                ["usermod", "--append", "--groups", &groups.join(","), &user.name].map(str::to_owned).to_vec()
            }
        };
        commands.push((format!("user `{}`", user.name), argv));
    }
    commands
}

/// One that is there is well: a package may have made it.
fn group(group: &Group) -> (String, Vec<String>) {
    let mut argv = ["groupadd", "--force", "--system"].map(str::to_owned).to_vec();
    if let Some(gid) = group.gid {
        argv.extend(["--gid".to_owned(), gid.to_string()]);
    }
    argv.push(group.name.clone());
    (format!("group `{}`", group.name), argv)
}

fn add(user: &User) -> Vec<String> {
    let (uid, groups) = (user.uid.to_string(), user.groups.join(","));
    let mut argv = vec!["useradd", "--create-home", "--user-group", "--uid", &uid];
    argv.extend(["--groups", &groups, "--shell", &user.shell, &user.name]);
    argv.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(groups: &[&str]) -> User {
        User {
            name: "agent".to_owned(),
            uid: 1000,
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            shell: "/bin/bash".to_owned(),
        }
    }

    #[test]
    fn a_user_of_two_entries_is_made_once_with_all_groups() {
        let layer = Layer { users: vec![user(&["sudo"]), user(&["docker", "sudo"])], ..Layer::default() };
        let made = commands(&layer, "agents:x:1:1::/:/bin/sh\n");
        let (_, useradd) = made.last().unwrap();
        assert_eq!(made.len(), 3);
        assert!(useradd.windows(2).any(|pair| pair == ["--groups", "sudo,docker"]), "{useradd:?}");
    }

    #[test]
    fn a_user_of_a_layer_below_is_given_groups() {
        let passwd = "root:x:0:0::/:/bin/sh\nagent:x:1000:1000::/home/agent:/bin/bash\n";
        let groups = vec![Group { name: "kvm".to_owned(), gid: Some(992) }];
        let layer = Layer { groups, users: vec![user(&["kvm"])], ..Layer::default() };
        let made: Vec<_> = commands(&layer, passwd).into_iter().map(|(_, argv)| argv.join(" ")).collect();
        let wanted = ["groupadd --force --system --gid 992 kvm", "usermod --append --groups kvm agent"];
        assert_eq!(made, wanted);
        assert!(commands(&Layer { users: vec![user(&[])], ..Layer::default() }, passwd).is_empty());
    }
}
