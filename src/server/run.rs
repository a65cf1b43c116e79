//! One edge from start to end.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use log::{error, info};
use pingora::apps::{HttpServerApp, HttpServerOptions};
use pingora::protocols::http::v2::server::default_h2_options;
use pingora::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::build::build;
use super::descriptors::connections;
use super::listener::{BoundListener, Bounds};
use super::reload::{Reloader, Trigger};
use super::shared::{SetUpError, Shared};
use super::telemetry::Telemetry;
use super::tls::TlsEndpoint;
use super::watch::watch as watch_files;
use super::workers::Workers;
use crate::admin::Admin;
use crate::config::{Config, Threads, limits};
use crate::proxy::{Edge, Front, Hooks, ListenerContext};

/// Why an edge does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The process cannot be set up.
    #[error(transparent)]
    SetUp(#[from] SetUpError),
    /// An address cannot be bound.
    #[error("{address} cannot be bound: {error}: free the port, or change the address in `listeners` or `admin`")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        error: std::io::Error,
    },
    /// TLS of a listener cannot be set up.
    #[error("TLS of the listener {address} cannot be set up: {reason}")]
    Tls {
        /// The listener's address.
        address: SocketAddr,
        /// The reason.
        reason: String,
    },
    /// The system does not allow so many threads, or not the file descriptors that their event loops need.
    #[error(
        "{count} threads cannot be started: {error}: lower `server.threads`, or raise the limits on open files and processes"
    )]
    Threads {
        /// How many threads.
        count: usize,
        /// The system's error.
        error: std::io::Error,
    },
    /// The signal handlers, the runtime or the logger cannot be set up.
    #[error("the process cannot be set up: {0}")]
    System(#[from] std::io::Error),
}

/// A running edge.
pub struct RunningEdge {
    /// The addresses of the listeners, in the order of the configuration.
    pub addresses: Vec<SocketAddr>,
    /// The address of the admin listener.
    pub admin_address: SocketAddr,
    reloader: Arc<Reloader>,
    pipeline: Arc<HttpProxy<Hooks>>,
    ready: Arc<AtomicBool>,
    stop: watch::Sender<bool>,
    stop_admin: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
    workers: Arc<Workers>,
    background: JoinSet<()>,
}

/// Runs an edge until SIGTERM or SIGINT, and then drains it. SIGHUP reloads the configuration.
///
/// # Errors
/// The edge cannot start.
pub fn run(path: &Path, config: Config) -> Result<(), StartError> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(limits::BACKGROUND_THREADS).thread_name("background");
    let runtime = runtime.enable_all().build()?;
    let outcome = runtime.block_on(async {
        let grace = config.server.grace_period.0;
        let shared = Arc::new(Shared::new(config.cache.capacity)?);
        Telemetry::install(config.log.format, shared.metrics.log_lines_dropped.clone())?;
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut hang_up = signal(SignalKind::hangup())?;
        let count = threads(&config);
        let workers = Workers::start(count).map_err(|error| StartError::Threads { count, error })?;
        let mut edge = RunningEdge::start(path, config, shared, workers).await?;
        for address in &edge.addresses {
            info!("listening on {address}");
        }
        info!("admin listener on {}", edge.admin_address);
        let reloader = Arc::clone(&edge.reloader);
        edge.background.spawn(watch_files(Arc::clone(&reloader)));
        loop {
            tokio::select! {
                _ = hang_up.recv() => drop(reloader.reload(Trigger::Signal).await),
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
        }
        info!("draining for at most {} s", grace.as_secs());
        edge.drain(grace).await;
        Ok(())
    });
    runtime.shutdown_timeout(limits::LAST_BREATH);
    Telemetry::flush();
    outcome
}

