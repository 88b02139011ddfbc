//! Percent encoding, as addresses and forms have it.

use std::fmt::Write as _;

/// Adds text to an address or a form: all but letters, digits and `-._~` is encoded.
pub(super) fn encode(plain: &str, text: &mut String) {
    for byte in plain.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing into a string does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
}

/// Text, encoded.
pub(super) fn encoded(plain: &str) -> String {
    let mut text = String::new();
    encode(plain, &mut text);
    text
}
