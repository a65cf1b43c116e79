//! From paths to sections as written: files, includes, and what is wrong in them.

pub(super) mod left_out;
pub(super) mod load;
pub(super) mod parse;
pub(super) mod place;
pub(super) mod problems;
pub(super) mod source;
