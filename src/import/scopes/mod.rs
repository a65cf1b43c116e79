//! The scope file of mcp-gateway-registry: which scope allows which methods and tools of which server.

pub(super) mod rules;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::nginx::Flaw;
use super::note::Note;
use crate::config::text::{Content, Node, Position, parse_yaml};
use crate::config::written::ScopeName;
use crate::types::{Scope, excerpt};

/// A whole scope file.
#[derive(Clone, Debug, Default)]
pub(super) struct ScopeFile {
    /// Each grant allows what it lists. A caller may do whatever any grant of any of the caller's scopes allows.
    pub(super) grants: Vec<Grant>,
    /// Groups of the identity provider and the scopes that they give.
    pub(super) groups: BTreeMap<String, Vec<ScopeName>>,
    /// Notes about what was not imported.
    pub(super) notes: Vec<Note>,
}

/// One entry of one scope.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) scope: Scope,
    pub(super) server: Server,
    pub(super) methods: Names,
    pub(super) tools: Names,
    pub(super) at: Position,
}

/// The servers that a grant is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Server {
    /// `"*"`.
    Any,
    /// The server of this name, without slashes at its ends.
    Named(String),
}

/// A list of methods or tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// The list contains `"*"` or `all`.
    All,
    Some(Vec<(String, Position)>),
}

impl Names {
    /// True when `name` is one of them.
    pub(super) fn contain(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(names) => names.iter().any(|(own, _)| own == name),
        }
    }
}

impl ScopeFile {
    /// True when a grant names `server`. Grants for all servers do not count.
    pub(super) fn names(&self, server: &str) -> bool {
        self.grants.iter().any(|grant| matches!(&grant.server, Server::Named(name) if name == server))
    }

    /// Reads `text`, the content of `file`.
    pub(super) fn parse(file: &Arc<str>, text: &str) -> Result<Self, Flaw> {
        let (root, flaws) = parse_yaml(text);
        let flaw = flaws.into_iter().next();
        let root = root.map_err(|flaw| Flaw { at: flaw.at, message: flaw.message })?;
        if let Some(flaw) = flaw {
            return Err(Flaw { at: flaw.at, message: format!("`{}` {}", excerpt(&flaw.path), flaw.message) });
        }
        let mut reader = Reader { file, read: Self::default() };
        for (key, at, node) in entries(&root, "a map of scopes")? {
            match key {
                "UI-Scopes" => reader.note(at, "`UI-Scopes` are left out: they are permissions for pages of the registry, which the edge does not have"),
                "group_mappings" => reader.groups(node)?,
                _ => reader.scope(key, at, node)?,
            }
        }
        Ok(reader.read)
    }
}

struct Reader<'a> {
    file: &'a Arc<str>,
    read: ScopeFile,
}

impl Reader<'_> {
    fn note(&mut self, at: Position, text: impl Into<String>) {
        self.read.notes.push(Note::new(self.file, at, text));
    }

    fn groups(&mut self, node: &Node) -> Result<(), Flaw> {
        for (group, at, node) in entries(node, "a map of groups")? {
            let mut scopes: Vec<ScopeName> = Vec::new();
            for (scope, at) in texts(node, "a list of scopes")? {
                match scope.parse::<ScopeName>() {
                    Ok(scope) if scopes.contains(&scope) => {}
                    Ok(scope) => scopes.push(scope),
                    Err(_) => {
                        let (group, scope) = (excerpt(group), excerpt(&scope));
                        self.note(
                            at,
                            format!("group `{group}` does not get `{scope}`, which is not a valid scope (RFC 6749)"),
                        );
                    }
                }
            }
            if group.contains([',', ' ']) {
                let group = excerpt(group);
                self.note(at, format!("group `{group}` has a space or comma, which separate groups in X-Groups: the group can match only in a token"));
            }
            if !scopes.is_empty() {
                self.read.groups.insert(group.to_owned(), scopes);
            }
        }
        Ok(())
    }

    fn scope(&mut self, name: &str, at: Position, node: &Node) -> Result<(), Flaw> {
        let Ok(scope) = name.parse::<Scope>() else {
            let name = excerpt(name);
            self.note(at, format!("`{name}` is not a valid scope (RFC 6749 section 3.3) and is left out: rename it"));
            return Ok(());
        };
        if node.is_null() {
            return Ok(());
        }
        let Content::List(items) = &node.content else {
            let name = excerpt(name);
            self.note(at, format!("scope `{name}` is not a list of servers and is left out"));
            return Ok(());
        };
        for item in items {
            self.grant(&scope, item)?;
        }
        Ok(())
    }

    fn grant(&mut self, scope: &Scope, node: &Node) -> Result<(), Flaw> {
        let (mut server, mut methods, mut tools) = (None, Names::Some(Vec::new()), Names::Some(Vec::new()));
        for (key, at, value) in entries(node, "a map with `server`, `methods` and `tools`")? {
            match key {
                "server" => server = Some(text(value, "the name of a server")?),
                "methods" => methods = names(value, "a list of methods")?,
                "tools" => tools = names(value, "a list of tools")?,
                _ => {
                    let key = excerpt(key);
                    self.note(at, format!("`{key}` of scope `{scope}` is left out: it is not about MCP servers"));
                }
            }
        }
        let server = match server.map(|server| server.trim_matches('/')) {
            None => return Ok(()),
            Some("*") => Server::Any,
            Some(name) => Server::Named(name.to_owned()),
        };
        self.read.grants.push(Grant { scope: scope.clone(), server, methods, tools, at: node.at });
        Ok(())
    }
}

