//! TLS on both sides of the edge, and HTTP/2 beside HTTP/1.1.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mcp_edge::server::Trigger;
use rustls::pki_types::ServerName;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::harness::http2::Http2;
use crate::harness::{
    Authority, Identity, Origin, PATIENCE, Reply, TestEdge, Tokens, exchange, http2, ok, read_reply, request,
};

/// A client of the edge.
struct Client<'a> {
    authority: &'a Authority,
    identity: Option<&'a Identity>,
    /// The host that it asks for.
    host: &'a str,
    protocol: &'a str,
    versions: &'a [&'static SupportedProtocolVersion],
}

impl<'a> Client<'a> {
    /// A client that trusts `authority` and speaks HTTP/1.1.
    fn of(authority: &'a Authority) -> Self {
        Self {
            authority,
            identity: None,
            host: "edge.example",
            protocol: "http/1.1",
            versions: rustls::DEFAULT_VERSIONS,
        }
    }

    async fn dial(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        self.dial_with(self.config(), address).await
    }

    /// What is the same for connections that may resume each other.
    fn config(&self) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_protocol_versions(self.versions);
        let builder = builder.with_root_certificates(self.authority.roots());
        let mut config = match self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder.with_client_auth_cert(identity.chain(), identity.key_der()).expect("a pair"),
        };
        config.alpn_protocols = vec![self.protocol.into()];
        Arc::new(config)
    }

    async fn dial_with(&self, config: Arc<ClientConfig>, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await.expect("the edge listens");
        let name = ServerName::try_from(self.host.to_owned()).expect("a name");
        let shaken = TlsConnector::from(config).connect(name, stream);
        tokio::time::timeout(PATIENCE, shaken).await.expect("a handshake in time")
    }

    /// Sends a GET on a new connection; `None` when the edge refuses the connection.
    async fn get(&self, address: SocketAddr, path: &str) -> Option<Reply> {
        let mut stream = self.dial(address).await.ok()?;
        // With TLS 1.3 a client learns only after its handshake that its certificate is refused.
        stream.write_all(request("GET", path, &[], "").as_bytes()).await.ok()?;
        Some(read_reply(&mut stream).await).filter(|reply| reply.status != 0)
    }
}

