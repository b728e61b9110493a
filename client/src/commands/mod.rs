//! The commands of `client_producer`: each a function of a client, a console, and what the user asked for.
//!
//! Results go to the console's output, everything else to standard error. With `--json` results are one JSON object
//! or one a line, for programs.

pub mod bench;
pub mod change;
mod console;
mod drive;
pub mod dump;
pub mod explain;
pub mod faults;
mod files;
pub mod load;
pub mod plan;
pub mod producer;
pub mod records;
pub mod shell;
pub mod status;
mod table;
pub mod versions;
pub mod wait;
pub mod why;

pub use console::Console;
pub use files::Format;

use crate::membership::MembershipError;

/// Why a command did not succeed, and the exit code that says so.
#[derive(Debug)]
pub struct Failure {
    /// 1: it failed; 2: it was asked wrongly, or nobody could be asked.
    pub exit: u8,
    /// For people, the innermost cause last.
    pub error: anyhow::Error,
    /// The result that was printed says it already: a program gets one object, not two.
    pub told: bool,
}

impl Failure {
    /// What the user must ask differently.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure { exit: 2, error: anyhow::anyhow!(message.into()), told: false }
    }

    /// What was tried and failed.
    pub fn failed(message: impl Into<String>) -> Failure {
        Failure { exit: 1, error: anyhow::anyhow!(message.into()), told: false }
    }

    /// [`Failure::failed`] after a result that shows it.
    pub fn told(message: impl Into<String>) -> Failure {
        Failure { told: true, ..Failure::failed(message) }
    }
}

/// An ordinary error means that it failed; an unreachable Consul, that nobody could be asked.
impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        let error = error.into();
        let unreachable = |e: &MembershipError| matches!(e, MembershipError::Unreachable(_));
        let exit = if error.downcast_ref::<MembershipError>().is_some_and(unreachable) { 2 } else { 1 };
        Failure { exit, error, told: false }
    }
}

/// What commands return.
pub type Outcome = Result<(), Failure>;
