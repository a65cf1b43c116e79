//! `Authenticator::authenticate` with a bearer JWT. With a cache hit it must take at most 1 µs. Hits are measured with
//! one, two and eight threads that send the same token or different tokens, and with one token and very many tokens.
//! Misses, for which the signature is verified, are measured for each algorithm.

mod common;

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::{Criterion, criterion_group, criterion_main};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use mcp_edge::auth::{Authenticator, OriginalRequest};
use mcp_edge::server::{Shared, build};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const ALGORITHMS: [&str; 3] = ["ES256", "RS256", "HS256"];

/// The modulus of an RSA key of 2048 bits, and the signature of the token. They are constants because *ring* cannot
/// generate RSA keys. The private key was not kept.
const RSA_MODULUS: &str = concat!(
    "wcShpKC7mvuIhinJMrl_TjiobD99clRk3Ne4DYfGBeL_QG1NQTI5EgcB-AA7oNylXA_kJJU0L3RpzXrDbnWfb7YxQbre3N42zZdIpoleoMnI",
    "G1O8ju4Bl_M9HinETOG_DYst3rUB0qFmff6EoMGFSZh4cY4pQaiFfekPjOamBe6tt4SYqCz9pdA6gChKhIZO-f6gtpP6oti2O7WOjT3nMJt-",
    "oY_Ch5BCBsWfPAUhHQY7XE4nu3PfwjD7aj5IiZKZsiPME717BvWhJOxDIbbsP9L2h82tVTUdu3zQG_NLgMqOqPGBW-cbITgKUDH-rJk5s75t",
    "Q6FTARFny0jVm_ZLVQ",
);
const RSA_SIGNATURE: &str = concat!(
    "WhBx6wYMVQaAVJ3yZGrfdR5eVs3pkWGWnRQYqIt4ENWyJuNux8X91Hf75T7QSGOcXrLjcoSjP8uqVWPFIlM1bHeVoL1GFJ5n79h1CCkkb2JB",
    "RH76K9lhU6Yb-qeh2tF6gV8hmBQDdIHdWTWbfoJqPXPdNbS3_5Y6n04snE5ZOCSK9iE9yIg9TMbvORs_9CnZ73rqjNW2Zx4JViAw3rTgv6NU",
    "xPfYCQNQnVfpJSDpfdk-5AYYRX0dwiFCwRTcYJNG3AbxsCrI1do2p9AIr8Cct2oSmSAr6DP5fDTfLmgHQRLV2selx4gmfDmox--Igq274zif",
    "JZOTz7_HywRiIaKS4Q",
);

/// An access token of about 700 bytes, like those of real identity providers.
fn token(algorithm: &str, number: u32, sign: impl FnOnce(&[u8]) -> String) -> String {
    let header = format!(r#"{{"alg":"{algorithm}","typ":"at+jwt","kid":"{algorithm}"}}"#);
    let claims = format!(
        concat!(
            r#"{{"iss":"https://idp.example/realms/{}","aud":["mcp-edge","account"],"#,
            r#""sub":"f1b7b1a4-2f3e-4f0e-9f9d-0c8f3d{:06x}","#,
            r#""iat":1760000000,"nbf":1760000000,"exp":4102444800,"jti":"0f2f3c1e-3b1c-4f3a-8f0e-6d1f0c5a7b11","#,
            r#""preferred_username":"alice.liddell","email":"alice.liddell@corp.example","client_id":"claude-code","#,
            r#""scope":"fininfo:read fininfo:write stock:read offset:read","groups":["analysts","traders"]}}"#,
        ),
        algorithm, number
    );
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = sign(message.as_bytes());
    format!("{message}.{signature}")
}

/// The header fields of an MCP client's request.
fn headers(token: &str) -> HeaderMap {
    let value = |text: &str| HeaderValue::from_str(text).expect("a legal value");
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, value("application/json, text/event-stream"));
    headers.insert(CONTENT_TYPE, value("application/json"));
    headers.insert(HeaderName::from_static("mcp-protocol-version"), value("2025-11-25"));
    headers.insert(HeaderName::from_static("mcp-session-id"), value("5b0c9a53-6a0d-4a6c-8d43-1f0c5a7b11aa"));
    headers.insert(AUTHORIZATION, value(&format!("Bearer {token}")));
    headers
}

