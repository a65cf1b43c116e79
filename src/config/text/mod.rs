//! YAML as a tree that knows where everything stands, and what serde reads from it.

pub(super) mod reader;
pub(super) mod suggest;
pub(super) mod tree;
pub(super) mod yaml;

pub(crate) use tree::{Content, Node, Position};
pub(crate) use yaml::parse as parse_yaml;
