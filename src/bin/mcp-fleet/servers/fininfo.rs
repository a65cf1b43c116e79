//! The tools of the `fininfo` server.

use std::time::Duration;

use rmcp::handler::server::wrapper::{Json, Parameters};
use rmcp::model::ProgressNotificationParam;
use rmcp::service::RequestContext;
use rmcp::{RoleServer, tool, tool_router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::handler::Handler;
use super::order::Order;
use super::stock;
use super::stock::{Row, Timespan};

const MAX_STEPS: u32 = 1_000;
const MAX_STEP_MS: u32 = 60_000;
const MAX_SECONDS: u32 = 600;

#[derive(Deserialize, JsonSchema)]
struct Range {
    /// The stock's symbol, such as ACME.
    ticker: String,
    /// The first date, like 2026-01-31.
    from: String,
    /// The last date, like 2026-01-31.
    to: String,
    /// The time one row covers.
    timespan: Timespan,
}

impl Range {
    fn rows(&self) -> Result<Vec<Row>, String> {
        stock::rows(&self.ticker, &self.from, &self.to, self.timespan)
    }
}

#[derive(Serialize, JsonSchema)]
struct Aggregates {
    ticker: String,
    timespan: Timespan,
    rows: Vec<Row>,
}

#[derive(Serialize, JsonSchema)]
struct Placed {
    /// The new order's id.
    order_id: String,
    /// How many orders this replica has in its book, this one included.
    count: usize,
    order: Order,
}

#[derive(Deserialize, JsonSchema)]
struct Training {
    /// How many steps to train, at most 1000.
    steps: u32,
    /// How long one step takes, in milliseconds, at most 60000.
    step_ms: u32,
}

#[derive(Deserialize, JsonSchema)]
struct Patience {
    /// How long to take for the report, at most 600 seconds.
    seconds: u32,
}

#[tool_router(router = fininfo, vis = "pub(crate)")]
impl Handler {
    /// Open, high, low and close prices of a stock over a range of dates. Synthetic: computed from the ticker.
    #[tool(annotations(title = "Stock aggregates", read_only_hint = true))]
    fn get_stock_aggregates(&self, Parameters(range): Parameters<Range>) -> Result<Json<Aggregates>, String> {
        let rows = range.rows()?;
        Ok(Json(Aggregates { ticker: range.ticker, timespan: range.timespan, rows }))
    }

    /// The prices of a stock over a range of dates as a text table. Synthetic: computed from the ticker.
    #[tool(annotations(title = "Stock table", read_only_hint = true))]
    fn print_stock_data(&self, Parameters(range): Parameters<Range>) -> Result<String, String> {
        Ok(format!("{}\n{}", range.ticker, stock::table(&range.rows()?)))
    }

    /// Places an order to buy or sell shares in this replica's order book.
    #[tool(annotations(title = "Place order", read_only_hint = false, destructive_hint = true))]
    async fn place_order(&self, Parameters(order): Parameters<Order>) -> Json<Placed> {
        let mut orders = self.orders.lock().await;
        orders.push(order.clone());
        let count = orders.len();
        Json(Placed { order_id: format!("{}-{count}", self.vitals.name), count, order })
    }

    /// Trains a price model step by step, telling the progress of each step.
    #[tool(annotations(title = "Train model", read_only_hint = false, destructive_hint = false))]
    async fn train_model(
        &self,
        Parameters(Training { steps, step_ms }): Parameters<Training>,
        context: RequestContext<RoleServer>,
    ) -> Result<String, String> {
        at_most("steps", steps, MAX_STEPS)?;
        at_most("step_ms", step_ms, MAX_STEP_MS)?;
        let token = context.meta.get_progress_token();
        for step in 1..=steps {
            pause(Duration::from_millis(step_ms.into()), &context).await?;
            if let Some(token) = token.clone() {
                let progress = ProgressNotificationParam::new(token, step.into())
                    .with_total(steps.into())
                    .with_message(format!("trained step {step} of {steps}"));
                // An error means that the client does not listen any more, so the training stops.
                context.peer.notify_progress(progress).await.map_err(|error| error.to_string())?;
            }
        }
        Ok(format!("trained {steps} steps"))
    }

    /// A report that takes its time and says nothing until it is done.
    #[tool(annotations(title = "Slow report", read_only_hint = true))]
    async fn slow_report(
        &self,
        Parameters(Patience { seconds }): Parameters<Patience>,
        context: RequestContext<RoleServer>,
    ) -> Result<String, String> {
        at_most("seconds", seconds, MAX_SECONDS)?;
        pause(Duration::from_secs(seconds.into()), &context).await?;
        Ok(format!("reported after {seconds} s"))
    }
}

fn at_most(name: &str, value: u32, limit: u32) -> Result<(), String> {
    if value <= limit { Ok(()) } else { Err(format!("{name} is {value}, but at most {limit} are allowed")) }
}

/// Waits, unless the call is cancelled first.
async fn pause(duration: Duration, context: &RequestContext<RoleServer>) -> Result<(), String> {
    tokio::select! {
        () = tokio::time::sleep(duration) => Ok(()),
        () = context.ct.cancelled() => Err("cancelled".to_owned()),
    }
}
