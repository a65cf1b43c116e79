//! Callers that authenticate with a client certificate.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, DnType, SanType};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::http2::Http2;
use crate::harness::{Authority, Identity, Origin, PATIENCE, Reply, TestEdge, Tokens, exchange, read_reply, request};

const ROBOT: &str = "spiffe://corp.example/robot";

/// An edge whose listener accepts a client certificate but does not require one.
async fn edge(authority: &Authority, origin: &Origin) -> TestEdge {
    let listener = "{address: '127.0.0.1:0', tls: {certificate: edge.pem, key: edge.key, client_ca: ca.pem, client_optional: true}}";
    start(authority, origin, listener).await
}

async fn start(authority: &Authority, origin: &Origin, listeners: &str) -> TestEdge {
    let yaml = format!(
        "listeners: [{listeners}]
auth:
  providers:
    {}
    mesh: {{mtls: {{subject: san_uri, scopes: [base], subjects: {{'{ROBOT}': ['a:read']}}}}}}
    any: {{mtls: {{subject: san_uri, scopes: [base]}}}}
    hosts: {{mtls: {{subject: san_dns, subjects: {{Robot.Example: ['a:read']}}}}}}
    names: {{mtls: {{subject: common_name}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes:
  - {{path: /mesh/, upstream: a, auth: {{providers: [mesh], scopes: ['a:read']}}}}
  - {{path: /any/, upstream: a, auth: {{providers: [any]}}}}
  - {{path: /any-read/, upstream: a, auth: {{providers: [any], scopes: ['a:read']}}}}
  - {{path: /hosts/, upstream: a, auth: {{providers: [hosts]}}}}
  - {{path: /names/, upstream: a, auth: {{providers: [names]}}}}
  - {{path: /first/, upstream: a, auth: {{providers: [mesh, local]}}}}
  - {{path: /last/, upstream: a, auth: {{providers: [local, mesh]}}}}
  - {{path: /tokens/, upstream: a, auth: {{providers: [local]}}}}
",
        Tokens::PROVIDER,
        origin.address
    );
    let identity = authority.issue("edge.example");
    let files = [("ca.pem", authority.pem()), ("edge.pem", identity.pem()), ("edge.key", identity.key_pem())];
    TestEdge::start_with(&yaml, &files.each_ref().map(|(name, text)| (*name, text.as_str()))).await
}

/// A certificate with these URIs, a DNS name and a common name.
fn robot(authority: &Authority, uris: &[&str]) -> Identity {
    let mut params = CertificateParams::new(["robot.example".to_owned()]).expect("a name");
    params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().expect("ASCII"))));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Robot One");
    authority.issue_with(params)
}

/// A TLS client. It resumes its TLS sessions on later connections.
fn client(
    authority: &Authority,
    identity: Option<&Identity>,
    protocol: &str,
    version: &'static SupportedProtocolVersion,
) -> TlsConnector {
    let builder = ClientConfig::builder_with_protocol_versions(&[version]).with_root_certificates(authority.roots());
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder.with_client_auth_cert(identity.chain(), identity.key_der()).expect("a pair"),
    };
    config.alpn_protocols = vec![protocol.into()];
    TlsConnector::from(Arc::new(config))
}

async fn dial(client: &TlsConnector, address: SocketAddr) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(address).await.expect("the edge listens");
    let name = ServerName::try_from("edge.example").expect("a name");
    let shaken = tokio::time::timeout(PATIENCE, client.connect(name, stream)).await;
    shaken.expect("a handshake in time").expect("a handshake")
}

async fn get(stream: &mut TlsStream<TcpStream>, path: &str, headers: &[(&str, &str)]) -> Reply {
    stream.write_all(request("GET", path, headers, "").as_bytes()).await.expect("the connection is open");
    read_reply(stream).await
}

/// The status of a request on a new connection.
async fn get_as(
    authority: &Authority,
    identity: Option<&Identity>,
    edge: &TestEdge,
    path: &str,
    headers: &[(&str, &str)],
) -> u16 {
    let client = client(authority, identity, "http/1.1", &rustls::version::TLS13);
    get(&mut dial(&client, edge.address).await, path, headers).await.status
}

