//! Sizes as people type them.

/// Reads a number of bytes: digits, and K, M, G or T with or without `iB`. All are powers of 1024.
pub(super) fn parse(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start().to_ascii_lowercase();
    let letter = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit);
    let shift = match letter {
        "" if !unit.starts_with("ib") => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err("write it as 64MiB or 1GiB".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "write it as 64MiB or 1GiB".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "that is too much".to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn sizes_have_units_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("64MiB", 64 << 20),
            ("64M", 64 << 20),
            ("64 mb", 64 << 20),
            ("2g", 2 << 30),
            ("1KiB", 1024),
            ("3T", 3 << 40),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "iB", "1.5M", "-1", "64X", "64MiBs", "99999999999999T"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
