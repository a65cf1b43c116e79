//! All metric families of the edge, and their registry.

use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use super::labels::{
    AuthResult, CacheResult, KeyFetchResult, Label, RefreshResult, RejectionReason, ReloadResult, UpstreamTokenResult,
};

/// The latency buckets in seconds: from a fast answer on loopback to a tool that runs for half an hour.
const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

/// All metric families. An edge has one instance. Routes, upstreams and providers take their series from it when a
/// snapshot is built.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub(super) requests: IntCounterVec,
    pub(super) request_duration: HistogramVec,
    pub(super) requests_in_flight: IntGaugeVec,
    pub(super) streams_open: IntGaugeVec,
    pub(super) misleading_answers: IntCounterVec,
    pub(super) changed_tools: IntCounterVec,
    pub(super) mcp_calls: IntCounterVec,
    pub(super) mcp_call_duration: HistogramVec,
    pub(super) tool_labels_dropped: IntCounterVec,
    pub(super) endpoint_healthy: IntGaugeVec,
    pub(super) endpoint_requests: IntCounterVec,
    pub(super) endpoint_in_flight: IntGaugeVec,
    pub(super) upstream_connections: IntCounterVec,
    auth_decisions: IntCounterVec,
    auth_lookup_duration: HistogramVec,
    auth_cache_requests: IntCounterVec,
    upstream_token_requests: IntCounterVec,
    auth_cache_refreshes: IntCounterVec,
    pub(super) key_fetches: IntCounterVec,
    pub(super) keys_last_success: GaugeVec,
    rejections: IntCounterVec,
    config_reloads: IntCounterVec,
    /// Principals in the token cache.
    pub auth_cache_entries: IntGauge,
    /// The generation of the current snapshot.
    pub config_generation: IntGauge,
    /// 1 when the last reload succeeded, else 0.
    pub config_last_reload_success: IntGauge,
    /// When the last reload succeeded, in seconds since 1970.
    pub config_last_reload_time: Gauge,
    /// Open client connections.
    pub client_connections: IntGauge,
    /// Log lines that were dropped because standard output was blocked.
    pub log_lines_dropped: IntCounter,
}

