//! What clients see of a 401 or 403 of an upstream.

use crate::harness::{Claims, Origin, TestEdge, Tokens, call, exchange, post};

/// An origin that refuses with the status and the challenge that the request asks for.
async fn refusing() -> Origin {
    Origin::answering(|seen| {
        let status = seen.header("x-status").unwrap_or("401");
        let challenges: String =
            seen.headers("x-challenge").iter().map(|text| format!("WWW-Authenticate: {text}\r\n")).collect();
        format!("HTTP/1.1 {status} No\r\n{challenges}X-Secret: inside\r\nContent-Length: 6\r\n\r\ninside").into_bytes()
    })
    .await
}

async fn edge(origin: &Origin) -> TestEdge {
    let auth = "auth: {providers: [local], public_url: 'https://public.example/a/mcp', audiences: [mcp-edge]}";
    let mut routes = String::new();
    for (kind, protocol) in [("m", "mcp"), ("h", "http")] {
        routes += &format!(
            "  - {{path: /{kind}/shown/, upstream: a, protocol: {protocol}, {auth}, credential: {{secret: {{file: up.secret}}}}}}
  - {{path: /{kind}/own/, upstream: a, protocol: {protocol}, {auth}}}
  - {{path: /{kind}/open/, upstream: a, protocol: {protocol}, auth: none}}
"
        );
    }
    let yaml = format!(
        "auth: {{providers: {{{}}}}}\nupstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}\nroutes:\n{routes}",
        Tokens::PROVIDER,
        origin.address
    );
    TestEdge::start_with(&yaml, &[("up.secret", "hunter2-of-the-edge")]).await
}

const FOREIGN: &str =
    r#"Bearer error="invalid_token", resource_metadata="http://10.0.0.7:8001/.well-known/oauth-protected-resource""#;

/// Case B2: the caller cannot mend the secret of the edge, and the URLs in the challenge are of the inside.
#[tokio::test]
async fn a_refused_credential_of_the_edge_is_an_error_of_the_upstream() {
    let origin = refusing().await;
    let edge = edge(&origin).await;
    let bearer = format!("Bearer {}", Tokens::sign(&Claims::good("alice", "").0));
    for kind in ["m", "h"] {
        for (status, challenge, expected) in [
            ("401", FOREIGN, 502),
            ("401", "Basic realm=x", 502),
            ("403", FOREIGN, 502),
            ("401", "", 502),
            ("403", "", 403),
        ] {
            let mut fields = vec![("Authorization", bearer.as_str()), ("X-Status", status)];
            fields.extend((!challenge.is_empty()).then_some(("X-Challenge", challenge)));
            let reply = exchange(edge.address, post(&format!("/{kind}/shown/mcp"), &fields, &call("7", "x"))).await;
            assert_eq!(reply.status, expected, "{kind} {status} {challenge}");
            if expected == 502 {
                assert_eq!((reply.header("www-authenticate"), reply.header("x-secret")), (None, None));
                assert!(!reply.body.contains("inside") && !reply.body.contains("10.0.0.7"), "{}", reply.body);
                if kind == "m" {
                    assert_eq!(reply.json()["id"], 7, "{}", reply.body);
                }
            }
            assert_eq!(origin.last().header("authorization"), Some("Bearer hunter2-of-the-edge"));
        }
    }
    assert_eq!(edge.metric(r#"mcp_edge_rejections_total{reason="upstream_refused"}"#).await, 8.0);
}

/// Case B3: a hostile replica could send clients to a login page of its own.
#[tokio::test]
async fn only_challenges_of_the_public_host_pass_on_routes_with_auth() {
    let origin = refusing().await;
    let edge = edge(&origin).await;
    let bearer = format!("Bearer {}", Tokens::sign(&Claims::good("alice", "").0));
    let own = r#"Bearer resource_metadata="https://public.example/.well-known/oauth-protected-resource/a/mcp""#;
    let used = r#"Bearer resource_metadata="http://edge.example/.well-known/oauth-protected-resource/a/mcp""#;
    for kind in ["m", "h"] {
        for (challenges, expected) in [
            (vec![FOREIGN], vec![]),
            (vec![own], vec![own]),
            (vec![used], vec![used]),
            (vec!["Basic realm=\"x\""], vec!["Basic realm=\"x\""]),
            (vec![own, FOREIGN], vec![own]),
            (vec!["Bearer resource_metadata=\"https://public.example@evil.example/\""], vec![]),
            (vec!["Bearer resource_metadata=\"https://public.example.evil/\""], vec![]),
            (vec!["Basic realm=\"x\", Bearer RESOURCE_METADATA=\"https://evil.example\""], vec![]),
            (vec!["Bearer resource_metadata=\""], vec![]),
        ] {
            let mut fields = vec![("Authorization", bearer.as_str())];
            fields.extend(challenges.iter().map(|challenge| ("X-Challenge", *challenge)));
            let reply = exchange(edge.address, post(&format!("/{kind}/own/mcp"), &fields, &call("7", "x"))).await;
            assert_eq!((reply.status, reply.headers("www-authenticate")), (401, expected), "{kind} {challenges:?}");
        }
        let open =
            exchange(edge.address, post(&format!("/{kind}/open/mcp"), &[("X-Challenge", FOREIGN)], &call("7", "x")))
                .await;
        assert_eq!(open.header("www-authenticate"), Some(FOREIGN), "the server of an open route speaks for itself");
        let dropped = edge.metric(&format!(r#"mcp_edge_misleading_answers_total{{route="/{kind}/own/"}}"#)).await;
        assert_eq!(dropped, 6.0);
    }
}
