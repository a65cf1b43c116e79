//! The tools of the `mcpgw` server.

use std::collections::HashSet;

use axum::http::HeaderMap;
use axum::http::header::HOST;
use axum::http::request::Parts;
use rmcp::handler::server::tool::Extension;
use rmcp::handler::server::wrapper::{Json, Parameters};
use rmcp::model::Tool;
use rmcp::{tool, tool_router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::handler::Handler;
use crate::mode::Mode;
use crate::server::Server;
use crate::vitals::Vitals;

/// The request headers that `whoami` shows.
const SHOWN: [&str; 8] = [
    "x-user",
    "x-scopes",
    "x-request-id",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "authorization",
    "host",
];

#[derive(Serialize, JsonSchema)]
struct Services {
    services: Vec<Service>,
}

#[derive(Serialize, JsonSchema)]
struct Service {
    name: String,
    description: String,
    replicas: Vec<String>,
    tools: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct Health {
    /// `healthy`, or `degraded` if any replica is not ok.
    status: String,
    /// Each replica's mode.
    replicas: Map<String, Value>,
}

#[derive(Deserialize, JsonSchema)]
struct Search {
    /// What the tool should do, in plain words.
    query: String,
    /// How many tools to return at most; 3 unless given.
    top_n: Option<usize>,
}

#[derive(Serialize, JsonSchema)]
struct Finds {
    tools: Vec<Find>,
}

#[derive(Serialize, JsonSchema)]
struct Find {
    service: String,
    tool: String,
    description: String,
    /// How many of the query's words the tool's name and description have.
    score: usize,
}

#[tool_router(router = mcpgw, vis = "pub(crate)")]
impl Handler {
    /// Lists the services of this fleet with their replicas and tools.
    #[tool(annotations(title = "Services", read_only_hint = true))]
    fn list_services(&self) -> Json<Services> {
        let service = |server: Server| Service {
            name: server.name().to_owned(),
            description: server.instructions().to_owned(),
            replicas: self.replicas(server).map(|vitals| vitals.name.clone()).collect(),
            tools: (self.catalog)(server).into_iter().map(|tool| tool.name.into_owned()).collect(),
        };
        Json(Services { services: self.services().map(service).collect() })
    }

    /// Tells which replicas of this fleet work.
    #[tool(annotations(title = "Health check", read_only_hint = true))]
    fn healthcheck(&self) -> Json<Health> {
        let healthy = self.roster.iter().all(|vitals| vitals.mode() == Mode::Ok);
        let replicas = self.roster.iter().map(|vitals| (vitals.name.clone(), vitals.mode().name().into())).collect();
        Json(Health { status: if healthy { "healthy" } else { "degraded" }.to_owned(), replicas })
    }

    /// Finds the tools of this fleet whose names and descriptions have the most words in common with a query.
    #[tool(annotations(title = "Tool finder", read_only_hint = true))]
    fn intelligent_tool_finder(&self, Parameters(search): Parameters<Search>) -> Json<Finds> {
        let wanted = words(&search.query);
        let mut tools = Vec::new();
        for server in self.services() {
            tools.extend((self.catalog)(server).into_iter().map(|tool| find(server, tool, &wanted)));
        }
        tools.retain(|find| find.score > 0);
        tools.sort_by_key(|find| std::cmp::Reverse(find.score));
        tools.truncate(search.top_n.unwrap_or(3));
        Json(Finds { tools })
    }

    /// Shows who calls and how the request arrived: the headers this replica saw, as JSON.
    #[tool(annotations(title = "Who am I", read_only_hint = true))]
    fn whoami(&self, Extension(parts): Extension<Parts>) -> String {
        let shown = SHOWN.into_iter().map(|name| (name.to_owned(), header(&parts.headers, name)));
        let mut shown: Map<_, _> = shown.collect();
        // With HTTP/2, the host is in the URI and not in a header.
        if shown["host"].is_null()
            && let Some(authority) = parts.uri.authority()
        {
            shown.insert(HOST.to_string(), authority.as_str().into());
        }
        Value::Object(shown).to_string()
    }
}

impl Handler {
    /// The servers that have a replica in this fleet.
    fn services(&self) -> impl Iterator<Item = Server> {
        Server::ALL.into_iter().filter(|server| self.replicas(*server).next().is_some())
    }

    fn replicas(&self, server: Server) -> impl Iterator<Item = &Vitals> {
        self.roster.iter().map(AsRef::as_ref).filter(move |vitals| vitals.server == server)
    }
}

fn find(server: Server, tool: Tool, wanted: &HashSet<String>) -> Find {
    let description = tool.description.unwrap_or_default().into_owned();
    let has = words(&format!("{} {description}", tool.name));
    Find {
        service: server.name().to_owned(),
        tool: tool.name.into_owned(),
        description,
        score: has.intersection(wanted).count(),
    }
}

fn words(text: &str) -> HashSet<String> {
    let words = text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

/// A header's values, joined by commas, or null.
fn header(headers: &HeaderMap, name: &str) -> Value {
    let values: Vec<_> = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    if values.is_empty() { Value::Null } else { values.join(", ").into() }
}
