//! Writes JSON byte for byte as Go's `encoding/json` does, which the format asks for.
//!
//! A tree is named by the hash of its text, so two programs store a directory once only if they write
//! the same text. `<`, `>`, `&`, U+2028 and U+2029 are escaped, also inside raw values; bytes that are
//! not UTF-8 become the six characters `\ufffd`. Backspace and form feed are written `\b` and `\f` as
//! Go does since 1.22; programs built with an older Go write `\u0008` and `\u000c`. Names never hold
//! either in the raw (they are quoted first), so this concerns odd link targets and owners only.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use crate::model::FileTime;

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Whether a byte stands for itself inside a string. U+2028 and U+2029 begin with a byte that does
/// not, so that the check for them is off the fast path.
const STANDS_FOR_ITSELF: [bool; 256] = {
    let mut table = [true; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = false;
        byte += 1;
    }
    table[b'"' as usize] = false;
    table[b'\\' as usize] = false;
    table[b'<' as usize] = false;
    table[b'>' as usize] = false;
    table[b'&' as usize] = false;
    table[0xe2] = false;
    table
};

/// Appends `text` as a JSON string.
pub(super) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    push_escaped(out, text);
    out.push(b'"');
}

/// Appends `text` as a JSON string, with each byte that is not UTF-8 as `\ufffd`.
pub(super) fn push_string_lossy(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        push_escaped(out, chunk.valid());
        for _ in chunk.invalid() {
            out.extend_from_slice(br"\ufffd");
        }
    }
    out.push(b'"');
}

/// Appends a number, or anything else whose text form is its JSON form.
pub(super) fn push_display(out: &mut Vec<u8>, value: impl fmt::Display) {
    struct Text<'o>(&'o mut Vec<u8>);
    impl fmt::Write for Text<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
    let _ = fmt::Write::write_fmt(&mut Text(out), format_args!("{value}"));
}

/// Appends bytes as a string of padded base64.
pub(super) fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}

/// Appends an id as a string of hexadecimal digits.
pub(super) fn push_id(out: &mut Vec<u8>, id: &[u8; 32]) {
    out.push(b'"');
    for byte in id {
        out.push(HEX_DIGITS[usize::from(byte >> 4)]);
        out.push(HEX_DIGITS[usize::from(byte & 15)]);
    }
    out.push(b'"');
}

/// Appends a time as a string.
pub(super) fn push_time(out: &mut Vec<u8>, time: &FileTime) {
    out.push(b'"');
    push_display(out, time);
    out.push(b'"');
}

/// Appends a JSON value as Go does: without white space, and escaped like other strings. What is
/// already so stays byte for byte.
pub(super) fn push_raw(out: &mut Vec<u8>, value: &RawValue) {
    let mut rest = value.get().as_bytes();
    let mut in_string = false;
    while let [byte, after @ ..] = rest {
        rest = after;
        match byte {
            b'"' => in_string = !in_string,
            b'\\' => {
                // The next byte is part of the escape, also if it is a quotation mark.
                out.push(b'\\');
                if let [escaped, after @ ..] = rest {
                    out.push(*escaped);
                    rest = after;
                }
                continue;
            }
            b' ' | b'\t' | b'\n' | b'\r' if !in_string => continue,
            b'<' | b'>' | b'&' => {
                push_unicode_escape(out, *byte);
                continue;
            }
            0xe2 => {
                rest = push_separator_escape(out, rest);
                continue;
            }
            _ => {}
        }
        out.push(*byte);
    }
}

