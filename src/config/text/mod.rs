//! Reads YAML into a tree in which every value has its position, and reads the sections from that tree with serde.

pub(super) mod reader;
pub(super) mod suggest;
pub(super) mod tree;
pub(super) mod yaml;

pub(crate) use tree::{Content, Node, Position};
pub(crate) use yaml::parse as parse_yaml;
