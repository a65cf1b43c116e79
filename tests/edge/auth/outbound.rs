//! `auth.outbound`: the addresses to which the edge connects for authentication.

use std::io::ErrorKind;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::harness::{Claims, EdgeProcess, Names, Origin, Signer, TestEdge, Tokens, eventually, ok};

/// All kinds of providers that use a server. All of them use `server`, by the name `localhost`.
fn yaml(server: &Origin, origin: &Origin, outbound: &str) -> String {
    let url = format!("http://localhost:{}", server.address.port());
    format!(
        "auth:
  {outbound}
  providers:
    gate: {{lookup: {{url: '{url}/validate', timeout: 1s}}}}
    opaque: {{introspection: {{url: '{url}/introspect', client_id: edge, client_secret: {{file: issuer.secret}},
                              audiences: [mcp-edge], timeout: 1s}}}}
    keys: {{jwt: {{issuer: '{}', audiences: [mcp-edge], algorithms: [ES256], jwks: {{url: '{url}/jwks'}}}}}}
    found: {{jwt: {{issuer: '{url}', audiences: [mcp-edge], algorithms: [ES256]}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes:
  - {{path: /gate/, upstream: a, auth: {{providers: [gate]}}}}
  - {{path: /opaque/, upstream: a, auth: {{providers: [opaque]}}}}
  - {{path: /keys/, upstream: a, auth: {{providers: [keys]}}}}
  - {{path: /found/, upstream: a, auth: {{providers: [found]}}}}
",
        Signer::ISSUER,
        origin.address
    )
}

/// Answers lookups, introspections, and requests for keys and metadata.
async fn server(signer: &Signer) -> Origin {
    let keys = signer.jwks();
    Origin::answering(move |request| {
        let own = format!("http://{}", request.header("host").unwrap_or_default());
        match request.line().split(' ').nth(1) {
            Some("/validate") => b"HTTP/1.1 200 OK\r\nX-User: alice\r\nContent-Length: 0\r\n\r\n".to_vec(),
            Some("/introspect") => ok(r#"{"active": true, "sub": "alice", "aud": "mcp-edge"}"#),
            Some("/jwks") => ok(&keys),
            _ => ok(&json!({"issuer": own, "jwks_uri": format!("{own}/jwks")}).to_string()),
        }
    })
    .await
}

fn token(signer: &Signer, issuer: &str, subject: &str) -> String {
    let claims = Claims::good(subject, "").with("iss", json!(issuer)).0;
    signer.ec(r#"{"alg":"ES256","kid":"ec"}"#, claims.to_string())
}

/// The status of each route for a new credential of `subject`.
async fn statuses(edge: &TestEdge, signer: &Signer, server: &Origin, subject: &str) -> Vec<u16> {
    let issuer = format!("http://localhost:{}", server.address.port());
    let mut statuses = Vec::new();
    for (path, credential) in [
        ("/gate/", format!("{subject}-token")),
        ("/opaque/", format!("{subject}-token")),
        ("/keys/", token(signer, Signer::ISSUER, subject)),
        ("/found/", token(signer, &issuer, subject)),
    ] {
        statuses.push(edge.get_as(&credential, path).await.status);
    }
    statuses
}

/// If the name of the server resolves to an address outside the allowed networks, the edge does not connect. A reload
/// can allow or forbid the address for unchanged providers. If it forbids the address, open connections are not used
/// either.
#[tokio::test]
async fn servers_are_asked_only_while_the_address_of_their_name_is_allowed() {
    let (signer, origin) = (Signer::new(), Origin::saying("in").await);
    let server = server(&signer).await;
    let closed = yaml(&server, &origin, "outbound: {allow: [10.0.0.0/8, 'fd00::/8']}");
    let edge = TestEdge::start_with(&closed, &[Tokens::SECRET_FILE]).await;
    assert_eq!(statuses(&edge, &signer, &server, "alice").await, [503; 4], "no provider can decide");
    assert_eq!(server.connections(), 0);

    let open = yaml(&server, &origin, "outbound: {allow: [127.0.0.0/8, '::1']}");
    edge.reload(&open).await.expect("the configuration loads");
    for path in ["/gate/", "/opaque/"] {
        assert_eq!(edge.get_as("alice-token", path).await.status, 200, "the outage was not cached as a denial: {path}");
    }
    // Keys are fetched again 10 s after the attempt that failed.
    let all = [200, 200, 200, 200];
    eventually("the keys are loaded", async || statuses(&edge, &signer, &server, "bob").await == all).await;

    edge.reload(&closed).await.expect("the configuration loads");
    let (asked, connections) = (server.count(), server.connections());
    assert_eq!(edge.get_as("bob-token", "/gate/").await.status, 200, "the lookup is still cached");
    assert_eq!(
        statuses(&edge, &signer, &server, "carol").await,
        [503, 503, 200, 200],
        "the loaded keys are still used"
    );
    assert_eq!((server.count(), server.connections()), (asked, connections));
}

/// Rows 16 and 70: the client gets only the status 503. The log contains the reason. Neither contains a secret of a
/// URL.
#[tokio::test]
async fn the_log_contains_the_refused_address_and_no_secret() {
    let (signer, origin) = (Signer::new(), Origin::saying("in").await);
    let server = server(&signer).await;
    let folder = tempfile::tempdir().expect("a folder");
    let listeners = "listeners: [{address: '127.0.0.1:0'}]\nadmin: {address: '127.0.0.1:0'}\nlog: {format: text}\n";
    let yaml =
        yaml(&server, &origin, "outbound: {allow: [10.0.0.0/8]}").replace("/validate'", "/validate?key=hunter2'");
    for (name, text) in [("edge.yaml", (listeners.to_owned() + &yaml).as_str()), Tokens::SECRET_FILE] {
        std::fs::write(folder.path().join(name), text).expect("the folder is fresh");
    }
    let mut edge = EdgeProcess::start(&folder.path().join("edge.yaml")).await;
    let reply = edge.get_as(&URL_SAFE_NO_PAD.encode("canary-token"), "/gate/").await;
    assert_eq!(reply.status, 503);
    assert!(!reply.body.contains("127.0.0.1") && !reply.body.contains("localhost"), "{}", reply.body);
    let mut lines = vec![reply.body];
    while !lines.last().is_some_and(|line| line.contains("auth_unavailable") && line.contains("/gate/")) {
        lines.push(edge.line().await.expect("the edge is running"));
    }
    let text = lines.join("\n");
    assert!(text.contains("provider gate: the edge does not connect to the server: its address "), "{text}");
    assert!(text.contains("is not in any network of `auth.outbound.allow`"), "{text}");
    for secret in ["hunter2", "canary-token", &URL_SAFE_NO_PAD.encode("canary-token")] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    assert_eq!(server.connections(), 0);
}

/// An edge that asks a server at `port` of `idp.test`. `names` sets the addresses of this name.
async fn named_edge(folder: &TempDir, names: &Names, port: u16, outbound: &str, origin: &Origin) -> EdgeProcess {
    let yaml = format!(
        "listeners: [{{address: '127.0.0.1:0'}}]
admin: {{address: '127.0.0.1:0'}}
log: {{format: text}}
auth:
  {outbound}
  providers: {{gate: {{lookup: {{url: 'http://idp.test:{port}/', timeout: 1s}}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /, upstream: a, auth: {{providers: [gate]}}}}]
",
        origin.address
    );
    let path = folder.path().join("edge.yaml");
    std::fs::write(&path, yaml).expect("the folder is writable");
    EdgeProcess::start_with(&path, names.environment()).await
}

/// DNS rebinding: a name resolves to an allowed address at first, and to another address when the edge connects.
#[tokio::test]
async fn a_name_that_changes_to_a_forbidden_address_is_not_connected_to() {
    let (origin, folder) = (Origin::saying("in").await, tempfile::tempdir().expect("a folder"));
    // Every lookup opens a new connection, so the edge resolves the name again.
    let server = Origin::scripted(|mut stream, recorder| async move {
        if recorder.read(&mut stream).await.is_some() {
            let answer = b"HTTP/1.1 200 OK\r\nX-User: alice\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).await.expect("the edge is there");
        }
    })
    .await;
    let canary = TcpListener::bind(("127.0.0.2", server.address.port())).await.expect("the address is free");
    let names = Names::new("127.0.0.1");
    let port = server.address.port();
    let edge = named_edge(&folder, &names, port, "outbound: {allow: [127.0.0.1]}", &origin).await;
    for (number, (addresses, status)) in [
        ("127.0.0.1", 200),
        ("127.0.0.2", 503),
        ("127.0.0.2 127.0.0.1", 200),
        ("::ffff:127.0.0.2", 503),
        ("127.0.0.1", 200),
    ]
    .into_iter()
    .enumerate()
    {
        names.set(addresses);
        let asked = server.count();
        assert_eq!(edge.get_as(&format!("token-{number}"), "/").await.status, status, "{addresses}");
        assert_eq!(server.count() - asked, usize::from(status == 200), "{addresses}");
    }
    let came = canary.into_std().and_then(|canary| canary.accept());
    assert_eq!(came.map(|_| ()).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock), "no connection arrived");
}

/// Without `auth.outbound.allow`, a name may resolve to any address except link-local ones, where clouds serve
/// credentials.
#[tokio::test]
async fn a_name_of_a_link_local_address_is_not_connected_to() {
    let (origin, folder) = (Origin::saying("in").await, tempfile::tempdir().expect("a folder"));
    for address in ["169.254.169.254", "fe80::a9fe:a9fe"] {
        let names = Names::new(address);
        let mut edge = named_edge(&folder, &names, 80, "cache: {}", &origin).await;
        assert_eq!(edge.get_as("token", "/").await.status, 503);
        let expected =
            format!("provider gate: the edge does not connect to the server: its address {address} is link-local");
        while !edge.line().await.expect("the edge is running").contains(&expected) {}
    }
}
