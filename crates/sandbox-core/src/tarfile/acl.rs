//! POSIX access control lists: the kernel's binary form, and the text that tar files have.
//!
//! A tar file names users by name, by number, or both: GNU tar writes the name alone where the host that packs knows
//! one, also with `--numeric-owner`. Like the owners of members, a number counts before a name. A name alone is looked
//! up in the tree's own users, never in the host's.
//!
//! **Source**: acl(5), "ACL TEXT FORMS"; the kernel's include/uapi/linux/posix_acl_xattr.h; star(4), `SCHILY.acl.access`
//! and `SCHILY.acl.default`; libarchive's archive_acl(3) for the number behind a name.

use std::{io, os::fd::AsFd};

use rustix::{
    fs::{Mode, XattrFlags, fchmod, fremovexattr, fsetxattr},
    io::Errno,
};

use super::accounts::Accounts;

/// The attribute that the kernel keeps a list in that says who may do what.
pub const ACCESS: &str = "system.posix_acl_access";
/// The attribute with the list that new files of a directory get.
pub const DEFAULT: &str = "system.posix_acl_default";

/// The version of the kernel's form.
const VERSION: u32 = 2;

/// The most entries: an attribute has 64 KiB at most.
const ENTRIES: usize = ((64 << 10) - 4) / 8;

/// A user or group that an entry is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Number(u32),
    Name(Vec<u8>),
}

/// What an entry is for, in the kernel's order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tag {
    Owner,
    User(Who),
    OwningGroup,
    Group(Who),
    Mask,
    Other,
}

impl Tag {
    /// Returns the kernel's number of what it is for, the word of a text, and the user or group that it names.
    const fn parts(&self) -> (u16, &'static str, Option<&Who>) {
        match self {
            Self::Owner => (0x01, "user", None),
            Self::User(who) => (0x02, "user", Some(who)),
            Self::OwningGroup => (0x04, "group", None),
            Self::Group(who) => (0x08, "group", Some(who)),
            Self::Mask => (0x10, "mask", None),
            Self::Other => (0x20, "other", None),
        }
    }
}

/// An access control list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl(Vec<(Tag, u8)>);

impl Acl {
    /// Reads the text of a tar file; none where it makes no sense.
    pub fn of_text(text: &[u8]) -> Option<Self> {
        let lines = text.split(|byte| matches!(byte, b',' | b'\n'));
        // acl_to_text(3) notes the effective permissions behind `#`
        let lines =
            lines.map(|line| line.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii());
        let entries = lines.filter(|line| !line.is_empty()).map(entry).take(ENTRIES + 1);
        Self::checked(entries.collect::<Option<_>>()?)
    }

    /// Reads the kernel's form; none where it makes no sense.
    pub fn of_attribute(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first_chunk::<4>()?;
        let (entries, rest) = rest.as_chunks::<8>();
        if u32::from_le_bytes(*version) != VERSION || !rest.is_empty() {
            return None;
        }
        let entries = entries.iter().map(|[t0, t1, p0, p1, id @ ..]| {
            let id = u32::from_le_bytes(*id);
            let tag = match u16::from_le_bytes([*t0, *t1]) {
                0x01 => Tag::Owner,
                0x02 => Tag::User(Who::Number(id)),
                0x04 => Tag::OwningGroup,
                0x08 => Tag::Group(Who::Number(id)),
                0x10 => Tag::Mask,
                0x20 => Tag::Other,
                _ => return None,
            };
            let permissions = u8::try_from(u16::from_le_bytes([*p0, *p1])).ok()?;
            (permissions < 8).then_some((tag, permissions))
        });
        Self::checked(entries.collect::<Option<_>>()?)
    }

    /// Puts entries into the kernel's order, with a mask where one is needed.
    fn checked(mut entries: Vec<(Tag, u8)>) -> Option<Self> {
        let named = |tag: &Tag| matches!(tag, Tag::User(_) | Tag::Group(_));
        let has = |wanted: &Tag| entries.iter().filter(|(tag, _)| tag == wanted).count();
        let masks = has(&Tag::Mask);
        if [Tag::Owner, Tag::OwningGroup, Tag::Other].iter().any(|tag| has(tag) != 1) || masks > 1 {
            return None;
        }
        if masks == 0 && entries.iter().any(|(tag, _)| named(tag)) {
            let group = entries.iter().filter(|(tag, _)| named(tag) || *tag == Tag::OwningGroup);
            let all = group.fold(0, |all, (_, permissions)| all | permissions);
            entries.push((Tag::Mask, all));
        }
        entries.sort();
        entries.dedup_by(|one, other| one.0 == other.0);
        (entries.len() <= ENTRIES).then_some(Self(entries))
    }

    /// Returns how many entries it has.
    const fn entries(&self) -> usize {
        self.0.len()
    }

    /// Reports whether it has names whose numbers are not known.
    pub fn has_names(&self) -> bool {
        self.0.iter().any(|(tag, _)| matches!(tag, Tag::User(Who::Name(_)) | Tag::Group(Who::Name(_))))
    }

