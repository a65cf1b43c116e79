//! Reloads: by hand, by watching files, and under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{EdgeProcess, Origin, TestEdge, Tokens, eventually, exchange, read_reply, request};

fn route(path: &str, origin: &Origin) -> String {
    format!(
        "upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}\nroutes: [{{path: {path}, upstream: a, auth: none}}]\n",
        origin.address
    )
}

#[tokio::test]
async fn a_broken_configuration_keeps_the_old_one_and_is_reported() {
    let origin = Origin::saying("in").await;
    let edge = TestEdge::start(&route("/a/", &origin)).await;
    for broken in [
        "routes: [",
        "routes: [{path: /b/, upstream: gone, auth: none}]\n",
        "unknown: 1\n",
        "a: &a [x, x]\nb: [*a, *a\n",
    ] {
        let errors = edge.reload(broken).await.expect_err("the configuration is broken");
        assert!(!errors.0.is_empty());
        assert_eq!(edge.get("/a/", &[]).await.body, "in");
        let status = edge.status().await;
        assert_eq!(
            (status["generation"].as_u64(), status["last_reload"]["result"].as_str()),
            (Some(1), Some("failure"))
        );
        assert!(status["last_reload"]["errors"][0].as_str().expect("a text").contains("edge.yaml"), "{status}");
        assert_eq!(edge.admin_get("/readyz").await.status, 200, "readiness is unchanged");
    }
    assert_eq!(edge.metric("mcp_edge_config_last_reload_success").await, 0.0);
    assert_eq!(edge.metric(r#"mcp_edge_config_reloads_total{result="failure"}"#).await, 4.0);
    assert_eq!(edge.reload(&route("/b/", &origin)).await.expect("the configuration is good"), 2);
    assert_eq!((edge.get("/a/", &[]).await.status, edge.get("/b/", &[]).await.body.as_str()), (404, "in"));
    assert_eq!(edge.metric("mcp_edge_config_last_reload_success").await, 1.0);
    assert_eq!(edge.metric("mcp_edge_config_generation").await, 2.0);
}

/// Row 35: a tightened scope applies to the next request. Providers and upstreams that did not change are kept, with
/// their token cache, health and connections.
#[tokio::test]
async fn a_reload_keeps_unchanged_parts_and_a_tightened_scope_applies_at_once() {
    let origin = Origin::saying("in").await;
    let yaml = |scopes: &str| {
        format!(
            "auth: {{providers: {{{}}}}}
upstreams: {{a: {{endpoints: [{{address: '{}'}}]}}}}
routes: [{{path: /a/, upstream: a, auth: {{providers: [local], scopes: [{scopes}]}}}}]\n",
            Tokens::PROVIDER,
            origin.address
        )
    };
    let edge = TestEdge::start(&yaml("read")).await;
    let token = Tokens::token("alice", "read");
    assert_eq!(edge.get_as(&token, "/a/").await.status, 200);
    let before = edge.reloader.snapshot();
    edge.reload(&yaml("read")).await.expect("the configuration is good");
    let after = edge.reloader.snapshot();
    assert!(Arc::ptr_eq(&before.upstreams["a"], &after.upstreams["a"]));
    assert!(Arc::ptr_eq(&before.providers["local"], &after.providers["local"]));
    assert_eq!(edge.get_as(&token, "/a/").await.status, 200);
    assert_eq!(edge.metric(r#"mcp_edge_auth_cache_requests_total{result="miss"}"#).await, 1.0, "the cache is kept");
    assert_eq!(origin.connections(), 1, "the connection is kept, too");
    edge.reload(&yaml("read, write")).await.expect("the configuration is good");
    assert_eq!(edge.get_as(&token, "/a/").await.status, 403);
}

/// Row 34: an open stream goes on after a reload has removed its route. New requests get 404.
#[tokio::test]
async fn a_stream_outlives_its_route() {
    let origin = Origin::scripted(|mut stream, recorder| async move {
        drop(recorder.read(&mut stream).await);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.expect("the edge is there");
        // Sends events until the edge closes the connection.
        while stream.write_all(b"9\r\ndata: x\n\n\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let edge = TestEdge::start(&route("/a/", &origin)).await;
    let mut stream = TcpStream::connect(edge.address).await.expect("the edge listens");
    stream.write_all(request("GET", "/a/", &[], "").as_bytes()).await.expect("the edge reads");
    let mut buffer = [0; 1024];
    assert!(stream.read(&mut buffer).await.expect("a head") > 0);
    edge.reload(&route("/b/", &origin)).await.expect("the configuration is good");
    assert_eq!(edge.get("/a/", &[]).await.status, 404);
    for _ in 0..5 {
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut buffer)).await;
        assert!(read.expect("events go on").expect("the stream is open") > 0);
    }
}

#[tokio::test]
async fn series_of_removed_routes_and_upstreams_are_removed() {
    let origin = Origin::saying("in").await;
    let edge = TestEdge::start(&route("/a/", &origin)).await;
    edge.get("/a/", &[]).await;
    let metrics = edge.admin_get("/metrics").await.body;
    assert!(metrics.contains(r#"route="/a/""#) && metrics.contains(r#"upstream="a""#));
    let renamed = route("/b/", &origin).replace("{a:", "{b:").replace("upstream: a", "upstream: b");
    edge.reload(&renamed).await.expect("the configuration is good");
    edge.get("/b/", &[]).await;
    let metrics = edge.admin_get("/metrics").await.body;
    assert!(!metrics.contains(r#"route="/a/""#) && !metrics.contains(r#"upstream="a""#), "{metrics}");
    assert!(metrics.contains(r#"route="/b/""#) && metrics.contains(r#"upstream="b""#));
}

#[tokio::test]
async fn a_changed_section_that_needs_a_restart_is_reported() {
    let origin = Origin::saying("in").await;
    let edge = TestEdge::start(&route("/a/", &origin)).await;
    edge.reload(&format!("server: {{grace_period: 1s}}\n{}", route("/a/", &origin)))
        .await
        .expect("the configuration is good");
    assert_eq!(edge.status().await["last_reload"]["needs_restart"], serde_json::json!(["server"]));
}

/// Row 33: 100 reloads of 1,000 routes with 10 endpoints each, while requests flow. No request fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_under_load_fail_no_request() {
    let origin = Origin::saying("in").await;
    let yaml = |change: usize| {
        let mut text = String::from("upstreams:\n");
        for upstream in 0..1000 {
            let mut endpoints = vec![format!("{{address: '{}'}}", origin.address)];
            endpoints.extend((1..10).map(|endpoint| format!("{{address: '127.0.0.1:{}'}}", 10_000 + endpoint)));
            // Every reload changes some upstreams and keeps the others. Only the first endpoint exists, so `u0`, which
            // gets the requests, has no other.
            let idle = if upstream % 10 == change % 10 { 600 + change } else { 600 };
            let endpoints = if upstream == 0 { &endpoints[..1] } else { &endpoints };
            text += &format!("  u{upstream}: {{endpoints: [{}], timeouts: {{idle: {idle}s}}}}\n", endpoints.join(", "));
        }
        text += "routes:\n";
        (0..1000).for_each(|route| text += &format!("  - {{path: /r{route}/, upstream: u{route}, auth: none}}\n"));
        text
    };
    let edge = TestEdge::start(&yaml(0)).await;
    let (stop, sent, failed) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..8 {
        let (address, stop, sent, failed) = (edge.address, Arc::clone(&stop), Arc::clone(&sent), Arc::clone(&failed));
        clients.spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("the edge listens");
            let text = request("POST", "/r0/x", &[], "hello");
            while !stop.load(Ordering::Relaxed) {
                let reply = if client % 2 == 0 {
                    stream.write_all(text.as_bytes()).await.expect("the connection stays open");
                    read_reply(&mut stream).await
                } else {
                    exchange(address, &text).await
                };
                sent.fetch_add(1, Ordering::Relaxed);
                failed.fetch_add(usize::from(reply.status != 200 || reply.body != "in"), Ordering::Relaxed);
            }
        });
    }
    for change in 1..=100 {
        let before = sent.load(Ordering::Relaxed);
        assert_eq!(edge.reload(&yaml(change)).await.expect("the configuration is good"), change as u64 + 1);
        eventually("requests flow between reloads", async || sent.load(Ordering::Relaxed) > before).await;
    }
    stop.store(true, Ordering::Relaxed);
    clients.join_all().await;
    let (sent, failed) = (sent.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
    println!(
        "{sent} requests during 100 reloads, {failed} failed; the last reload took {} ms",
        edge.reloader.status().duration_ms
    );
    assert_eq!(failed, 0, "of {sent}");
    assert!(sent > 500);
}

/// Files are edited in place, replaced by a rename, and swapped behind symbolic links as Kubernetes does. Included
/// files are added and removed.
#[tokio::test]
async fn changed_files_are_reloaded() {
    let origin = Origin::saying("in").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let yaml = |path: &str| {
        format!(
            "listeners: [{{address: '127.0.0.1:0'}}]\nadmin: {{address: '127.0.0.1:0'}}\ninclude: ['routes.d/*.yaml']\n{}",
            route(path, &origin)
        )
    };
    std::fs::create_dir_all(at("v1/routes.d")).expect("writable");
    std::fs::create_dir_all(at("v2/routes.d")).expect("writable");
    std::fs::write(at("v1/edge.yaml"), yaml("/one/")).expect("writable");
    std::fs::write(at("v2/edge.yaml"), yaml("/two/")).expect("writable");
    std::os::unix::fs::symlink("v1", at("..data")).expect("writable");
    std::os::unix::fs::symlink("..data/edge.yaml", at("edge.yaml")).expect("writable");
    std::os::unix::fs::symlink("..data/routes.d", at("routes.d")).expect("writable");
    let edge = EdgeProcess::start(&at("edge.yaml")).await;
    let serves = async |path: &str| exchange(edge.address, request("GET", path, &[], "")).await.status == 200;
    assert!(serves("/one/").await);
    std::os::unix::fs::symlink("v2", at("..data_tmp")).expect("writable");
    std::fs::rename(at("..data_tmp"), at("..data")).expect("writable");
    eventually("the swapped link is seen", async || serves("/two/").await).await;
    // This edit comes right after the swap, when the edge has only just begun to watch the new folder.
    std::fs::write(at("v2/edge.yaml"), yaml("/three/")).expect("writable");
    eventually("the edit is seen", async || serves("/three/").await).await;
    std::fs::write(at("new.yaml"), yaml("/four/")).expect("writable");
    std::fs::rename(at("new.yaml"), at("v2/edge.yaml")).expect("writable");
    eventually("the rename is seen", async || serves("/four/").await).await;
    std::fs::write(at("v2/edge.yaml"), "routes: [").expect("writable");
    let failed = async || {
        exchange(edge.admin, request("GET", "/status", &[("Host", "localhost")], "")).await.json()["last_reload"]["result"]
            == "failure"
    };
    eventually("the broken edit is seen", failed).await;
    assert!(serves("/four/").await);
    std::fs::write(at("v2/edge.yaml"), yaml("/five/")).expect("writable");
    eventually("the repaired file is seen", async || serves("/five/").await).await;
    std::fs::write(at("v2/routes.d/six.yaml"), "routes: [{path: /six/, upstream: a, auth: none}]\n").expect("writable");
    eventually("a new file of an include is seen", async || serves("/six/").await).await;
    std::fs::remove_file(at("v2/routes.d/six.yaml")).expect("writable");
    eventually("the removal of an included file is seen", async || !serves("/six/").await).await;
    std::fs::rename(at("v2/routes.d"), at("v2/old")).expect("writable");
    std::fs::create_dir(at("v2/routes.d")).expect("writable");
    std::fs::write(at("v2/routes.d/a.yaml"), "routes: [{path: /again/, upstream: a, auth: none}]\n").expect("writable");
    eventually("the new folder is seen", async || serves("/again/").await).await;
    std::fs::write(at("v2/routes.d/a.yaml"), "routes: [{path: /anew/, upstream: a, auth: none}]\n").expect("writable");
    eventually("a change in the new folder is seen", async || serves("/anew/").await).await;
    std::fs::write(at("v2/edge.yaml"), yaml("/seven/")).expect("writable");
    edge.signal("HUP");
    eventually("SIGHUP reloads", async || serves("/seven/").await).await;
}

/// Case F11: a log file in the folder of a configuration with an error.
#[tokio::test]
async fn other_files_in_the_folder_cause_no_reload_and_an_error_is_logged_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let good = "listeners: [{address: '127.0.0.1:0'}]\nadmin: {address: '127.0.0.1:0'}\n";
    std::fs::write(at("edge.yaml"), good).expect("the folder is writable");
    let mut edge = EdgeProcess::start(&at("edge.yaml")).await;
    let count =
        async |result: &str| edge.metric(&format!(r#"mcp_edge_config_reloads_total{{result="{result}"}}"#)).await;
    // Replaced, so that the edge never sees a half-written file.
    let replace = |text: &str| {
        std::fs::write(at("new"), text).expect("the folder is writable");
        std::fs::rename(at("new"), at("edge.yaml")).expect("the folder is writable");
    };
    replace("listeners: 1\n");
    eventually("the error is noticed", async || count("failure").await >= 1.0).await;
    let unchanged = count("unchanged").await;
    let mut log = std::fs::File::create(at("other.log")).expect("the folder is writable");
    for line in 0..40 {
        use std::io::Write;
        writeln!(log, "line {line}").expect("the file is open");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    replace(&format!(
        "{good}# mended
"
    ));
    eventually("the mended file is noticed", async || count("success").await >= 2.0).await;
    assert_eq!(count("failure").await, 1.0);
    assert_eq!(count("unchanged").await, unchanged);
    edge.signal("TERM");
    let mut said = 0;
    while let Some(line) = edge.line().await {
        said += usize::from(line.contains("is not reloaded"));
    }
    assert_eq!(said, 1);
}
