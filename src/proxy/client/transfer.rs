//! Words that both kinds of downstream share.

/// What comes after the head of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follows {
    /// No body.
    Nothing,
    /// A piece of the body that has already come, so that head and piece can go in one packet.
    AtOnce,
    /// A body that is still to come.
    Later,
}

/// What a client does while it should only wait for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// It has closed its side.
    Left,
    /// It has sent a byte, which is lost.
    Spoke,
    /// It has sent more of its next request than the edge reads ahead.
    Full,
    /// Nothing until the deadline.
    Late,
}