    /// Leaves out entries for users and groups that do not fit, and returns how many those are.
    fn retain(&mut self, fits: impl Fn(&Tag) -> bool) -> u64 {
        let before = self.0.len();
        self.0.retain(|(tag, _)| fits(tag));
        (before - self.0.len()) as u64
    }

    /// Gives names their numbers; entries whose name the accounts do not have are left out, and counted.
    pub fn resolve(&mut self, accounts: &Accounts) -> u64 {
        for (tag, _) in &mut self.0 {
            let known: &dyn Fn(&[u8]) -> Option<u32> = match tag {
                Tag::User(_) => &|name| accounts.user(name),
                _ => &|name| accounts.group(name),
            };
            if let Tag::User(who) | Tag::Group(who) = tag
                && let Who::Name(name) = who
                && let Some(number) = known(name)
            {
                *who = Who::Number(number);
            }
        }
        let left = self.retain(|tag| !matches!(tag, Tag::User(Who::Name(_)) | Tag::Group(Who::Name(_))));
        self.0.sort();
        self.0.dedup_by(|one, other| one.0 == other.0);
        left
    }

    /// Leaves out entries for numbers from a limit on, and returns how many those are.
    pub fn limit(&mut self, limit: u32) -> u64 {
        self.retain(
            |tag| !matches!(tag, Tag::User(Who::Number(id)) | Tag::Group(Who::Number(id)) if *id >= limit),
        )
    }

    /// Returns the group's permissions of a mode that grants the owning group no more than the list does.
    pub fn group_bits(&self) -> u32 {
        let of =
            |wanted: &Tag| self.0.iter().find(|(tag, _)| tag == wanted).map(|(_, bits)| u32::from(*bits));
        (of(&Tag::OwningGroup).unwrap_or(0) & of(&Tag::Mask).unwrap_or(7)) << 3
    }

    /// Words it for a tar file: users and groups by their numbers, which every reader takes.
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for (tag, permissions) in &self.0 {
            let (_, word, who) = tag.parts();
            if !text.is_empty() {
                text.push(b',');
            }
            text.extend_from_slice(word.as_bytes());
            text.push(b':');
            match who {
                Some(Who::Number(number)) => text.extend(number.to_string().into_bytes()),
                Some(Who::Name(name)) => text.extend_from_slice(name),
                None => {}
            }
            text.push(b':');
            let letters = [(4, b'r'), (2, b'w'), (1, b'x')];
            text.extend(letters.map(|(bit, letter)| if permissions & bit == 0 { b'-' } else { letter }));
        }
        text
    }

    /// Words it for the kernel. Names were resolved before.
    pub fn attribute(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for (tag, permissions) in &self.0 {
            let (tag, _, who) = tag.parts();
            let id = match who {
                Some(Who::Number(number)) => *number,
                Some(Who::Name(_)) => continue,
                None => u32::MAX,
            };
            bytes.extend(tag.to_le_bytes());
            bytes.extend(u16::from(*permissions).to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }
}

/// Reads an entry: a tag, a name or number, permissions, and in bsdtar's files the number behind them.
fn entry(line: &[u8]) -> Option<(Tag, u8)> {
    let mut fields: Vec<&[u8]> = line.split(|byte| *byte == b':').map(<[u8]>::trim_ascii).collect();
    if matches!(fields.first(), Some(&b"default" | &b"d")) {
        fields.remove(0);
    }
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok().filter(|id| *id != u32::MAX);
    let who = |fields: &[&[u8]]| {
        let behind = fields.get(3).and_then(|field| number(field)).or_else(|| number(fields[1]));
        behind.map_or_else(|| Who::Name(fields[1].to_vec()), Who::Number)
    };
    let (tag, permissions) = match (*fields.first()?, fields.len()) {
        (b"user" | b"u", 3..=4) if fields[1].is_empty() => (Tag::Owner, fields[2]),
        (b"user" | b"u", 3..=4) => (Tag::User(who(&fields)), fields[2]),
        (b"group" | b"g", 3..=4) if fields[1].is_empty() => (Tag::OwningGroup, fields[2]),
        (b"group" | b"g", 3..=4) => (Tag::Group(who(&fields)), fields[2]),
        // POSIX has two colons here, Solaris and setfacl's short form one
        (b"mask" | b"m", 2..=3) => (Tag::Mask, *fields.last()?),
        (b"other" | b"o", 2..=3) => (Tag::Other, *fields.last()?),
        _ => return None,
    };
    let bits = permissions.iter().try_fold(0, |bits, letter| match letter {
        b'r' => Some(bits | 4),
        b'w' => Some(bits | 2),
        b'x' => Some(bits | 1),
        b'-' => Some(bits),
        _ => None,
    });
    Some((tag, bits?))
}

/// The lists of a file or directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acls {
    /// Who may do what.
    pub access: Option<Acl>,
    /// What new files of the directory get.
    pub default: Option<Acl>,
}

impl Acls {
    /// Returns how many entries there are.
    pub fn entries(&self) -> usize {
        self.all().map(Acl::entries).sum()
    }

    /// Reports whether they have names whose numbers are not known.
    pub fn has_names(&self) -> bool {
        self.all().any(Acl::has_names)
    }

