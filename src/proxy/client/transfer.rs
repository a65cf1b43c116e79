//! Words that all kinds of downstream share.

/// What comes after the head of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follows {
    /// No body.
    Nothing,
    /// A body.
    Body,
}

/// What a client does while it should only wait for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It has closed its side of the connection. It may still read.
    Closed,
    /// It has reset its stream.
    Reset,
    /// It has sent a byte, which is lost.
    Spoke,
    /// It has sent more of its next request than the edge reads ahead.
    Full,
}
