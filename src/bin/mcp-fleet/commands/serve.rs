//! `mcp-fleet serve`: serves replicas of MCP servers, a token issuer and the switch page.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::thread;

use axum::Router;
use axum::serve::ListenerExt;
use clap::Args;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::issuer;
use crate::failure::Failure;
use crate::replica::{Replica, switch};
use crate::server::Server;
use crate::servers::everything::Backend;
use crate::servers::handler::Roster;
use crate::vitals::Vitals;

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What to serve, and where.
#[derive(Args)]
pub(crate) struct Serve {
    /// A replica of a server on an address (port 0: any free port), or a server's name alone for as many replicas of
    /// it as --replicas says. May be given several times; without it, every server is served.
    #[arg(long = "server", value_name = "NAME[=ADDRESS]")]
    servers: Vec<Wanted>,
    /// How many replicas of each server that is given without an address, each on a free port of 127.0.0.1.
    #[arg(long, value_name = "N", default_value_t = 1)]
    replicas: usize,
    /// Serves a token issuer on this address.
    #[arg(long, value_name = "ADDRESS")]
    issuer: Option<SocketAddr>,
    /// Serves the switch page on this address. It lists the replicas and changes how they behave.
    #[arg(long, value_name = "ADDRESS")]
    switch: Option<SocketAddr>,
    /// Ends when stdin is closed, and so together with the program that has the other end open.
    #[arg(long)]
    until_stdin_closes: bool,
}

/// One `--server` argument.
#[derive(Clone, Debug, PartialEq)]
struct Wanted {
    server: Server,
    address: Option<SocketAddr>,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((name, address)) = text.split_once('=') else {
            return Ok(Self { server: text.parse()?, address: None });
        };
        let address = address.parse().map_err(|_| format!("{address:?} is not an address like 127.0.0.1:8001"))?;
        Ok(Self { server: name.parse()?, address: Some(address) })
    }
}

/// The JSON line with the addresses of everything that is served.
#[derive(Serialize)]
struct Addresses {
    servers: BTreeMap<&'static str, Vec<SocketAddr>>,
    issuer: Option<String>,
    switch: Option<String>,
}

impl Serve {
    /// Serves until a signal or the end of stdin.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        // The signal handlers are installed before anything starts, so that no signal is missed.
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let replicas = start(&self.plan()).await?;
        let mut servers: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for replica in replicas.iter() {
            servers.entry(replica.vitals.server.name()).or_default().push(replica.address);
        }
        let issuer = match self.issuer {
            Some(address) => Some(publish(address, issuer::pages).await?),
            None => None,
        };
        let switch = match self.switch {
            Some(address) => Some(publish(address, |_| Ok(switch::pages(replicas.clone()))).await?),
            None => None,
        };
        let line = serde_json::to_string(&Addresses { servers, issuer, switch })?;
        writeln!(io::stdout(), "{line}")?;
        io::stdout().flush()?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = end_of_stdin(), if self.until_stdin_closes => {}
        }
        Ok(())
    }

    /// The replicas to start.
    fn plan(&self) -> Vec<(Server, SocketAddr)> {
        let everything = Server::ALL.map(|server| Wanted { server, address: None });
        let wanted = if self.servers.is_empty() { &everything[..] } else { &self.servers };
        let replicas = |wanted: &Wanted| match wanted.address {
            Some(address) => vec![(wanted.server, address)],
            None => vec![(wanted.server, ANY_PORT); self.replicas],
        };
        wanted.iter().flat_map(replicas).collect()
    }
}

async fn start(plan: &[(Server, SocketAddr)]) -> Result<Arc<[Replica]>, Failure> {
    let numbered = plan.iter().enumerate().map(|(position, (server, _))| {
        let index = plan[..position].iter().filter(|(earlier, _)| earlier == server).count();
        Arc::new(Vitals::new(*server, index))
    });
    let roster: Roster = numbered.collect();
    // Generating the key of the backend fails only when the system gives no random numbers.
    let backend = Arc::new(Backend::new().map_err(|error| error.to_string())?);
    let mut replicas = Vec::with_capacity(plan.len());
    for (vitals, (_, address)) in roster.iter().zip(plan) {
        let replica = Replica::start(vitals.clone(), roster.clone(), backend.clone(), *address).await;
        replicas.push(replica.map_err(|error| format!("{} cannot listen on {address}: {error}", vitals.name))?);
    }
    Ok(replicas.into())
}

/// Binds `address`, serves what `pages` makes for the URL of this address, and returns the URL.
async fn publish(
    address: SocketAddr,
    pages: impl FnOnce(String) -> Result<Router, Failure>,
) -> Result<String, Failure> {
    let listener = TcpListener::bind(address).await.map_err(|error| format!("cannot listen on {address}: {error}"))?;
    let url = format!("http://{}", listener.local_addr()?);
    let pages = pages(url.clone())?;
    let listener = listener.tap_io(|stream| {
        // An error means that the peer has already disconnected.
        let _ = stream.set_nodelay(true);
    });
    tokio::spawn(async move { axum::serve(listener, pages).await });
    Ok(url)
}

async fn end_of_stdin() {
    let (closed, wait) = oneshot::channel();
    // This has its own thread: a thread of the runtime would keep the process from exiting while it reads.
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = closed.send(());
    });
    // The sender is dropped only after stdin has ended, so an error means the same as a message.
    let _ = wait.await;
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        serve: Serve,
    }

    fn plan(arguments: &str) -> Vec<(Server, SocketAddr)> {
        let words = ["serve"].into_iter().chain(arguments.split_whitespace());
        Line::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).serve.plan()
    }

    #[test]
    fn names_and_addresses_become_replicas() {
        assert_eq!(plan(""), Server::ALL.map(|server| (server, ANY_PORT)));
        assert_eq!(plan("--server mcpgw --replicas 2"), [(Server::Mcpgw, ANY_PORT); 2]);
        let two = plan("--server fininfo=127.0.0.1:8001 --server fininfo=127.0.0.1:8011 --replicas 9");
        let ports: Vec<_> = two.iter().map(|(server, address)| (*server, address.port())).collect();
        assert_eq!(ports, [(Server::Fininfo, 8001), (Server::Fininfo, 8011)]);
    }

    #[test]
    fn unknown_servers_and_addresses_are_refused() {
        let error = "nonsense=127.0.0.1:1".parse::<Wanted>().expect_err("not a server");
        assert!(error.contains("fininfo, mcpgw, currenttime"), "{error}");
        assert!("fininfo=somewhere".parse::<Wanted>().is_err());
    }
}
