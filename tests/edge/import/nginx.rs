//! Compares the model of nginx with the real nginx.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::model;
use super::model::{HOSTS, PROVIDERS, Requirement, Served, Server, Words};

const PROGRAM: &str = "/usr/sbin/nginx";
/// How many configurations one process serves.
const CONFIGURATIONS: usize = 64;

/// nginx in a folder of its own, on Unix sockets.
struct Nginx {
    child: Child,
    folder: tempfile::TempDir,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("this test has started nginx");
    }
}

fn socket(folder: &Path, configuration: usize, port: usize) -> PathBuf {
    folder.join(format!("{configuration}-{port}.sock"))
}

impl Nginx {
    fn start(configurations: &[Vec<Server>]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().to_str().expect("UTF-8");
        let mut text =
            format!("pid {path}/pid; error_log {path}/error.log; events {{ worker_connections 4096; }}\nhttp {{\n");
        for name in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            text.push_str(&format!("{name}_temp_path {path}/{name};\n"));
        }
        text.push_str("access_log off;\n");
        text.push_str(&format!(
            "server {{ listen unix:{path}/upstream.sock; location / {{ return 200 upstream; }} }}\n"
        ));
        for name in PROVIDERS {
            text.push_str(&format!(
                "server {{ listen unix:{path}/{name}.sock; location / {{ if ($http_authorization != {name}) {{ return 401; }} return 200; }} }}\n"
            ));
        }
        for (index, servers) in configurations.iter().enumerate() {
            let words = Words {
                listen: &|port| format!("unix:{}", socket(folder.path(), index, port).display()),
                upstream: &format!("http://unix:{path}/upstream.sock"),
                provider: &|name| format!("http://unix:{path}/{name}.sock:/"),
                folder: path,
            };
            servers.iter().for_each(|server| text.push_str(&server.text(&words)));
        }
        std::fs::write(folder.path().join("file"), "content").expect("written");
        std::fs::write(folder.path().join("nginx.conf"), text + "}\n").expect("written");
        let mut command = Command::new(PROGRAM);
        command.args(["-p", path, "-e", "error.log", "-c", "nginx.conf", "-g", "daemon off; master_process off;"]);
        let child = command.stderr(std::process::Stdio::null()).spawn().expect("nginx starts");
        let mut nginx = Self { child, folder };
        // nginx opens its sockets one after the other.
        let sockets = configurations
            .iter()
            .enumerate()
            .flat_map(|(index, servers)| servers.iter().map(move |server| (index, server.port)));
        let mut closed: BTreeSet<PathBuf> =
            sockets.map(|(index, port)| socket(nginx.folder.path(), index, port)).collect();
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            // An open socket is not tried again, because nginx has a limited number of connections.
            closed.retain(|socket| UnixStream::connect(socket).is_err());
            if closed.is_empty() {
                break;
            }
            let ended = nginx.child.try_wait().expect("this test has started nginx");
            assert!(ended.is_none() && Instant::now() < until, "nginx does not serve: {}", nginx.log());
            std::thread::yield_now();
        }
        nginx
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }

    /// The status of nginx's answer, and its `Location`.
    fn get(&self, socket: &Path, host: &str, path: &str, caller: &str) -> (u16, Option<String>) {
        let mut stream = UnixStream::connect(socket).expect("nginx listens");
        let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nAuthorization: {caller}\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("nginx reads");
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).expect("nginx answers");
        let reply = String::from_utf8_lossy(&reply);
        let status = reply.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let location = reply.lines().find_map(|line| line.strip_prefix("Location: ")).map(str::to_owned);
        (status, location)
    }

    /// What nginx requires of callers.
    fn required(&self, socket: &Path, host: &str, path: &str) -> Requirement {
        let gets_in = |caller: &str| match self.get(socket, host, path, caller) {
            (200, _) => true,
            (302, _) => true,
            (301, Some(to)) if to.ends_with('/') => {
                let slashed = format!("{path}/");
                matches!(self.get(socket, host, &slashed, caller).0, 200 | 302)
            }
            _ => false,
        };
        match (gets_in("nobody"), PROVIDERS.iter().find(|name| gets_in(name))) {
            (true, _) => Requirement::Nothing,
            (false, Some(name)) => Requirement::Caller(name),
            (false, None) => Requirement::Nobody,
        }
    }
}

#[test]
fn the_model_decides_as_nginx_does() {
    if !Path::new(PROGRAM).exists() {
        // `scripts/test` reports skipped tests in this form, too.
        println!("skipped: the_model_decides_as_nginx_does ({PROGRAM} is not installed)");
        return;
    }
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() });
    let mut draw = || {
        let requests = proptest::collection::vec(model::requested(), 24);
        (model::servers(), requests).new_tree(&mut runner).expect("the strategies filter nothing").current()
    };
    let (configurations, requests): (Vec<_>, Vec<_>) = (0..CONFIGURATIONS).map(|_| draw()).unzip();
    let nginx = Nginx::start(&configurations);
    let mut seen = Vec::new();
    for (index, (servers, paths)) in configurations.iter().zip(&requests).enumerate() {
        for port in 0..2 {
            let socket = socket(nginx.folder.path(), index, port);
            for (path, host) in paths.iter().flat_map(|path| HOSTS.map(|host| (path, host))) {
                let expected = model::served(servers, port, host, &model::decoded(path));
                // The model does not know which files exist in a folder.
                let Some(Served { required: expected, from_folder: false }) = expected else { continue };
                let actual = nginx.required(&socket, host, path);
                assert!(
                    actual == expected,
                    "{host}{path} at {port}: {actual:?}, not {expected:?}\n{}\n{}",
                    super::openness::text(servers),
                    nginx.log()
                );
                if !seen.contains(&actual) {
                    seen.push(actual);
                }
            }
        }
    }
    assert_eq!(seen.len(), 4, "the requests met only these requirements: {seen:?}");
}
