//! What a client of a gateway wants to hear on its stream, and the messages of the gateway itself there.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::mcp::ServerMark;

/// The kinds of lists, and the word for each in notifications and in filters.
pub(super) const LISTS: [(&str, &str, &str); 3] = [
    ("tools", "notifications/tools/list_changed", "toolsListChanged"),
    ("prompts", "notifications/prompts/list_changed", "promptsListChanged"),
    ("resources", "notifications/resources/list_changed", "resourcesListChanged"),
];

/// Names the subscription that a notification belongs to (MCP 2026-07-28, "Subscriptions").
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// A resource that a client wants to hear of.
#[derive(Clone, Debug)]
pub(super) struct WantedResource {
    /// The URI as the client knows it.
    pub(super) shown: String,
    pub(super) server: ServerMark,
    /// The URI as the server knows it.
    pub(super) own: String,
}

/// What a client wants to hear.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Of which lists, in the order of [`LISTS`].
    pub(super) lists: [bool; 3],
    pub(super) resources: Vec<WantedResource>,
    /// The id of the client's `subscriptions/listen`, in JSON.
    pub(super) subscription: Option<String>,
    /// Its `_meta`, in JSON.
    pub(super) meta: Option<String>,
}

impl Wanted {
    /// The notification that the list of this kind has changed, for the client.
    pub(super) fn changed(&self, kind: usize) -> Vec<u8> {
        let (_, method, _) = LISTS[kind];
        match &self.subscription {
            Some(id) => {
                format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"_meta":{{"{SUBSCRIPTION}":{id}}}}}}}"#)
            }
            None => format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#),
        }
        .into_bytes()
    }

    /// What the client is told first.
    pub(super) fn acknowledgement(&self) -> Option<Vec<u8>> {
        let id = self.subscription.as_ref()?;
        let shown: Vec<&str> = self.resources.iter().map(|resource| resource.shown.as_str()).collect();
        let filter = self.filter(&shown);
        let message = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"_meta":{{"{SUBSCRIPTION}":{id}}},"notifications":{filter}}}}}"#
        );
        Some(message.into_bytes())
    }

    /// The filter of `subscriptions/listen` with these resources.
    pub(super) fn filter(&self, resources: &[&str]) -> Value {
        let mut filter = serde_json::Map::new();
        for ((.., name), wanted) in LISTS.iter().zip(self.lists) {
            if wanted {
                filter.insert((*name).to_owned(), json!(true));
            }
        }
        if !resources.is_empty() {
            filter.insert("resourceSubscriptions".to_owned(), json!(resources));
        }
        filter.into()
    }
}

/// An event with the message `data`. Line breaks in JSON stand between its parts only, so a space means the same.
pub(super) fn event(data: &[u8]) -> Bytes {
    let mut out = b"event: message\ndata: ".to_vec();
    out.extend(data.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    out.extend_from_slice(b"\n\n");
    out.into()
}
