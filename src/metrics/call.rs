//! The metrics of MCP calls on one route.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use prometheus::{Histogram, IntCounter};

use super::families::Metrics;
use super::labels::{CallOutcome, Label};
use crate::config::limits;
use crate::types::KnownMethod;

/// The value of the label `tool` for a name that nobody has announced.
const OTHER_TOOL: &str = "other";

/// Handles of one route. A tool is a label only when the configuration names it or the upstream has listed it: clients
/// cannot make series.
#[derive(Debug)]
pub struct CallMetrics {
    route: Arc<str>,
    families: Arc<Metrics>,
    known: RwLock<Known>,
}

/// The series of those that are labels, of all other tools, and of calls that are about no tool.
#[derive(Debug, Default)]
struct Known {
    tools: HashMap<Box<str>, ByMethod>,
    other: ByMethod,
    none: ByMethod,
}

/// Few, so a scan is the fastest look-up.
type ByMethod = Vec<(&'static str, Series)>;

#[derive(Debug)]
struct Series {
    duration: Histogram,
    outcomes: [OnceLock<IntCounter>; CallOutcome::ALL.len()],
}

impl CallMetrics {
    /// The handles of the route named `route`.
    pub fn new(families: &Arc<Metrics>, route: &Arc<str>) -> Self {
        Self { route: Arc::clone(route), families: Arc::clone(families), known: RwLock::default() }
    }

    /// Makes labels of `names`, as many as a route may have; a counter tells of those that were too many.
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

    /// Counts a call of `method`, and of `tool` if it was about one.
    pub fn finished(&self, method: KnownMethod, tool: Option<&str>, outcome: CallOutcome, duration: Duration) {
        let method = method.label();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let (label, series) = known.of(tool);
        if let Some((_, series)) = series.iter().find(|(known, _)| *known == method) {
            return self.count(series, (method, label), outcome, duration);
        }
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let (label, _) = known.of(tool);
        let made = self.families.mcp_call_duration.with_label_values(&[&*self.route, method, label]);
        let made = Series { duration: made, outcomes: Default::default() };
        self.count(&made, (method, label), outcome, duration);
        let series = known.of_mut(tool);
        // Another thread may have been faster; both have the same counters.
        if series.iter().all(|(known, _)| *known != method) {
            series.push((method, made));
        }
    }

    fn count(&self, series: &Series, (method, tool): (&str, &str), outcome: CallOutcome, duration: Duration) {
        series.duration.observe(duration.as_secs_f64());
        let counter = series.outcomes[outcome as usize]
            .get_or_init(|| self.families.mcp_calls.with_label_values(&[&*self.route, method, tool, outcome.label()]));
        counter.inc();
    }
}

impl Known {
    /// The label of `tool`, and its series.
    fn of<'t>(&self, tool: Option<&'t str>) -> (&'t str, &ByMethod) {
        match tool.map(|tool| (tool, self.tools.get(tool))) {
            Some((tool, Some(series))) => (tool, series),
            Some((_, None)) => (OTHER_TOOL, &self.other),
            None => ("", &self.none),
        }
    }

    fn of_mut(&mut self, tool: Option<&str>) -> &mut ByMethod {
        match tool.map(|tool| self.tools.get_mut(tool)) {
            Some(Some(series)) => series,
            Some(None) => &mut self.other,
            None => &mut self.none,
        }
    }
}

impl Drop for CallMetrics {
    fn drop(&mut self) {
        let route = &*self.route;
        let Known { tools, other, none } =
            std::mem::take(&mut *self.known.write().unwrap_or_else(PoisonError::into_inner));
        let tools = tools.iter().map(|(tool, series)| (&**tool, series));
        for (tool, series) in tools.chain([(OTHER_TOOL, &other), ("", &none)]) {
            for (method, _) in series {
                for outcome in CallOutcome::ALL {
                    // Absent series are no error here and below.
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
    fn clients_make_no_series() {
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
