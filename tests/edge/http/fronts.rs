//! Real proxies beside the edge: nginx and HAProxy before it, as TLS terminators, and an nginx with TLS behind it.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::process::{Child, Command};
use tokio_rustls::TlsConnector;

use crate::harness::{Authority, EdgeProcess, Origin, PATIENCE, Reply, Tokens, call, eventually, read_reply, request};

/// A proxy that listens on `address`. It ends when this is dropped.
struct Front {
    address: SocketAddr,
    _process: Child,
    _folder: TempDir,
}

/// Debian installs servers in folders that are not in every user's PATH.
fn command(name: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(name);
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

impl Front {
    /// Starts `program` with a configuration that `text` makes from the folder and the address.
    async fn start(
        program: &str,
        arguments: &[&str],
        files: &[(&str, String)],
        text: impl Fn(&str, SocketAddr) -> String,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("the folder is writable");
        }
        // The proxies cannot tell which port they get, so a free one is found for them.
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        drop(listener);
        let path = folder.path().display().to_string();
        std::fs::write(folder.path().join("front.conf"), text(&path, address)).expect("the folder is writable");
        let mut process = command(program)
            .args(arguments)
            .arg(folder.path().join("front.conf"))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{program} ({error}): `scripts/setup test` installs it"));
        eventually("the proxy listens", async || {
            assert!(process.try_wait().expect("its state").is_none(), "{program} has ended");
            TcpStream::connect(address).await.is_ok()
        })
        .await;
        Self { address, _process: process, _folder: folder }
    }

    async fn nginx(files: &[(&str, String)], server: impl Fn(SocketAddr) -> String) -> Self {
        let text = |folder: &str, address: SocketAddr| {
            let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
                .concat();
            format!(
                "daemon off; master_process off; pid {folder}/pid; error_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}server {{\nlisten {address} ssl;\nssl_certificate {folder}/edge.pem;\nssl_certificate_key {folder}/edge.key;\n{}\n}}\n}}\n",
                server(address)
            )
        };
        Self::start("nginx", &["-e", "stderr", "-c"], files, text).await
    }

    /// What most guides write.
    async fn nginx_before(edge: SocketAddr, files: &[(&str, String)]) -> Self {
        Self::nginx(files, |_| {
            format!(
                "location / {{ proxy_pass http://{edge}; proxy_http_version 1.1; proxy_buffering off;
proxy_set_header Connection \"\"; proxy_set_header Host $host; proxy_set_header X-Forwarded-Host $host;
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
proxy_set_header X-Request-Id $request_id; }}"
            )
        })
        .await
    }

    async fn haproxy_before(edge: SocketAddr, files: &[(&str, String)]) -> Self {
        let text = |folder: &str, address: SocketAddr| {
            format!(
                "defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend tls
  bind {address} ssl crt {folder}/both.pem alpn h2,http/1.1
  option forwardfor
  http-request set-header X-Forwarded-Proto https
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Request-Id %[uuid()]
  default_backend edge
backend edge
  server edge {edge}
"
            )
        };
        Self::start("haproxy", &["-db", "-q", "-f"], files, text).await
    }

    /// Sends a request over TLS, as a client at 127.0.0.2.
    async fn send(&self, roots: &Arc<RootCertStore>, bytes: &str) -> Reply {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.2:0".parse().expect("an address")).expect("loopback");
        let stream = socket.connect(self.address).await.expect("the proxy listens");
        let mut config = ClientConfig::builder().with_root_certificates(Arc::clone(roots)).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from("edge.example").expect("a name");
        let shaken = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let mut stream = tokio::time::timeout(PATIENCE, shaken).await.expect("in time").expect("a handshake");
        stream.write_all(bytes.as_bytes()).await.expect("the proxy reads");
        tokio::time::timeout(PATIENCE, read_reply(&mut stream)).await.expect("an answer in time")
    }
}

/// Certificate and key for `edge.example`, in the files that nginx and HAProxy want.
fn files(authority: &Authority) -> Vec<(&'static str, String)> {
    let identity = authority.issue("edge.example");
    let both = identity.pem() + &identity.key_pem();
    vec![("edge.pem", identity.pem()), ("edge.key", identity.key_pem()), ("both.pem", both)]
}

