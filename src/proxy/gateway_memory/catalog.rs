//! What gateways have seen of their servers: the definitions of tools, on which replicas, and what is wrong with a server. Operators
//! read it at `/catalog` and `/status`.
//!
//! A tool whose definition changes may do something else than it was approved for. So changes are logged and counted, and a server with
//! `pin: true` keeps the accepted definitions until an operator accepts the new ones. All this is in memory: after a restart, what a
//! server says first is what is accepted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::config::limits;
use crate::mcp::{ListItem, ListKind};
use crate::types::hex;

/// The catalogue of all servers of all gateways.
#[derive(Debug, Default)]
pub struct Catalog {
    servers: Mutex<BTreeMap<Arc<str>, ServerEntry>>,
    /// The names that gateways cannot show as they are, by the name of the gateway's route.
    names: Mutex<BTreeMap<(Arc<str>, ListKind), GatewayNames>>,
    /// Changes whenever definitions are accepted.
    accepted: AtomicU64,
}

#[derive(Debug, Default)]
struct ServerEntry {
    /// The protocol versions that it speaks.
    speaks: BTreeSet<String>,
    /// Why it could not be reached last.
    problem: Option<String>,
    tools: BTreeMap<String, Tool>,
    /// The digest of the last list of tools of each replica.
    replicas: BTreeMap<SocketAddr, String>,
}

#[derive(Debug)]
struct Tool {
    accepted: Definition,
    latest: Definition,
    /// The digests of all definitions that were seen, because a server may show others to other callers.
    seen: BTreeSet<String>,
}

/// The definition of a tool.
#[derive(Clone, Debug, PartialEq)]
struct Definition {
    /// SHA-256 of the definition with its members in order, in hexadecimal digits.
    digest: String,
    item: ListItem,
}

/// Names of a gateway that operators should know of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GatewayNames {
    /// Names that several servers have. Only the first one is offered.
    pub clashes: Vec<String>,
    /// Names that are too long, or have characters that clients refuse, by their short forms.
    pub short_forms: BTreeMap<String, String>,
}

/// What an operator accepts has not been seen.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownTool;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Definition {
    fn new(item: &ListItem) -> Self {
        // In a `Value`, the members of objects are in order, so that only what a definition says counts.
        let value: Value = serde_json::from_str(item.json()).unwrap_or_default();
        Self { digest: hex(digest(&SHA256, value.to_string().as_bytes()).as_ref()), item: item.clone() }
    }
}