impl Metrics {
    /// Registers all families.
    ///
    /// # Errors
    /// Two families have the same name: a mistake in this file.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let new = Registrar(&registry);
        let metrics = Self {
            requests: new.counters("requests_total", "Requests by route and status code.", &["route", "code"])?,
            request_duration: new.histograms(
                "request_duration_seconds",
                "Time from the request head to the end of the response.",
                &["route"],
            )?,
            requests_in_flight: new.gauges("requests_in_flight", "Requests that are being served.", &["route"])?,
            streams_open: new.gauges("streams_open", "Open event streams and upgraded connections.", &["route"])?,
            misleading_answers: new.counters(
                "misleading_answers_total",
                "Answers in which an upstream would have led clients to another host, by its challenge or the endpoint of a session.",
                &["route"],
            )?,
            changed_tools: new.counters(
                "tool_definitions_changed_total",
                "Changes of the definitions of tools, as gateways have noticed them.",
                &["route"],
            )?,
            mcp_calls: new.counters(
                "mcp_calls_total",
                "MCP requests and notifications by outcome.",
                &["route", "method", "tool", "outcome"],
            )?,
            mcp_call_duration: new.histograms(
                "mcp_call_duration_seconds",
                "Time from the request head of an MCP call to the end of its response.",
                &["route", "method", "tool"],
            )?,
            tool_labels_dropped: new.counters(
                "mcp_tool_labels_dropped_total",
                "Tools that got no label of their own, because their route has too many; counted at each listing.",
                &["route"],
            )?,
            endpoint_healthy: new.gauges(
                "endpoint_healthy",
                "1 when an endpoint is healthy or has no health checks, else 0.",
                &["upstream", "endpoint"],
            )?,
            endpoint_requests: new.counters(
                "endpoint_requests_total",
                "Requests by endpoint and result.",
                &["upstream", "endpoint", "result"],
            )?,
            endpoint_in_flight: new.gauges(
                "endpoint_in_flight",
                "Requests that an endpoint is serving.",
                &["upstream", "endpoint"],
            )?,
            upstream_connections: new.counters(
                "upstream_connections_total",
                "Connections that requests were sent on, by whether they were reused.",
                &["upstream", "reused"],
            )?,
            auth_decisions: new.counters(
                "auth_decisions_total",
                "Decisions of providers on credentials, including those from the cache.",
                &["provider", "result"],
            )?,
            auth_lookup_duration: new.histograms(
                "auth_lookup_duration_seconds",
                "Time that a provider took to validate a credential. Decisions from the cache are not included.",
                &["provider"],
            )?,
            auth_cache_requests: new.counters(
                "auth_cache_requests_total",
                "Lookups in the token cache by result.",
                &["result"],
            )?,
            upstream_token_requests: new.counters(
                "upstream_token_requests_total",
                "Requests that needed a token for their upstream, by result: `hit` did not ask the token endpoint.",
                &["route", "result"],
            )?,
            auth_cache_refreshes: new.counters(
                "auth_cache_refreshes_total",
                "Cached credentials that were due to be validated again before their entry ended, by result.",
                &["result"],
            )?,
            key_fetches: new.counters(
                "auth_key_fetches_total",
                "Fetches of a provider's keys by result. Unless it is `ok`, the old keys stay in use.",
                &["provider", "result"],
            )?,
            keys_last_success: new.float_gauges(
                "auth_keys_last_success_timestamp_seconds",
                "When a provider's keys were last fetched with success; 0 if never.",
                &["provider"],
            )?,
            rejections: new.counters(
                "rejections_total",
                "Requests that the edge answered itself, by reason.",
                &["reason"],
            )?,
            config_reloads: new.counters("config_reloads_total", "Reloads by result.", &["result"])?,
            auth_cache_entries: new.gauge("auth_cache_entries", "Principals in the token cache.")?,
            config_generation: new.gauge("config_generation", "The generation of the running configuration.")?,
            config_last_reload_success: new
                .gauge("config_last_reload_success", "1 when the last reload succeeded, else 0.")?,
            config_last_reload_time: new.float_gauge(
                "config_last_reload_success_timestamp_seconds",
                "When the running configuration was loaded.",
            )?,
            client_connections: new.gauge("client_connections", "Open client connections.")?,
            log_lines_dropped: new.counter(
                "log_lines_dropped_total",
                "Log lines that were dropped because standard output was blocked.",
            )?,
            registry: registry.clone(),
        };
        metrics.create_series();
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(metrics)
    }

    /// Creates the series of labels with a closed set of values. They exist from the start, so that a rate over them is
    /// never "no data".
    fn create_series(&self) {
        RejectionReason::ALL.iter().for_each(|reason| drop(self.rejections.with_label_values(&[reason.label()])));
        CacheResult::ALL.iter().for_each(|result| drop(self.auth_cache_requests.with_label_values(&[result.label()])));
        RefreshResult::ALL
            .iter()
            .for_each(|result| drop(self.auth_cache_refreshes.with_label_values(&[result.label()])));
        ReloadResult::ALL.iter().for_each(|result| drop(self.config_reloads.with_label_values(&[result.label()])));
    }

    /// Counts a request that the edge answered itself.
    pub fn rejected(&self, reason: RejectionReason) {
        self.rejections.with_label_values(&[reason.label()]).inc();
    }

    /// The counter of lookups in the token cache with this result.
    pub fn cache_request(&self, result: CacheResult) -> IntCounter {
        self.auth_cache_requests.with_label_values(&[result.label()])
    }

    /// The counter of refreshes of cached entries with this result.
    pub fn cache_refresh(&self, result: RefreshResult) -> IntCounter {
        self.auth_cache_refreshes.with_label_values(&[result.label()])
    }

    /// The counter of decisions of `provider` with this result.
    pub fn auth_decisions(&self, provider: &str, result: AuthResult) -> IntCounter {
        self.auth_decisions.with_label_values(&[provider, result.label()])
    }

    /// The histogram of the time that `provider` takes to validate a credential, in seconds.
    pub fn auth_lookup_duration(&self, provider: &str) -> prometheus::Histogram {
        self.auth_lookup_duration.with_label_values(&[provider])
    }

    /// Removes the series of a provider that is gone.
    pub fn forget_provider(&self, provider: &str) {
        for result in AuthResult::ALL {
            // Here and below, a series that does not exist is not an error: perhaps nothing was counted yet.
            let _ = self.auth_decisions.remove_label_values(&[provider, result.label()]);
        }
        let _ = self.auth_lookup_duration.remove_label_values(&[provider]);
        self.forget_keys(provider);
    }

    /// Removes the series of a provider's key fetches. A later provider of the same name may have no keys to fetch.
    pub fn forget_keys(&self, provider: &str) {
        for result in KeyFetchResult::ALL {
            // Here and below, a series that does not exist is not an error.
            let _ = self.key_fetches.remove_label_values(&[provider, result.label()]);
        }
        let _ = self.keys_last_success.remove_label_values(&[provider]);
    }

    /// The counter of requests of `route` that needed a token for their upstream, with this result.
    pub fn upstream_token_requests(&self, route: &str, result: UpstreamTokenResult) -> IntCounter {
        self.upstream_token_requests.with_label_values(&[route, result.label()])
    }

    /// Removes the token series of a route that is gone.
    pub(super) fn forget_upstream_tokens(&self, route: &str) {
        for result in UpstreamTokenResult::ALL {
            // A series that does not exist is not an error: most routes need no tokens.
            let _ = self.upstream_token_requests.remove_label_values(&[route, result.label()]);
        }
    }

    /// Counts a reload.
    pub fn reloaded(&self, result: ReloadResult) {
        self.config_reloads.with_label_values(&[result.label()]).inc();
        match result {
            ReloadResult::Success => {
                self.config_last_reload_success.set(1);
                self.config_last_reload_time.set(crate::types::unix_now() as f64);
            }
            ReloadResult::Unchanged => self.config_last_reload_success.set(1),
            ReloadResult::Failure => self.config_last_reload_success.set(0),
        }
    }

    /// All metrics in the Prometheus text format, version 0.0.4.
    ///
    /// # Errors
    /// A family is inconsistent: a mistake in this module.
    pub fn render(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::with_capacity(16 << 10);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// Creates and registers families with the common prefix `mcp_edge_`.
struct Registrar<'a>(&'a Registry);

impl Registrar<'_> {
    fn register<C: prometheus::core::Collector + Clone + 'static>(&self, family: C) -> prometheus::Result<C> {
        self.0.register(Box::new(family.clone()))?;
        Ok(family)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.register(IntCounterVec::new(opts(name, help), labels)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.register(IntGaugeVec::new(opts(name, help), labels)?)
    }

    fn float_gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        self.register(GaugeVec::new(opts(name, help), labels)?)
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<HistogramVec> {
        let opts = HistogramOpts::from(opts(name, help)).buckets(SECONDS.to_vec());
        self.register(HistogramVec::new(opts, labels)?)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.register(IntCounter::with_opts(opts(name, help))?)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.register(IntGauge::with_opts(opts(name, help))?)
    }

    fn float_gauge(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        self.register(Gauge::with_opts(opts(name, help))?)
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("mcp_edge")
}
