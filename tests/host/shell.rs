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
    draws(&host.on_terminal(&["shell", agents]), &host.on_terminal(&drawn(agents)));
}

/// Prints a corner and a line of a box, an umlaut, and what colours there are; none of its bytes is typed as itself.
const DRAW: &str = r"printf '\342\224\214\342\224\200\303\244 %s\n' $COLORTERM; sleep 1";

/// Words a command that draws in tmux, which turns boxes into letters where it is told of no UTF-8.
pub fn drawn(machine: &str) -> [&str; 9] {
    ["exec", machine, "-t", "--", "tmux", "-L", "drawn", "new-session", DRAW]
}

/// Draws in tmux in a login shell, and by the command of [`drawn`]: both show what is drawn.
#[track_caller]
pub fn draws(shell: &[&str], command: &[&str]) {
    let drawing = "\u{250c}\u{2500}\u{e4} truecolor";
    let terminal = Terminal::open(command, 80, 24);
    terminal.expect(drawing, SOON);
    assert_eq!(terminal.end(SOON).0, 0);
    let mut terminal = Terminal::open(shell, 80, 24);
    terminal.greet();
    terminal.send(&format!("tmux -L shown new-session \"{}\"\n", DRAW.replace('$', "\\$")));
    terminal.expect(drawing, SOON);
    terminal.expect("[exited]", SOON);
    terminal.send("exit 0\n");
    assert_eq!(terminal.end(SOON).0, 0);
}