/// An edge with one TLS listener, an open route `/`, and a route `/closed/` that needs a token. `more` stands behind
/// `key` in the listener's `tls`.
async fn edge(origin: &Origin, authority: &Authority, identity: &Identity, more: &str) -> TestEdge {
    let yaml = format!(
        "listeners: [{{address: '127.0.0.1:0', tls: {{certificate: edge.pem, key: edge.key{more}}}}}]
limits: {{header_timeout: 1s}}
auth: {{providers: {{{}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes:
  - {{path: /, upstream: a, auth: none}}
  - {{path: /closed/, upstream: a, auth: {{providers: [local]}}}}
",
        Tokens::PROVIDER,
        origin.address
    );
    let files = [("ca.pem", authority.pem()), ("edge.pem", identity.pem()), ("edge.key", identity.key_pem())];
    TestEdge::start_with(&yaml, &files.each_ref().map(|(name, text)| (*name, text.as_str()))).await
}

#[tokio::test]
async fn both_versions_of_http_work_over_both_versions_of_tls() {
    let (origin, authority) = (Origin::saying("in").await, Authority::new("ca"));
    let edge = edge(&origin, &authority, &authority.issue("edge.example"), "").await;
    for (version, protocol) in
        [(&rustls::version::TLS12, ProtocolVersion::TLSv1_2), (&rustls::version::TLS13, ProtocolVersion::TLSv1_3)]
    {
        let versions = &[version];
        let client = Client { versions, ..Client::of(&authority) };
        let mut stream = client.dial(edge.address).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.protocol_version(), Some(protocol));
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        for _ in 0..2 {
            stream.write_all(request("GET", "/one", &[], "").as_bytes()).await.expect("the connection is open");
            let reply = read_reply(&mut stream).await;
            assert_eq!((reply.status, reply.body.as_str()), (200, "in"));
        }
        assert_eq!(origin.last().headers("x-forwarded-proto"), ["https"]);

        let client = Client { versions, protocol: "h2", ..Client::of(&authority) };
        let stream = client.dial(edge.address).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut http2 = Http2::over(stream).await;
        let (first, second) = (http2.get("/two", &[]).await, http2.get("/three", &[]).await);
        for response in [first, second] {
            assert_eq!(response.status(), 200);
            assert_eq!(http2::text(response.into_body()).await, "in");
        }
        assert_eq!(origin.last().line(), "GET /three HTTP/1.1");
        assert_eq!(origin.last().headers("x-forwarded-proto"), ["https"]);
        assert_eq!(origin.last().headers("host"), ["edge.example"]);
    }
    assert_eq!(origin.count(), 8);
    assert_eq!(exchange(edge.address, request("GET", "/", &[], "")).await.status, 0, "no cleartext on this port");
}

#[tokio::test]
async fn without_tls_one_port_speaks_both_versions_of_http() {
    let origin = Origin::saying("in").await;
    let edge = TestEdge::start(&format!(
        "upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}\nroutes: [{{path: /, upstream: a, auth: none}}]\n",
        origin.address
    ))
    .await;
    let mut http2 = Http2::connect(edge.address).await;
    for _ in 0..2 {
        assert_eq!(edge.get("/one", &[]).await.body, "in");
        let response = http2.get("/two", &[]).await;
        assert_eq!((response.status().as_u16(), response.version()), (200, http::Version::HTTP_2));
        assert_eq!(http2::text(response.into_body()).await, "in");
        assert_eq!(origin.last().headers("x-forwarded-proto"), ["http"]);
    }
    assert_eq!(origin.count(), 4);
}

#[tokio::test]
async fn a_client_certificate_is_required() {
    let (origin, authority, other) = (Origin::saying("in").await, Authority::new("ca"), Authority::new("other"));
    let edge = edge(&origin, &authority, &authority.issue("edge.example"), ", client_ca: ca.pem").await;
    let (ours, theirs) = (authority.issue("client"), other.issue("client"));
    for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
        let client = |identity| Client { identity, versions, ..Client::of(&authority) };
        assert!(client(None).get(edge.address, "/").await.is_none());
        assert!(client(Some(&theirs)).get(edge.address, "/").await.is_none());
        let reply = client(Some(&ours)).get(edge.address, "/").await.expect("it is let in");
        assert_eq!((reply.status, reply.body.as_str()), (200, "in"));
    }
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn an_optional_client_certificate_may_be_missing_but_not_invalid() {
    let (origin, authority, other) = (Origin::saying("in").await, Authority::new("ca"), Authority::new("other"));
    let more = ", client_ca: ca.pem, client_optional: true";
    let edge = edge(&origin, &authority, &authority.issue("edge.example"), more).await;
    let (ours, theirs) = (authority.issue("client"), other.issue("client"));
    let client = |identity| Client { identity, ..Client::of(&authority) };
    for identity in [None, Some(&ours)] {
        assert_eq!(client(identity).get(edge.address, "/").await.expect("it is let in").status, 200);
    }
    assert!(client(Some(&theirs)).get(edge.address, "/").await.is_none());
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn a_reload_shows_a_changed_certificate_to_new_connections() {
    let (origin, authority) = (Origin::saying("in").await, Authority::new("ca"));
    let (first, second, third) =
        (authority.issue("edge.example"), authority.issue("edge.example"), authority.issue("edge.example"));
    let edge = edge(&origin, &authority, &first, "").await;
    let client = Client::of(&authority);
    let shown = async || {
        let stream = client.dial(edge.address).await.expect("a handshake");
        stream.get_ref().1.peer_certificates().expect("the edge shows one").to_vec()
    };
    let mut before = client.dial(edge.address).await.expect("a handshake");
    assert_eq!(shown().await, first.chain());

    edge.write("edge.pem", &second.pem());
    edge.write("edge.key", &second.key_pem());
    assert_eq!(shown().await, first.chain(), "there was no reload yet");
    edge.reloader.reload(Trigger::Signal).await.expect("a good pair");
    assert_eq!(shown().await, second.chain());
    before.write_all(request("GET", "/", &[], "").as_bytes()).await.expect("the old connection is open");
    assert_eq!(read_reply(&mut before).await.status, 200);

    // A broken certificate, or a certificate that does not fit the key, does not replace the working one.
    for (certificate, why) in
        [("-----BEGIN CERTIFICATE-----\nbroken\n".to_owned(), "certificate"), (third.pem(), "key")]
    {
        edge.write("edge.pem", &certificate);
        let errors = edge.reloader.reload(Trigger::Signal).await.expect_err("a bad certificate").to_string();
        assert!(errors.contains("edge.pem") && errors.contains(why), "{errors}");
        assert_eq!(shown().await, second.chain());
        assert_eq!(client.get(edge.address, "/").await.expect("the edge serves").status, 200);
    }
    edge.write("edge.key", &third.key_pem());
    edge.reloader.reload(Trigger::Signal).await.expect("a good pair");
    assert_eq!(shown().await, third.chain());
}

/// One listener has several certificates. A client gets the one that is valid for the host that it asks for; a reload replaces
/// each of them.
#[tokio::test]
async fn a_client_gets_the_certificate_of_the_host_that_it_asks_for() {
    let (origin, authority) = (Origin::saying("in").await, Authority::new("ca"));
    let [first, other, wild] = ["edge.example", "Other.Example", "*.wild.example"].map(|name| authority.issue(name));
    let yaml = format!(
        "listeners: [{{address: '127.0.0.1:0', tls: {{certificate: edge.pem, key: edge.key, sni: [
    {{certificate: other.pem, key: other.key}}, {{certificate: wild.pem, key: wild.key}}]}}}}]
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /, upstream: a, auth: none}}]
",
        origin.address
    );
    let texts = [("edge", &first), ("other", &other), ("wild", &wild)]
        .map(|(name, identity)| [(format!("{name}.pem"), identity.pem()), (format!("{name}.key"), identity.key_pem())]);
    let files: Vec<_> = texts.iter().flatten().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let edge = TestEdge::start_with(&yaml, &files).await;
    let shown = async |host| {
        let mut stream = Client { host, ..Client::of(&authority) }.dial(edge.address).await.ok()?;
        stream.write_all(request("GET", "/", &[], "").as_bytes()).await.expect("the connection is open");
        assert_eq!(read_reply(&mut stream).await.status, 200, "{host}");
        Some(stream.get_ref().1.peer_certificates().expect("the edge shows one").to_vec())
    };
    assert_eq!(shown("edge.example").await, Some(first.chain()));
    assert_eq!(shown("other.example").await, Some(other.chain()));
    assert_eq!(shown("a.wild.example").await, Some(wild.chain()));
    // These get the certificate of `edge.example`, and do not accept it.
    for host in ["wild.example", "a.b.wild.example", "another.example", "127.0.0.1"] {
        assert_eq!(shown(host).await, None, "{host}");
    }
    let next = authority.issue("other.example");
    edge.write("other.pem", &next.pem());
    edge.write("other.key", &next.key_pem());
    edge.reloader.reload(Trigger::Signal).await.expect("a good pair");
    assert_eq!(shown("other.example").await, Some(next.chain()));
    assert_eq!(shown("edge.example").await, Some(first.chain()));
}

