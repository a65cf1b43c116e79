//! `auth.outbound`: where the edge goes when it asks about a credential, and where it does not.

use std::io::ErrorKind;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::harness::{Claims, EdgeProcess, Names, Origin, Signer, TestEdge, Tokens, eventually, ok};

/// All kinds of providers that ask a server, all of them `server`, under a name that the machine resolves.
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

/// Answers all questions: that of a lookup, of an introspection, for keys, and for metadata.
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

/// What each route answers to a credential that nobody has seen before.
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

/// The name of the server stands for an address outside the networks: there is no connection at all. A reload opens and
/// closes the way for providers that stay what they are, and closes it for connections that are open.
#[tokio::test]
async fn servers_are_asked_while_the_address_that_their_name_stands_for_is_allowed() {
    let (signer, origin) = (Signer::new(), Origin::saying("in").await);
    let server = server(&signer).await;
    let closed = yaml(&server, &origin, "outbound: {allow: [10.0.0.0/8, 'fd00::/8']}");
    let edge = TestEdge::start_with(&closed, &[Tokens::SECRET_FILE]).await;
    assert_eq!(statuses(&edge, &signer, &server, "alice").await, [503; 4], "nobody can tell");
    assert_eq!(server.connections(), 0);

    let open = yaml(&server, &origin, "outbound: {allow: [127.0.0.0/8, '::1']}");
    edge.reload(&open).await.expect("it loads");
    for path in ["/gate/", "/opaque/"] {
        assert_eq!(edge.get_as("alice-token", path).await.status, 200, "an outage was no denial: {path}");
    }
    // Keys are fetched again 10 s after the attempt that failed.
    let all = [200, 200, 200, 200];
    eventually("the keys are there", async || statuses(&edge, &signer, &server, "bob").await == all).await;

    edge.reload(&closed).await.expect("it loads");
    let (asked, connections) = (server.count(), server.connections());
    assert_eq!(edge.get_as("bob-token", "/gate/").await.status, 200, "what was validated is believed for its time");
    assert_eq!(
        statuses(&edge, &signer, &server, "carol").await,
        [503, 503, 200, 200],
        "the keys that there are serve on"
    );
    assert_eq!((server.count(), server.connections()), (asked, connections));
}

/// Rows 16 and 70: the client learns that there is an outage, the operator why, and neither a secret of a URL.
#[tokio::test]
async fn the_log_says_which_address_was_refused_and_no_secret() {
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

/// An edge whose name `idp.test` stands for what `names` says, and which asks there, at `port`.
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

/// A name that stands for an allowed address while it is looked at, and for another one when it is used (DNS rebinding).
#[tokio::test]
async fn a_name_that_comes_to_stand_for_another_address_leads_nowhere() {
    let (origin, folder) = (Origin::saying("in").await, tempfile::tempdir().expect("a folder"));
    // Every question is a new connection, and so a new look at the name.
    let server = Origin::scripted(|mut stream, recorder| async move {
        if recorder.read(&mut stream).await.is_some() {
            let answer = b"HTTP/1.1 200 OK\r\nX-User: alice\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).await.expect("the edge is there");
        }
    })
    .await;
    let canary = TcpListener::bind(("127.0.0.2", server.address.port())).await.expect("nobody else has this address");
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
    assert_eq!(came.map(|_| ()).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock), "nobody came");
}

/// Without a list, a name may stand for any address but those where clouds give credentials away.
#[tokio::test]
async fn a_name_does_not_lead_to_the_metadata_of_a_cloud() {
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