impl Catalog {
    /// Changes whenever definitions are accepted, so that lists that were read before are read again.
    pub(in crate::proxy) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Acquire)
    }

    /// Notes the tools of the server with this route, as `endpoint` has listed them. Gives the names of those whose definitions have
    /// changed since they were listed last, and for each tool the accepted definition, if it is another one.
    pub(in crate::proxy) fn saw(
        &self,
        route: &Arc<str>,
        endpoint: SocketAddr,
        items: &[ListItem],
    ) -> (Vec<String>, Vec<Option<ListItem>>) {
        let mut servers = lock(&self.servers);
        let entry = servers.entry(Arc::clone(route)).or_default();
        let (mut changed, mut accepted) = (Vec::new(), Vec::with_capacity(items.len()));
        let mut whole = ring::digest::Context::new(&SHA256);
        for item in items {
            let seen = Definition::new(item);
            whole.update(seen.digest.as_bytes());
            match entry.tools.get_mut(&item.name) {
                Some(tool) => {
                    if tool.latest.digest != seen.digest {
                        if tool.seen.len() < limits::CATALOG_VARIANTS && tool.seen.insert(seen.digest.clone()) {
                            changed.push(item.name.clone());
                        }
                        tool.latest = seen;
                    }
                    let is_other = tool.accepted.digest != tool.latest.digest;
                    accepted.push(is_other.then(|| tool.accepted.item.clone()));
                }
                None => {
                    if entry.tools.len() < limits::CATALOG_TOOLS && item.json().len() <= limits::CATALOG_TOOL_BYTES {
                        let digests = [seen.digest.clone()].into();
                        entry
                            .tools
                            .insert(item.name.clone(), Tool { accepted: seen.clone(), latest: seen, seen: digests });
                    }
                    accepted.push(None);
                }
            }
        }
        if entry.replicas.len() < limits::ENDPOINTS_PER_UPSTREAM || entry.replicas.contains_key(&endpoint) {
            entry.replicas.insert(endpoint, hex(whole.finish().as_ref()));
        }
        (changed, accepted)
    }

    /// The server can be reached, and speaks this protocol version in sessions. `None`: it speaks without sessions.
    pub(in crate::proxy) fn speaks(&self, route: &Arc<str>, version: Option<&str>) {
        let mut servers = lock(&self.servers);
        let entry = servers.entry(Arc::clone(route)).or_default();
        entry.problem = None;
        entry.speaks.insert(version.unwrap_or("without sessions").to_owned());
    }

    /// The server is left out of what its gateways offer, and why.
    pub(in crate::proxy) fn has_problem(&self, route: &Arc<str>, problem: String) {
        lock(&self.servers).entry(Arc::clone(route)).or_default().problem = Some(problem);
    }

    /// Notes the names of a gateway. True when they are others than before.
    pub(in crate::proxy) fn has_names(&self, gateway: &Arc<str>, kind: ListKind, names: GatewayNames) -> bool {
        let mut all = lock(&self.names);
        let known = all.entry((Arc::clone(gateway), kind)).or_default();
        let is_new = *known != names;
        *known = names;
        is_new
    }

    /// Forgets servers and gateways that the configuration does not have any more. `is_route`: it has a route of this name.
    pub fn keep(&self, is_route: impl Fn(&str) -> bool) {
        lock(&self.servers).retain(|route, _| is_route(route));
        lock(&self.names).retain(|(route, _), _| is_route(route));
    }

    /// Accepts the latest definition of one tool of the server with this route, or of all its tools. Gives how many were changed.
    ///
    /// # Errors
    /// There is no such server or tool.
    pub fn accept(&self, route: &str, tool: Option<&str>) -> Result<usize, UnknownTool> {
        let mut servers = lock(&self.servers);
        let entry = servers.get_mut(route).ok_or(UnknownTool)?;
        if tool.is_some_and(|tool| !entry.tools.contains_key(tool)) {
            return Err(UnknownTool);
        }
        let mut accepted = 0;
        for (name, known) in &mut entry.tools {
            if tool.is_none_or(|tool| tool == name) && known.accepted.digest != known.latest.digest {
                known.accepted = known.latest.clone();
                accepted += 1;
            }
        }
        self.accepted.fetch_add(1, Ordering::Release);
        Ok(accepted)
    }

    /// What `/catalog` shows.
    pub fn to_json(&self) -> Value {
        let servers = lock(&self.servers);
        let servers = servers.iter().map(|(route, entry)| {
            let digests: BTreeSet<&String> = entry.replicas.values().collect();
            let tools = entry.tools.iter().map(|(name, tool)| {
                let mut shown = json!({"name": name, "sha256": tool.latest.digest});
                if tool.accepted.digest != tool.latest.digest {
                    shown["accepted_sha256"] = json!(tool.accepted.digest);
                }
                shown
            });
            json!({
                "route": route,
                "replicas_agree": digests.len() <= 1,
                "replicas": entry.replicas.iter().map(|(endpoint, digest)| json!({"endpoint": endpoint, "sha256": digest})).collect::<Vec<_>>(),
                "tools": tools.collect::<Vec<_>>(),
            })
        });
        json!({"servers": servers.collect::<Vec<_>>()})
    }

    /// What `/status` shows of the server with this route.
    pub fn server_status(&self, route: &str) -> Value {
        let servers = lock(&self.servers);
        let entry = servers.get(route);
        json!({
            "speaks": entry.map(|entry| &entry.speaks),
            "problem": entry.and_then(|entry| entry.problem.as_ref()),
        })
    }

    /// What `/status` shows of the names of a gateway.
    pub fn names(&self, gateway: &str) -> GatewayNames {
        let mut all = GatewayNames::default();
        for ((_, _), names) in lock(&self.names).iter().filter(|((name, _), _)| **name == *gateway) {
            all.clashes.extend(names.clashes.iter().cloned());
            all.short_forms.extend(names.short_forms.clone());
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::ListPage;

    fn items(text: &str) -> Vec<ListItem> {
        ListPage::read(&format!(r#"{{"tools":[{text}]}}"#), ListKind::Tools).expect("a list").items
    }

    #[test]
    fn changes_are_noticed_and_wait_for_acceptance() {
        let (catalog, route) = (Catalog::default(), Arc::from("/one/"));
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let old = items(r#"{"name":"a","description":"good"},{"name":"b"}"#);
        assert_eq!(catalog.saw(&route, at(1), &old), (vec![], vec![None, None]));
        let reordered = items(r#"{"description":"good", "name":"a"},{"name":"b"}"#);
        assert_eq!(catalog.saw(&route, at(2), &reordered).0, Vec::<String>::new(), "only the meaning counts");
        assert_eq!(catalog.to_json()["servers"][0]["replicas_agree"], true);
        let new = items(r#"{"name":"a","description":"evil"},{"name":"b"},{"name":"c"}"#);
        let (changed, accepted) = catalog.saw(&route, at(2), &new);
        assert_eq!((changed, accepted), (vec!["a".to_owned()], vec![Some(old[0].clone()), None, None]));
        assert_eq!(catalog.saw(&route, at(2), &new).0, Vec::<String>::new(), "it is told once");
        let shown = catalog.to_json();
        assert_eq!(shown["servers"][0]["replicas_agree"], false);
        assert_ne!(shown["servers"][0]["tools"][0]["sha256"], shown["servers"][0]["tools"][0]["accepted_sha256"]);
        let before = catalog.accepted();
        assert_eq!(catalog.accept("/one/", Some("x")), Err(UnknownTool));
        assert_eq!(catalog.accept("/other/", None), Err(UnknownTool));
        assert_eq!((catalog.accept("/one/", Some("b")), catalog.accept("/one/", None)), (Ok(0), Ok(1)));
        assert!(catalog.accepted() > before);
        assert_eq!(catalog.saw(&route, at(2), &new).1, [None, None, None]);
        catalog.keep(|route| route != "/one/");
        assert_eq!(catalog.to_json()["servers"], json!([]));
    }
}
