//! The error of a command.

use std::error::Error;

/// Any error of a command. It is shown to the user in one line.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;