impl RunningEdge {
    /// Binds the addresses, builds the first snapshot, and serves. `workers` serve the connections. Everything else
    /// runs on the runtime that calls this.
    ///
    /// # Errors
    /// An address cannot be bound, or TLS or the HTTP client cannot be set up. Nothing is served then.
    pub async fn start(path: &Path, config: Config, shared: Arc<Shared>, workers: Workers) -> Result<Self, StartError> {
        let config = Arc::new(config);
        shared.client.follow(&config.outbound).map_err(SetUpError::from)?;
        let (bound, certificates) = bind(&config, workers.count())?;
        let admin = BoundListener::bind(config.admin.address, None, 1);
        let admin = admin.map_err(|error| StartError::Bind { address: config.admin.address, error })?;
        let contexts =
            config.listeners.iter().zip(&bound).map(|(settings, bound)| ListenerContext::new(settings, bound.address));
        let contexts: Vec<ListenerContext> = contexts.collect();
        let snapshot = build(&shared, Arc::clone(&config), None).await;
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
        let idle = limits::POOL_PER_THREAD * threads(&config);
        let catalog = Arc::clone(&shared.catalog);
        let edge = Edge::new(Arc::clone(&snapshot), contexts, Arc::clone(&shared.metrics), idle, catalog);
        let edge = Arc::new(edge);
        let pipeline = Arc::new(pipeline(&config, Arc::clone(&edge)));
        let front = Arc::new(Front::new(edge, Arc::clone(&pipeline), !is_pipeline_only()));
        let reloader = Arc::new(Reloader::new(path.to_owned(), Arc::clone(&shared), snapshot, certificates));
        let ready = Arc::new(AtomicBool::new(true));
        let (stop, stopping) = watch::channel(false);
        let (stop_admin, admin_stopping) = watch::channel(false);
        let bounds = Bounds {
            connections: Arc::new(Semaphore::new(connections(config.limits.connections, workers.count()))),
            room: (0..workers.count()).map(|_| Arc::default()).collect(),
            header_timeout: config.limits.header_timeout.0,
            silent_may_leave: false,
            open: shared.metrics.client_connections.clone(),
        };
        let (addresses, admin_address) = (bound.iter().map(|bound| bound.address).collect(), admin.address);
        let mut background = JoinSet::new();
        let app = Admin {
            control: Arc::<Reloader>::clone(&reloader),
            metrics: Arc::clone(&shared.metrics),
            cache: Arc::clone(&shared.cache),
            upstream_tokens: Arc::clone(&shared.upstream_tokens),
            catalog: Arc::clone(&shared.catalog),
            ready: Arc::clone(&ready),
            token: config.admin.token.clone(),
            on_loopback: admin_address.ip().is_loopback(),
        };
        let admin_bounds = Bounds {
            connections: Arc::new(Semaphore::new(limits::ADMIN_CONNECTIONS)),
            // `client_connections` counts only the data path, so this gauge is not exposed.
            open: prometheus::IntGauge::new("admin_connections", "Not exposed.").map_err(SetUpError::from)?,
            room: [Arc::default()].into(),
            silent_may_leave: true,
            ..bounds.clone()
        };
        // The admin listener does not use the workers, so a long scrape does not delay client requests.
        let here = Arc::new(Workers::here());
        // It ends when `stop_admin` says so.
        drop(admin.serve(&Arc::new(app), &admin_stopping, &admin_bounds, &here));
        for _ in 0..limits::REFRESHERS {
            let cache = Arc::clone(&shared.cache);
            background.spawn(async move { cache.refresh().await });
        }
        let workers = Arc::new(workers);
        let listeners = bound.into_iter().flat_map(|bound| bound.serve(&front, &stopping, &bounds, &workers)).collect();
        Ok(Self {
            addresses,
            admin_address,
            reloader,
            pipeline,
            ready,
            stop,
            stop_admin,
            listeners,
            workers,
            background,
        })
    }

    /// The reloader of this edge.
    pub fn reloader(&self) -> &Arc<Reloader> {
        &self.reloader
    }

    /// Drains the edge. Readiness fails, no connection is accepted any more, and open requests may finish within
    /// `grace`. Returns as soon as no connection is open.
    pub async fn drain(mut self, grace: Duration) {
        self.ready.store(false, Ordering::Relaxed);
        // An error means that there is no listener to stop.
        let _ = self.stop.send(true);
        for listener in std::mem::take(&mut self.listeners) {
            if let Err(panic) = listener.await {
                error!("a listener has failed: {panic}");
            }
        }
        // Closes connections that wait for another request.
        self.pipeline.http_cleanup().await;
        if tokio::time::timeout(grace, self.workers.idle()).await.is_err() {
            info!("the grace period is over: {} open connections are closed", self.workers.open());
        }
        let _ = self.stop_admin.send(true);
        // Connections that are still open after the grace period are closed here.
        self.workers.stop().await;
    }
}

/// The certificates of the listeners with TLS, with the configured addresses.
type Certificates = Vec<(SocketAddr, Arc<TlsEndpoint>)>;

fn bind(config: &Config, threads: usize) -> Result<(Vec<BoundListener>, Certificates), StartError> {
    let (mut bound, mut certificates) = (Vec::new(), Vec::new());
    for listener in &config.listeners {
        let address = listener.address;
        let tls = listener.tls.as_ref().map(|tls| TlsEndpoint::new(tls).map(Arc::new));
        let tls = tls.transpose().map_err(|reason| StartError::Tls { address, reason })?;
        certificates.extend(tls.clone().map(|tls| (address, tls)));
        let listener = BoundListener::bind(address, tls, threads);
        bound.push(listener.map_err(|error| StartError::Bind { address, error })?);
    }
    Ok((bound, certificates))
}

/// For tests: with `MCP_EDGE_TEST_PIPELINE`, all requests go through Pingora's proxy, as requests over HTTP/2 do.
fn is_pipeline_only() -> bool {
    std::env::var_os("MCP_EDGE_TEST_PIPELINE").is_some()
}

fn threads(config: &Config) -> usize {
    match config.server.threads {
        Threads::Count(threads) => threads,
        Threads::Auto => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

fn pipeline(config: &Config, edge: Arc<Edge>) -> HttpProxy<Hooks> {
    // The settings are those of Pingora's own way to upstreams, which no request takes.
    let mut pipeline = HttpProxy::new(Hooks(edge), Arc::new(ServerConf::default()));
    pipeline.handle_init_modules();
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    // Without this, Pingora would refuse WebSockets over HTTP/2. Any other CONNECT gets the edge's own 405.
    options.allow_connect_method_proxying = true;
    options.h2_idle_timeout = Some(config.limits.keepalive_timeout.0);
    pipeline.server_options = Some(options);
    let mut h2 = default_h2_options();
    h2.max_concurrent_streams(limits::CLIENT_H2_STREAMS);
    h2.max_header_list_size(config.limits.header_bytes.0 as u32);
    h2.initial_window_size(limits::CLIENT_H2_STREAM_WINDOW);
    h2.initial_connection_window_size(limits::CLIENT_H2_CONNECTION_WINDOW);
    h2.max_send_buffer_size(limits::CLIENT_H2_SEND_BYTES);
    h2.max_local_error_reset_streams(Some(limits::CLIENT_H2_RESETS));
    // WebSockets over HTTP/2 (RFC 8441 section 3).
    h2.enable_connect_protocol();
    pipeline.h2_options = Some(h2);
    pipeline
}
