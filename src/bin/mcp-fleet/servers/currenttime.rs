//! The tool of the `currenttime` server.

use std::time::SystemTime;

use rmcp::handler::server::wrapper::Parameters;
use rmcp::{tool, tool_router};
use schemars::JsonSchema;
use serde::Deserialize;

use super::handler::Handler;
use super::offset::Offset;

#[derive(Deserialize, JsonSchema)]
struct Zone {
    /// UTC, an offset like +02:00, or a well-known zone such as Europe/Vienna.
    tz_name: String,
}

#[tool_router(router = currenttime, vis = "pub(crate)")]
impl Handler {
    /// The current time in a time zone. There is no time zone database here: beside UTC and offsets like +02:00 a
    /// handful of well-known zone names work, always with their standard offset and never with daylight saving time.
    #[tool(annotations(title = "Current time", read_only_hint = true))]
    fn current_time_by_timezone(&self, Parameters(Zone { tz_name }): Parameters<Zone>) -> Result<String, String> {
        let offset = Offset::of(&tz_name)?;
        Ok(format!("{} ({tz_name})", offset.format(SystemTime::now())))
    }
}
