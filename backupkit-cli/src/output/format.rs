//! Numbers, times and names as people read them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use backupkit_core::model::FileTime;
use jiff::tz::TimeZone;

const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// `512 B`, `1.2 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    if count < 1024 {
        return format!("{count} B");
    }
    let mut unit = 0;
    // One digit behind the point, rounded, in integers: floats would lose small differences.
    let mut tenths = u128::from(count) * 10 / 1024;
    let mut divisor = 1024_u128;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        unit += 1;
        divisor *= 1024;
        tenths = u128::from(count) * 10 / divisor;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// `12,345`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 file`, `2 files`; `many` is the plural.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// `0.8 s`, `12 s`, `3 min 05 s`, `2 h 03 min`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// `0:05`, `12:34`, `1:00:00`.
pub(crate) fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

/// `2026-11-22 21:01:03` in `zone`.
pub(crate) fn time(time: &FileTime, zone: &TimeZone) -> String {
    let local = time.timestamp().to_zoned(zone.clone());
    local.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Text without line breaks and control characters, so that no name can write on the terminal.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// Bytes as text: what is not UTF-8 and control characters are escaped.
pub(crate) fn lossy(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&one_line(chunk.valid()));
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

/// A word for a POSIX shell.
pub(crate) fn shell_word(word: &OsStr) -> String {
    let bytes = word.as_bytes();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&byte);
    if !bytes.is_empty() && bytes.iter().copied().all(is_plain) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
        // Any shell can make these from octal numbers.
        _ => {
            let escape = |&byte: &u8| {
                if is_plain(byte) && byte != b'%' {
                    char::from(byte).to_string()
                } else {
                    format!("\\{byte:03o}")
                }
            };
            format!("\"$(printf '{}')\"", bytes.iter().map(escape).collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_digit_behind_the_point() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (1 << 20, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn counts_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn durations_get_coarser_as_they_grow() {
        for (milliseconds, text) in [
            (0, "0.0 s"),
            (840, "0.8 s"),
            (12_300, "12 s"),
            (185_000, "3 min 05 s"),
            (7_380_000, "2 h 03 min"),
        ] {
            assert_eq!(duration(Duration::from_millis(milliseconds)), text);
        }
        assert_eq!(clock(Duration::from_secs(3605)), "1:00:05");
        assert_eq!(clock(Duration::from_secs(65)), "1:05");
    }

    #[test]
    fn names_cannot_write_on_the_terminal() {
        assert_eq!(lossy(b"a\x1b[31m\n\xff"), "a\\u{1b}[31m\\n\\xff");
    }

    #[test]
    fn a_shell_reads_words_back() {
        for word in [
            &b"plain/path-1.x"[..],
            b"",
            b"a b",
            b"it's",
            b"$HOME `x` \"y\" \\",
            b"~",
            b"new\nline",
            b"\xff\x01 100% \\",
            "ä".as_bytes(),
            b"'",
            b"-n",
        ] {
            let script = format!("printf %s {}", shell_word(OsStr::from_bytes(word)));
            let output =
                std::process::Command::new("/bin/sh").arg("-c").arg(&script).output().unwrap();
            assert_eq!(output.stdout, word, "{script}");
        }
    }
}
