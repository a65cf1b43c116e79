//! One replica of a server. It can be made slow or failing, killed, and started again on its address.

pub(crate) mod connection;
pub(crate) mod switch;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rmcp::ServerHandler;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Mutex;
use tokio::task;

use crate::mode::{Mode, SLOWNESS};
use crate::server::Server;
use crate::servers::catalog::tools as tools_of;
use crate::servers::everything::{Backend, Everything};
use crate::servers::handler::{Handler, Roster};
use crate::vitals::Vitals;
use connection::CountingListener;

/// How long an idle MCP session is kept. This is longer than the longest tool call: otherwise, a call that sends
/// nothing would end together with its session.
const SESSION_IDLE: Duration = Duration::from_secs(900);

/// How long the thread of a replica may take to close its sockets when the replica is killed.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// A replica on its address.
pub(crate) struct Replica {
    /// The replica's identity, mode and counters.
    pub(crate) vitals: Arc<Vitals>,
    /// The address on which the replica listens while it runs.
    pub(crate) address: SocketAddr,
    roster: Roster,
    backend: Arc<Backend>,
    running: Mutex<Option<Running>>,
}

impl Replica {
    /// Starts a replica. Port 0 means any free port; `address` then has the real port.
    pub(crate) async fn start(
        vitals: Arc<Vitals>,
        roster: Roster,
        backend: Arc<Backend>,
        address: SocketAddr,
    ) -> io::Result<Self> {
        let (running, address) = Running::start(routes(&vitals, &roster, &backend), &vitals, address).await?;
        Ok(Self { vitals, address, roster, backend, running: Mutex::new(Some(running)) })
    }

    /// Changes the mode. When this returns, the new mode applies to every later request.
    pub(crate) async fn switch(&self, mode: Mode) -> io::Result<()> {
        let mut running = self.running.lock().await;
        let before = self.vitals.set_mode(mode);
        if mode == Mode::Dead {
            if let Some(running) = running.take() {
                running.stop().await;
            }
        } else if running.is_none() {
            let routes = routes(&self.vitals, &self.roster, &self.backend);
            let started = Running::start(routes, &self.vitals, self.address).await;
            let (started, _) = started.inspect_err(|_| {
                self.vitals.set_mode(before);
            })?;
            *running = Some(started);
        }
        Ok(())
    }
}

/// A running replica. It has its own runtime, so that stopping it is like killing a process: listener, connections, MCP
/// sessions, orders and running calls are gone at once.
struct Running(Option<Runtime>);

impl Running {
    async fn start(routes: Router, vitals: &Vitals, address: SocketAddr) -> io::Result<(Self, SocketAddr)> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name(&vitals.name).enable_all().build()?;
        let handle = runtime.handle().clone();
        let running = Self(Some(runtime));
        let listener = handle.spawn(TcpListener::bind(address)).await??;
        let address = listener.local_addr()?;
        let listener = CountingListener { listener, gauge: vitals.connections.clone() };
        handle.spawn(async move { axum::serve(listener, routes).await });
        Ok((running, address))
    }

    async fn stop(mut self) {
        if let Some(runtime) = self.0.take() {
            // The listener is closed for certain only when the runtime's thread has ended. Waiting for the thread
            // blocks.
            let _ = task::spawn_blocking(move || runtime.shutdown_timeout(SHUTDOWN_TIMEOUT)).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The routes of a replica, with new MCP sessions, orders and tool calls.
fn routes(vitals: &Arc<Vitals>, roster: &Roster, backend: &Arc<Backend>) -> Router {
    let mut sessions = LocalSessionManager::default();
    sessions.session_config.keep_alive = Some(SESSION_IDLE);
    let sessions = Arc::new(sessions);
    let plain = |tools| {
        let handler = Handler::new(vitals.clone(), roster.clone(), tools_of, tools);
        serve(sessions.clone(), move || handler.clone())
    };
    let mcp = match vitals.server {
        Server::Fininfo => plain(Handler::fininfo()),
        Server::Mcpgw => plain(Handler::mcpgw()),
        Server::Currenttime => plain(Handler::currenttime()),
        Server::Everything => {
            serve(sessions.clone(), Everything::factory(vitals.clone(), backend.clone(), sessions.clone()))
        }
    };
    mcp.route("/health", get(async || "ok")).layer(middleware::from_fn_with_state(vitals.clone(), apply_mode))
}

fn serve<H: ServerHandler>(
    sessions: Arc<LocalSessionManager>,
    handler: impl Fn() -> H + Send + Sync + 'static,
) -> Router {
    // A plain result is sent as JSON. With progress, and for all requests inside an MCP session, SSE is used.
    let config = StreamableHttpServerConfig::default().with_json_response(true);
    let mcp = StreamableHttpService::new(move || Ok(handler()), sessions, config);
    Router::new().route_service("/mcp", mcp.clone()).route_service("/", mcp)
}

/// Handles a request as the mode of the replica says. Health checks are not counted.
async fn apply_mode(State(vitals): State<Arc<Vitals>>, request: Request, next: Next) -> Response {
    if request.uri().path() != "/health" {
        vitals.count_request();
    }
    match vitals.mode() {
        Mode::Ok | Mode::Dead => {}
        Mode::Slow => tokio::time::sleep(SLOWNESS).await,
        Mode::Failing => {
            let text = format!("{} is in mode `failing`", vitals.name);
            return (StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
        }
    }
    next.run(request).await
}
