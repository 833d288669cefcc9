//! The few messages of the D-Bus protocol that are spoken with a guest: those that are written, and those that are
//! read, of which nothing is believed.
//!
//! **Source**: the D-Bus specification, "Message Protocol" and "Marshaling".

use std::io;

const ENDIAN: u8 = if cfg!(target_endian = "big") { b'B' } else { b'l' };

/// The largest answer that is read: a list of some thousand units.
const LARGEST: usize = 1 << 20;

const METHOD_CALL: u8 = 1;
pub(super) const METHOD_RETURN: u8 = 2;
pub(super) const ERROR: u8 = 3;

/// What is asked of whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) peer: &'static str,
    pub(super) object: &'static str,
    pub(super) interface: &'static str,
    pub(super) member: &'static str,
    /// Of what is handed over with it; empty where that is nothing.
    pub(super) signature: &'static str,
}

impl Question {
    /// Writes it.
    pub(super) fn write(&self, serial: u32, arguments: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut body = Writer::default();
        arguments(&mut body);
        let mut fields = Writer::default();
        for (code, kind, value) in [
            (1, "o", self.object),
            (2, "s", self.interface),
            (3, "s", self.member),
            (6, "s", self.peer),
            (8, "g", self.signature),
        ] {
            fields.align(8);
            fields.0.push(code);
            fields.signature(kind);
            if kind == "g" { fields.signature(value) } else { fields.text(value) }
        }
        let mut whole = Writer(vec![ENDIAN, METHOD_CALL, 0, 1]);
        whole.number(body.0.len());
        whole.0.extend(serial.to_ne_bytes());
        whole.number(fields.0.len());
        whole.0.extend(fields.0);
        whole.align(8);
        whole.0.extend(body.0);
        whole.0
    }
}

/// What stands before a message's fields and its body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) kind: u8,
    /// How many bytes its fields take, and what fills them up.
    pub(super) fields: usize,
    /// How many bytes its body takes.
    pub(super) body: usize,
}

impl Head {
    /// How many bytes it has.
    pub(super) const LENGTH: usize = 16;

    /// Reads it.
    pub(super) fn read(bytes: &[u8]) -> io::Result<Self> {
        let mut head = Reader { bytes, at: 0 };
        let [endian, kind, ..] = head.take(4)? else { return Err(strange()) };
        let body = head.number()? as usize;
        head.number()?;
        let fields = (head.number()? as usize).next_multiple_of(8);
        if *endian != ENDIAN || body > LARGEST || fields > LARGEST {
            return Err(strange());
        }
        Ok(Self { kind: *kind, fields, body })
    }
}

/// Finds the number of the message that this one answers among its fields, of type `a(yv)`.
pub(super) fn answers(fields: &[u8]) -> io::Result<Option<u32>> {
    let mut fields = Reader { bytes: fields, at: 0 };
    loop {
        fields.align(8);
        if fields.at >= fields.bytes.len() {
            return Ok(None);
        }
        let code = fields.take(1)?[0];
        match (code, &*fields.signature()?) {
            (5, "u") => return fields.number().map(Some),
            (_, "u") => drop(fields.number()?),
            (_, "s" | "o") => drop(fields.text()?),
            (_, "g") => drop(fields.signature()?),
            _ => return Err(strange()),
        }
    }
}

/// Finds the text in an answer of one that is of any type.
pub(in crate::machine::guest) fn text(answer: &[u8]) -> io::Result<String> {
    let mut body = Reader { bytes: answer, at: 0 };
    if body.signature()? != "s" {
        return Err(strange());
    }
    body.text()
}

/// Finds the names in an answer of `ListUnitsFiltered`, of type `a(ssssssouso)`.
pub(in crate::machine::guest) fn units(answer: &[u8]) -> io::Result<Vec<String>> {
    let mut body = Reader { bytes: answer, at: 0 };
    body.number()?;
    let mut names = Vec::new();
    loop {
        body.align(8);
        if body.at >= answer.len() {
            return Ok(names);
        }
        names.push(body.text()?);
        // description, load, active and sub state, what it follows, its object
        (0..6).try_for_each(|_| body.text().map(drop))?;
        body.number()?;
        // its job's kind and object
        (0..2).try_for_each(|_| body.text().map(drop))?;
    }
}