#[tokio::test]
async fn a_certificate_names_the_caller_in_both_tls_versions_and_in_resumed_tls_sessions() {
    let (origin, authority) = (Origin::saying("in").await, Authority::new("ca"));
    let edge = edge(&authority, &origin).await;
    let robot = robot(&authority, &[ROBOT]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let http1 = client(&authority, Some(&robot), "http/1.1", version);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            let mut stream = dial(&http1, edge.address).await;
            for _ in 0..2 {
                assert_eq!(get(&mut stream, "/mesh/", &[("X-User", "eve")]).await.status, 200);
                let seen = origin.last();
                assert_eq!((seen.headers("x-user"), seen.headers("x-scopes")), (vec![ROBOT], vec!["a:read base"]));
            }
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(kind), "{version:?}");
        }
        let http2 = client(&authority, Some(&robot), "h2", version);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let stream = dial(&http2, edge.address).await;
            let shown = stream.get_ref().1.handshake_kind();
            let mut stream = Http2::over(stream).await;
            for _ in 0..2 {
                assert_eq!(stream.get("/mesh/", &[]).await.status(), 200);
                assert_eq!(origin.last().headers("x-user"), [ROBOT]);
            }
            assert_eq!(shown, Some(kind), "{version:?}");
        }
    }
    assert_eq!(edge.metric(r#"mcp_edge_auth_decisions_total{provider="mesh",result="allowed"}"#).await, 20.0);
    assert_eq!(edge.metric(r#"mcp_edge_auth_cache_requests_total{result="miss"}"#).await, 0.0);
    // A subject that an operator refuses gets 401, although certificates are not cached.
    let purge = format!(r#"{{"subject": "{ROBOT}", "refuse_for": "1m"}}"#);
    assert_eq!(
        exchange(edge.admin, request("POST", "/auth/purge", &[("Host", "localhost")], &purge)).await.status,
        200
    );
    let mut stream = dial(&client(&authority, Some(&robot), "http/1.1", &rustls::version::TLS13), edge.address).await;
    assert_eq!(get(&mut stream, "/mesh/", &[]).await.status, 401);
}

#[tokio::test]
async fn each_kind_of_name_identifies_the_caller_and_other_certificates_are_refused() {
    let (origin, authority) = (Origin::saying("in").await, Authority::new("ca"));
    let edge = edge(&authority, &origin).await;
    let (known, other) = (robot(&authority, &[ROBOT]), robot(&authority, &["spiffe://corp.example/other"]));
    for (identity, path, expected) in [
        (&known, "/any/", ROBOT),
        (&other, "/any/", "spiffe://corp.example/other"),
        (&known, "/hosts/", "robot.example"),
        (&known, "/names/", "Robot One"),
    ] {
        assert_eq!(get_as(&authority, Some(identity), &edge, path, &[]).await, 200, "{path}");
        assert_eq!(origin.last().headers("x-user"), [expected]);
    }
    let count = origin.count();
    let (several, none) = (robot(&authority, &[ROBOT, "spiffe://corp.example/other"]), robot(&authority, &[]));
    for (identity, path, status) in [
        (Some(&other), "/mesh/", 403),
        (Some(&other), "/any-read/", 403),
        (Some(&several), "/mesh/", 401),
        (Some(&several), "/any/", 401),
        (Some(&none), "/any/", 401),
        (None, "/any/", 401),
        (Some(&known), "/tokens/", 401),
    ] {
        assert_eq!(get_as(&authority, identity, &edge, path, &[]).await, status, "{path}");
    }
    assert_eq!(origin.count(), count);
}

/// Without a certificate, the other credential decides. With a certificate, the order of the route's providers decides.
#[tokio::test]
async fn a_certificate_and_a_token_are_tried_in_the_order_of_the_providers() {
    let (origin, authority) = (Origin::saying("in").await, Authority::new("ca"));
    let edge = edge(&authority, &origin).await;
    let robot = robot(&authority, &[ROBOT]);
    let (token, bad) = (format!("Bearer {}", Tokens::token("alice", "")), "Bearer bad".to_owned());
    let (token, bad) = (("Authorization", token.as_str()), ("Authorization", bad.as_str()));
    for (identity, path, header, expected) in [
        (None, "/first/", Some(token), Ok("alice")),
        (None, "/last/", Some(token), Ok("alice")),
        (None, "/first/", Some(bad), Err(401)),
        (None, "/first/", None, Err(401)),
        (None, "/last/", None, Err(401)),
        (None, "/mesh/", Some(token), Err(401)),
        (Some(&robot), "/first/", None, Ok(ROBOT)),
        (Some(&robot), "/last/", None, Ok(ROBOT)),
        (Some(&robot), "/first/", Some(token), Ok(ROBOT)),
        (Some(&robot), "/last/", Some(token), Ok("alice")),
        (Some(&robot), "/last/", Some(bad), Err(401)),
    ] {
        let headers: Vec<_> = header.into_iter().collect();
        let status = get_as(&authority, identity, &edge, path, &headers).await;
        match expected {
            Ok(user) => {
                assert_eq!(status, 200, "{path} {headers:?}");
                assert_eq!(origin.last().headers("x-user"), [user], "{path} {headers:?}");
                assert_eq!(origin.last().header("authorization"), None);
            }
            Err(expected) => assert_eq!(status, expected, "{path} {headers:?}"),
        }
    }
}

/// The edge ignores `X-Forwarded-Client-Cert`, in which other proxies forward a client's certificate.
#[tokio::test]
async fn a_listener_without_client_ca_ignores_certificates() {
    let (origin, authority) = (Origin::saying("in").await, Authority::new("ca"));
    let listeners = "{address: '127.0.0.1:0', tls: {certificate: edge.pem, key: edge.key}}, \
                     {address: '127.0.0.1:0', tls: {certificate: edge.pem, key: edge.key, client_ca: ca.pem}}";
    let edge = start(&authority, &origin, listeners).await;
    let robot = robot(&authority, &[ROBOT]);
    let pretended = [("X-Forwarded-Client-Cert", "URI=spiffe://corp.example/robot"), ("X-User", ROBOT)];
    assert_eq!(get_as(&authority, Some(&robot), &edge, "/mesh/", &pretended).await, 401);
    assert_eq!(origin.count(), 0);
}
