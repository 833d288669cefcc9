//! The verbs, as clap lists them: a table of verbs is compared with them, so that a new one is not forgotten.

use std::collections::BTreeSet;

/// Lists the verbs below some words, each with those below it; `help` returns the help page of a verb.
pub fn verbs(help: &dyn Fn(&[&str]) -> String, above: &[&str]) -> BTreeSet<String> {
    let page = help(&[above, &["--help"]].concat());
    let listed =
        page.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let mut all = BTreeSet::new();
    for line in listed.filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        let word = line.split_whitespace().next().unwrap();
        if word == "help" {
            continue;
        }
        let below = [above, &[word]].concat();
        let inner = verbs(help, &below);
        // what does something without a word behind it is a verb as well
        if inner.is_empty() || word == "lock" {
            all.insert(below.join(" "));
        }
        all.extend(inner);
    }
    all
}
