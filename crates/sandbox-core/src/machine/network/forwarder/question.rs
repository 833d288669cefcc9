//! What a machine may ask of the host's resolver.
//!
//! The resolver takes the forwarder for a program of the host and may trust that more than the network: with zone
//! transfers, with updates, with what it says of itself. So nothing passes but a plain question for names of the
//! internet.
//!
//! **Source**: RFC 1035, sections 4.1.1 and 4.1.2; RFC 6891 for the additional record; the IANA registry of DNS
//! parameters.

/// The most bytes of a question that is forwarded.
pub(super) const QUESTION: usize = 4096;

const HEADER: usize = 12;
/// `IN`.
const INTERNET: u16 = 1;
/// TKEY, TSIG, IXFR, AXFR, MAILB and MAILA, which are no data of a name.
const META: std::ops::RangeInclusive<u16> = 249..=254;

/// Answers of the forwarder itself.
const SERVER_FAILURE: u8 = 2;
const NOT_IMPLEMENTED: u8 = 4;
const REFUSED: u8 = 5;

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Checked {
    /// It is forwarded.
    Question,
    /// It is answered at once.
    Refused(Vec<u8>),
    /// It is no question.
    Dropped,
}

/// Checks a message of a machine.
pub(super) fn check(message: &[u8]) -> Checked {
    let Some((flags, counts)) = header(message) else { return Checked::Dropped };
    if flags[0] & 0x80 != 0 || message.len() > QUESTION {
        return Checked::Dropped;
    }
    if flags[0] & 0x78 != 0 {
        return Checked::Refused(answer(message, NOT_IMPLEMENTED));
    }
    let plain = counts[..3] == [1, 0, 0] && counts[3] <= 2;
    match question_end(message).filter(|_| plain).and_then(|end| message.get(end - 4..end)) {
        Some(&[kind1, kind2, class1, class2]) => {
            let (kind, class) = (u16::from_be_bytes([kind1, kind2]), u16::from_be_bytes([class1, class2]));
            if class == INTERNET && !META.contains(&kind) {
                Checked::Question
            } else {
                Checked::Refused(answer(message, REFUSED))
            }
        }
        _ => Checked::Refused(answer(message, REFUSED)),
    }
}

/// Returns whether a message answers a question.
pub(super) fn answers(message: &[u8], question: &[u8]) -> bool {
    header(message).is_some_and(|(flags, _)| flags[0] & 0x80 != 0) && message.get(..2) == question.get(..2)
}

/// Writes the answer to a question that no resolver answered.
pub(super) fn failure(question: &[u8]) -> Vec<u8> {
    answer(question, SERVER_FAILURE)
}

fn header(message: &[u8]) -> Option<([u8; 2], [u16; 4])> {
    let head = message.first_chunk::<HEADER>()?;
    let count = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    Some(([head[2], head[3]], [count(4), count(6), count(8), count(10)]))
}

/// Finds the end of the only question: its name has no pointers.
fn question_end(message: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1 + length;
        match length {
            0 => break,
            1..=63 if at - HEADER <= 255 => {}
            _ => return None,
        }
    }
    let end = at + 4;
    (end <= message.len()).then_some(end)
}

/// Writes an answer without records: the question's number, operation and wish for recursion, and the question.
fn answer(question: &[u8], code: u8) -> Vec<u8> {
    let Some(head) = question.first_chunk::<HEADER>() else { return Vec::new() };
    let end = question_end(question);
    let mut answer = vec![head[0], head[1], 0x80 | (head[2] & 0x79), 0x80 | code];
    answer.extend([0, u8::from(end.is_some()), 0, 0, 0, 0, 0, 0]);
    answer.extend(end.and_then(|end| question.get(HEADER..end)).unwrap_or_default());
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(flags: [u8; 2], counts: [u16; 4], name: &[&[u8]], kind: u16, class: u16) -> Vec<u8> {
        let mut all = vec![0x12, 0x34, flags[0], flags[1]];
        all.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
        for label in name {
            all.push(label.len() as u8);
            all.extend(*label);
        }
        all.push(0);
        all.extend([kind.to_be_bytes(), class.to_be_bytes()].concat());
        all
    }

    const NAME: &[&[u8]] = &[b"deb", b"debian", b"org"];
    const ONE: [u16; 4] = [1, 0, 0, 0];

    #[test]
    fn plain_questions_pass_and_nothing_else() {
        let refused = |code| Some(code);
        for (what, message, code) in [
            ("A", question([1, 0], ONE, NAME, 1, 1), None),
            ("AAAA with EDNS", question([1, 0x20], [1, 0, 0, 1], NAME, 28, 1), None),
            ("HTTPS", question([1, 0], ONE, NAME, 65, 1), None),
            ("the root", question([1, 0], ONE, &[], 2, 1), None),
            ("AXFR", question([0, 0], ONE, NAME, 252, 1), refused(REFUSED)),
            ("IXFR", question([0, 0], [1, 0, 1, 0], NAME, 251, 1), refused(REFUSED)),
            ("version.bind", question([1, 0], ONE, &[b"version", b"bind"], 16, 3), refused(REFUSED)),
            ("an update", question([0x28, 0], ONE, NAME, 6, 1), refused(NOT_IMPLEMENTED)),
            ("a notice", question([0x20, 0], ONE, NAME, 6, 1), refused(NOT_IMPLEMENTED)),
            ("two questions", question([1, 0], [2, 0, 0, 0], NAME, 1, 1), refused(REFUSED)),
            ("an answer in it", question([1, 0], [1, 1, 0, 0], NAME, 1, 1), refused(REFUSED)),
            ("a long name", question([1, 0], ONE, &[&[b'x'; 63][..]; 5], 1, 1), refused(REFUSED)),
            (
                "a pointer",
                [&question([1, 0], ONE, &[], 1, 1)[..12], &[0xc0, 12, 0, 1, 0, 1]].concat(),
                refused(REFUSED),
            ),
            ("cut off", question([1, 0], ONE, NAME, 1, 1)[..20].to_vec(), refused(REFUSED)),
        ] {
            match (check(&message), code) {
                (Checked::Question, None) => {}
                (Checked::Refused(answer), Some(code)) => {
                    assert_eq!((answer[3] & 0xf, &answer[..2]), (code, &message[..2]), "{what}");
                    assert!(answer[2] & 0x80 != 0 && answer.len() <= message.len(), "{what}");
                }
                (found, _) => panic!("{what}: {found:?}"),
            }
        }
        let answer = question([0x81, 0x80], ONE, NAME, 1, 1);
        for (what, message) in
            [("an answer", answer.clone()), ("nothing", Vec::new()), ("short", vec![0; 11])]
        {
            assert_eq!(check(&message), Checked::Dropped, "{what}");
        }
        assert_eq!(check(&vec![0; QUESTION + 1]), Checked::Dropped);
        let asked = question([1, 0], ONE, NAME, 1, 1);
        assert!(answers(&answer, &asked) && !answers(&asked, &asked));
        assert!(answers(&failure(&asked), &asked) && failure(&asked)[3] & 0xf == SERVER_FAILURE);
        assert!(!answers(&[&[9, 9][..], &answer[2..]].concat(), &asked), "the answer to another question");
    }
}