/// A client that comes back needs no full handshake. What one listener has issued is worth nothing at another, which may have
/// other rules for clients.
#[tokio::test]
async fn a_client_that_comes_back_resumes_its_connection_at_the_same_listener_only() {
    let (origin, authority) = (Origin::saying("in").await, Authority::new("ca"));
    let identity = authority.issue("edge.example");
    let [edge, other] = [
        edge(&origin, &authority, &identity, "").await,
        edge(&origin, &authority, &identity, ", client_ca: ca.pem, client_optional: true").await,
    ];
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = Client { versions: &[version], ..Client::of(&authority) };
        let config = client.config();
        let kind = async |address| {
            let mut stream = client.dial_with(Arc::clone(&config), address).await.expect("a handshake");
            stream.write_all(request("GET", "/", &[], "").as_bytes()).await.expect("the connection is open");
            assert_eq!(read_reply(&mut stream).await.status, 200);
            stream.get_ref().1.handshake_kind().expect("the handshake is over")
        };
        assert_eq!(kind(edge.address).await, HandshakeKind::Full);
        assert_eq!(kind(edge.address).await, HandshakeKind::Resumed);
        assert_eq!(kind(other.address).await, HandshakeKind::Full);
    }
}

/// A client certificate is known on resumed connections too.
#[tokio::test]
async fn a_resumed_connection_has_the_certificate_of_its_client() {
    let (origin, authority) = (Origin::saying("in").await, Authority::new("ca"));
    let edge = edge(&origin, &authority, &authority.issue("edge.example"), ", client_ca: ca.pem").await;
    let ours = authority.issue("client");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = Client { identity: Some(&ours), versions: &[version], ..Client::of(&authority) };
        let config = client.config();
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut stream = client.dial_with(Arc::clone(&config), edge.address).await.expect("a handshake");
            stream.write_all(request("GET", "/", &[], "").as_bytes()).await.expect("the connection is open");
            assert_eq!(read_reply(&mut stream).await.status, 200);
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(expected));
        }
    }
}