    fn all(&self) -> impl Iterator<Item = &Acl> {
        self.access.iter().chain(&self.default)
    }

    /// Does the same with each, and returns the sum of what is counted.
    pub fn each(&mut self, mut change: impl FnMut(&mut Acl) -> u64) -> u64 {
        self.access.iter_mut().chain(&mut self.default).map(&mut change).sum()
    }

    /// Takes an attribute where it is a list; reports whether it is one.
    ///
    /// # Errors
    /// Where it is one that makes no sense.
    pub fn take(&mut self, name: &[u8], value: &[u8]) -> Result<bool, ()> {
        let place = if name == ACCESS.as_bytes() {
            &mut self.access
        } else if name == DEFAULT.as_bytes() {
            &mut self.default
        } else {
            return Ok(false);
        };
        *place = Some(Acl::of_attribute(value).ok_or(())?);
        Ok(true)
    }

    /// Gives an open file or directory the lists, after its owner and its permissions were set. Where the file system
    /// has no lists, the mode grants the group no more than they do; the answer is whether they were set.
    ///
    /// # Errors
    /// What fsetxattr(2) and fchmod(2) say.
    pub fn set(&self, file: impl AsFd, mode: u32) -> io::Result<bool> {
        let mut set = true;
        for (name, acl) in [(ACCESS, &self.access), (DEFAULT, &self.default)] {
            let Some(acl) = acl else { continue };
            match fsetxattr(&file, name, &acl.attribute(), XattrFlags::empty()) {
                Ok(()) => {}
                Err(Errno::OPNOTSUPP) => set = false,
                Err(errno) => return Err(errno.into()),
            }
        }
        if let (false, Some(access)) = (set, &self.access) {
            fchmod(&file, Mode::from_raw_mode(mode & (0o7707 | access.group_bits())))?;
        }
        Ok(set)
    }
}

/// Takes from an open file or directory the lists that it got from the directory that it was made in.
///
/// # Errors
/// What fremovexattr(2) says.
pub fn remove(file: impl AsFd) -> io::Result<()> {
    for name in [ACCESS, DEFAULT] {
        match fremovexattr(&file, name) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::ACCESS) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_all_tools_are_the_same_list() {
        let texts = [
            // GNU tar
            "user::rw-\nuser:root:r--\nuser:www-data:rw-\ngroup::r--\ngroup:4711:r--\nmask::rw-\nother::r--\n",
            "user::rw-\nuser:0:r--\nuser:33:rw-\t\t#effective:r--\ngroup::r--\ngroup:4711:r--\nmask::rw-\nother::r--\n",
            // bsdtar
            "user::rw-,group::r--,other::r--,user:root:r--:0,user:www-data:rw-:33,group:4711:r--,mask::rw-",
            "user::rw-,group::r--,other::r--,user:x:r--:0,user:y:rw-:33,group:z:r--:4711,mask::rw-",
            // star, Solaris
            "u::rw-,u:33:rw-,u:0:r--,g::r--,g:4711:r--,m:rw-,o:r--",
            // without a mask it is what all have together
            "user::rw-,user:0:r--,user:33:rw-,group::r--,group:4711:r--,other::r--",
        ];
        let expected = "user::rw-,user:0:r--,user:33:rw-,group::r--,group:4711:r--,mask::rw-,other::r--";
        for text in texts {
            let mut acl = Acl::of_text(text.as_bytes()).unwrap();
            assert_eq!(acl.resolve(&Accounts::default()), 0, "{text}");
            assert_eq!(String::from_utf8(acl.text()).unwrap(), expected, "{text}");
            assert_eq!(Acl::of_attribute(&acl.attribute()), Some(acl), "{text}");
        }
    }

    #[test]
    fn a_name_that_is_not_known_is_left_out_and_counted() {
        let mut acl =
            Acl::of_text(b"user::rw-,user:nobody-here:rwx,group::r--,group:adm:r-x,mask::rwx,other::---")
                .unwrap();
        assert!(acl.has_names());
        assert_eq!(acl.resolve(&Accounts::default()), 1);
        assert_eq!(acl.text(), b"user::rw-,group::r--,group:4:r-x,mask::rwx,other::---");
        assert_eq!(acl.group_bits(), 0o40, "the mask is not the group's");
        assert_eq!((acl.limit(4), acl.entries()), (1, 4));
    }

    #[test]
    fn what_makes_no_sense_is_none() {
        for text in [
            "",
            "user::rw-",
            "user::rw-,group::r--,other::r-q",
            "user::rw-,user::r--,group::r--,other::r--",
            "user::rw-,group::r--,other::r--,everyone:x:r--",
            "user:rw-,group::r--,other::r--",
        ] {
            assert_eq!(Acl::of_text(text.as_bytes()), None, "{text}");
        }
        for bytes in
            [&b""[..], &[2, 0, 0, 0], &[1, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255], &[2, 0, 0, 0, 1]]
        {
            assert_eq!(Acl::of_attribute(bytes), None, "{bytes:?}");
        }
        assert_eq!(Acl::of_text("user:1:r--,".repeat(9000).as_bytes()), None);
    }
}
