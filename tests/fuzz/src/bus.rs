//! Messages of a guest's systemd: read or refused in bounded memory, and lists of units as the bus library reads them.

use sandbox_core::machine::guest::readers::{message, text, units};
use zbus::{
    ObjectPath, OwnedVariant,
    wire::{LE, serialized},
};

use crate::memory::bounded;

/// A unit as `ListUnitsFiltered` returns it.
///
/// **Source**: org.freedesktop.systemd1(5).
type Unit<'a> =
    (&'a str, &'a str, &'a str, &'a str, &'a str, &'a str, ObjectPath<'a>, u32, &'a str, ObjectPath<'a>);

/// Takes the bytes as a whole message, and as bodies of both kinds.
pub fn check(data: &[u8]) {
    let most = 32 * data.len() + (4 << 10);
    if let Ok((_, _, body)) = bounded(most, || message(data)) {
        assert!(body.len() < data.len());
    }
    let listed = bounded(most, || units(data));
    let said = bounded(most, || text(data));
    let context = serialized::Context::new(LE, 0);
    let bytes = serialized::Data::new(data, context);
    // neither reads everything that the other does: the library takes texts without the zero byte behind them
    if let (Ok(listed), Ok((list, read))) = (listed, bytes.deserialize::<Vec<Unit<'_>>>())
        && read == data.len()
    {
        assert!(listed.iter().eq(list.iter().map(|unit| unit.0)), "{listed:?}");
    }
    if let (Ok(said), Ok((value, _))) = (said, bytes.deserialize::<OwnedVariant>())
        && let Ok(known) = <&str>::try_from(&value)
    {
        assert_eq!(said, known);
    }
}
