//! The inside of a running machine: its namespaces entered, its systemd asked.

mod apart;
mod enter;
mod label;
mod link;
mod passing;
mod passwd;
mod patience;
mod port;
#[doc(hidden)]
pub mod readers;
mod state;
mod systemd;
mod variables;

pub use enter::{EnterError, Entry, Payload, Standard, Started, Terminal};
pub use link::raise;
pub(in crate::machine) use passing::{receive as receive_file, send as send_file};
pub use passwd::{Account, account};
pub use port::is_open;
pub use state::{GuestState, addresses, addresses_of, state, wait_ready};
pub use variables::variables;
