//! What a gateway changes in messages: names, ids, lists and the metadata that tells the two eras apart. Without I/O.

mod capabilities;
mod items;
mod mark;
mod naming;
mod restore;
mod search;
mod splice;

pub use capabilities::{ServerFacts, negotiated_version};
pub use items::{ListItem, ListPage, answers_another, is_response_to, response_of};
pub use mark::{ServerMark, marked_answer};
pub use naming::{is_short_form, shown_name};
pub use restore::IdRestore;
pub use search::{ToolText, best_tools};
pub use splice::{Splice, encode_text};
