//! Checks the rules of a route, `cors`, and the other keys that only MCP routes have.

use std::collections::HashMap;

use super::resolver::Resolver;
use crate::config::checked::policy::{Access, Cors, Policy, Rule};
use crate::config::limits;
use crate::config::read::place::Place;
use crate::config::written::policy::{Cors as WrittenCors, Rule as WrittenRule};
use crate::config::written::route::{Protocol, Route as Written, RouteAuth};

/// The place of a rule, as far as its check depends on it.
#[derive(Clone, Copy)]
struct Context {
    /// Whether the route is open. Callers of an open route have no scopes.
    open: bool,
    /// Whether the rule is in the list `tools`.
    tools: bool,
}

impl Resolver<'_> {
    /// Reports keys that have no meaning on a route that does not carry MCP.
    pub(crate) fn of_mcp_only(&mut self, written: &Written, place: &Place) {
        let keys = [
            ("methods", written.methods.is_some()),
            ("tools", written.tools.is_some()),
            ("prompts", written.prompts.is_some()),
            ("resources", written.resources.is_some()),
            ("sessions", written.sessions.is_some()),
            ("sse_keepalive", written.sse_keepalive.is_some()),
            ("cancel_on_disconnect", written.cancel_on_disconnect.is_some()),
            ("refusals", written.refusals.is_some()),
        ];
        for (key, _) in keys.iter().filter(|(_, is_written)| *is_written && written.carried() == Protocol::Http) {
            self.problems.add(&place.key(key), "only MCP routes have this key: write `protocol: mcp`, or take it out");
        }
        let RouteAuth::Required(auth) = &written.auth else { return };
        for (index, name) in auth.providers.iter().enumerate().filter(|_| written.carried() == Protocol::Http) {
            let lookup = self.written_provider(name).and_then(|provider| provider.lookup.as_ref());
            if lookup.is_some_and(|lookup| lookup.operation.is_some()) {
                let message = format!(
                    "the provider `{name}` decides on MCP operations, and only MCP routes have these: write \
                     `protocol: mcp`, or name a provider without `operation`"
                );
                self.problems.add(&place.key("auth").key("providers").item(index), message);
            }
        }
    }

    pub(crate) fn policy(&mut self, written: &Written, place: &Place) -> Policy {
        let open = matches!(written.auth, RouteAuth::None);
        let mut list = |key: &str, rules: &Option<Vec<WrittenRule>>| {
            let context = Context { open, tools: key == "tools" };
            rules.as_ref().map(|rules| self.rules(rules, &place.key(key), context))
        };
        Policy {
            methods: list("methods", &written.methods),
            tools: list("tools", &written.tools),
            prompts: list("prompts", &written.prompts),
            resources: list("resources", &written.resources),
        }
    }

    fn rules(&mut self, written: &[WrittenRule], place: &Place, context: Context) -> Vec<Rule> {
        if written.len() > limits::RULES_PER_LIST {
            let message =
                format!("has more than {} rules: combine some of them with a `*` in `match`", limits::RULES_PER_LIST);
            self.problems.add(place, message);
            return Vec::new();
        }
        let mut exact: HashMap<&str, usize> = HashMap::new();
        let mut globs: Vec<usize> = Vec::new();
        for (index, rule) in written.iter().enumerate() {
            let pattern = &rule.pattern.0;
            let same = exact.get(pattern.as_str()).copied();
            let above = globs.iter().copied().find(|&above| written[above].pattern.0.covers(pattern));
            if let Some(above) = same.into_iter().chain(above).min() {
                let (above, other) = (place.item(above).path, &written[above].pattern.0);
                let message = if other == pattern {
                    format!("`{pattern}` is never reached, since `{above}` has the same `match`: keep one of the two")
                } else {
                    format!(
                        "`{pattern}` is never reached, since `{above}` has `{other}`: move this rule before that one, \
                         or take it out"
                    )
                };
                self.problems.add(&place.item(index).key("match"), message);
            } else if pattern.is_exact() {
                exact.insert(pattern.as_str(), index);
            } else {
                globs.push(index);
            }
        }
        let rules = written.iter().enumerate();
        rules.map(|(index, rule)| self.rule(rule, &place.item(index), context)).collect()
    }

    fn rule(&mut self, written: &WrittenRule, place: &Place, context: Context) -> Rule {
        let access = match (&written.scopes, &written.any_scope, written.deny) {
            (scopes, None, false) => Access::All(scopes.iter().flatten().map(|scope| scope.0.clone()).collect()),
            (None, Some(scopes), false) => {
                if scopes.is_empty() {
                    let message =
                        "is empty, so no caller would be allowed: name a scope, or write `deny: true` in its place";
                    self.problems.add(&place.key("any_scope"), message);
                }
                Access::Any(scopes.iter().map(|scope| scope.0.clone()).collect())
            }
            (None, None, true) => Access::Deny,
            _ => {
                let message = "`scopes`, `any_scope` and `deny` exclude each other: write one of them";
                self.problems.add(place, message);
                Access::Deny
            }
        };
        let scopes = [("scopes", &written.scopes), ("any_scope", &written.any_scope)];
        for (key, _) in scopes.iter().filter(|(_, scopes)| scopes.as_ref().is_some_and(|scopes| !scopes.is_empty())) {
            if context.open {
                let message = "callers of an open route have no scopes: write `auth: {providers: [NAME]}`, or take \
                               the scopes out";
                self.problems.add(&place.key(key), message);
            }
        }
        if let Some(timeout) = &written.timeout {
            let place = place.key("timeout");
            if !context.tools {
                self.problems.add(&place, "only rules of `tools` can have a `timeout`: take it out");
            } else if written.deny {
                self.problems.add(&place, "a denied call has no response to wait for: take `timeout` out");
            } else {
                self.not_zero(&place, timeout);
            }
        }
        Rule { pattern: written.pattern.0.clone(), access, timeout: written.timeout.as_ref().map(|timeout| timeout.0) }
    }

    pub(crate) fn cors(&mut self, written: &WrittenCors, place: &Place) -> Cors {
        if written.origins.is_empty() {
            let message = "is empty, so no web page could use the route: name an origin such as `https://app.example`, \
                           or take `cors` out";
            self.problems.add(&place.key("origins"), message);
        }
        if written.max_age.0 > limits::CORS_MAX_AGE {
            self.problems.add(&place.key("max_age"), "is more than 1d: write at most `1d`");
        }
        Cors { origins: written.origins.iter().map(|origin| origin.0.clone()).collect(), max_age: written.max_age.0 }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::config::{Config, ConfigErrors};

    fn load(folder: &Path, text: &str) -> Result<Config, ConfigErrors> {
        let path = folder.join("edge.yaml");
        std::fs::write(&path, text).expect("the folder is fresh");
        Config::load(&path)
    }

    const REST: &str = "
listeners: [{address: 127.0.0.1:0, origins: ['https://*.example']}]
upstreams: {a: {endpoints: [{address: 127.0.0.1:1}]}}
auth: {providers: {gate: {lookup: {url: http://127.0.0.1:1/}}}}
";

    #[test]
    fn sections_of_mcp_routes_are_checked_as_written() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("1.key"), "1".repeat(32) + "\n").expect("written");
        std::fs::write(folder.path().join("2.key"), "2".repeat(64)).expect("written");
        let text = format!(
            "{REST}
sessions: {{keys: [{{file: 2.key}}, {{file: 1.key}}]}}
limits: {{held_bytes: 5MiB}}
routes:
  - path: /a/
    upstream: a
    protocol: mcp
    auth: {{providers: [gate]}}
    methods: [{{match: tools/call}}]
    tools:
      - {{match: a, scopes: [x, y, x], timeout: 2h}}
      - {{match: 'b*', any_scope: [y, x]}}
      - {{match: '*', deny: true}}
    prompts: []
    sessions: {{resume: true}}
    cors: {{origins: ['*']}}
    sse_keepalive: 15s
    cancel_on_disconnect: true
  - {{path: /b/, upstream: a, auth: none}}
"
        );
        let config = load(folder.path(), &text).expect("legal");
        let keys: Vec<&[u8]> = config.sessions.keys.iter().map(crate::types::Secret::expose).collect();
        assert_eq!(keys, [&[b'2'; 64][..], &[b'1'; 32]]);
        assert_eq!(config.limits.held_bytes.0, 5 << 20);
        assert_eq!(config.listeners[0].origins, ["https://*.example".parse().expect("legal")]);

        let rule = |pattern: &str, access, timeout| Rule { pattern: pattern.parse().expect("legal"), access, timeout };
        let scope = |text: &str| text.parse::<crate::types::Scope>().expect("legal");
        let [first, second] = &config.routes[..] else { panic!("there are two routes") };
        let expected = Policy {
            methods: Some(vec![rule("tools/call", Access::All([].into_iter().collect()), None)]),
            tools: Some(vec![
                rule("a", Access::All([scope("x"), scope("y")].into_iter().collect()), Some(Duration::from_secs(7200))),
                rule("b*", Access::Any(vec![scope("y"), scope("x")]), None),
                rule("*", Access::Deny, None),
            ]),
            prompts: Some(Vec::new()),
            resources: None,
        };
        assert_eq!(first.policy, expected);
        assert!(first.sessions.resume && first.cancel_on_disconnect);
        assert_eq!(first.sse_keepalive, Some(Duration::from_secs(15)));
        let cors = first.cors.as_ref().map(|cors| (cors.origins.as_slice(), cors.max_age));
        assert_eq!(cors, Some((&[crate::types::OriginPattern::Any][..], Duration::from_secs(600))));

        assert_eq!(second.policy, Policy::default());
        assert!(!second.sessions.resume && !second.cancel_on_disconnect);
        assert!(second.cors.is_none() && second.sse_keepalive.is_none());
    }

    #[test]
    fn a_list_has_at_most_a_thousand_rules() {
        let folder = tempfile::tempdir().expect("a folder");
        let rules = |count: usize| (0..count).map(|n| format!("      - {{match: 't{n}_*_x'}}\n")).collect::<String>();
        let text = |count| {
            let rules = rules(count);
            format!(
                "{REST}\nroutes:\n  - path: /a/\n    upstream: a\n    protocol: mcp\n    auth: none\n    tools:\n{rules}"
            )
        };
        let config = load(folder.path(), &text(limits::RULES_PER_LIST)).expect("legal");
        assert_eq!(config.routes[0].policy.tools.as_ref().map(Vec::len), Some(limits::RULES_PER_LIST));
        assert!(load(folder.path(), &text(limits::RULES_PER_LIST + 1)).is_err());
    }
}
