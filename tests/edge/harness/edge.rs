//! The real edge, started by the same functions as `mcp-edge run`, in the test's own process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mcp_edge::config::{Config, ConfigErrors, Threads};
use mcp_edge::server::{Reloader, RunningEdge, Shared, Trigger, Workers};
use tempfile::TempDir;

use super::http::{Reply, exchange, request};
use super::tokens::Tokens;

/// An edge with a configuration folder of its own.
pub struct TestEdge {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub reloader: Arc<Reloader>,
    folder: TempDir,
    running: RunningEdge,
}

impl TestEdge {
    /// Starts an edge with the configuration `yaml`. If `yaml` has no listeners or no admin listener, they are added on
    /// ephemeral ports. Unless `yaml` sets a number of threads, the edge runs on the test's own threads. All work on a
    /// request is then done when its answer arrives.
    pub async fn start(yaml: &str) -> Self {
        Self::start_with(yaml, &[]).await
    }

    /// Does what [`TestEdge::start`] does, with further `files` in the configuration folder.
    pub async fn start_with(yaml: &str, files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files.iter().chain([&Tokens::SECRET_FILE]) {
            write(&folder.path().join(name), text);
        }
        let path = folder.path().join("edge.yaml");
        write(&path, &complete(yaml));
        let config = Config::load(&path).unwrap_or_else(|errors| panic!("{errors}"));
        let shared = Arc::new(Shared::new(config.cache.capacity).expect("the process can be set up"));
        let workers = match config.server.threads {
            Threads::Count(count) => Workers::start(count).expect("the worker threads start"),
            Threads::Auto => Workers::here(),
        };
        let running = RunningEdge::start(&path, config, shared, workers).await.expect("the edge starts");
        let address = running.addresses[0];
        let (admin, reloader) = (running.admin_address, Arc::clone(running.reloader()));
        Self { address, admin, reloader, folder, running }
    }

    /// The path of a file in the configuration folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        write(&self.path(name), text);
    }

    /// The address of the second listener.
    pub fn second_address(&self) -> SocketAddr {
        self.running.addresses[1]
    }

    /// Replaces the configuration and reloads it. Returns the new generation.
    pub async fn reload(&self, yaml: &str) -> Result<u64, ConfigErrors> {
        self.write("edge.yaml", &complete(yaml));
        self.reloader.reload(Trigger::Signal).await.map(|_| self.reloader.snapshot().generation)
    }

    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.send("GET", path, headers, "").await
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        exchange(self.address, request(method, path, headers, body)).await
    }

    /// GET with a bearer token.
    pub async fn get_as(&self, token: &str, path: &str) -> Reply {
        self.get(path, &[("Authorization", &format!("Bearer {token}"))]).await
    }

    pub async fn admin_get(&self, path: &str) -> Reply {
        exchange(self.admin, request("GET", path, &[("Host", "localhost")], "")).await
    }

    pub async fn status(&self) -> serde_json::Value {
        self.admin_get("/status").await.json()
    }

    /// The value of a series, such as `mcp_edge_requests_total{code="200",route="/a/"}`; 0 when there is no such
    /// series.
    pub async fn metric(&self, series: &str) -> f64 {
        let scrape = self.admin_get("/metrics").await.body;
        let value = scrape.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// Drains the edge in the background. The configuration folder stays until the task ends.
    pub fn drain_in_background(self, grace: Duration) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move {
            let Self { running, folder, .. } = self;
            running.drain(grace).await;
            drop(folder);
        })
    }
}

fn complete(yaml: &str) -> String {
    let mut text = yaml.to_owned();
    // Without `hosts`, a listener on a loopback address serves MCP to loopback hosts only. `request` sends another
    // host.
    let hosts = if yaml.contains("protocol: mcp") || yaml.contains("gateway:") {
        ", hosts: [edge.example, 127.0.0.1, localhost]"
    } else {
        ""
    };
    let listeners = format!("listeners: [{{address: '127.0.0.1:0'{hosts}}}]\n");
    for section in [listeners.as_str(), "admin: {address: '127.0.0.1:0'}\n"] {
        let name = section.split(':').next().unwrap_or_default();
        if !yaml.lines().any(|line| line.starts_with(name)) {
            text = format!("{section}{text}");
        }
    }
    text
}

fn write(path: &Path, text: &str) {
    // Write a temporary file and rename it, as editors and deployment tools do.
    let beside = path.with_extension("tmp");
    std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path)).expect("the folder is writable");
}
