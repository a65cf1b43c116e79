//! The configuration that the import makes: its sections as written, each item with its notes.

pub(super) mod blank;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::note::Note;
use crate::config::text::Position;
use crate::config::written::{Listener, Provider, Route, Upstream};

/// The content of the YAML file.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) listeners: Vec<Item<Listener>>,
    /// Listeners that are written as comments. The last note of each says why.
    pub(super) listeners_off: Vec<Item<Listener>>,
    pub(super) providers: BTreeMap<String, Item<Provider>>,
    pub(super) upstreams: BTreeMap<String, Item<Upstream>>,
    pub(super) routes: Vec<Item<Route>>,
    /// Notes that do not belong to one item.
    pub(super) notes: Vec<Note>,
}

/// One entry of a section with its notes.
#[derive(Clone, Debug)]
pub(super) struct Item<T> {
    pub(super) value: T,
    pub(super) notes: Vec<Note>,
}

impl<T> Item<T> {
    pub(super) fn new(value: T) -> Self {
        Self { value, notes: Vec::new() }
    }

    /// Adds a note, unless the item has it already.
    pub(super) fn note(&mut self, file: &Arc<str>, at: Position, text: impl Into<String>) {
        self.add(Note::new(file, at, text));
    }

    /// Adds a note about the output, unless the item has it already.
    pub(super) fn note_of_output(&mut self, text: &str) {
        self.add(Note::of_output(text));
    }

    fn add(&mut self, note: Note) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

impl Draft {
    /// Adds a note. Notes with the same text become one note with several lines.
    pub(super) fn note(&mut self, file: &Arc<str>, at: Position, text: impl Into<String>) {
        let note = Note::new(file, at, text);
        match self.notes.iter_mut().find(|other| other.text == note.text && other.file == note.file) {
            Some(other) if other.lines.contains(&at.0) => {}
            Some(other) => other.lines.push(at.0),
            None => self.notes.push(note),
        }
    }

    /// A valid name made from `wanted`, with a number at its end if `taken` is true for it.
    pub(super) fn name(wanted: &str, taken: impl Fn(&str) -> bool) -> String {
        let legal = |sign: char| sign.is_ascii_alphanumeric() || "-_.".contains(sign);
        let mut name: String = wanted.chars().map(|sign| if legal(sign) { sign } else { '-' }).take(56).collect();
        name = name.trim_matches('-').to_owned();
        if name.is_empty() {
            name.push_str("root");
        }
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        std::iter::once(name.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(name)
    }

    /// Adds a listener on loopback, because there is no other. `text` says why.
    pub(super) fn add_placeholder(&mut self, text: &str) {
        let mut item = Item::new(blank::blank_listener(([127, 0, 0, 1], 8080).into()));
        item.note_of_output(text);
        let asks = |item: &Item<Listener>| item.value.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        if self.listeners_off.iter().any(asks) {
            item.note_of_output("nginx verified client certificates, and this listener does not: keep it on loopback");
        }
        self.listeners.push(item);
    }

    /// All notes, in the order of the YAML.
    pub(super) fn all_notes(&self) -> impl Iterator<Item = &Note> {
        let listeners = self.listeners.iter().chain(&self.listeners_off).flat_map(|item| &item.notes);
        let providers = self.providers.values().flat_map(|item| &item.notes);
        let upstreams = self.upstreams.values().flat_map(|item| &item.notes);
        let routes = self.routes.iter().flat_map(|item| &item.notes);
        self.notes.iter().chain(listeners).chain(providers).chain(upstreams).chain(routes)
    }
}
