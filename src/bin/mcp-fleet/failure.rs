//! Why a command ends unsuccessfully.

use std::error::Error;

/// Any reason for a command to end unsuccessfully, told to the user in one line.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;