fn request(headers: &HeaderMap) -> OriginalRequest<'_> {
    OriginalRequest {
        headers,
        method: "POST",
        scheme: "https",
        authority: "edge.example",
        path: "/one/mcp",
        query: None,
        operation: None,
        certificate: None,
    }
}

/// A provider for each algorithm, two routes with one of the providers, and a route with all of them.
fn yaml() -> String {
    let mut yaml = "listeners: [{address: 127.0.0.1:8080}]\nauth:\n  providers:\n".to_owned();
    for algorithm in ALGORITHMS {
        let keys = if algorithm == "HS256" { "secret: {file: secret}" } else { "jwks: {file: jwks.json}" };
        let issuer = format!("issuer: https://idp.example/realms/{algorithm}");
        yaml.push_str(&format!(
            "    {algorithm}: {{jwt: {{{issuer}, audiences: [mcp-edge], algorithms: [{algorithm}], {keys}}}}}\n"
        ));
    }
    yaml.push_str("upstreams: {one: {endpoints: [{address: 127.0.0.1:8000}]}}\nroutes:\n");
    for (path, providers) in [("/one", &ALGORITHMS[..1]), ("/hs256", &ALGORITHMS[2..]), ("/three", &ALGORITHMS)] {
        let providers = providers.join(", ");
        yaml.push_str(&format!("- {{path: {path}, upstream: one, auth: {{providers: [{providers}]}}}}\n"));
    }
    yaml
}

/// How long it takes until each thread has authenticated `rounds` requests. There is one thread for each entry of
/// `shown`.
fn at_once(authenticator: &Authenticator, shown: &[&HeaderMap], rounds: u64) -> Duration {
    let (ready, go) = (Barrier::new(shown.len() + 1), Barrier::new(shown.len() + 1));
    std::thread::scope(|scope| {
        for headers in shown {
            scope.spawn(|| {
                let runtime = common::runtime();
                let request = request(headers);
                let authenticate =
                    async || drop(authenticator.authenticate(&request, None).await.expect("the token is valid"));
                runtime.block_on(authenticate());
                ready.wait();
                go.wait();
                runtime.block_on(async {
                    for _ in 0..rounds {
                        authenticate().await;
                    }
                });
                ready.wait();
            });
        }
        ready.wait();
        let begun = Instant::now();
        go.wait();
        ready.wait();
        begun.elapsed()
    })
}

/// How long it takes to authenticate `rounds` requests with `tokens` in turn, and to read the parts of the principal
/// that a request reads. The header fields are in the processor's caches, as if they had just been read from a socket.
fn in_turn(authenticator: &Authenticator, tokens: &[String], rounds: u64) -> Duration {
    let (runtime, mut took, mut next) = (common::runtime(), Duration::ZERO, 0);
    for begin in (0..rounds).step_by(64) {
        let shown: Vec<HeaderMap> = (begin..rounds.min(begin + 64))
            .map(|_| {
                // This step reaches every token, and is too large for the processor to prefetch the next one.
                next = (next + 7_919) % tokens.len();
                headers(&tokens[next])
            })
            .collect();
        let begun = Instant::now();
        runtime.block_on(async {
            for headers in &shown {
                let (principal, _) =
                    authenticator.authenticate(&request(headers), None).await.expect("the token is valid");
                assert!(!black_box(&*principal).scopes().is_empty());
                black_box((
                    principal.subject().as_bytes()[0],
                    principal.scopes().iter().all(|scope| scope.as_str() != ""),
                ));
            }
        });
        took += begun.elapsed();
    }
    took
}

