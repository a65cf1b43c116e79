//! Real MCP servers on rmcp, as upstreams for the demo, the tests and the benches. There are also tools around them: a
//! switch page that breaks the servers on purpose, a local token issuer, a client that runs one MCP session, and
//! commands that measure a proxy.

mod commands;
mod failure;
mod mode;
mod replica;
mod server;
mod servers;
mod vitals;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::{chat, echo, events, listen, load, serve, session, token};

/// MCP servers to run behind an edge, and tools around them.
#[derive(Parser)]
#[command(name = "mcp-fleet", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves replicas of the fleet's MCP servers and prints their addresses as one JSON line.
    Serve(serve::Serve),
    /// Runs one MCP session against a server: initialize, tools/list, one tools/call, close.
    Session(session::Session),
    /// Fetches a token from a fleet's issuer and prints it.
    Token(token::Token),
    /// Sends requests at a steady rate and prints how long their answers take, as one JSON line.
    Load(load::Load),
    /// Serves event streams whose events contain the time at which they were sent.
    Events(events::Events),
    /// Opens many streams of `events` and prints how late their events arrive, as JSON lines.
    Listen(listen::Listen),
    /// Serves WebSockets, and sends every message back.
    Echo(echo::Echo),
    /// Sends WebSocket messages to `echo` and prints how long they take to come back, as one JSON line.
    Chat(chat::Chat),
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(serve) => serve.run().await,
        Command::Session(session) => session.run().await,
        Command::Token(token) => token.run().await,
        Command::Load(load) => load.run(),
        Command::Events(events) => events.run().await,
        Command::Listen(listen) => listen.run().await,
        Command::Echo(echo) => echo.run().await,
        Command::Chat(chat) => chat.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("mcp-fleet: {}", in_one_line(&*failure));
            ExitCode::FAILURE
        }
    }
}

/// The failure and its causes, outermost first. A cause whose text is already in the line is left out.
fn in_one_line(failure: &(dyn Error + 'static)) -> String {
    let mut line = failure.to_string();
    let mut cause = failure.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
