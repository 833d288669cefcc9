//! `sandbox shell` on a terminal.

use crate::{
    lab::{Lab, SOON},
    terminal::Terminal,
};

/// A login shell of `agent`, on a terminal that is as large as ours and grows with it; ours is restored.
pub fn is_a_login_shell_that_follows_the_window(lab: &Lab) {
    let host = lab.host();
    let agents = host.agents();
    let mut terminal = Terminal::open(&host.on_terminal(&["shell", agents]), 91, 31);
    terminal.greet();
    terminal.send("echo who=$(id -un) size=$(stty size) login=$(shopt -q login_shell && echo yes)\n");
    terminal.expect("who=agent size=31 91 login=yes", SOON);
    terminal.resize(77, 22);
    terminal.send("while [ \"$(stty size)\" != '22 77' ]; do sleep 0.1; done; echo now=$(stty size)\n");
    terminal.expect("now=22 77", SOON);
    assert!(!terminal.is_cooked(), "raw while the shell has it");
    terminal.send("exit 7\n");
    let (code, terminal) = terminal.end(SOON);
    assert_eq!(code, 7, "shown:\n{}", terminal.shown());
    assert!(terminal.is_cooked(), "restored");
}