fn entries<'n>(node: &'n Node, expected: &str) -> Result<Vec<(&'n str, Position, &'n Node)>, Flaw> {
    match &node.content {
        Content::Map(entries) => Ok(entries.iter().map(|entry| (entry.key.as_str(), entry.at, &entry.node)).collect()),
        _ if node.is_null() => Ok(Vec::new()),
        _ => Err(instead(node, expected)),
    }
}

fn text<'n>(node: &'n Node, expected: &str) -> Result<&'n str, Flaw> {
    match &node.content {
        Content::Scalar { text, .. } if !node.is_null() => Ok(text),
        _ => Err(instead(node, expected)),
    }
}

fn texts(node: &Node, expected: &str) -> Result<Vec<(String, Position)>, Flaw> {
    match &node.content {
        Content::List(items) => {
            items.iter().map(|item| text(item, expected).map(|text| (text.to_owned(), item.at))).collect()
        }
        _ if node.is_null() => Ok(Vec::new()),
        _ => Err(instead(node, expected)),
    }
}

/// Reads a list of names. `*` or `all` may be written instead of a list.
fn names(node: &Node, expected: &str) -> Result<Names, Flaw> {
    let all = |word: &str| matches!(word, "*" | "all");
    if matches!(&node.content, Content::Scalar { text, .. } if all(text)) {
        return Ok(Names::All);
    }
    let names = texts(node, expected)?;
    Ok(if names.iter().any(|(name, _)| all(name)) { Names::All } else { Names::Some(names) })
}

fn instead(node: &Node, expected: &str) -> Flaw {
    let found = match &node.content {
        Content::Scalar { .. } => "text",
        Content::List(_) => "a list",
        Content::Map(_) => "a map",
    };
    Flaw { at: node.at, message: format!("{found} does not fit here: write {expected}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ScopeFile, String> {
        ScopeFile::parse(&"s.yml".into(), text).map_err(|flaw| format!("{:?} {}", flaw.at, flaw.message))
    }

    #[test]
    fn entries_of_scopes_become_grants() {
        let text = "a/read:\n- server: /x/\n  methods: [ping]\n  tools: [t, 7]\n- {server: '*', methods: all, tools: ['*', t]}\nb:\n";
        let read = read(text).expect("valid input");
        assert_eq!(read.grants.len(), 2);
        assert_eq!(read.grants[0].server, Server::Named("x".to_owned()));
        assert!(read.grants[0].tools.contain("7") && !read.grants[0].tools.contain("8"));
        assert_eq!(read.grants[1].server, Server::Any);
        assert_eq!((&read.grants[1].methods, &read.grants[1].tools), (&Names::All, &Names::All));
        assert!(read.names("x") && !read.names("y") && read.notes.is_empty());
    }

    #[test]
    fn unsupported_entries_are_noted() {
        let text = "UI-Scopes: {u: {list_service: [x]}}\ngroup_mappings:\n  g h: [a, 'b c', a]\n  none: ['b c']\n'b c':\n- server: x\nold: {read: []}\na:\n- agents: {actions: []}\n";
        let read = read(text).expect("valid input");
        let notes: Vec<String> = read.notes.iter().map(Note::to_string).collect();
        assert_eq!(notes.len(), 7, "{notes:#?}");
        assert!(read.grants.is_empty());
        assert_eq!(read.groups.len(), 1);
        assert_eq!(read.groups["g h"].len(), 1, "each scope once");
    }

    #[test]
    fn errors_have_a_position() {
        for (text, at) in [
            ("- a", "(1, 1) a list does not fit here"),
            ("a:\n- b", "(2, 3) text does not fit here: write a map with `server`"),
            ("a:\n- server: [b]", "(2, 11) a list does not fit"),
            ("a:\n- {server: b, methods: ping}", "(2, 24) text does not fit here: write a list of methods"),
            ("a: []\na: []", "(2, 1) `a` is written twice"),
            ("a: [", "("),
            ("group_mappings: [a]", "(1, 17) a list does not fit here: write a map of groups"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.starts_with(at), "{text:?}: {error}");
        }
    }
}
