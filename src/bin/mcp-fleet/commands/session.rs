//! `mcp-fleet session`: runs one MCP session.

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use rmcp::model::{CallToolRequestParams, ClientConfig, JsonObject, ProtocolVersion, Tool};
use rmcp::service::{ClientInitializeError, RunningService, ServiceError};
use rmcp::transport::streamable_http_client::{StreamableHttpClientTransportConfig, StreamableHttpError};
use rmcp::transport::{DynamicTransportError, StreamableHttpClientTransport};
use rmcp::{ClientLifecycleMode, ClientServiceExt, RoleClient};
use serde_json::{Value, json};

use super::token::http_client;
use crate::failure::Failure;

/// Which server to run a session with, and what to call there.
#[derive(Args)]
pub(crate) struct Session {
    /// The MCP endpoint, such as http://127.0.0.1:8001/mcp.
    #[arg(long)]
    url: String,
    /// The bearer token to send.
    #[arg(long)]
    token: Option<String>,
    /// The tool to call. By default, a tool that only reads.
    #[arg(long)]
    tool: Option<String>,
    /// The tool's arguments, as a JSON object.
    #[arg(long, value_name = "JSON", requires = "tool", value_parser = object)]
    args: Option<JsonObject>,
    /// Speaks the stateless protocol of 2026-07-28 (server/discover) instead of opening a session.
    #[arg(long)]
    stateless: bool,
    /// Gives up after this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
}

impl Session {
    /// Runs the session and prints what the server has answered.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let limit = Duration::from_secs(self.timeout);
        let ended = tokio::time::timeout(limit, self.talk()).await;
        ended.map_err(|_| format!("the session has not ended after {} s", limit.as_secs()))?
    }

    async fn talk(self) -> Result<(), Failure> {
        let mut config = StreamableHttpClientTransportConfig::with_uri(self.url.as_str());
        if let Some(token) = &self.token {
            config = config.auth_header(token);
        }
        let transport = StreamableHttpClientTransport::with_client(http_client()?, config);
        let lifecycle = if self.stateless {
            ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
        } else {
            ClientLifecycleMode::Initialize
        };
        let begun = ClientConfig::default().serve_with_lifecycle(transport, lifecycle).await;
        let mut client = begun.map_err(|error| match error {
            ClientInitializeError::TransportError { error, .. } => reason(error),
            other => other.into(),
        })?;
        let outcome = self.call_a_tool(&client).await;
        // The client closes the session even after a failure, so that no session is left behind on the server.
        client.close().await?;
        outcome
    }

    /// Prints the server and its tools, and calls one tool.
    async fn call_a_tool(self, client: &RunningService<RoleClient, ClientConfig>) -> Result<(), Failure> {
        let mut out = io::stdout();
        if let Some(peer) = client.peer_info() {
            let server = peer
                .server_info
                .as_ref()
                .map_or_else(|| "(unnamed)".to_owned(), |server| format!("{} {}", server.name, server.version));
            writeln!(out, "server: {server}\nprotocol: {}", peer.protocol_version)?;
        }
        let tools = client.list_all_tools().await.map_err(plain)?;
        let names: Vec<_> = tools.iter().map(|tool| tool.name.as_ref()).collect();
        writeln!(out, "tools: {}", names.join(", "))?;

        let (tool, arguments) = match self.tool {
            Some(tool) => (tool, self.args.unwrap_or_default()),
            None => suitable(&tools).ok_or("the server has no tool that is called by default: name one with --tool")?,
        };
        writeln!(out, "call: {tool} {}", Value::from(arguments.clone()))?;
        let request = CallToolRequestParams::new(tool.clone()).with_arguments(arguments);
        let result = client.call_tool(request).await.map_err(plain)?;
        if let Some(replica) = result.meta.as_ref().and_then(|meta| meta.get("replica")).and_then(Value::as_str) {
            writeln!(out, "replica: {replica}")?;
        }
        let texts: Vec<_> = result.content.iter().filter_map(|block| block.as_text()).collect();
        let text = texts.iter().map(|text| text.text.as_str()).collect::<Vec<_>>().join("\n");
        if result.is_error == Some(true) {
            return Err(format!("{tool} answers with an error: {text}").into());
        }
        writeln!(out, "{text}")?;
        Ok(())
    }
}

fn plain(error: ServiceError) -> Failure {
    match error {
        ServiceError::TransportSend(error) => reason(error),
        other => other.into(),
    }
}

/// The cause of a transport error. The transport's own error shows the names of its types and hides the cause.
fn reason(error: DynamicTransportError) -> Failure {
    match error.error.downcast::<StreamableHttpError<reqwest::Error>>().map(|error| *error) {
        Ok(StreamableHttpError::Client(error)) => error.into(),
        Ok(other) => other.into(),
        Err(other) => other,
    }
}

fn object(json: &str) -> Result<JsonObject, serde_json::Error> {
    serde_json::from_str(json)
}

/// A call that changes nothing: of the first read-only tool without required arguments, or of a tool of this fleet.
fn suitable(tools: &[Tool]) -> Option<(String, JsonObject)> {
    let needs_no_arguments = |tool: &&Tool| {
        let read_only = tool.annotations.as_ref().is_some_and(|hints| hints.read_only_hint == Some(true));
        let required = tool.input_schema.get("required").and_then(Value::as_array);
        read_only && required.is_none_or(Vec::is_empty)
    };
    if let Some(tool) = tools.iter().find(needs_no_arguments) {
        return Some((tool.name.to_string(), JsonObject::new()));
    }
    let known = [
        ("current_time_by_timezone", json!({ "tz_name": "UTC" })),
        (
            "get_stock_aggregates",
            json!({ "ticker": "ACME", "from": "2026-01-05", "to": "2026-01-09", "timespan": "day" }),
        ),
    ];
    known.into_iter().find_map(|(name, arguments)| {
        let found = tools.iter().any(|tool| tool.name == name);
        found.then(|| (name.to_owned(), arguments.as_object().cloned().unwrap_or_default()))
    })
}
