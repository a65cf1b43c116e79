//! Limits of single types. `config::limits` has all others, and lists these too.

use std::time::Duration;

/// The longest id of an API key, in bytes.
pub const API_KEY_ID_BYTES: usize = 64;
/// The shortest secret of an API key, in bytes: 128 bits in base64url.
pub const API_KEY_SECRET_BYTES: usize = 22;
/// The most memory that one verification with Argon2 may take, in KiB.
pub const ARGON2_KIB: u32 = 64 << 10;
/// The most passes of one verification.
pub const ARGON2_PASSES: u32 = 10;
/// The most lanes of one verification.
pub const ARGON2_LANES: u32 = 16;
/// The longest pattern of names, in characters.
pub const NAME_PATTERN_CHARS: usize = 256;
/// The longest URI that a pattern may match, in bytes.
pub const RESOURCE_URI_BYTES: usize = 8 << 10;
/// The longest duration that can be written. Clocks cannot add much more.
pub const LONGEST_DURATION: Duration = Duration::from_secs(365 * 86_400);
