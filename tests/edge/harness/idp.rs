//! A real identity provider, as a separate process: oidc-provider on Node (tests/idp).

use std::path::PathBuf;
use std::process::Stdio;

use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use super::PATIENCE;

/// The running provider. Its process ends when this value is dropped, because its standard input is then closed.
/// `scripts/test` installs the packages that it needs. Tests that use it are marked `#[ignore]`, so that `cargo test`
/// reports them as ignored.
pub struct Idp {
    pub issuer: String,
    /// The secret of two clients: `agent` gets tokens, and `edge` may introspect tokens.
    pub secret: String,
    /// The private key of client `edge-key` in PEM, for `private_key_jwt` with ES256 and `kid` `edge`.
    pub edge_key: String,
    control: String,
    client: reqwest::Client,
    _child: Child,
    _stdin: ChildStdin,
}

#[derive(Deserialize)]
struct Announced {
    issuer: String,
    control: String,
    secret: String,
    edge_key: String,
}

impl Idp {
    pub async fn start() -> Self {
        mcp_edge::auth::install_crypto();
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("idp");
        assert!(folder.join("installed.json").exists(), "oidc-provider is not installed: run `make test`");
        let bin = folder.join("node_modules/.bin/node");
        let mut command = Command::new(if bin.exists() { bin } else { "node".into() });
        // With `--eval`, Node looks for the script's packages in the current folder.
        command.args(["--input-type=module", "--eval", include_str!("../../idp/idp.js")]).current_dir(&folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().expect("the provider starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("the provider is ready in time");
        let line = line.expect("its output is UTF-8").expect("the provider prints its addresses");
        let Announced { issuer, control, secret, edge_key } = serde_json::from_str(&line).expect("one line of JSON");
        let stdin = child.stdin.take().expect("it is piped");
        Self { issuer, secret, edge_key, control, client: reqwest::Client::new(), _child: child, _stdin: stdin }
    }

    /// The provider `idp` of a configuration, for JWTs with this audience.
    pub fn provider(&self, audience: &str) -> String {
        let issuer = &self.issuer;
        format!(
            "idp: {{jwt: {{issuer: '{issuer}', audiences: ['{audience}'], algorithms: [ES256], \
             jwks: {{url: '{issuer}/jwks'}}}}}}"
        )
    }

    /// The provider `found` of a configuration, for JWTs whose audience is the route. The edge finds the URL of its
    /// keys in the provider's metadata.
    pub fn discovered(&self) -> String {
        format!("found: {{jwt: {{issuer: '{}', algorithms: [ES256]}}}}", self.issuer)
    }

    /// The provider `opaque` of a configuration, for opaque tokens whose audience is the route. Tokens of the
    /// client-credentials grant have no `sub`, so the subject is the `client_id`. The edge authenticates to the
    /// provider as `client`, with a file of [`Self::files`].
    pub fn introspection(&self, client: &str) -> String {
        let (issuer, proof) = (&self.issuer, if client == "edge" { "client_secret" } else { "private_key" });
        let more = if client == "edge" { "" } else { ", id: edge" };
        format!(
            "opaque: {{introspection: {{url: '{issuer}/token/introspection', client_id: {client}, issuer: '{issuer}', \
             {proof}: {{file: {proof}{more}}}, subject_claim: client_id}}}}"
        )
    }

    /// The files that [`Self::introspection`] needs in the configuration folder.
    pub fn files(&self) -> [(&'static str, &str); 2] {
        [("client_secret", &self.secret), ("private_key", &self.edge_key)]
    }

    /// A JWT for `resource`; its subject is `agent`.
    pub async fn token(&self, resource: &str, scopes: &str) -> String {
        self.token_from(&format!("{}/token", self.issuer), resource, scopes).await
    }

    /// An opaque token for `resource`.
    pub async fn opaque_token(&self, resource: &str, scopes: &str) -> String {
        self.token(&format!("{resource}?opaque"), scopes).await
    }

    /// Gets a token with the client-credentials grant (RFC 6749 section 4.4) and a resource indicator (RFC 8707).
    pub async fn token_from(&self, endpoint: &str, resource: &str, scopes: &str) -> String {
        let form = [("grant_type", "client_credentials"), ("resource", resource), ("scope", scopes)];
        let answer = self.post("agent", endpoint, &form).await;
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        answer["access_token"].as_str().unwrap_or_else(|| panic!("no token: {answer}")).to_owned()
    }

    /// The provider's introspection response for a token (RFC 7662).
    pub async fn introspect(&self, token: &str) -> Value {
        let url = format!("{}/token/introspection", self.issuer);
        serde_json::from_str(&self.post("edge", &url, &[("token", token)]).await).expect("JSON")
    }

    /// Revokes an opaque token (RFC 7009).
    pub async fn revoke(&self, token: &str) {
        self.post("agent", &format!("{}/token/revocation", self.issuer), &[("token", token)]).await;
    }

    /// Makes the provider sign with a new key from now on. The old keys stay published.
    pub async fn rotate(&self) {
        self.control("rotate").await;
    }

    /// Makes the provider publish only its newest key.
    pub async fn retire(&self) {
        self.control("retire").await;
    }

    /// A document that the provider publishes.
    pub async fn get(&self, url: &str) -> Value {
        let answer = self.client.get(url).send().await.expect("the provider answers");
        serde_json::from_str(&answer.text().await.expect("a body")).expect("JSON")
    }

    /// The number of requests that the provider has received for `path`.
    pub async fn requests(&self, path: &str) -> u64 {
        self.control("requests").await[path].as_u64().unwrap_or_default()
    }

    async fn control(&self, action: &str) -> Value {
        let answer = self.client.post(format!("{}/{action}", self.control)).send().await.expect("it answers");
        serde_json::from_str(&answer.text().await.expect("a body")).expect("JSON")
    }

    async fn post(&self, client: &str, url: &str, form: &[(&str, &str)]) -> String {
        // RFC 6749 section 2.3.1: id and secret are form-encoded before they are joined.
        let secret = encoded(&[("", &self.secret)]);
        let request = self.client.post(url).basic_auth(client, Some(secret.trim_start_matches('=')));
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(encoded(form));
        request.send().await.expect("the provider answers").text().await.expect("a body")
    }
}

fn encoded(form: &[(&str, &str)]) -> String {
    let url = reqwest::Url::parse_with_params("http://none/", form).expect("a URL");
    url.query().unwrap_or_default().to_owned()
}
