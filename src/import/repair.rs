//! Checks a draft as `mcp-edge check` does, and removes what cannot be used on this machine, such as a certificate that
//! does not exist.

use std::path::Path;

use super::convert::gate;
use super::draft::blank::{CLOSED, close, unknown_upstream};
use super::draft::{Draft, Item};
use super::note::Note;
use super::render::render;
use crate::config::limits;
use crate::config::written::RouteAuth;
use crate::config::{Config, ConfigError, ConfigErrors};

/// A configuration that [`Config::load`](crate::config::Config::load) accepts.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The whole file.
    pub yaml: String,
    /// Notes about what was not imported or was assumed. The file has them as comments too.
    pub notes: Vec<Note>,
}

/// The YAML of `draft`. Parts of the draft are removed or closed until it passes the check as a file at `output`.
pub(super) fn checked(mut draft: Draft, made_from: &str, output: &Path) -> Result<Imported, ConfigErrors> {
    for _ in 0..limits::IMPORT_REPAIRS {
        let yaml = render(&draft, made_from);
        match Config::from_text(output, yaml.clone()) {
            Ok(_) => return Ok(Imported { yaml, notes: draft.all_notes().cloned().collect() }),
            Err(errors) => {
                if !errors.0.first().is_some_and(|error| repair(&mut draft, error)) {
                    return Err(errors);
                }
            }
        }
    }
    Config::from_text(output, render(&draft, made_from))
        .map(|_| Imported { yaml: render(&draft, made_from), notes: draft.all_notes().cloned().collect() })
}

/// Removes or closes the part of `draft` that `error` is about. False when that is not possible.
fn repair(draft: &mut Draft, error: &ConfigError) -> bool {
    let note = || Note::of_output(format!("the check reports: {}", error.message));
    if let Some(index) = indexed(&error.path, "listeners[", draft.listeners.len()) {
        // Without its TLS settings the listener would accept cleartext, so the whole listener is left out.
        let mut item = draft.listeners.remove(index);
        item.notes.push(note());
        draft.listeners_off.push(item);
        if draft.listeners.is_empty() {
            draft.add_placeholder(
                "no listener of nginx can be used: correct the listeners in the comments, and remove this one",
            );
        }
        return true;
    }
    if let Some(index) = indexed(&error.path, "routes[", draft.routes.len()) {
        // The route stays, but closed. Without it, another route would get its requests.
        let before = draft.routes[index].value.clone();
        close_route(draft, index);
        let item = &mut draft.routes[index];
        item.notes.push(note());
        return item.value != before;
    }
    if let Some(rest) = error.path.strip_prefix("upstreams.") {
        return repair_upstream(draft, rest, note());
    }
    if let Some(rest) = error.path.strip_prefix("auth.providers.") {
        let item = draft.providers.iter_mut().find(|(name, _)| is_below(rest, name));
        return item.is_some_and(|(_, item)| {
            let unknown = gate::unknown_provider();
            let is_new = item.value.lookup != unknown.lookup;
            item.value.lookup = unknown.lookup;
            item.notes.push(note());
            is_new
        });
    }
    false
}

/// Closes the route at `index`.
fn close_route(draft: &mut Draft, index: usize) {
    let own = match &draft.routes[index].value.auth {
        RouteAuth::Required(required) => required.providers.first().cloned(),
        RouteAuth::None => None,
    };
    let provider = own.or_else(|| draft.providers.keys().next().cloned()).unwrap_or_else(|| {
        let mut item = Item::new(gate::unknown_provider());
        item.notes.push(Note::of_output("a closed route needs a provider: write the URL of the authentication server"));
        draft.providers.insert("validate".to_owned(), item);
        "validate".to_owned()
    });
    close(&mut draft.routes[index].value, &provider);
}

fn repair_upstream(draft: &mut Draft, path: &str, note: Note) -> bool {
    let Some(name) = draft.upstreams.keys().find(|name| is_below(path, name)).cloned() else { return false };
    let Some(item) = draft.upstreams.get_mut(&name) else { return false };
    let rest = path[name.len()..].to_owned();
    let tls = item.value.tls.as_mut().filter(|_| rest.starts_with(".tls"));
    match tls {
        Some(tls) if tls.ca.is_some() && rest == ".tls.ca" => {
            tls.ca = None;
            item.note_of_output("without `tls.ca`, the edge verifies the upstream's certificate with the certificate authorities of the system");
        }
        Some(tls) if tls.server_name.is_some() && rest == ".tls.server_name" => tls.server_name = None,
        Some(tls) if tls.certificate.is_some() => {
            (tls.certificate, tls.key) = (None, None);
            item.note_of_output(
                "without `tls.certificate` and `tls.key`, the edge sends no certificate of its own to the upstream",
            );
        }
        _ => {
            let unknown = unknown_upstream();
            let is_new = item.value != unknown;
            item.value = unknown;
            item.notes.push(note);
            let text = format!(
                "this upstream cannot be used, and its routes reject all requests: write the endpoints, and remove the scope `{CLOSED}`"
            );
            item.notes.push(Note::of_output(text));
            for index in (0..draft.routes.len()).filter(|_| is_new) {
                if draft.routes[index].value.upstream.as_ref() == Some(&name) {
                    close_route(draft, index);
                }
            }
            return is_new;
        }
    }
    item.notes.push(note);
    true
}

/// The index after `before` in `path`, if it is below `count`.
fn indexed(path: &str, before: &str, count: usize) -> Option<usize> {
    let (number, _) = path.strip_prefix(before)?.split_once(']')?;
    number.parse().ok().filter(|index| *index < count)
}

/// True when `path` is the item `name` or a part of it. The name may contain dots.
fn is_below(path: &str, name: &str) -> bool {
    path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}
