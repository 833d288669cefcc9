//! Users and groups of the tree.

use crate::spec::{Layer, User};

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

/// The commands that make the users.
pub(super) fn commands(layer: &Layer) -> Vec<(String, Vec<String>)> {
    let mut commands = Vec::new();
    let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    for user in users(layer) {
        let what = format!("user `{}`", user.name);
        for group in &user.groups {
            commands.push((format!("group `{group}`"), argv(&["groupadd", "--force", "--system", group])));
        }
        let uid = user.uid.to_string();
        commands.push((
            what,
            argv(&[
                "useradd",
                "--create-home",
                "--user-group",
                "--uid",
                &uid,
                "--groups",
                &user.groups.join(","),
                "--shell",
                &user.shell,
                &user.name,
            ]),
        ));
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_of_two_profiles_is_made_once_with_all_groups() {
        let user = |groups: &[&str]| User {
            name: "agent".to_owned(),
            uid: 1000,
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            shell: "/bin/bash".to_owned(),
        };
        let layer = Layer { users: vec![user(&["sudo"]), user(&["docker", "sudo"])], ..Layer::default() };
        let made = commands(&layer);
        let (_, useradd) = made.last().unwrap();
        assert_eq!(made.len(), 3);
        assert!(useradd.windows(2).any(|pair| pair == ["--groups", "sudo,docker"]), "{useradd:?}");
    }
}
