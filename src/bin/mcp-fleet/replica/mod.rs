//! One replica of a server: it can be made slow or failing, killed, and brought back on its address.

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

/// Longer than the longest tool call, which would otherwise end with its quiet session.
const SESSION_IDLE: Duration = Duration::from_secs(900);

/// How long a dying replica's thread may take to let go of its sockets.
const LAST_BREATH: Duration = Duration::from_secs(5);

/// A replica on its address.
pub(crate) struct Replica {
    /// Its identity, mode and counters.
    pub(crate) vitals: Arc<Vitals>,
    /// Where it listens while it lives.
    pub(crate) address: SocketAddr,
    roster: Roster,
    backend: Arc<Backend>,
    life: Mutex<Option<Life>>,
}

impl Replica {
    /// Starts a replica; port 0 becomes the port it got.
    pub(crate) async fn start(
        vitals: Arc<Vitals>,
        roster: Roster,
        backend: Arc<Backend>,
        address: SocketAddr,
    ) -> io::Result<Self> {
        let (life, address) = Life::begin(pages(&vitals, &roster, &backend), &vitals, address).await?;
        Ok(Self { vitals, address, roster, backend, life: Mutex::new(Some(life)) })
    }

    /// Changes the mode; once this returns, it is in effect for every later request.
    pub(crate) async fn switch(&self, mode: Mode) -> io::Result<()> {
        let mut life = self.life.lock().await;
        let before = self.vitals.set_mode(mode);
        if mode == Mode::Dead {
            if let Some(life) = life.take() {
                life.end().await;
            }
        } else if life.is_none() {
            let pages = pages(&self.vitals, &self.roster, &self.backend);
            let begun = Life::begin(pages, &self.vitals, self.address).await;
            let (begun, _) = begun.inspect_err(|_| {
                self.vitals.set_mode(before);
            })?;
            *life = Some(begun);
        }
        Ok(())
    }
}

/// A replica's time between start and death. It has a runtime of its own, so that ending it is like killing a
/// process: listener, connections, sessions, orders and running calls are gone at once.
struct Life(Option<Runtime>);

impl Life {
    async fn begin(pages: Router, vitals: &Vitals, address: SocketAddr) -> io::Result<(Self, SocketAddr)> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name(&vitals.name).enable_all().build()?;
        let handle = runtime.handle().clone();
        let life = Self(Some(runtime));
        let listener = handle.spawn(TcpListener::bind(address)).await??;
        let address = listener.local_addr()?;
        let listener = CountingListener { listener, gauge: vitals.connections.clone() };
        handle.spawn(async move { axum::serve(listener, pages).await });
        Ok((life, address))
    }

    async fn end(mut self) {
        if let Some(runtime) = self.0.take() {
            // Waiting for the runtime's thread blocks, and only an ended thread has certainly closed the listener.
            let _ = task::spawn_blocking(move || runtime.shutdown_timeout(LAST_BREATH)).await;
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A replica's pages; its sessions, orders and tool calls are new.
fn pages(vitals: &Arc<Vitals>, roster: &Roster, backend: &Arc<Backend>) -> Router {
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
    mcp.route("/health", get(async || "ok")).layer(middleware::from_fn_with_state(vitals.clone(), obey))
}

fn serve<H: ServerHandler>(
    sessions: Arc<LocalSessionManager>,
    handler: impl Fn() -> H + Send + Sync + 'static,
) -> Router {
    // JSON for a plain result and SSE once there is progress; requests inside a session always get SSE.
    let config = StreamableHttpServerConfig::default().with_json_response(true);
    let mcp = StreamableHttpService::new(move || Ok(handler()), sessions, config);
    Router::new().route_service("/mcp", mcp.clone()).route_service("/", mcp)
}

/// Lets the switch decide what becomes of a request. Health checks are not counted.
async fn obey(State(vitals): State<Arc<Vitals>>, request: Request, next: Next) -> Response {
    if request.uri().path() != "/health" {
        vitals.count_request();
    }
    match vitals.mode() {
        Mode::Ok | Mode::Dead => {}
        Mode::Slow => tokio::time::sleep(SLOWNESS).await,
        Mode::Failing => {
            let text = format!("{} is switched to failing", vitals.name);
            return (StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
        }
    }
    next.run(request).await
}
