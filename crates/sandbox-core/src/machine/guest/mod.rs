//! The inside of a running machine: its namespaces entered, its systemd asked.

mod enter;
mod label;
mod passwd;
mod state;
mod variables;

pub use enter::{EnterError, Entry, Payload, Standard, Started, Terminal};
pub use passwd::{Account, account};
pub use state::{GuestState, addresses, state, wait_ready};
pub use variables::variables;
