//! The environment of a payload.

use std::os::fd::OwnedFd;

use super::{
    enter::{Payload, Runs},
    locale::locale,
    passwd::Account,
    variables::variables,
};

/// The search path of a session, as Debian's login gives root.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns a payload's environment: a session's own with the guest's locale, over it what the guest sets for every user,
/// over that what is asked for. So a profile's variables are there as a login would have them.
pub(super) fn of(root: &OwnedFd, payload: &Payload, account: &Account) -> Vec<(String, String)> {
    let own = [own(payload, account), locale(root)].concat();
    let all = match payload.runs {
        Runs::AsUser => variables(root, own),
        Runs::AsRoot | Runs::AsRootForUser => own,
    };
    over(all, &payload.env)
}

fn own(payload: &Payload, account: &Account) -> Vec<(String, String)> {
    let own = [
        ("PATH", PATH),
        ("HOME", &account.home),
        ("USER", &account.name),
        ("LOGNAME", &account.name),
        ("SHELL", &account.shell),
        ("TERM", &payload.term),
    ];
    own.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn over(mut all: Vec<(String, String)>, asked: &[(String, String)]) -> Vec<(String, String)> {
    all.retain(|(key, _)| !asked.iter().any(|(other, _)| other == key));
    all.extend(asked.iter().cloned());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_replaces_the_sessions_own() {
        let account = Account {
            name: "agent".to_owned(),
            uid: 1000,
            gid: 1000,
            groups: Vec::new(),
            home: "/home/agent".to_owned(),
            shell: "/bin/bash".to_owned(),
        };
        let env = vec![("PATH".to_owned(), "/x".to_owned()), ("A".to_owned(), "b=c".to_owned())];
        let payload = Payload { env, term: "dumb".to_owned(), ..Payload::default() };
        let all = over(own(&payload, &account), &payload.env);
        let get = |key: &str| all.iter().filter(|(name, _)| name == key).collect::<Vec<_>>();
        assert_eq!(get("PATH"), [&("PATH".to_owned(), "/x".to_owned())]);
        assert_eq!(get("A")[0].1, "b=c");
        assert_eq!(get("HOME")[0].1, "/home/agent");
        assert_eq!(get("TERM")[0].1, "dumb");
    }
}