fn authenticate(criterion: &mut Criterion) {
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("random numbers");
    let key = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).expect("a key");
    let (x, y) = key.public_key().as_ref()[1..].split_at(32);
    let jwks = serde_json::json!({"keys": [
        {"kty": "EC", "crv": "P-256", "kid": "ES256", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)},
        {"kty": "RSA", "kid": "RS256", "n": RSA_MODULUS, "e": "AQAB"},
    ]});
    let mac = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let es256 = |message: &[u8]| URL_SAFE_NO_PAD.encode(key.sign(&random, message).expect("random numbers"));
    let tokens = [
        token("ES256", 0, es256),
        token("RS256", 0x001c_5a77, |_| RSA_SIGNATURE.to_owned()),
        token("HS256", 0, |message| URL_SAFE_NO_PAD.encode(hmac::sign(&mac, message))),
    ];

    let folder = tempfile::tempdir().expect("a temporary folder");
    common::write(&folder, "jwks.json", &jwks.to_string());
    common::write(&folder, "secret", SECRET);
    let path = common::write(&folder, "edge.yaml", &yaml());
    let shared = Shared::new(100_000).expect("the process can be set up");
    let runtime = common::runtime();
    let snapshot = runtime.block_on(build(&shared, common::load(&path), None));
    let mut group = criterion.benchmark_group("token");
    let mut measure = |name: &str, headers: &HeaderMap, authenticator: &Authenticator, cached: bool| {
        let request = request(headers);
        let principal = || runtime.block_on(authenticator.authenticate(&request, None)).expect("the token is valid").0;
        assert_eq!(Arc::ptr_eq(&principal(), &principal()), cached, "{name}: a hit gives the same principal again");
        group.bench_function(name, |bencher| {
            bencher.to_async(&runtime).iter(|| authenticator.authenticate(&request, None));
        });
    };

    let cached = headers(&tokens[0]);
    for (name, route) in [("hit", "/one"), ("hit_route_with_three_providers", "/three")] {
        let route = snapshot.routes.get(route).expect("the route is in the configuration");
        measure(name, &cached, route.route().authenticator.as_ref().expect("the route is not open"), true);
    }
    // Entries expire at once, so every request is a miss. The figure includes making the entry.
    let mut settings = snapshot.config.cache.clone();
    settings.ttl.0 = Duration::ZERO;
    for (algorithm, token) in ALGORITHMS.iter().zip(&tokens) {
        let provider = snapshot.providers.get(*algorithm).expect("the provider is in the configuration");
        // A separate cache, so that the entries of the hits are not found.
        let shared = Shared::new(100_000).expect("the process can be set up");
        let authenticator = Authenticator::new(vec![Arc::clone(provider)], shared.cache, settings.clone());
        measure(&format!("verify_{algorithm}"), &headers(token), &authenticator, false);
    }
    // The cost of moving a verification to another thread, without the verification itself.
    group.bench_function("hand_over_to_another_thread_and_back", |bencher| {
        bencher.to_async(&runtime).iter(|| tokio::task::spawn_blocking(|| ()));
    });
    let route = snapshot.routes.get("/one").expect("the route is in the configuration");
    let authenticator = route.route().authenticator.as_ref().expect("the route is not open");
    let own: Vec<HeaderMap> = (0..8).map(|_| headers(&token("ES256", 0, es256))).collect();
    for threads in [1, 2, 8] {
        for (name, shown) in [("one_token", vec![&cached; threads]), ("own_tokens", own.iter().take(threads).collect())]
        {
            group.bench_function(format!("hit_{threads}_threads_{name}"), |bencher| {
                bencher.iter_custom(|rounds| at_once(authenticator, &shown, rounds));
            });
        }
    }
    let route = snapshot.routes.get("/hs256").expect("the route is in the configuration");
    let authenticator = route.route().authenticator.as_ref().expect("the route is not open");
    let many: Vec<String> = (0..100_000)
        .map(|number| token("HS256", number, |message| URL_SAFE_NO_PAD.encode(hmac::sign(&mac, message))))
        .collect();
    for count in [1, many.len()] {
        in_turn(authenticator, &many[..count], 2 * count as u64);
        group.bench_function(format!("hit_of_{count}_tokens_in_turn"), |bencher| {
            bencher.iter_custom(|rounds| in_turn(authenticator, &many[..count], rounds));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = common::criterion();
    targets = authenticate
}
criterion_main!(benches);
