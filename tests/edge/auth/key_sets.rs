//! Key sets that change or fail, and forged tokens that make the edge fetch them.

use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::signer::{encode, message};
use crate::harness::{
    Clock, EdgeProcess, Origin, Signer, TestEdge, Tokens, answer, eventually, ok, read_reply, request,
};

/// An edge whose clocks can be moved, and the server of its keys.
struct Setting {
    edge: EdgeProcess,
    clock: Clock,
    keys: Origin,
    served: Arc<Mutex<Vec<u8>>>,
    _origin: Origin,
    _folder: TempDir,
}

impl Setting {
    async fn start(first: Vec<u8>) -> Self {
        let served = Arc::new(Mutex::new(first));
        let serving = Arc::clone(&served);
        let keys = Origin::answering(move |_| serving.lock().expect("no panic").clone()).await;
        let (origin, clock) = (Origin::saying("in").await, Clock::new());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("edge.yaml");
        // `refresh: 24h` keeps background fetches out of the test.
        let yaml = format!(
            "listeners: [{{address: '127.0.0.1:0'}}]
admin: {{address: '127.0.0.1:0'}}
log: {{format: text}}
auth:
  cache: {{negative_ttl: 0s}}
  providers:
    public:
      jwt:
        issuer: '{}'
        audiences: [mcp-edge]
        algorithms: [RS256, ES256]
        jwks: {{url: 'http://{}/jwks', refresh: 24h}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /, upstream: a, auth: {{providers: [public]}}}}]
",
            Signer::ISSUER,
            keys.address,
            origin.address
        );
        std::fs::write(&path, yaml).expect("the folder is writable");
        let edge = EdgeProcess::start_with(&path, clock.environment()).await;
        eventually("the keys are fetched", async || keys.count() > 0).await;
        Self { edge, clock, keys, served, _origin: origin, _folder: folder }
    }

    fn serve(&self, bytes: Vec<u8>) {
        *self.served.lock().expect("no panic") = bytes;
    }

    /// How many key fetches have had this result.
    async fn fetches(&self, result: &str) -> f64 {
        let series = format!(r#"mcp_edge_auth_key_fetches_total{{provider="public",result="{result}"}}"#);
        self.edge.metric(&series).await
    }

    /// When the keys were fetched last, in seconds since 1970.
    async fn fetched_at(&self) -> f64 {
        self.edge.metric(r#"mcp_edge_auth_keys_last_success_timestamp_seconds{provider="public"}"#).await
    }

    async fn status(&self, token: &str) -> u16 {
        self.edge.get_as(token, "/").await.status
    }
}

fn unknown_kid(number: usize) -> String {
    let end = mcp_edge::types::unix_now() + 600;
    let claims = format!(r#"{{"iss":"{}","aud":"mcp-edge","sub":"eve","exp":{end}}}"#, Signer::ISSUER);
    let header = format!(r#"{{"alg":"RS256","kid":"made-up-{number}"}}"#);
    format!("{}.{}", message(&header, claims.as_bytes()), encode(&[1; 256]))
}

/// Row 20: 10,000 unknown key ids cause one fetch in each interval.
#[tokio::test]
async fn ten_thousand_made_up_key_ids_cause_one_fetch_in_each_interval() {
    let signer = Signer::new();
    let setting = Setting::start(ok(&signer.jwks())).await;
    eventually("the keys are loaded", async || setting.status(&signer.token("alice")).await == 200).await;
    for interval in 1..=2 {
        setting.clock.set(0, interval * 11);
        let (fetched, address) = (setting.keys.count(), setting.edge.address);
        let mut clients = tokio::task::JoinSet::new();
        for client in 0..8 {
            clients.spawn(async move {
                let mut stream = TcpStream::connect(address).await.expect("the edge listens");
                for number in 0..625 {
                    let token = format!("Bearer {}", unknown_kid(client * 625 + number));
                    let text = request("GET", "/", &[("Authorization", &token)], "");
                    stream.write_all(text.as_bytes()).await.expect("the edge reads");
                    assert_eq!(read_reply(&mut stream).await.status, 401);
                }
            });
        }
        let started = std::time::Instant::now();
        clients.join_all().await;
        // A slow machine may need another interval, in which one more fetch is allowed.
        let intervals = 1 + started.elapsed().as_secs() as usize / 10;
        let fetches = setting.keys.count() - fetched;
        assert!((1..=intervals).contains(&fetches), "{fetches} fetches in {:?}", started.elapsed());
        assert_eq!(setting.status(&signer.token("bob")).await, 200, "the loaded keys are still used");
    }
}

/// Row 21: the last good key set is used for an hour. After that, tokens cannot be validated and clients get 503.
#[tokio::test]
async fn the_last_key_set_is_used_for_an_hour_and_then_clients_get_503() {
    let signer = Signer::new();
    let setting = Setting::start(ok(&signer.jwks())).await;
    eventually("the keys are loaded", async || setting.status(&signer.token("alice")).await == 200).await;
    setting.serve(answer("500 No", "text/plain", "no"));
    setting.clock.set(0, 3_500);
    assert_eq!(setting.status(&signer.token("bob")).await, 200, "the last good key set is used");
    setting.clock.set(0, 3_650);
    let reply = setting.edge.get_as(&signer.token("carol"), "/").await;
    assert_eq!(reply.status, 503);
    assert!(reply.header("retry-after").is_some() && reply.header("www-authenticate").is_none());
    let unavailable = r#"mcp_edge_auth_decisions_total{provider="public",result="unavailable"}"#;
    assert!(setting.edge.metric(unavailable).await >= 1.0);
    assert!(setting.fetches("unavailable").await >= 1.0);
    setting.serve(ok(&signer.jwks()));
    setting.clock.set(0, 3_670);
    assert_eq!(
        setting.status(&signer.token("carol")).await,
        200,
        "the edge recovers by itself, and the 503 was not cached as a denial"
    );
}

/// Row 22: whatever the server sends instead of a key set, the edge keeps the old one, logs a warning and counts the
/// failure. Rows 19 and 20: redirects are not followed, and the next good key set is used.
#[tokio::test]
async fn a_broken_key_set_does_not_replace_a_good_one() {
    let (signer, elsewhere) = (Signer::new(), Origin::saying("{}").await);
    let other = Signer::new();
    let mut setting = Setting::start(ok(&signer.jwks())).await;
    eventually("the keys are loaded", async || setting.status(&signer.token("alice")).await == 200).await;
    let location = elsewhere.address;
    let redirect = format!("HTTP/1.1 302 Found\r\nLocation: http://{location}/\r\nContent-Length: 0\r\n\r\n");
    let huge = format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(1 << 20));
    let oct = format!(r#"{{"keys":[{{"kty":"oct","kid":"rsa","k":"{}"}}]}}"#, encode(&[7; 32]));
    let for_encryption = signer.jwks().replace("\"kty\":", "\"use\":\"enc\",\"kty\":");
    let good_at = setting.fetched_at().await;
    assert!(good_at > 0.0);
    for (number, (name, served, result)) in [
        ("no key", ok(r#"{"keys":[]}"#), "invalid"),
        ("no set", ok(r#"{"key":[]}"#), "invalid"),
        ("no JSON", ok("<html>"), "invalid"),
        ("half of one", ok(&signer.jwks()[..50]), "invalid"),
        ("nothing", ok(""), "invalid"),
        ("another status", answer("404 Not Found", "application/json", &other.jwks()), "unavailable"),
        ("a redirect", redirect.into_bytes(), "unavailable"),
        ("a huge one", ok(&huge), "invalid"),
        ("a shared secret", ok(&oct), "invalid"),
        ("keys for encryption", ok(&for_encryption), "invalid"),
        ("an unknown kind", ok(r#"{"keys":[{"kty":"XYZ","kid":"rsa"}]}"#), "invalid"),
    ]
    .into_iter()
    .enumerate()
    {
        setting.serve(served);
        setting.clock.set(0, 11 * (number as i64 + 1));
        let (fetched, counted) = (setting.keys.count(), setting.fetches(result).await);
        assert_eq!(setting.status(&unknown_kid(number)).await, 401, "{name}");
        assert_eq!(setting.fetches(result).await, counted + 1.0, "{name}: {result}");
        assert_eq!(setting.keys.count(), fetched + 1, "{name}: the key set was fetched");
        assert_eq!(setting.status(&signer.token(name)).await, 200, "{name}: the old keys are still used");
        while let Some(line) = setting.edge.line().await {
            if line.contains("WARN") && line.contains("the old keys stay") {
                break;
            }
        }
    }
    assert_eq!(elsewhere.connections(), 0);
    assert_eq!(
        (setting.fetches("ok").await, setting.fetched_at().await),
        (1.0, good_at),
        "no good key set was fetched after the first one"
    );
    setting.serve(ok(&other.jwks()));
    setting.clock.set(0, 11 * 20);
    let end = mcp_edge::types::unix_now() + 600;
    let claims = format!(r#"{{"iss":"{}","aud":"mcp-edge","sub":"dora","exp":{end}}}"#, Signer::ISSUER);
    assert_eq!(setting.status(&unknown_kid(1_000)).await, 401);
    assert_eq!(
        setting.status(&other.ec(r#"{"alg":"ES256","kid":"ec"}"#, &claims)).await,
        200,
        "a good key set is used"
    );
    assert_eq!(
        setting.status(&signer.ec(r#"{"alg":"ES256","kid":"ec"}"#, &claims)).await,
        401,
        "the old key set is no longer used"
    );
    assert_eq!(setting.fetches("ok").await, 2.0);
    assert!(setting.fetched_at().await >= good_at);
}

/// An alert on the age of keys must not fire when a provider no longer fetches keys, although a provider of this name
/// still exists.
#[tokio::test]
async fn key_series_are_removed_when_a_provider_fetches_no_keys() {
    let (signer, origin) = (Signer::new(), Origin::saying("in").await);
    let jwks = signer.jwks();
    let keys = Origin::answering(move |_| ok(&jwks)).await;
    let yaml = |provider: &str| {
        format!(
            "auth: {{providers: {{{provider}}}}}\nupstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}\n\
             routes: [{{path: /, upstream: a, auth: {{providers: [local]}}}}]\n",
            origin.address
        )
    };
    let fetched = format!(
        "local: {{jwt: {{issuer: '{}', audiences: [mcp-edge], algorithms: [RS256], jwks: {{url: 'http://{}/'}}}}}}",
        Signer::ISSUER,
        keys.address
    );
    let series = ["mcp_edge_auth_key_fetches_total{", "mcp_edge_auth_keys_last_success_timestamp_seconds{"];
    for next in [Tokens::PROVIDER, "local: {api_keys: {file: keys.yaml}}"] {
        let edge = TestEdge::start_with(&yaml(&fetched), &[("keys.yaml", "[]\n")]).await;
        eventually("the keys are loaded", async || edge.get_as(&signer.token("alice"), "/").await.status == 200).await;
        let metrics = edge.admin_get("/metrics").await.body;
        assert!(series.iter().all(|series| metrics.contains(series)), "{metrics}");
        edge.reload(&yaml(next)).await.expect("the configuration loads");
        let metrics = edge.admin_get("/metrics").await.body;
        assert!(!series.iter().any(|series| metrics.contains(series)), "{metrics}");
    }
}
