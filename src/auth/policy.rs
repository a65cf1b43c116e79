//! Decides what callers may do on a route. A [`Permit`] proves that the decision was positive.

use std::sync::Arc;
use std::time::Duration;

use crate::config;
use crate::config::{Access, Rule, limits};
use crate::types::{KnownMethod, Operation, Principal, Scope, ScopeSet, Target, is_plain_uri};

/// The access rules of one route.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The scopes that every request needs. `None` on an open route, which needs no credential.
    scopes: Option<ScopeSet>,
    rules: config::Policy,
}

/// Proof that [`Policy::authorize`] has allowed a request. Only that function can make a permit, and without a permit
/// nothing is sent to an upstream.
#[derive(Clone, Debug)]
pub struct Permit {
    principal: Option<Arc<Principal>>,
}

/// The policy has denied a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Denial {
    /// All scopes that the operations need. Empty if no scope would allow them.
    pub scopes: ScopeSet,
    /// The names in the message are together longer than [`limits::NAMES_BYTES`].
    pub too_long: bool,
}

impl Permit {
    /// The caller that was permitted. `None` on an open route.
    pub fn principal(&self) -> Option<&Arc<Principal>> {
        self.principal.as_ref()
    }
}

impl Policy {
    /// The policy of `route`.
    pub fn new(route: &config::Route) -> Self {
        Self { scopes: route.auth.as_ref().map(|auth| auth.scopes.clone()), rules: route.policy.clone() }
    }

