//! Real clients and servers of an SDK.

use rmcp::model::{CallToolRequestParams, ClientConfig, ProtocolVersion};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientLifecycleMode, ClientServiceExt};

use super::*;
use crate::harness::{Fleet, eventually};

#[tokio::test]
async fn an_sdk_client_uses_three_servers_through_one_endpoint() {
    let fleet = Fleet::start(&["fininfo", "fininfo", "currenttime", "everything"]).await;
    let mut text = format!("auth: {{providers: {{{}}}}}\nupstreams:\n", fleet.provider());
    for name in ["fininfo", "currenttime", "everything"] {
        text.push_str(&format!("  {name}: {{endpoints: [{}]}}\n", fleet.endpoints(name)));
    }
    text.push_str("routes:\n");
    for name in ["fininfo", "currenttime", "everything"] {
        text.push_str(&format!(
            "  - {{path: /{name}/, upstream: {name}, protocol: mcp, auth: {{providers: [fleet]}}}}\n"
        ));
    }
    text.push_str(
        "  - {path: /mcp, auth: {providers: [fleet]}, gateway: {servers: [fininfo, currenttime, everything]}}\n",
    );
    let edge = TestEdge::start(&text).await;
    let token = fleet.token("alice", "").await;
    eventually("the issuer's keys are there", async || edge.get_as(&token, "/fininfo/health").await.status == 200)
        .await;
    for lifecycle in [
        ClientLifecycleMode::Initialize,
        ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] },
    ] {
        let url = format!("http://{}/mcp", edge.address);
        let config = StreamableHttpClientTransportConfig::with_uri(url).auth_header(&token);
        let transport = StreamableHttpClientTransport::from_config(config);
        let mut client = ClientConfig::default().serve_with_lifecycle(transport, lifecycle).await.expect("it connects");
        let tools = client.list_all_tools().await.expect("a list");
        let has = |name: &str| tools.iter().any(|tool| tool.name == name);
        assert!(has("fininfo_place_order") && has("everything_test_simple_text"), "{tools:?}");
        let arguments = json!({"ticker": "ACME", "from": "2026-01-05", "to": "2026-01-09", "timespan": "day"});
        for (tool, arguments) in [
            ("fininfo_get_stock_aggregates", arguments),
            ("everything_test_simple_text", json!({})),
            ("everything_test_tool_with_progress", json!({})),
        ] {
            let request =
                CallToolRequestParams::new(tool).with_arguments(arguments.as_object().cloned().expect("an object"));
            let result = client.call_tool(request).await.expect("a result");
            assert_ne!(result.is_error, Some(true), "{tool}: {result:?}");
        }
        assert!(!client.list_all_prompts().await.expect("a list").is_empty());
        let resources = client.list_all_resources().await.expect("a list");
        assert!(!resources.is_empty());
        client.close().await.expect("it ends");
    }
}
