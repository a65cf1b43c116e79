//! The metrics of MCP calls on one route.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use prometheus::{Histogram, IntCounter};

use super::families::Metrics;
use super::labels::{CallOutcome, Label};
use crate::config::limits;
use crate::types::KnownMethod;

/// The value of the label `tool` for a tool that neither the configuration nor the upstream has named.
const OTHER_TOOL: &str = "other";

/// The metrics of one route. A tool gets its own value of the label `tool` only if the configuration names it or the
/// upstream has listed it. So clients cannot create series.
#[derive(Debug)]
pub struct CallMetrics {
    route: Arc<str>,
    families: Arc<Metrics>,
    known: RwLock<KnownTools>,
}

/// The series of a route: by tool for tools with their own label, together for all other tools, and for calls without a
/// tool.
#[derive(Debug, Default)]
struct KnownTools {
    tools: HashMap<Box<str>, ByMethod>,
    other_tools: ByMethod,
    no_tool: ByMethod,
}

/// A vector, because there are few methods: searching it is the fastest lookup.
type ByMethod = Vec<(&'static str, Series)>;

#[derive(Debug)]
struct Series {
    duration: Histogram,
    outcomes: [OnceLock<IntCounter>; CallOutcome::ALL.len()],
}

impl CallMetrics {
    /// The metrics of the route named `route`.
    pub fn new(families: &Arc<Metrics>, route: &Arc<str>) -> Self {
        Self { route: Arc::clone(route), families: Arc::clone(families), known: RwLock::default() }
    }

    /// Gives the tools in `names` their own label values, up to the limit for one route. A counter counts the names
    /// beyond it.
    pub fn learn<'n>(&self, names: impl IntoIterator<Item = &'n str>) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<&str> = names.into_iter().filter(|name| !known.tools.contains_key(*name)).collect();
        drop(known);
        if new.is_empty() {
            return;
        }
        let tools = &mut self.known.write().unwrap_or_else(PoisonError::into_inner).tools;
        for name in new {
            if tools.len() < limits::TOOL_LABELS {
                tools.entry(name.into()).or_default();
            } else {
                self.families.tool_labels_dropped.with_label_values(&[&*self.route]).inc();
            }
        }
    }

    /// Counts a call of `method`, and of `tool` if the call was about a tool.
    pub fn finished(&self, method: KnownMethod, tool: Option<&str>, outcome: CallOutcome, duration: Duration) {
        let method = method.label();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let (label, series) = known.series(tool);
        if let Some((_, series)) = series.iter().find(|(known, _)| *known == method) {
            return self.count(series, method, label, outcome, duration);
        }
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let (label, _) = known.series(tool);
        let histogram = self.families.mcp_call_duration.with_label_values(&[&*self.route, method, label]);
        let new = Series { duration: histogram, outcomes: Default::default() };
        self.count(&new, method, label, outcome, duration);
        let series = known.series_mut(tool);
        // Another thread may have added the series meanwhile. Both have the same counters.
        if series.iter().all(|(known, _)| *known != method) {
            series.push((method, new));
        }
    }

    fn count(&self, series: &Series, method: &str, tool: &str, outcome: CallOutcome, duration: Duration) {
        series.duration.observe(duration.as_secs_f64());
        let counter = series.outcomes[outcome as usize]
            .get_or_init(|| self.families.mcp_calls.with_label_values(&[&*self.route, method, tool, outcome.label()]));
        counter.inc();
    }
}

impl KnownTools {
    /// The label value of `tool`, and its series.
    fn series<'t>(&self, tool: Option<&'t str>) -> (&'t str, &ByMethod) {
        match tool.map(|tool| (tool, self.tools.get(tool))) {
            Some((tool, Some(series))) => (tool, series),
            Some((_, None)) => (OTHER_TOOL, &self.other_tools),
            None => ("", &self.no_tool),
        }
    }

    fn series_mut(&mut self, tool: Option<&str>) -> &mut ByMethod {
        match tool.map(|tool| self.tools.get_mut(tool)) {
            Some(Some(series)) => series,
            Some(None) => &mut self.other_tools,
            None => &mut self.no_tool,
        }
    }
}

impl Drop for CallMetrics {
    fn drop(&mut self) {
        let route = &*self.route;
        let KnownTools { tools, other_tools, no_tool } =
            std::mem::take(&mut *self.known.write().unwrap_or_else(PoisonError::into_inner));
        let tools = tools.iter().map(|(tool, series)| (&**tool, series));
        for (tool, series) in tools.chain([(OTHER_TOOL, &other_tools), ("", &no_tool)]) {
            for (method, _) in series {
                for outcome in CallOutcome::ALL {
                    // Here and below, a series that does not exist is not an error.
                    let _ = self.families.mcp_calls.remove_label_values(&[route, method, tool, outcome.label()]);
                }
                let _ = self.families.mcp_call_duration.remove_label_values(&[route, method, tool]);
            }
        }
        let _ = self.families.tool_labels_dropped.remove_label_values(&[route]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_cannot_create_series() {
        let metrics = Arc::new(Metrics::new().expect("the families are consistent"));
        let calls = CallMetrics::new(&metrics, &"/a/".into());
        calls.learn(["get", "put"]);
        for tool in ["get", "evil-1", "evil-2"] {
            calls.finished(KnownMethod::of("tools/call"), Some(tool), CallOutcome::Ok, Duration::ZERO);
            calls.finished(KnownMethod::of(tool), None, CallOutcome::Ok, Duration::ZERO);
        }
        let text = String::from_utf8(metrics.render().expect("it renders")).expect("UTF-8");
        assert!(!text.contains("evil"), "{text}");
        assert!(
            text.contains(r#"mcp_edge_mcp_calls_total{method="tools/call",outcome="ok",route="/a/",tool="other"} 2"#)
        );
        assert!(text.contains(r#"mcp_edge_mcp_calls_total{method="other",outcome="ok",route="/a/",tool=""} 3"#));
        drop(calls);
        let text = String::from_utf8(metrics.render().expect("it renders")).expect("UTF-8");
        assert!(!text.contains("tools/call"), "{text}");
    }

    #[test]
    fn the_number_of_tools_is_bounded_and_the_rest_counted() {
        let metrics = Arc::new(Metrics::new().expect("the families are consistent"));
        let calls = CallMetrics::new(&metrics, &"/a/".into());
        let names: Vec<String> = (0..limits::TOOL_LABELS + 3).map(|index| format!("tool-{index}")).collect();
        calls.learn(names.iter().map(String::as_str));
        let text = String::from_utf8(metrics.render().expect("it renders")).expect("UTF-8");
        assert!(text.contains(r#"mcp_edge_mcp_tool_labels_dropped_total{route="/a/"} 3"#), "{text}");
    }
}
