//! Reloads the configuration: reads and checks it, builds a snapshot, and swaps it in. When a step fails, the running
//! snapshot stays in use.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use log::{error, info, warn};
use serde::Serialize;

use super::build::build;
use super::shared::Shared;
use super::tasks::Tasks;
use super::tls::TlsEndpoint;
use crate::admin::Control;
use crate::config::{Config, ConfigError, ConfigErrors, Listener};
use crate::metrics::{Metrics, ReloadResult};
use crate::proxy::Snapshot;

/// What triggered a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The process started.
    Start,
    /// A file changed.
    Watch,
    /// SIGHUP.
    Signal,
    /// `POST /reload`.
    Admin,
}

/// What a reload did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// A new snapshot of this generation is in use.
    Swapped(u64),
    /// The files have not changed.
    Unchanged,
}

/// The last reload, for `/status`.
#[derive(Clone, Debug, Serialize)]
pub struct ReloadStatus {
    /// When the reload ended.
    pub time: String,
    /// What triggered the reload.
    pub trigger: Trigger,
    /// `success`, `unchanged` or `failure`.
    pub result: &'static str,
    /// How long the reload took, from reading the first file to the swap, in milliseconds.
    pub duration_ms: f64,
    /// The errors of the configuration.
    pub errors: Vec<String>,
    /// Sections that have changed but are only read when the process starts.
    pub needs_restart: Vec<&'static str>,
}

/// Reloads one edge.
pub struct Reloader {
    path: PathBuf,
    shared: Arc<Shared>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    certificates: Vec<(SocketAddr, Arc<TlsEndpoint>)>,
    /// The configuration that the process has started with.
    started: Arc<Config>,
    tasks: tokio::sync::Mutex<Tasks>,
    status: Mutex<ReloadStatus>,
}

impl Reloader {
    /// Starts the background tasks of `snapshot`, the first one. `certificates` are those of the listeners with TLS, with
    /// the configured addresses.
    pub(super) fn new(
        path: PathBuf,
        shared: Arc<Shared>,
        snapshot: Arc<ArcSwap<Snapshot>>,
        certificates: Vec<(SocketAddr, Arc<TlsEndpoint>)>,
    ) -> Self {
        let mut tasks = Tasks::default();
        tasks.follow(&snapshot.load());
        let status = ReloadStatus::now(Trigger::Start, Instant::now(), ReloadResult::Success);
        show(&shared.metrics, &snapshot.load(), ReloadResult::Success);
        let started = Arc::clone(&snapshot.load().config);
        Self { path, shared, snapshot, certificates, started, tasks: tasks.into(), status: status.into() }
    }

    /// The configuration file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The running snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// How the last reload went.
    pub fn status(&self) -> ReloadStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reloads the configuration. Concurrent calls run one after the other.
    ///
    /// # Errors
    /// The configuration has errors. The running snapshot stays in use.
    pub async fn reload(&self, trigger: Trigger) -> Result<ReloadOutcome, ConfigErrors> {
        let mut tasks = self.tasks.lock().await;
        let begun = Instant::now();
        let swapped = match self.load().await {
            Ok(config) if trigger == Trigger::Watch && config.files == self.snapshot.load().config.files => Ok(None),
            Ok(config) => {
                let needs_restart = needs_restart(&self.started, &config);
                self.swap(config, &mut tasks).await.map(|generation| Some((generation, needs_restart)))
            }
            Err(errors) => Err(errors),
        };
        let (outcome, status) = match swapped {
            Ok(None) => (Ok(ReloadOutcome::Unchanged), ReloadStatus::now(trigger, begun, ReloadResult::Unchanged)),
            Ok(Some((generation, needs_restart))) => {
                let status = ReloadStatus::now(trigger, begun, ReloadResult::Success);
                info!("configuration generation {generation} is in use after {} ms", status.duration_ms);
                if !needs_restart.is_empty() {
                    warn!("changes of {} take effect only after a restart", needs_restart.join(", "));
                }
                (Ok(ReloadOutcome::Swapped(generation)), ReloadStatus { needs_restart, ..status })
            }
            Err(errors) => {
                let texts: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
                // Files are read again from time to time. What is wrong with them is said once.
                if trigger != Trigger::Watch || texts != self.status().errors {
                    texts.iter().for_each(|error| error!("the configuration is not reloaded: {error}"));
                }
                (
                    Err(errors),
                    ReloadStatus { errors: texts, ..ReloadStatus::now(trigger, begun, ReloadResult::Failure) },
                )
            }
        };
        let result = match &outcome {
            Ok(ReloadOutcome::Swapped(_)) => ReloadResult::Success,
            Ok(ReloadOutcome::Unchanged) => ReloadResult::Unchanged,
            Err(_) => ReloadResult::Failure,
        };
        show(&self.shared.metrics, &self.snapshot.load(), result);
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
        outcome
    }

    async fn load(&self) -> Result<Config, ConfigErrors> {
        let path = self.path.clone();
        let loaded = tokio::task::spawn_blocking(move || Config::load(&path)).await;
        loaded.unwrap_or_else(|panic| {
            Err(self.general_error(format!(
                "the configuration cannot be read ({panic}): this is a bug in mcp-edge, please report it"
            )))
        })
    }

