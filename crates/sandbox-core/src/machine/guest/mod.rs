//! The inside of a running machine: its namespaces entered, its systemd asked.

mod apart;
mod enter;
mod environment;
mod label;
mod link;
mod locale;
mod passing;
mod passwd;
mod patience;
mod port;
#[doc(hidden)]
pub mod readers;
mod resolver;
mod sessions;
mod state;
mod systemd;
mod terminfo;
mod variables;

pub use enter::{
    CARRIER, Carrier, EnterError, Entry, PATIENCE, Payload, Runs, Standard, Started, Terminal, carry,
};
pub use link::raise;
pub use locale::VARIABLES as LOCALE_VARIABLES;
pub(in crate::machine) use passing::{receive as receive_file, send as send_file};
pub(in crate::machine) use passwd::id;
pub use port::is_open;
pub use resolver::is_answered;
pub use state::{GuestState, addresses, addresses_of, state, wait_ready};
