//! Names in trees: the body of a string literal of Go, which can hold any bytes.
//!
//! A name that is quoted otherwise makes a whole directory unreadable or, if readers still understand
//! it, stores the directory twice. So this follows Go's `strconv.Quote` exactly, and reads all that
//! its `strconv.Unquote` reads.

mod printable;

use std::fmt::Write as _;

use crate::error::{Error, Result};

use printable::is_printable;

/// Quotes a name: the result of Go's `strconv.Quote` without the outer quotation marks.
pub(super) fn quote_name(name: &[u8]) -> String {
    let mut quoted = String::with_capacity(name.len() + 8);
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            quote_character(&mut quoted, character);
        }
        for byte in chunk.invalid() {
            quote_byte(&mut quoted, *byte);
        }
    }
    quoted
}

/// Whether a name is the same quoted, and in JSON. True for nearly all, and cheap to find out.
pub(super) fn is_plain(name: &[u8]) -> bool {
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&');
    name.iter().all(|byte| matches!(byte, b' '..=b'~') && !special(byte))
}

/// Reads a quoted name back.
///
/// # Errors
/// `Corrupt` if Go's `strconv.Unquote` refuses the text between quotation marks.
pub(super) fn unquote_name(quoted: &str) -> Result<Vec<u8>> {
    unquote(quoted.as_bytes()).ok_or_else(|| {
        Error::corrupt(
            "a name in a tree",
            format_args!("\"{}\" is not quoted properly", quoted.escape_debug()),
        )
    })
}

fn quote_character(quoted: &mut String, character: char) {
    let short = match character {
        '"' | '\\' => character,
        '\x07' => 'a',
        '\x08' => 'b',
        '\x0c' => 'f',
        '\n' => 'n',
        '\r' => 'r',
        '\t' => 't',
        '\x0b' => 'v',
        character if is_printable(character) => return quoted.push(character),
        '\0'..' ' | '\x7f' => {
            let mut byte = [0];
            character.encode_utf8(&mut byte);
            return quote_byte(quoted, byte[0]);
        }
        _ => {
            let code = u32::from(character);
            let _ = if code < 0x1_0000 {
                write!(quoted, "\\u{code:04x}")
            } else {
                write!(quoted, "\\U{code:08x}")
            };
            return;
        }
    };
    quoted.push('\\');
    quoted.push(short);
}

fn quote_byte(quoted: &mut String, byte: u8) {
    let _ = write!(quoted, "\\x{byte:02x}");
}

fn unquote(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(rest.len());
    loop {
        let plain =
            rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | b'\n')).unwrap_or(rest.len());
        name.extend_from_slice(&rest[..plain]);
        rest = &rest[plain..];
        let escape = match rest {
            [] => return Some(name),
            [b'\\', escape, after @ ..] => {
                rest = after;
                *escape
            }
            // An escape without a character, or a raw line break or quotation mark.
            _ => return None,
        };
        let byte = match escape {
            b'a' => 0x07,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 0x0b,
            b'\\' | b'"' => escape,
            b'x' => u8::try_from(number(&mut rest, 2, 16)?).ok()?,
            b'u' | b'U' => {
                let digits = if escape == b'u' { 4 } else { 8 };
                let character = char::from_u32(number(&mut rest, digits, 16)?)?;
                let mut utf8 = [0; 4];
                name.extend_from_slice(character.encode_utf8(&mut utf8).as_bytes());
                continue;
            }
            b'0'..=b'7' => {
                let high = u32::from(escape - b'0') * 64;
                u8::try_from(high + number(&mut rest, 2, 8)?).ok()?
            }
            _ => return None,
        };
        name.push(byte);
    }
}

/// Takes exactly `count` digits, at most eight.
fn number(rest: &mut &[u8], count: usize, radix: u32) -> Option<u32> {
    let (digits, after) = rest.split_at_checked(count)?;
    *rest = after;
    digits.iter().try_fold(0_u32, |value, digit| {
        let digit = char::from(*digit).to_digit(radix)?;
        value.checked_mul(radix)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::fixtures;
    use crate::repo::json::push_string;

    fn json(name: &[u8]) -> String {
        let mut out = Vec::new();
        push_string(&mut out, &quote_name(name));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn names_become_the_json_that_the_format_names() {
        for (name, expected) in [
            (&b"a\"b"[..], r#""a\\\"b""#),
            (b"\x00\x07\x08\x7f", r#""\\x00\\a\\b\\x7f""#),
            (b"\xff\xc3", r#""\\xff\\xc3""#),
            ("\u{a0}".as_bytes(), r#""\\u00a0""#),
            (b"a<b>&c", r#""a\u003cb\u003e\u0026c""#),
            ("日本😀".as_bytes(), "\"日本😀\""),
        ] {
            assert_eq!(json(name), expected);
        }
    }

    #[test]
    fn names_are_quoted_as_go_quotes_them_and_come_back() {
        for (name, expected) in fixtures::hex_and_json("names.tsv") {
            assert_eq!(json(&name), expected, "{name:02x?}");
            assert_eq!(unquote_name(&quote_name(&name)).unwrap(), name);
            if is_plain(&name) {
                assert_eq!(expected.as_bytes()[1..expected.len() - 1], name);
            }
        }
    }

    #[test]
    fn what_go_unquotes_is_unquoted_and_what_it_refuses_is_refused() {
        for line in fixtures::lines("quoted.tsv") {
            let (quoted, expected) = line.rsplit_once('\t').unwrap();
            let quoted: String = serde_json::from_str(quoted).unwrap();
            let expected = expected.strip_prefix('=').map(|digits| hex::decode(digits).unwrap());
            assert_eq!(unquote_name(&quoted).ok(), expected, "{quoted:?}");
        }
    }
}
