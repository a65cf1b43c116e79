//! Real clients with real servers.

use std::collections::BTreeSet;

use rmcp::model::{CallToolRequestParams, ClientConfig, ProtocolVersion};
use rmcp::service::RunningService;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientLifecycleMode, ClientServiceExt, RoleClient};
use serde_json::{Value, json};

use super::*;
use crate::harness::{Fleet, eventually, message, post_stateless};

async fn connect(
    edge: &TestEdge,
    token: &str,
    lifecycle: ClientLifecycleMode,
) -> RunningService<RoleClient, ClientConfig> {
    let url = format!("http://{}/fininfo/mcp", edge.address);
    let config = StreamableHttpClientTransportConfig::with_uri(url).auth_header(token);
    let transport = StreamableHttpClientTransport::from_config(config);
    ClientConfig::default().serve_with_lifecycle(transport, lifecycle).await.expect("the client connects")
}

/// Every tool of the server, with valid arguments.
fn tools() -> [(&'static str, Value); 5] {
    let range = json!({"ticker": "ACME", "from": "2026-01-05", "to": "2026-01-09", "timespan": "day"});
    [
        ("get_stock_aggregates", range.clone()),
        ("print_stock_data", range),
        ("place_order", json!({"ticker": "ACME", "side": "buy", "quantity": 1})),
        ("train_model", json!({"steps": 1, "step_ms": 1})),
        ("slow_report", json!({"seconds": 0})),
    ]
}

#[tokio::test]
async fn a_principal_sees_and_can_call_exactly_its_tools() {
    let fleet = Fleet::start(&["fininfo"]).await;
    let edge = TestEdge::start(&format!(
        "auth: {{providers: {{{}}}}}
upstreams: {{fininfo: {{endpoints: [{}]}}}}
routes:
  - path: /fininfo/
    upstream: fininfo
    protocol: mcp
    auth: {{providers: [fleet]}}
    tools:
      - {{match: slow_report, deny: true}}
      - {{match: 'get_*', scopes: [read]}}
      - {{match: place_order, scopes: [read, trade]}}
      - {{match: '*_model', any_scope: [train, admin]}}
      - {{match: 'print_*'}}
",
        fleet.provider(),
        fleet.endpoints("fininfo"),
    ))
    .await;
    let token = fleet.token("probe", "").await;
    eventually("the issuer's keys are there", async || edge.get_as(&token, "/fininfo/health").await.status == 200)
        .await;

    for (scopes, allowed) in [
        ("", &["print_stock_data"][..]),
        ("read", &["get_stock_aggregates", "print_stock_data"]),
        ("trade admin", &["print_stock_data", "train_model"]),
        ("read trade train", &["get_stock_aggregates", "place_order", "print_stock_data", "train_model"]),
    ] {
        let token = fleet.token("alice", scopes).await;
        let allowed: BTreeSet<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        for lifecycle in [
            ClientLifecycleMode::Initialize,
            ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] },
        ] {
            let mut client = connect(&edge, &token, lifecycle).await;
            let version = client.peer_info().map(|info| info.protocol_version.to_string()).unwrap_or_default();
            let listed = client.list_all_tools().await.expect("a list");
            let listed: BTreeSet<String> = listed.into_iter().map(|tool| tool.name.into_owned()).collect();
            assert_eq!(listed, allowed, "`{scopes}` in {version}");
            let mut callable = BTreeSet::new();
            for (tool, arguments) in tools() {
                let arguments = arguments.as_object().cloned().expect("an object");
                let request = CallToolRequestParams::new(tool).with_arguments(arguments);
                match client.call_tool(request).await {
                    Ok(result) => {
                        assert_ne!(result.is_error, Some(true), "{tool}: {result:?}");
                        callable.insert(tool.to_owned());
                    }
                    Err(error) => assert!(!allowed.contains(tool), "{tool}: {error}"),
                }
            }
            assert_eq!(callable, allowed, "`{scopes}` in {version}");
            client.close().await.expect("it ends");
        }
    }

    // The calls above covered both forms of an answer: JSON and an event stream.
    let token = format!("Bearer {}", fleet.token("alice", "read").await);
    // The server's SDK checks the host.
    let host = edge.address.to_string();
    let headers = [("Authorization", token.as_str()), ("Host", host.as_str())];
    let list = message("1", "tools/list", "{}");
    let now = exchange(edge.address, post_stateless("/fininfo/mcp", &headers, &list)).await;
    assert_eq!((now.status, now.header("Content-Type")), (200, Some("application/json")), "{now:?}");
    let client_info =
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let hello = message("1", "initialize", &client_info.to_string());
    let hello = exchange(edge.address, post("/fininfo/mcp", &headers, &hello)).await;
    let session = hello.header("Mcp-Session-Id").expect("a session");
    let headers = [headers[0], headers[1], ("Mcp-Session-Id", session), ("MCP-Protocol-Version", "2025-11-25")];
    let ready = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    assert_eq!(exchange(edge.address, post("/fininfo/mcp", &headers, ready)).await.status, 202);
    let before = exchange(edge.address, post("/fininfo/mcp", &headers, &list)).await;
    assert_eq!((before.status, before.header("Content-Type")), (200, Some("text/event-stream")), "{before:?}");
}
