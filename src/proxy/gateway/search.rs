//! Calls of the two tools of a gateway itself. What a caller may not use is not found.

use serde_json::{Value, json};

use super::caller::Caller;
use super::lists::offers;
use super::open::ClientSession;
use super::own_tools::{FIND, is_own_tool};
use crate::config::{WhenServerDown, limits};
use crate::mcp::{ListKind, best_tools};

/// The result of a call of one of the two tools. `message`: the whole request.
pub(super) async fn call(caller: Caller<'_>, client: ClientSession<'_>, tool: &str, message: &[u8]) -> String {
    let message: Value = serde_json::from_slice(message).unwrap_or_default();
    let arguments = &message["params"]["arguments"];
    let offers = offers(caller, client, ListKind::Tools, &caller.gateway.servers).await;
    let (mut all, _) = offers.shown(ListKind::Tools);
    // A server's tool of that name cannot be called.
    all.retain(|shown| !is_own_tool(caller.gateway, &shown.name));
    let fails = caller.gateway.settings.when_server_down == WhenServerDown::Fail;
    let answer = if let Some((server, error)) = offers.missing.first().filter(|_| fails) {
        Err(format!("the server `{}` {error}", server.settings.name))
    } else if tool == FIND {
        let most = arguments["limit"].as_u64().map_or(limits::GATEWAY_FOUND, |limit| limit as usize);
        match arguments["query"].as_str() {
            Some(query) => {
                let texts: Vec<_> = all.iter().map(|shown| shown.text()).collect();
                let best = best_tools(query, &texts, most.clamp(1, limits::GATEWAY_FOUND_MOST));
                let found = best.into_iter().map(|index| {
                    let shown = &all[index];
                    let item: Value = serde_json::from_str(shown.item.json()).unwrap_or_default();
                    let mut tool = json!({"name": shown.name, "server": &*shown.server.settings.name});
                    for key in ["title", "description"] {
                        if let Some(text) = item.get(key).filter(|text| text.is_string()) {
                            tool[key] = text.clone();
                        }
                    }
                    tool
                });
                Ok(json!({"tools": found.collect::<Vec<_>>()}))
            }
            None => Err("`query` must be a string with words that say what you want to do".to_owned()),
        }
    } else {
        let name = arguments["name"].as_str().unwrap_or_default();
        match all.iter().find(|shown| shown.name == name) {
            Some(shown) => {
                let mut text = String::new();
                shown.write(&mut text);
                Ok(serde_json::from_str(&text).unwrap_or_default())
            }
            None => Err(format!("there is no tool `{name}`: find_tools gives the names")),
        }
    };
    let missing: Vec<&str> = offers.missing.iter().map(|(server, _)| &*server.settings.name).collect();
    let mut result = match answer {
        Ok(found) => {
            json!({"content": [{"type": "text", "text": found.to_string()}], "structuredContent": found, "isError": false})
        }
        Err(text) => json!({"content": [{"type": "text", "text": text}], "isError": true}),
    };
    if !missing.is_empty() {
        result["_meta"] = json!({"mcp-edge/unavailable": missing});
    }
    if matches!(client, ClientSession::Stateless) {
        result["resultType"] = json!("complete");
    }
    result.to_string()
}