    /// Decides whether `principal` may do all of `operations`.
    ///
    /// # Errors
    /// `principal` may not do at least one of the operations.
    pub fn authorize<'o>(
        &self,
        principal: Option<Arc<Principal>>,
        operations: impl IntoIterator<Item = Operation<'o>>,
    ) -> Result<Permit, Denial> {
        let (mut missing, mut is_denied, mut name_bytes) = (Vec::new(), false, 0);
        for operation in operations {
            // Each name is held against all rules, so this bounds the work of one message.
            name_bytes += operation.target().map_or(0, |target| self.compared_bytes(target));
            if name_bytes > limits::NAMES_BYTES {
                return Err(Denial { too_long: true, ..Denial::default() });
            }
            if let Err(denial) = self.decide(principal.as_deref(), operation) {
                // If no scope would allow one of the operations, the denial names no scopes: requesting them would not help.
                if denial.scopes.is_empty() {
                    return Err(denial);
                }
                is_denied = true;
                missing.extend(denial.scopes.iter().cloned());
            }
        }
        if is_denied {
            Err(Denial { scopes: missing.into_iter().collect(), ..Denial::default() })
        } else {
            Ok(Permit { principal })
        }
    }

    /// True if a list may show `target` to the caller: exactly when the caller may use it.
    pub fn shows(&self, permit: &Permit, target: Target<'_>) -> bool {
        let method = match target {
            Target::Tool(_) => "tools/call",
            Target::Prompt(_) => "prompts/get",
            Target::Resource(_) => "resources/read",
            Target::Task(_) => "tasks/get",
        };
        self.decide(permit.principal.as_deref(), Operation::Targeted(method, target)).is_ok()
    }

    /// True if the rules may hide targets of the kind of `target` from a caller.
    pub fn filters(&self, target: Target<'_>) -> bool {
        self.rules.methods.is_some() || self.rules_for(target).is_some()
    }

    /// The time limit for a tool's response, if a rule sets one.
    pub fn timeout(&self, tool: &str) -> Option<Duration> {
        self.rules_for(Target::Tool(tool)).and_then(|rules| first_match(rules, tool)).and_then(|rule| rule.timeout)
    }

    /// The tools that the rules name exactly.
    pub fn named_tools(&self) -> impl Iterator<Item = &str> {
        let rules = self.rules.tools.iter().flatten();
        rules.map(|rule| &rule.pattern).filter(|pattern| pattern.is_exact()).map(|pattern| pattern.as_str())
    }

    fn decide(&self, principal: Option<&Principal>, operation: Operation<'_>) -> Result<(), Denial> {
        let mut needs = Needs { principal, scopes: None, met: true };
        self.apply_rules(operation, &mut needs)?;
        if needs.met {
            return Ok(());
        }
        // A denial names all needed scopes. They are collected only now, because most decisions do not need them.
        needs.scopes = Some(Vec::new());
        self.apply_rules(operation, &mut needs)?;
        Err(Denial { scopes: needs.scopes.into_iter().flatten().collect(), ..Denial::default() })
    }

    fn apply_rules(&self, operation: Operation<'_>, needs: &mut Needs<'_>) -> Result<(), Denial> {
        match &self.scopes {
            Some(scopes) if needs.principal.is_some() => needs.all(scopes),
            Some(scopes) => return Err(Denial { scopes: scopes.clone(), ..Denial::default() }),
            None => {}
        }
        if let Some(method) = operation.method() {
            self.method_rule(method, needs)?;
            if let Operation::Targeted(_, target) = operation {
                self.target_rule(target, needs)?;
            } else if self.needs_target(method) {
                return Err(Denial::default());
            }
        }
        Ok(())
    }

    fn method_rule(&self, method: &str, needs: &mut Needs<'_>) -> Result<(), Denial> {
        if let Some(rule) = self.rules.methods.as_ref().and_then(|rules| first_match(rules, method)) {
            return needs.apply(&rule.access);
        }
        let allowed = match KnownMethod::of(method) {
            KnownMethod::Common(_) => true,
            // If there are rules for methods, a feature is allowed only by a rule.
            KnownMethod::Feature(_) => self.rules.methods.is_none(),
            KnownMethod::Unknown => !self.has_rules(),
        };
        if allowed { Ok(()) } else { Err(Denial::default()) }
    }

    fn target_rule(&self, target: Target<'_>, needs: &mut Needs<'_>) -> Result<(), Denial> {
        let Some(rules) = self.rules_for(target) else { return Ok(()) };
        let name = target.name();
        match first_match(rules, name) {
            // A URI that is not plain has other spellings, and a server may read it as a URI that the pattern does not
            // match. Only an exact rule can decide on it.
            Some(rule) if !rule.pattern.is_exact() && matches!(target, Target::Resource(uri) if !is_plain_uri(uri)) => {
                Err(Denial::default())
            }
            Some(rule) => needs.apply(&rule.access),
            None => Err(Denial::default()),
        }
    }

    /// How many bytes of the name of `target` are held against rules.
    fn compared_bytes(&self, target: Target<'_>) -> usize {
        let bytes = target.name().len();
        // A longer name matches no rule, and is not compared.
        if self.rules_for(target).is_some() && bytes <= limits::NAME_BYTES { bytes } else { 0 }
    }

    fn rules_for(&self, target: Target<'_>) -> Option<&[Rule]> {
        let rules = match target {
            Target::Tool(_) => &self.rules.tools,
            Target::Prompt(_) => &self.rules.prompts,
            Target::Resource(_) => &self.rules.resources,
            Target::Task(_) => return None,
        };
        rules.as_deref()
    }

    fn has_rules(&self) -> bool {
        let config::Policy { methods, tools, prompts, resources } = &self.rules;
        [methods, tools, prompts, resources].iter().any(|rules| rules.is_some())
    }

    /// True for a method that acts on a named target, if there are rules for such targets. A call without a name is
    /// denied.
    fn needs_target(&self, method: &str) -> bool {
        match method {
            "tools/call" => self.rules.tools.is_some(),
            "prompts/get" => self.rules.prompts.is_some(),
            "resources/read" | "resources/subscribe" | "resources/unsubscribe" | "resources/directory/read" => {
                self.rules.resources.is_some()
            }
            "completion/complete" => self.rules.prompts.is_some() || self.rules.resources.is_some(),
            _ => false,
        }
    }
}

