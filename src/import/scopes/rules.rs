//! Converts the scopes of one server to the rules of its route.
//!
//! In the scope file, a caller may do something if any grant of any of the caller's scopes allows it. In a route, the
//! first rule that matches decides. So each name gets one rule with all scopes that allow it, including the scopes that
//! allow all names, and the last rule is for all other names. `tools/call` needs both lists: the rule of a tool has
//! only scopes with a grant that allows both the tool and the method, and the rule of the method has all these scopes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Grant, Names, ScopeFile, Server};
use crate::config::limits;
use crate::config::text::Position;
use crate::config::written::{Name, Rule, ScopeName};
use crate::import::note::Note;
use crate::types::{Scope, excerpt};

const CALL: &str = "tools/call";

/// The rules of one server.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) methods: Vec<Rule>,
    pub(crate) tools: Vec<Rule>,
    /// False when no scope allows anything.
    pub(crate) opens: bool,
    pub(crate) notes: Vec<Note>,
}

/// What `scopes` allow on `server`.
pub(crate) fn rules(file: &Arc<str>, scopes: &ScopeFile, server: &str) -> Rules {
    let mut methods = Openings::default();
    let mut tools = Openings::default();
    let mut notes = Vec::new();
    for grant in scopes.grants.iter().filter(|grant| opens(grant, server)) {
        methods.add(&grant.scope, &grant.methods);
        if grant.methods.contain(CALL) {
            tools.add(&grant.scope, &grant.tools);
        } else if !matches!(&grant.tools, Names::Some(tools) if tools.is_empty()) {
            let text = format!(
                "an entry of scope `{}` lists tools, but not the method {CALL}: it does not allow calls of these tools",
                grant.scope
            );
            notes.push(Note::new(file, grant.at, text));
        }
    }
    for (openings, what) in [(&methods, "method"), (&tools, "tool")] {
        for (name, at) in &openings.illegal {
            let text = format!("the {what} `{}` cannot be written as an exact name: it gets no rule", excerpt(name));
            notes.push(Note::new(file, *at, text));
        }
    }
    let opens = !methods.all.is_empty() || !methods.named.is_empty();
    let mut cut = |rules: Vec<Rule>, openings: &Openings, what: &str| {
        if openings.named.len() >= limits::RULES_PER_LIST {
            let text = format!(
                "there are more than {} {what} of server `{}`: the others get no rule",
                limits::RULES_PER_LIST - 1,
                excerpt(server)
            );
            notes.push(Note::of_output(text));
        }
        rules
    };
    let method_rules = cut(methods.rules(Rest::Denied), &methods, "methods");
    let tool_rules = cut(tools.rules(Rest::NotWritten), &tools, "tools");
    Rules { methods: method_rules, tools: tool_rules, opens, notes }
}

fn opens(grant: &Grant, server: &str) -> bool {
    match &grant.server {
        Server::Any => true,
        Server::Named(name) => name == server,
    }
}

/// The scopes that allow each name of a list, and those that allow all names.
#[derive(Default)]
struct Openings {
    named: BTreeMap<String, BTreeSet<Scope>>,
    all: BTreeSet<Scope>,
    illegal: Vec<(String, Position)>,
}

/// How a list ends when no scope allows all names.
#[derive(Clone, Copy)]
enum Rest {
    /// The last rule denies all other names. Without it, some methods would be allowed by default.
    Denied,
    /// There is no last rule, because other names are denied by default.
    NotWritten,
}

impl Openings {
    fn add(&mut self, scope: &Scope, names: &Names) {
        match names {
            Names::All => {
                self.all.insert(scope.clone());
            }
            Names::Some(names) => {
                for (name, at) in names {
                    // In a rule, `*` is a wildcard. In the scope file, it is a character like any other.
                    if name.contains('*') || name.parse::<Name>().is_err() {
                        self.illegal.push((name.clone(), *at));
                    } else {
                        self.named.entry(name.clone()).or_default().insert(scope.clone());
                    }
                }
            }
        }
    }