/// Client address, scheme, host, the URLs of metadata, redirects and origins are those of the client, who lies about all of them.
#[tokio::test]
async fn behind_nginx_and_haproxy_the_edge_sees_the_client() {
    for proxy in ["nginx", "haproxy"] {
        let origin = Origin::answering(|seen| {
            let host = seen.header("host").unwrap_or_default();
            match seen.line().contains("/moved") {
                true => format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{host}/mcp/\r\nContent-Length: 0\r\n\r\n"),
                false => "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 36\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}".to_owned(),
            }
            .into_bytes()
        })
        .await;
        let folder = tempfile::tempdir().expect("a folder");
        let yaml = format!(
            "listeners: [{{address: '127.0.0.1:0', hosts: [edge.example], trusted_proxies: [127.0.0.1/32]}}]
admin: {{address: '127.0.0.1:0'}}
auth: {{providers: {{{}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /a/, upstream: a, protocol: mcp, auth: {{providers: [local]}}}}]
",
            Tokens::PROVIDER,
            origin.address
        );
        std::fs::write(folder.path().join("edge.yaml"), yaml).expect("the folder is writable");
        std::fs::write(folder.path().join(Tokens::SECRET_FILE.0), Tokens::SECRET_FILE.1).expect("writable");
        let mut edge = EdgeProcess::start(&folder.path().join("edge.yaml")).await;
        let authority = Authority::new("ca");
        let (roots, files) = (authority.roots(), files(&authority));
        let front = match proxy {
            "nginx" => Front::nginx_before(edge.address, &files).await,
            _ => Front::haproxy_before(edge.address, &files).await,
        };
        let bearer = format!("Bearer {}", Tokens::token("alice", ""));
        let lies = [
            ("Authorization", bearer.as_str()),
            ("X-Forwarded-For", "203.0.113.9"),
            ("X-Forwarded-Proto", "http"),
            ("X-Forwarded-Host", "admin.internal"),
            ("X-Request-Id", "mine"),
            ("Content-Type", "application/json"),
            ("Accept", "application/json, text/event-stream"),
        ];
        let post =
            |path: &str, more: &[(&str, &str)]| request("POST", path, &[&lies[..], more].concat(), &call("1", "x"));
        let reply = front.send(&roots, &post("/a/mcp", &[])).await;
        assert_eq!(reply.status, 200, "{proxy}: {reply:?}");
        let seen = origin.last();
        assert_eq!(seen.headers("x-forwarded-for"), ["203.0.113.9, 127.0.0.2, 127.0.0.1"], "{proxy}");
        assert_eq!(
            (seen.headers("x-forwarded-proto"), seen.headers("x-forwarded-host")),
            (vec!["https"], vec!["edge.example"])
        );
        assert_eq!(seen.header("x-request-id"), reply.header("x-request-id"));
        assert_ne!(seen.header("x-request-id"), Some("mine"), "the proxy has overwritten it");
        let reply = front.send(&roots, &post("/a/moved", &[])).await;
        assert_eq!((reply.status, reply.header("location")), (307, Some("https://edge.example/a/mcp/")), "{proxy}");
        for (page, status) in
            [("https://edge.example", 200), ("http://edge.example", 403), ("https://evil.example", 403)]
        {
            assert_eq!(front.send(&roots, &post("/a/mcp", &[("Origin", page)])).await.status, status, "{proxy} {page}");
        }
        let reply = front.send(&roots, &request("GET", "/a/mcp", &[], "")).await;
        let metadata = "https://edge.example/.well-known/oauth-protected-resource/a/mcp";
        let challenge = reply.header("www-authenticate").expect("a challenge");
        assert!(reply.status == 401 && challenge.contains(&format!("resource_metadata=\"{metadata}\"")), "{challenge}");
        let document =
            front.send(&roots, &request("GET", "/.well-known/oauth-protected-resource/a/mcp", &[], "")).await;
        assert_eq!(document.json()["resource"], "https://edge.example/a/mcp", "{proxy}");
        drop(front);
        edge.signal("TERM");
        let mut addresses = Vec::new();
        while let Some(line) = edge.line().await {
            let line: Value = serde_json::from_str(&line).expect("JSON");
            addresses.extend(line["client"].as_str().map(str::to_owned));
        }
        assert_eq!(addresses.len(), 7, "{proxy}");
        assert!(addresses.iter().all(|address| address == "127.0.0.2"), "{proxy}: {addresses:?}");
    }
}

/// Case D5: a hosted server that redirects to HTTPS whoever came over HTTP.
#[tokio::test]
async fn a_tls_server_that_redirects_by_the_forwarded_scheme_answers_if_it_is_not_told() {
    let authority = Authority::new("ca");
    let front = Front::nginx(&files(&authority), |_| {
        "server_name edge.example; if ($http_x_forwarded_proto = http) { return 301 https://$host$request_uri; }\nlocation / { return 200 in; }".to_owned()
    })
    .await;
    for (forwarded, status) in [("full", 301), ("none", 200)] {
        let yaml = format!(
            "upstreams: {{a: {{endpoints: [{{address: '{}'}}], forwarded: {forwarded}, tls: {{ca: ca.pem, server_name: edge.example}}}}}}
routes: [{{path: /a/, upstream: a, auth: none, host: {{rewrite: edge.example}}}}]
",
            front.address
        );
        let edge = crate::harness::TestEdge::start_with(&yaml, &[("ca.pem", &authority.pem())]).await;
        assert_eq!(edge.get("/a/x", &[]).await.status, status, "{forwarded}");
    }
}
