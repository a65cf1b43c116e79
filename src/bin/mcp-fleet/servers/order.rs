//! An order for stock.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An order as it was placed.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
pub(crate) struct Order {
    /// The stock's symbol, such as ACME.
    ticker: String,
    /// Whether to buy or to sell.
    side: Side,
    /// How many shares.
    quantity: u32,
}

#[derive(Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    Buy,
    Sell,
}