    /// An error that does not belong to one place in the configuration.
    fn general_error(&self, message: String) -> ConfigErrors {
        ConfigErrors(vec![ConfigError { file: self.path.clone(), position: None, path: String::new(), message }])
    }

    async fn swap(&self, config: Config, tasks: &mut Tasks) -> Result<u64, ConfigErrors> {
        let previous = self.snapshot.load_full();
        let next = Arc::new(build(&self.shared, Arc::new(config), Some(&previous)).await);
        // The rules of `auth.outbound` and the snapshot change directly after each other. So the old snapshot hardly
        // ever works with the new rules, and the new snapshot never works with the old rules.
        self.shared.client.follow(&next.config.outbound).map_err(|error| {
            self.general_error(format!("the HTTP client for `auth.outbound` cannot be set up ({error}): reload again"))
        })?;
        self.snapshot.store(Arc::clone(&next));
        previous.is_replaced.send_replace(true);
        self.shared.catalog.keep(|route| next.routes.contains_key(route));
        tasks.follow(&next);
        show_certificates(&self.certificates, &next.config.listeners);
        for (name, upstream) in &previous.upstreams {
            let successor = next.upstreams.get(name);
            if successor.is_none_or(|successor| !Arc::ptr_eq(successor, upstream)) {
                upstream.forget_series(successor.map(Arc::as_ref));
            }
        }
        for name in previous.providers.keys().filter(|name| !next.providers.contains_key(*name)) {
            self.shared.metrics.forget_provider(name);
        }
        Ok(next.generation)
    }
}

#[async_trait]
impl Control for Reloader {
    fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot()
    }

    fn last_reload(&self) -> serde_json::Value {
        serde_json::json!(self.status())
    }

    async fn reload(&self) -> Result<u64, ConfigErrors> {
        self.reload(Trigger::Admin).await.map(|_| self.snapshot().generation)
    }
}

impl ReloadStatus {
    fn now(trigger: Trigger, begun: Instant, result: ReloadResult) -> Self {
        use crate::metrics::Label;
        Self {
            time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            trigger,
            result: result.label(),
            duration_ms: (begun.elapsed().as_secs_f64() * 1e6).round() / 1e3,
            errors: Vec::new(),
            needs_restart: Vec::new(),
        }
    }
}

/// Gives the listeners that are bound the certificates of the listeners that are configured with the same address. Several
/// listeners may have the same address only if its port is 0. They are taken in their order.
fn show_certificates(bound: &[(SocketAddr, Arc<TlsEndpoint>)], configured: &[Listener]) {
    let mut left: Vec<_> = configured.iter().filter_map(|one| Some((one.address, one.tls.as_ref()?))).collect();
    for (address, endpoint) in bound {
        if let Some(index) = left.iter().position(|(other, _)| other == address) {
            endpoint.show(left.remove(index).1);
        }
    }
}

fn show(metrics: &Metrics, snapshot: &Snapshot, result: ReloadResult) {
    metrics.reloaded(result);
    metrics.config_generation.set(snapshot.generation as i64);
}

/// The sections that differ from those of the start, and that are only read then. A listener's certificate is not among
/// them, because a reload replaces it.
fn needs_restart(started: &Config, new: &Config) -> Vec<&'static str> {
    let listeners = |config: &Config| {
        let listeners = config.listeners.iter().map(|listener| {
            let tls = listener.tls.as_ref().map(|tls| (tls.client_ca.clone(), tls.client_optional));
            let trusted =
                (listener.trusted_proxies.clone(), listener.trusted_fields.clone(), listener.underscores_in_headers);
            (listener.address, listener.hosts.clone(), trusted, listener.origins.clone(), tls)
        });
        listeners.collect::<Vec<_>>()
    };
    let connections = |config: &Config| (config.limits.connections, config.limits.header_timeout.clone());
    let http2 = |config: &Config| (config.limits.header_bytes.clone(), config.limits.keepalive_timeout.clone());
    let changed = [
        ("server", started.server != new.server),
        ("listeners", listeners(started) != listeners(new)),
        ("admin", started.admin != new.admin),
        ("limits.connections and limits.header_timeout", connections(started) != connections(new)),
        ("limits.header_bytes and limits.keepalive_timeout (for HTTP/2)", http2(started) != http2(new)),
        ("log.format", started.log.format != new.log.format),
        ("auth.cache.capacity", started.cache.capacity != new.cache.capacity),
    ];
    changed.into_iter().filter_map(|(section, changed)| changed.then_some(section)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_of_a_listener_need_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("edge.yaml");
        let load = |origins: &str| {
            let text = format!("listeners: [{{address: 127.0.0.1:8080, origins: [{origins}]}}]");
            std::fs::write(&path, text).expect("the folder is fresh");
            Config::load(&path).expect("legal")
        };
        let (none, one) = (load(""), load("https://app.example"));
        assert_eq!(needs_restart(&none, &one), ["listeners"]);
        assert!(needs_restart(&one, &load("HTTPS://app.example:443")).is_empty());
    }
}
