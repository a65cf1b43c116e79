//! How a replica behaves.

use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// How long a slow replica waits before it handles a request.
pub(crate) const SLOWNESS: Duration = Duration::from_secs(3);

/// A replica's behaviour, as set on the switch page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Serves normally.
    Ok,
    /// Serves each HTTP request only after [`SLOWNESS`].
    Slow,
    /// Answers each HTTP request with status 500.
    Failing,
    /// Does not listen any more. Its connections and MCP sessions have ended.
    Dead,
}

impl Mode {
    /// Every mode.
    pub(crate) const ALL: [Self; 4] = [Self::Ok, Self::Slow, Self::Failing, Self::Dead];

    /// The name on the switch page.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Slow => "slow",
            Self::Failing => "failing",
            Self::Dead => "dead",
        }
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|mode| mode.name() == name)
            .ok_or_else(|| format!("there is no mode {name:?}: use one of {known}"))
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