fn push_escaped(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    loop {
        let plain = rest
            .iter()
            .position(|byte| !STANDS_FOR_ITSELF[usize::from(*byte)])
            .unwrap_or(rest.len());
        out.extend_from_slice(&rest[..plain]);
        let [byte, after @ ..] = &rest[plain..] else {
            return;
        };
        rest = after;
        let short = match byte {
            b'"' | b'\\' => *byte,
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0xe2 => {
                rest = push_separator_escape(out, rest);
                continue;
            }
            _ => {
                push_unicode_escape(out, *byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
}

fn push_unicode_escape(out: &mut Vec<u8>, byte: u8) {
    out.extend_from_slice(br"\u00");
    out.push(HEX_DIGITS[usize::from(byte >> 4)]);
    out.push(HEX_DIGITS[usize::from(byte & 15)]);
}

/// Appends U+2028 or U+2029 escaped if `rest`, after the byte 0xe2, completes one of them, else that
/// byte. Returns what follows.
fn push_separator_escape<'t>(out: &mut Vec<u8>, rest: &'t [u8]) -> &'t [u8] {
    if let [0x80, last @ (0xa8 | 0xa9), after @ ..] = rest {
        out.extend_from_slice(br"\u202");
        out.push(HEX_DIGITS[usize::from(last & 15)]);
        after
    } else {
        out.push(0xe2);
        rest
    }
}

/// Writes one object, field by field.
///
/// The methods ending in `_if_any` leave the field out when Go's `omitempty` does.
pub(super) struct ObjectWriter<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

impl<'o> ObjectWriter<'o> {
    pub(super) fn new(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// Starts a field and returns where its value goes. `key` needs no escaping.
    pub(super) fn field(&mut self, key: &str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.empty) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    pub(super) fn string(&mut self, key: &str, text: &str) {
        push_string(self.field(key), text);
    }

    pub(super) fn string_if_any(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            self.string(key, text);
        }
    }

    pub(super) fn number(&mut self, key: &str, number: impl fmt::Display) {
        push_display(self.field(key), number);
    }

    pub(super) fn number_if_any(&mut self, key: &str, number: impl Into<u64>) {
        let number = number.into();
        if number != 0 {
            self.number(key, number);
        }
    }

    pub(super) fn time(&mut self, key: &str, time: &FileTime) {
        push_time(self.field(key), time);
    }

    pub(super) fn id(&mut self, key: &str, id: &[u8; 32]) {
        push_id(self.field(key), id);
    }

    pub(super) fn strings(&mut self, key: &str, list: &[String]) {
        push_list(self.field(key), list, |out, text| push_string(out, text));
    }

    pub(super) fn strings_if_any(&mut self, key: &str, list: &[String]) {
        if !list.is_empty() {
            self.strings(key, list);
        }
    }

    pub(super) fn finish(self) {
        self.out.push(b'}');
    }
}

/// Appends an array, each item by `push`.
pub(super) fn push_list<T>(out: &mut Vec<u8>, items: &[T], mut push: impl FnMut(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push(out, item);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::fixtures;

    fn lossy(text: &[u8]) -> String {
        let mut out = Vec::new();
        push_string_lossy(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    fn raw(json: &str) -> String {
        let mut out = Vec::new();
        push_raw(&mut out, &serde_json::from_str::<Box<RawValue>>(json).unwrap());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_are_written_as_go_writes_them() {
        for (bytes, json) in fixtures::hex_and_json("strings.tsv") {
            assert_eq!(lossy(&bytes), json, "{bytes:02x?}");
            if let Ok(text) = std::str::from_utf8(&bytes) {
                let mut out = Vec::new();
                push_string(&mut out, text);
                assert_eq!(out, json.as_bytes());
            }
        }
    }

    #[test]
    fn raw_values_lose_white_space_and_gain_escapes_only() {
        let json = "{ \"a\" : \"<\u{2028}\\b\\u0008 \\\" x\" ,\n\"b\": [ 1.0e5 , null ] }";
        let go = r#"{"a":"\u003c\u2028\b\u0008 \" x","b":[1.0e5,null]}"#;
        assert_eq!(raw(json), go);
        assert_eq!(raw(go), go);
        assert_eq!(raw("\"\u{2030}日\u{2029}\""), "\"\u{2030}日\\u2029\"");
    }
}