    fn rules(&self, rest: Rest) -> Vec<Rule> {
        let mut rules = Vec::new();
        for (name, scopes) in self.named.iter().take(limits::RULES_PER_LIST - 1) {
            let scopes: BTreeSet<Scope> = scopes.union(&self.all).cloned().collect();
            // Otherwise the last rule has the same effect.
            if scopes != self.all {
                rules.extend(rule(name, &scopes));
            }
        }
        if !self.all.is_empty() || matches!(rest, Rest::Denied) {
            rules.extend(rule("*", &self.all));
        }
        rules
    }
}

/// A rule that allows `name` with any of `scopes`. Without scopes, the rule denies `name`. `None`: `name` is not valid.
fn rule(name: &str, scopes: &BTreeSet<Scope>) -> Option<Rule> {
    let list: Vec<ScopeName> = scopes.iter().cloned().map(ScopeName).collect();
    let (scopes, any_scope, deny) = match list.len() {
        0 => (None, None, true),
        1 => (Some(list), None, false),
        _ => (None, Some(list), false),
    };
    Some(Rule { pattern: name.parse().ok()?, scopes, any_scope, deny, timeout: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, server: &str) -> (String, String, usize) {
        let file: Arc<str> = "s.yml".into();
        let scopes = ScopeFile::parse(&file, text).expect("valid input");
        let rules = rules(&file, &scopes, server);
        let describe = |rules: &[Rule]| -> String {
            let one = |rule: &Rule| {
                let scopes = rule.scopes.iter().chain(&rule.any_scope).flatten().map(ToString::to_string);
                let scopes: Vec<String> = scopes.collect();
                format!("{}={}", rule.pattern, if rule.deny { "!".to_owned() } else { scopes.join("|") })
            };
            rules.iter().map(one).collect::<Vec<_>>().join(" ")
        };
        (describe(&rules.methods), describe(&rules.tools), rules.notes.len())
    }

    #[test]
    fn scopes_that_allow_the_same_name_are_in_one_rule() {
        let text = "a: [{server: x, methods: [ping, tools/call], tools: [t, u]}]\nb: [{server: x, methods: [tools/call], tools: [t]}]\n";
        let expected = ("ping=a tools/call=a|b *=!".to_owned(), "t=a|b u=a".to_owned(), 0);
        assert_eq!(read(text, "x"), expected);
        assert_eq!(read(text, "y"), ("*=!".to_owned(), String::new(), 0));
    }

    #[test]
    fn scopes_that_allow_all_names_are_in_every_rule() {
        let text =
            "a: [{server: x, methods: [tools/call], tools: [t]}]\nw: [{server: '*', methods: [all], tools: ['*']}]\n";
        assert_eq!(read(text, "x"), ("tools/call=a|w *=w".to_owned(), "t=a|w *=w".to_owned(), 0));
        assert_eq!(read(text, "y"), ("*=w".to_owned(), "*=w".to_owned(), 0));
    }

    #[test]
    fn a_tool_needs_its_method_in_the_same_entry() {
        let text =
            "a: [{server: x, methods: [tools/list], tools: [t]}, {server: x, methods: [tools/call], tools: [u]}]\n";
        assert_eq!(read(text, "x"), ("tools/call=a tools/list=a *=!".to_owned(), "u=a".to_owned(), 1));
    }

    #[test]
    fn names_that_would_be_patterns_get_no_rule() {
        let text = "a: [{server: x, methods: [tools/call, 'tools/*'], tools: ['get_*', '']}]\n";
        assert_eq!(read(text, "x"), ("tools/call=a *=!".to_owned(), String::new(), 3));
    }

    #[test]
    fn there_are_no_more_rules_than_a_list_may_have() {
        let tools: Vec<String> = (0..2_000).map(|number| format!("t{number}")).collect();
        let text = format!(
            "a: [{{server: x, methods: [tools/call], tools: [{}]}}]\nw: [{{server: x, methods: all, tools: all}}]\n",
            tools.join(", ")
        );
        let file: Arc<str> = "s.yml".into();
        let scopes = ScopeFile::parse(&file, &text).expect("valid input");
        let rules = rules(&file, &scopes, "x");
        assert_eq!((rules.tools.len(), rules.notes.len()), (limits::RULES_PER_LIST, 1));
    }
}
