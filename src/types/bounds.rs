//! The limits of the types in this folder. `config::limits` lists them together with all other limits.

use std::time::Duration;

/// The longest id of an API key, in bytes.
pub const API_KEY_ID_BYTES: usize = 64;
/// The shortest secret of an API key, in bytes: 128 bits in base64url.
pub const API_KEY_SECRET_BYTES: usize = 22;
/// The most memory that verifying one Argon2 hash may take, in KiB.
pub const ARGON2_KIB: u32 = 64 << 10;
/// The most passes that verifying one Argon2 hash may take.
pub const ARGON2_PASSES: u32 = 10;
/// The most lanes that verifying one Argon2 hash may use.
pub const ARGON2_LANES: u32 = 16;
/// The longest pattern of names, in characters.
pub const NAME_PATTERN_CHARS: usize = 256;
/// The longest URI that a pattern may match, in bytes.
pub const RESOURCE_URI_BYTES: usize = 8 << 10;
/// The longest duration that a configuration may contain. Clocks cannot add much more without an overflow.
pub const LONGEST_DURATION: Duration = Duration::from_secs(365 * 86_400);