/// The rule that decides on `name`: the first that matches. No rule matches a name longer than [`limits::NAME_BYTES`],
/// which bounds the work that a name can cause, or one with control characters: a server may read only what stands before
/// them.
fn first_match<'r>(rules: &'r [Rule], name: &str) -> Option<&'r Rule> {
    if name.len() > limits::NAME_BYTES || has_control_characters(name) {
        return None;
    }
    rules.iter().find(|rule| rule.pattern.matches(name))
}

fn has_control_characters(name: &str) -> bool {
    if !name.is_ascii() {
        return name.chars().any(char::is_control);
    }
    // Without a branch for each byte, the compiler looks at many bytes at once.
    name.bytes().fold(false, |found, byte| found | byte.is_ascii_control())
}

/// The scopes that one operation needs, and whether the caller has them.
struct Needs<'p> {
    principal: Option<&'p Principal>,
    /// All needed scopes. `None` if they are not collected.
    scopes: Option<Vec<Scope>>,
    /// True if the caller has all scopes that were checked so far.
    met: bool,
}

impl Needs<'_> {
    fn all(&mut self, scopes: &ScopeSet) {
        if let Some(all) = &mut self.scopes {
            all.extend(scopes.iter().cloned());
        }
        self.met &= scopes.is_empty() || self.principal.is_some_and(|caller| caller.scopes().covers(scopes));
    }

    fn apply(&mut self, access: &Access) -> Result<(), Denial> {
        match access {
            Access::Deny => return Err(Denial::default()),
            Access::All(scopes) => self.all(scopes),
            Access::Any(scopes) => {
                let held =
                    scopes.iter().find(|scope| self.principal.is_some_and(|caller| caller.scopes().contains(scope)));
                // If the caller has none of these scopes, the denial names the first.
                if let Some(all) = &mut self.scopes {
                    all.extend(held.or(scopes.first()).cloned());
                }
                self.met &= held.is_some();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(text: &str) -> ScopeSet {
        text.split_whitespace().map(|scope| scope.parse().expect("legal")).collect()
    }

    fn caller(text: &str) -> Option<Arc<Principal>> {
        Some(Arc::new(Principal::new("alice", scopes(text), "test".into(), None).expect("legal")))
    }

    fn rule(pattern: &str, access: Access) -> Rule {
        Rule { pattern: pattern.parse().expect("legal"), access, timeout: None }
    }

    fn all(text: &str) -> Access {
        Access::All(scopes(text))
    }

    fn policy(rules: config::Policy) -> Policy {
        Policy { scopes: Some(scopes("base")), rules }
    }

    fn call(name: &str) -> Operation<'_> {
        Operation::Targeted("tools/call", Target::Tool(name))
    }

    /// `ok`, or the scopes that the denial names.
    fn decide(policy: &Policy, held: &str, operation: Operation<'_>) -> String {
        match policy.authorize(caller(held), [operation]) {
            Ok(_) => "ok".to_owned(),
            Err(denial) => denial.scopes.to_string(),
        }
    }

    #[test]
    fn the_first_match_decides_and_no_match_denies() {
        let tools = vec![
            rule("get_secret", Access::Deny),
            rule("get_*", all("read")),
            rule("place", Access::Any(vec!["trade".parse().expect("legal"), "admin".parse().expect("legal")])),
            rule("free", all("")),
        ];
        let policy = policy(config::Policy { tools: Some(tools), ..Default::default() });
        assert_eq!(decide(&policy, "base read", call("get_quote")), "ok");
        assert_eq!(decide(&policy, "base", call("get_quote")), "base read", "all needed scopes are named");
        assert_eq!(decide(&policy, "read", call("get_quote")), "base read");
        assert_eq!(decide(&policy, "base read", call("get_secret")), "");
        assert_eq!(decide(&policy, "base admin", call("place")), "ok");
        assert_eq!(decide(&policy, "base", call("place")), "base trade");
        assert_eq!(decide(&policy, "base", call("free")), "ok");
        assert_eq!(decide(&policy, "base read trade admin", call("other")), "");
        assert_eq!(decide(&policy, "base read", call("GET_quote")), "", "names are compared exactly");
        assert_eq!(decide(&policy, "base", Operation::Method("tools/call")), "", "the call names no tool");
        assert_eq!(decide(&policy, "base", Operation::Method("tools/list")), "ok");
        assert_eq!(decide(&policy, "base", Operation::Method("initialize")), "ok");
        assert_eq!(decide(&policy, "base", Operation::Method("evil/method")), "", "unknown methods are denied");
        assert_eq!(decide(&policy, "base", Operation::Answer), "ok");
        assert_eq!(decide(&policy, "", Operation::Request), "base");
    }

    #[test]
    fn with_rules_for_methods_only_common_methods_are_allowed_by_default() {
        let methods = vec![rule("ping", Access::Deny), rule("tools/*", all("read"))];
        let policy = policy(config::Policy { methods: Some(methods), ..Default::default() });
        assert_eq!(decide(&policy, "base read", call("any")), "ok");
        assert_eq!(decide(&policy, "base", call("any")), "base read");
        assert_eq!(decide(&policy, "base", Operation::Method("notifications/initialized")), "ok");
        assert_eq!(decide(&policy, "base", Operation::Method("ping")), "", "the defaults can be overridden");
        assert_eq!(decide(&policy, "base read", Operation::Method("prompts/list")), "");
    }

    #[test]
    fn without_rules_the_route_decides() {
        let policy = policy(config::Policy::default());
        assert_eq!(decide(&policy, "base", Operation::Method("anything/new")), "ok");
        assert_eq!(decide(&policy, "base", call("any")), "ok");
        assert_eq!(decide(&policy, "other", call("any")), "base");
    }

    #[test]
    fn without_a_principal_only_an_open_route_permits() {
        let open = Policy { scopes: None, rules: config::Policy::default() };
        assert!(open.authorize(None, [Operation::Request]).is_ok());
        let closed = Policy { scopes: Some(ScopeSet::default()), ..open };
        assert!(closed.authorize(None, [Operation::Request]).is_err());
    }

    /// Case C13: with 1,000 rules, 4 MiB of URIs would take seconds.
    #[test]
    fn the_names_of_one_message_are_bounded_together() {
        let resources = vec![rule("file:///*", all(""))];
        let policy = policy(config::Policy { resources: Some(resources), ..Default::default() });
        let uri = format!("file:///{}", "x".repeat(8_000));
        let read = |count: usize| {
            let operation = Operation::Targeted("resources/subscribe", Target::Resource(&uri));
            policy.authorize(caller("base"), std::iter::repeat_n(operation, count)).is_ok()
        };
        assert!(read(limits::NAMES_BYTES / uri.len()) && !read(limits::NAMES_BYTES / uri.len() + 1));
        let open = Policy { scopes: None, rules: config::Policy::default() };
        let operation = Operation::Targeted("resources/subscribe", Target::Resource(&uri));
        assert!(
            open.authorize(None, std::iter::repeat_n(operation, 1_000)).is_ok(),
            "there is nothing to compare with"
        );
    }

    #[test]
    fn after_an_operation_that_no_scope_allows_no_other_is_decided() {
        let tools = vec![rule("a", all("x"))];
        let policy = policy(config::Policy { tools: Some(tools), ..Default::default() });
        let mut seen = 0;
        let all = [call("a"), call("none"), call("a")].into_iter().inspect(|_| seen += 1);
        assert_eq!(policy.authorize(caller("base"), all).err(), Some(Denial::default()));
        assert_eq!(seen, 2);
    }

    #[test]
    fn of_several_operations_all_must_be_allowed() {
        let tools = vec![rule("a", all("x")), rule("b", all("y"))];
        let policy = policy(config::Policy { tools: Some(tools), ..Default::default() });
        assert!(policy.authorize(caller("base x y"), [call("a"), call("b")]).is_ok());
        let denial = policy.authorize(caller("base x"), [call("a"), call("b")]).expect_err("b is not allowed");
        assert_eq!(denial.scopes.to_string(), "base y");
        assert!(policy.authorize(caller("base x y"), [call("a"), call("c")]).is_err());
    }
}
