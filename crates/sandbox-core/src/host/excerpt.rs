//! The lines of a failed program's output that say why it failed.

/// How many lines of a failed program's output are shown.
const TAIL: usize = 20;

/// What dpkg writes behind a failed script's own words, before it goes on with other packages.
const DPKG_FAILED: &str = "dpkg: error processing ";

/// Returns the lines of a failed program's output that say why: the last, and where dpkg goes on after a failed script
/// for longer than that, those before its first error.
pub(super) fn excerpt(text: &str) -> String {
    const END: usize = 4;
    let lines: Vec<_> = text.lines().collect();
    let tail = lines.len().saturating_sub(TAIL);
    match lines.iter().position(|line| line.starts_with(DPKG_FAILED)) {
        Some(at) if at < tail + TAIL / 2 && tail > 0 => {
            let (begin, end) = ((at + 2).saturating_sub(TAIL - END), at + 2);
            let last = (lines.len() - END).max(end);
            let gap = if last > end { &["[…]"][..] } else { &[] };
            [&lines[begin..end], gap, &lines[last..]].concat().join("\n")
        }
        _ => lines[tail..].join("\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_scripts_own_words_are_shown() {
        let script = "one\nFailed to reload daemon\n";
        let error = "dpkg: error processing package a (--configure):\n status 1\n";
        let more: String = (0..40).map(|at| format!("Setting up p{at} ...\n")).collect();
        let end = "Errors were encountered while processing:\n a\n";
        for (text, has) in [
            (format!("{script}{error}{more}{end}"), true),
            (format!("{more}{script}{error}{more}{error}{end}"), true),
            (format!("{more}{script}{error}{end}"), true),
            (format!("{script}{error}{end}"), true),
            (format!("{script}{more}{end}"), false),
        ] {
            let shown = excerpt(&text);
            assert_eq!(shown.contains("Failed to reload daemon"), has, "{shown}");
            assert!(shown.contains("Errors were encountered") && shown.ends_with("\n a"), "{shown}");
            assert!(shown.lines().count() <= TAIL + 1, "{shown}");
        }
        let one: String = (0..TAIL).map(|at| format!("{at}\n")).collect();
        assert_eq!(excerpt(&one).lines().count(), TAIL);
        assert_eq!(excerpt(""), "");
    }
}