/// A client cannot hold a connection by silence, by sending a byte now and then, or by a handshake without a request.
#[tokio::test]
async fn a_handshake_has_a_deadline() {
    let (origin, authority) = (Origin::saying("in").await, Authority::new("ca"));
    let edge = edge(&origin, &authority, &authority.issue("edge.example"), "").await;
    let until_closed = async |mut reading: Box<dyn tokio::io::AsyncRead + Unpin>, begun: Instant| {
        // A reset, or the end of a TLS stream without `close_notify`, counts as closed, too.
        let _ = tokio::time::timeout(PATIENCE, reading.read_to_end(&mut Vec::new())).await.expect("it is closed");
        begun.elapsed()
    };
    let silent = async {
        let begun = Instant::now();
        let stream = TcpStream::connect(edge.address).await.expect("the edge listens");
        until_closed(Box::new(stream), begun).await
    };
    let dripping = async {
        let begun = Instant::now();
        let stream = TcpStream::connect(edge.address).await.expect("the edge listens");
        let (reading, mut writing) = stream.into_split();
        let drip = tokio::spawn(async move {
            // The head of a record with a ClientHello of 512 bytes.
            for byte in [0x16, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3].into_iter().chain(std::iter::repeat(0)) {
                if writing.write_all(&[byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let elapsed = until_closed(Box::new(reading), begun).await;
        drip.abort();
        elapsed
    };
    let shaken = async {
        let stream = Client::of(&authority).dial(edge.address).await.expect("a handshake");
        until_closed(Box::new(stream), Instant::now()).await
    };
    let (silent, dripping, shaken) = tokio::join!(silent, dripping, shaken);
    for (name, elapsed) in [("silent", silent), ("dripping", dripping), ("shaken", shaken)] {
        assert!(elapsed >= Duration::from_millis(900) && elapsed < Duration::from_secs(4), "{name}: {elapsed:?}");
    }
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn a_challenge_behind_tls_names_https() {
    let (origin, authority) = (Origin::saying("in").await, Authority::new("ca"));
    let edge = edge(&origin, &authority, &authority.issue("edge.example"), "").await;
    let client = Client::of(&authority);
    let reply = client.get(edge.address, "/closed/mcp").await.expect("the edge serves");
    assert_eq!(reply.status, 401);
    let metadata = "https://edge.example/.well-known/oauth-protected-resource/closed/mcp";
    assert_eq!(reply.header("www-authenticate"), Some(format!(r#"Bearer resource_metadata="{metadata}""#).as_str()));
    let reply =
        client.get(edge.address, metadata.trim_start_matches("https://edge.example")).await.expect("the edge serves");
    assert_eq!(reply.json()["resource"], "https://edge.example/closed/mcp");
}

/// An origin with TLS. If `clients` is given, it requires client certificates of this authority.
async fn tls_origin(identity: &Identity, clients: Option<&Authority>) -> Origin {
    let acceptor = acceptor(identity, clients, "http/1.1");
    Origin::scripted(move |stream, recorder| {
        let acceptor = acceptor.clone();
        async move {
            // Some tests make the handshake fail.
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            while recorder.read(&mut stream).await.is_some() {
                if stream.write_all(&ok("in")).await.is_err() {
                    break;
                }
            }
        }
    })
    .await
}

fn acceptor(identity: &Identity, clients: Option<&Authority>, protocol: &str) -> TlsAcceptor {
    let builder = match clients {
        None => ServerConfig::builder().with_no_client_auth(),
        Some(authority) => {
            let verifier = WebPkiClientVerifier::builder(authority.roots()).build().expect("an authority");
            ServerConfig::builder().with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(identity.chain(), identity.key_der()).expect("a pair");
    config.alpn_protocols = vec![protocol.into()];
    TlsAcceptor::from(Arc::new(config))
}

/// An edge with an upstream for each of `upstreams` (its name, and `tls` and other settings) and a route of the same
/// name.
async fn edge_before(origin: &Origin, upstreams: &[(&str, &str)], files: &[(&str, String)]) -> TestEdge {
    let (mut sections, mut routes) = (String::new(), String::new());
    for (name, settings) in upstreams {
        sections += &format!("  {name}: {{endpoints: [{{address: '{}'}}], {settings}}}\n", origin.address);
        routes += &format!("  - {{path: /{name}/, upstream: {name}, auth: none}}\n");
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    TestEdge::start_with(&format!("upstreams:\n{sections}routes:\n{routes}"), &files).await
}

/// All upstreams have the same address, so the test fails if a pooled connection of one upstream is used for another.
#[tokio::test]
async fn an_upstream_certificate_is_verified() {
    let (authority, other) = (Authority::new("ca"), Authority::new("other"));
    let origin = tls_origin(&authority.issue("origin.example"), None).await;
    let upstreams = [
        ("good", "tls: {server_name: origin.example, ca: ca.pem}"),
        ("other-authority", "tls: {server_name: origin.example, ca: other.pem}"),
        ("other-name", "tls: {server_name: another.example, ca: ca.pem}"),
        ("no-name", "tls: {ca: ca.pem}"),
        ("system", "tls: {server_name: origin.example}"),
    ];
    let edge = edge_before(&origin, &upstreams, &[("ca.pem", authority.pem()), ("other.pem", other.pem())]).await;
    for round in 1..=2 {
        assert_eq!(edge.get("/good/", &[]).await.body, "in");
        for (name, _) in &upstreams[1..] {
            let reply = edge.get(&format!("/{name}/"), &[]).await;
            assert_eq!((reply.status, reply.json()["error"].as_str()), (502, Some("upstream_failed")), "{name}");
        }
        assert_eq!(origin.count(), round, "nothing is sent to a server whose certificate is not accepted");
    }
    assert!(origin.connections() > 4, "each upstream has tried to connect");
}

#[tokio::test]
async fn an_upstream_without_a_server_name_is_verified_by_its_address() {
    let authority = Authority::new("ca");
    let origin = tls_origin(&authority.issue("127.0.0.1"), None).await;
    let edge = edge_before(&origin, &[("a", "tls: {ca: ca.pem}")], &[("ca.pem", authority.pem())]).await;
    assert_eq!(edge.get("/a/", &[]).await.status, 200);
    assert_eq!(origin.last().headers("x-forwarded-proto"), ["http"], "the field describes the client's connection");
}

/// All upstreams have the same address. A connection with a client certificate must not serve upstreams that have
/// another one or none.
#[tokio::test]
async fn an_upstream_gets_the_client_certificate_that_it_requires() {
    let authority = Authority::new("ca");
    let origin = tls_origin(&authority.issue("origin.example"), Some(&authority)).await;
    let (client, stranger) = (authority.issue("edge"), Authority::new("other").issue("edge"));
    let tls = "server_name: origin.example, ca: ca.pem";
    let upstreams = [
        ("known", format!("tls: {{{tls}, certificate: client.pem, key: client.key}}")),
        ("unknown", format!("tls: {{{tls}, certificate: stranger.pem, key: stranger.key}}")),
        ("none", format!("tls: {{{tls}}}")),
    ];
    let files = [
        ("ca.pem", authority.pem()),
        ("client.pem", client.pem()),
        ("client.key", client.key_pem()),
        ("stranger.pem", stranger.pem()),
        ("stranger.key", stranger.key_pem()),
    ];
    let edge = edge_before(&origin, &upstreams.each_ref().map(|(name, text)| (*name, text.as_str())), &files).await;
    for round in 1..=2 {
        assert_eq!(edge.get("/known/", &[]).await.body, "in");
        for name in ["unknown", "none"] {
            assert_eq!(edge.get(&format!("/{name}/"), &[]).await.status, 502, "{name}");
        }
        assert_eq!(origin.count(), round);
    }
}

#[tokio::test]
async fn an_upstream_speaks_http_2_over_tls() {
    let authority = Authority::new("ca");
    let acceptor = acceptor(&authority.issue("origin.example"), None, "h2");
    let origin = Origin::scripted(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let stream = acceptor.accept(stream).await.expect("a handshake");
            let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
            while let Some(Ok((request, mut answer))) = connection.accept().await {
                let mut body = answer.send_response(http::Response::new(()), false).expect("the stream is open");
                body.send_data(request.uri().to_string().into(), true).expect("the stream is open");
            }
        }
    })
    .await;
    let upstreams = [("a", "http2: true, tls: {server_name: origin.example, ca: ca.pem}")];
    let edge = edge_before(&origin, &upstreams, &[("ca.pem", authority.pem())]).await;
    for path in ["/one?x=1", "/two"] {
        assert_eq!(edge.get(&format!("/a{path}"), &[]).await.body, format!("https://edge.example{path}"));
    }
    let mut http2 = Http2::connect(edge.address).await;
    let response = http2.get("/a/three", &[]).await;
    assert_eq!(http2::text(response.into_body()).await, "https://edge.example/three");
    assert_eq!(origin.connections(), 1, "requests share a connection");
}