/// Writes values, each where the protocol wants it.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, number: usize) {
        self.align(4);
        self.0.extend(u32::try_from(number).unwrap_or(u32::MAX).to_ne_bytes());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len());
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    pub(super) fn texts(&mut self, all: &[&str]) {
        let mut array = Self::default();
        all.iter().for_each(|text| array.text(text));
        self.number(array.0.len());
        self.0.extend(array.0);
    }

    fn signature(&mut self, text: &str) {
        self.0.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, length: usize) -> io::Result<&'a [u8]> {
        let end = self.at.checked_add(length).ok_or_else(strange)?;
        let taken = self.bytes.get(self.at..end).ok_or_else(strange)?;
        self.at = end;
        Ok(taken)
    }

    fn number(&mut self) -> io::Result<u32> {
        self.align(4);
        let bytes = self.take(4)?.try_into().map_err(|_| strange())?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn text(&mut self) -> io::Result<String> {
        let length = self.number()? as usize;
        let text = self.take(length)?.to_vec();
        self.take(1)?;
        String::from_utf8(text).map_err(|_| strange())
    }

    fn signature(&mut self) -> io::Result<String> {
        let length = usize::from(self.take(1)?[0]);
        let text = self.take(length)?.to_vec();
        self.take(1)?;
        String::from_utf8(text).map_err(|_| strange())
    }
}

/// What an answer is that none of systemd's can be.
pub(super) fn strange() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what answers is not systemd")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const STATE: Question = Question {
        peer: "org.freedesktop.systemd1",
        object: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.DBus.Properties",
        member: "Get",
        signature: "ss",
    };

    /// Writes a message that answers another.
    pub(in super::super) fn answer(kind: u8, to: u32, body: &[u8]) -> Vec<u8> {
        let mut fields = Writer::default();
        // who it is from comes first where a bus hands it on
        for (code, from) in [(7, ":1.2"), (6, ":1.70")] {
            fields.align(8);
            fields.0.push(code);
            fields.signature("s");
            fields.text(from);
        }
        fields.align(8);
        fields.0.push(5);
        fields.signature("u");
        fields.number(to as usize);
        let mut whole = Writer(vec![ENDIAN, kind, 0, 1]);
        whole.number(body.len());
        whole.number(7);
        whole.number(fields.0.len());
        whole.0.extend(fields.0);
        whole.align(8);
        whole.0.extend(body);
        whole.0
    }

    /// Writes a text that is of any type.
    pub(in super::super) fn any(text: &str) -> Vec<u8> {
        let mut body = Writer::default();
        body.signature("s");
        body.text(text);
        body.0
    }

    #[test]
    fn names_of_units_are_read_and_a_short_list_is_an_error() {
        let mut list = Writer::default();
        list.number(0);
        for unit in ["a.service", "longer-name.mount"] {
            list.align(8);
            for text in [unit, "what it is", "loaded", "failed", "failed", "", "/org/x"] {
                list.text(text);
            }
            list.number(0);
            list.text("");
            list.text("/");
        }
        assert_eq!(units(&list.0).unwrap(), ["a.service", "longer-name.mount"]);
        units(&list.0[..list.0.len() - 3]).unwrap_err();
        assert_eq!(units(&0_u32.to_ne_bytes()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_question_is_what_the_bus_library_would_write() {
        let asked = ("org.freedesktop.systemd1.Manager", "SystemState");
        let bytes = STATE.write(3, |body| {
            body.text(asked.0);
            body.text(asked.1);
        });
        let message = zbus::Message::method_call(STATE.object, STATE.member)
            .interface(STATE.interface)
            .build(&asked)
            .unwrap();
        let body = message.body();
        assert!(bytes.ends_with(body.data().bytes()), "{bytes:?}");
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn the_number_of_what_is_answered_is_found_among_other_fields() {
        let whole = answer(METHOD_RETURN, 9, &any("running"));
        let head = Head::read(&whole).unwrap();
        let (fields, body) = whole[Head::LENGTH..].split_at(head.fields);
        assert_eq!((head.kind, answers(fields).unwrap(), head.body), (METHOD_RETURN, Some(9), body.len()));
        assert_eq!(text(body).unwrap(), "running");
        assert_eq!(answers(&[]).unwrap(), None);
        answers(b"\x05\x01v\0").unwrap_err();
        answers(b"\x07\x01s\0\xff\xff\xff\x7f").unwrap_err();
    }
}
