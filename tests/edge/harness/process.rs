//! The real binary, as a separate process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::PATIENCE;
use super::http::{Reply, exchange, request};

/// A running `mcp-edge run`. The process is killed when this value is dropped.
pub struct EdgeProcess {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    pub address: SocketAddr,
    pub admin: SocketAddr,
}

impl EdgeProcess {
    /// Starts with the configuration at `path` and waits until the edge listens. The configuration must use port 0 for
    /// the listener and for the admin listener.
    pub async fn start(path: &Path) -> Self {
        Self::start_with(path, []).await
    }

    /// Does what [`EdgeProcess::start`] does, with further environment variables.
    pub async fn start_with<'a>(path: &Path, environment: impl IntoIterator<Item = (&'a str, PathBuf)>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-edge"));
        command.args(["run", "--config"]).arg(path).envs(environment);
        Self::spawn(command).await
    }

    /// Does what [`EdgeProcess::start`] does, where the process may have at most `descriptors` files and sockets open.
    pub async fn start_limited(path: &Path, descriptors: u32) -> Self {
        let mut command = Command::new("sh");
        let script = format!("ulimit -n {descriptors} && exec \"$0\" run --config \"$1\"");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_mcp-edge")]).arg(path);
        Self::spawn(command).await
    }

    async fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("the binary starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let data = find_address(&mut lines, "listening on ").await;
        let admin = find_address(&mut lines, "admin listener on ").await;
        Self { child, lines, address: data, admin }
    }

    /// GET with a bearer token.
    pub async fn get_as(&self, token: &str, path: &str) -> Reply {
        exchange(self.address, request("GET", path, &[("Authorization", &format!("Bearer {token}"))], "")).await
    }

    /// See [`TestEdge::metric`](super::TestEdge::metric).
    pub async fn metric(&self, series: &str) -> f64 {
        let scrape = exchange(self.admin, request("GET", "/metrics", &[("Host", "localhost")], "")).await.body;
        let value = scrape.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// The next line of the edge's output; `None` at its end.
    pub async fn line(&mut self) -> Option<String> {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("a line in time");
        line.expect("the output is UTF-8")
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it is running").to_string();
        let status = std::process::Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(status.expect("the command `kill` runs").success());
    }

    pub async fn wait(mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .expect("it ends in time")
            .expect("its exit status can be read")
    }
}

async fn find_address(lines: &mut Lines<BufReader<ChildStdout>>, mark: &str) -> SocketAddr {
    let found = tokio::time::timeout(PATIENCE, async {
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some(at) = line.find(mark) {
                let rest = &line[at + mark.len()..];
                let end = rest.find('"').unwrap_or(rest.len());
                return rest[..end].parse().expect("an address");
            }
        }
        panic!("the edge ended before it printed `{mark}`");
    });
    found.await.expect("the edge listens in time")
}
