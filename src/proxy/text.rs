//! Writes numbers and addresses as text. Every request needs that, and the formatter of the standard library takes ten times
//! as long.

use std::fmt::Write;
use std::net::IpAddr;

/// Appends an address.
pub(super) fn push_address(out: &mut String, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push('.');
                }
                push_number(out, octet.into());
            }
        }
        // Writing to a string cannot fail.
        IpAddr::V6(address) => drop(write!(out, "{address}")),
    }
}

/// Appends a number in decimal digits.
pub(super) fn push_number(out: &mut String, value: u64) {
    out.push_str(itoa::Buffer::new().format(value));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_are_written_as_the_formatter_does(
            address in any::<IpAddr>(),
            number in prop_oneof![any::<u64>(), 0_u64..2_000],
        ) {
            let mut out = String::new();
            push_address(&mut out, address);
            prop_assert_eq!(&out, &address.to_string());
            out.clear();
            push_number(&mut out, number);
            prop_assert_eq!(out, number.to_string());
        }
    }
}
