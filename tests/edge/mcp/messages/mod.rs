//! Real MCP clients with real MCP servers, through the edge.

mod attacks;
mod bodies;
mod callers;
mod guarded;
mod outcomes;

use std::process::Stdio;

use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;

use crate::harness::{Fleet, TestEdge, eventually};

async fn edge(fleet: &Fleet) -> TestEdge {
    let edge = TestEdge::start(&format!(
        "auth: {{providers: {{{}}}}}
upstreams:
  fininfo: {{endpoints: [{}], balance: {{hash: {{header: Authorization}}}}}}
  mcpgw: {{endpoints: [{}]}}
  currenttime: {{endpoints: [{}]}}
routes:
  - {{path: /fininfo/, upstream: fininfo, protocol: mcp, auth: {{providers: [fleet], scopes: ['fininfo:read']}}}}
  - {{path: /mcpgw/, upstream: mcpgw, protocol: mcp, auth: {{providers: [fleet]}}}}
  - {{path: /currenttime/, upstream: currenttime, protocol: mcp, auth: none}}
",
        fleet.provider(),
        fleet.endpoints("fininfo"),
        fleet.endpoints("mcpgw"),
        fleet.endpoints("currenttime"),
    ))
    .await;
    let token = fleet.token("probe", "").await;
    eventually("the issuer's keys are there", async || edge.get_as(&token, "/mcpgw/health").await.status == 200).await;
    edge
}

type Client = rmcp::service::RunningService<rmcp::RoleClient, ()>;

async fn connect(edge: &TestEdge, server: &str, token: Option<String>) -> Result<Client, String> {
    let mut config = StreamableHttpClientTransportConfig::with_uri(format!("http://{}/{server}/mcp", edge.address));
    if let Some(token) = token {
        config = config.auth_header(token);
    }
    let transport = StreamableHttpClientTransport::from_config(config);
    ().serve(transport).await.map_err(|error| error.to_string())
}

async fn call(client: &Client, tool: &str, arguments: serde_json::Value) -> String {
    let arguments = arguments.as_object().cloned().expect("an object");
    let request = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
    let result = client.call_tool(request).await.expect("the tool answers");
    assert_ne!(result.is_error, Some(true), "{result:?}");
    result.content.first().and_then(|content| content.as_text()).map(|text| text.text.clone()).expect("a text")
}

#[tokio::test]
async fn sessions_work_with_every_server() {
    let fleet = Fleet::start(&["fininfo", "fininfo", "mcpgw", "currenttime"]).await;
    let edge = edge(&fleet).await;
    for (server, tool, arguments) in [
        (
            "fininfo",
            "get_stock_aggregates",
            serde_json::json!({"ticker": "ACME", "from": "2026-01-05", "to": "2026-01-09", "timespan": "day"}),
        ),
        ("mcpgw", "list_services", serde_json::json!({})),
        ("currenttime", "current_time_by_timezone", serde_json::json!({"tz_name": "UTC"})),
    ] {
        let token = fleet.token("alice", "fininfo:read").await;
        let client = connect(&edge, server, Some(token)).await.expect("a session");
        let tools = client.list_all_tools().await.expect("a list");
        assert!(tools.iter().any(|known| known.name == tool), "{server}");
        for _ in 0..5 {
            assert!(!call(&client, tool, arguments.clone()).await.is_empty());
        }
        client.cancel().await.expect("it ends");
    }
}

#[tokio::test]
async fn the_server_gets_the_callers_identity_but_not_the_token() {
    let fleet = Fleet::start(&["fininfo", "mcpgw", "currenttime"]).await;
    let edge = edge(&fleet).await;
    let token = fleet.token("alice", "fininfo:read mcpgw:read").await;
    let client = connect(&edge, "mcpgw", Some(token)).await.expect("a session");
    let seen: serde_json::Value =
        serde_json::from_str(&call(&client, "whoami", serde_json::json!({})).await).expect("JSON");
    assert_eq!(seen["x-user"], "alice", "{seen}");
    assert_eq!(seen["x-scopes"], "fininfo:read mcpgw:read");
    assert_eq!(seen["authorization"], serde_json::Value::Null);
    client.cancel().await.expect("it ends");
}

#[tokio::test]
async fn a_client_without_the_right_token_gets_no_session() {
    let fleet = Fleet::start(&["fininfo", "mcpgw", "currenttime"]).await;
    let edge = edge(&fleet).await;
    assert!(connect(&edge, "fininfo", None).await.is_err());
    assert!(connect(&edge, "fininfo", Some(fleet.token("bob", "other").await)).await.is_err());
    assert!(connect(&edge, "fininfo", Some("junk".to_owned())).await.is_err());
}

/// Both protocol eras, with the fleet's own client in a separate process.
#[tokio::test]
async fn both_eras_work() {
    let fleet = Fleet::start(&["fininfo", "mcpgw", "currenttime"]).await;
    let edge = edge(&fleet).await;
    let token = fleet.token("alice", "fininfo:read").await;
    for (flag, protocol) in [(None, "2025-11-25"), (Some("--stateless"), "2026-07-28")] {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_mcp-fleet"))
            .args(["session", "--url", &format!("http://{}/fininfo/mcp", edge.address), "--token", &token])
            .args(flag)
            .stdin(Stdio::null())
            .output()
            .await
            .expect("the client runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains(&format!("protocol: {protocol}")) && said.contains("replica: fininfo-0"), "{said}");
    }
}
