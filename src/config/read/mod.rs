//! Reads configuration files and their includes into sections as written, and collects their errors.

pub(super) mod left_out;
pub(super) mod load;
pub(super) mod parse;
pub(super) mod place;
pub(super) mod problems;
pub(super) mod source;
