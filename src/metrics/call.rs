//! The metrics of MCP calls on one route.

use std::collections::{HashMap, HashSet};
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
    tools: RwLock<HashSet<Box<str>>>,
    series: RwLock<HashMap<&'static str, ByTool>>,
}

type ByTool = HashMap<Box<str>, Arc<Series>>;

#[derive(Debug)]
struct Series {
    duration: Histogram,
    outcomes: [OnceLock<IntCounter>; CallOutcome::ALL.len()],
}

impl CallMetrics {
    /// The handles of the route named `route`.
    pub fn new(families: &Arc<Metrics>, route: &Arc<str>) -> Self {
        Self {
            route: Arc::clone(route),
            families: Arc::clone(families),
            tools: RwLock::default(),
            series: RwLock::default(),
        }
    }

    /// Makes labels of `names`, as many as a route may have; a counter tells of those that were too many.
    pub fn learn<'n>(&self, names: impl IntoIterator<Item = &'n str>) {
        let known = self.tools.read().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<&str> = names.into_iter().filter(|name| !known.contains(*name)).collect();
        drop(known);
        if new.is_empty() {
            return;
        }
        let mut known = self.tools.write().unwrap_or_else(PoisonError::into_inner);
        for name in new {
            if known.len() < limits::TOOL_LABELS {
                known.insert(name.into());
            } else {
                self.families.tool_labels_dropped.with_label_values(&[&*self.route]).inc();
            }
        }
    }

    /// Counts a call of `method`, and of `tool` if it was about one.
    pub fn finished(&self, method: KnownMethod, tool: Option<&str>, outcome: CallOutcome, duration: Duration) {
        let method = method.label();
        let tool = match tool {
            Some(tool) if self.tools.read().unwrap_or_else(PoisonError::into_inner).contains(tool) => tool,
            Some(_) => OTHER_TOOL,
            None => "",
        };
        let series = self.series(method, tool);
        series.duration.observe(duration.as_secs_f64());
        let counter = series.outcomes[outcome as usize]
            .get_or_init(|| self.families.mcp_calls.with_label_values(&[&*self.route, method, tool, outcome.label()]));
        counter.inc();
    }

    fn series(&self, method: &'static str, tool: &str) -> Arc<Series> {
        let known = self.series.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = known.get(method).and_then(|tools| tools.get(tool)) {
            return Arc::clone(series);
        }
        drop(known);
        let mut known = self.series.write().unwrap_or_else(PoisonError::into_inner);
        let series = known.entry(method).or_default().entry(tool.into()).or_insert_with(|| {
            let duration = self.families.mcp_call_duration.with_label_values(&[&*self.route, method, tool]);
            Arc::new(Series { duration, outcomes: Default::default() })
        });
        Arc::clone(series)
    }
}

impl Drop for CallMetrics {
    fn drop(&mut self) {
        let route = &*self.route;
        let series = std::mem::take(&mut *self.series.write().unwrap_or_else(PoisonError::into_inner));
        for (method, tools) in series {
            for tool in tools.keys() {
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
