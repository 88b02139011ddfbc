//! Which characters Go's `strconv.IsPrint` calls printable.
//!
//! The category data is that of Unicode 16, Go's (1.21 to 1.26 at least) that of Unicode 15. What the
//! newer one added is listed here and left out, so that names are quoted as current programs of the
//! format quote them. Programs built with another Go quote the few characters in between otherwise:
//! readers understand both, such a directory is only stored once more.

use unicode_general_category::{GeneralCategory, get_general_category};

/// Whether Go calls a character printable: a letter, mark, number, punctuation, symbol or the ASCII
/// space.
pub(super) fn is_printable(character: char) -> bool {
    match character {
        ' '..='~' => true,
        '\0'..='\u{a0}' => false,
        _ => {
            is_printable_in_unicode_16(character) && !is_newer_than_unicode_15(u32::from(character))
        }
    }
}

fn is_printable_in_unicode_16(character: char) -> bool {
    !matches!(
        get_general_category(character),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::Surrogate
            | GeneralCategory::PrivateUse
            | GeneralCategory::Unassigned
            | GeneralCategory::SpaceSeparator
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    )
}

fn is_newer_than_unicode_15(code: u32) -> bool {
    let after = NEWER_THAN_UNICODE_15.partition_point(|(first, _)| *first <= code);
    after > 0 && code <= NEWER_THAN_UNICODE_15[after - 1].1
}

/// First and last of each range, ascending.
const NEWER_THAN_UNICODE_15: [(u32, u32); 50] = [
    (0x0897, 0x0897),
    (0x1b4e, 0x1b4f),
    (0x1b7f, 0x1b7f),
    (0x1c89, 0x1c8a),
    (0x2427, 0x2429),
    (0x2ffc, 0x2fff),
    (0x31e4, 0x31e5),
    (0x31ef, 0x31ef),
    (0xa7cb, 0xa7cd),
    (0xa7da, 0xa7dc),
    (0x1_05c0, 0x1_05f3),
    (0x1_0d40, 0x1_0d65),
    (0x1_0d69, 0x1_0d85),
    (0x1_0d8e, 0x1_0d8f),
    (0x1_0ec2, 0x1_0ec4),
    (0x1_0efc, 0x1_0efc),
    (0x1_1380, 0x1_1389),
    (0x1_138b, 0x1_138b),
    (0x1_138e, 0x1_138e),
    (0x1_1390, 0x1_13b5),
    (0x1_13b7, 0x1_13c0),
    (0x1_13c2, 0x1_13c2),
    (0x1_13c5, 0x1_13c5),
    (0x1_13c7, 0x1_13ca),
    (0x1_13cc, 0x1_13d5),
    (0x1_13d7, 0x1_13d8),
    (0x1_13e1, 0x1_13e2),
    (0x1_16d0, 0x1_16e3),
    (0x1_1bc0, 0x1_1be1),
    (0x1_1bf0, 0x1_1bf9),
    (0x1_1f5a, 0x1_1f5a),
    (0x1_3460, 0x1_43fa),
    (0x1_6100, 0x1_6139),
    (0x1_6d40, 0x1_6d79),
    (0x1_8cff, 0x1_8cff),
    (0x1_cc00, 0x1_ccf9),
    (0x1_cd00, 0x1_ceb3),
    (0x1_e5d0, 0x1_e5fa),
    (0x1_e5ff, 0x1_e5ff),
    (0x1_f8b2, 0x1_f8bb),
    (0x1_f8c0, 0x1_f8c1),
    (0x1_fa89, 0x1_fa89),
    (0x1_fa8f, 0x1_fa8f),
    (0x1_fabe, 0x1_fabe),
    (0x1_fac6, 0x1_fac6),
    (0x1_fadc, 0x1_fadc),
    (0x1_fadf, 0x1_fadf),
    (0x1_fae9, 0x1_fae9),
    (0x1_fbcb, 0x1_fbef),
    (0x2_ebf0, 0x2_ee5d),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::fixtures;

    #[test]
    fn every_character_is_printable_exactly_where_go_says_so() {
        let mut expected = vec![false; 0x11_0000];
        for line in fixtures::lines("printable.txt") {
            let (first, last) = line.split_once(' ').unwrap();
            let code = |digits| usize::from_str_radix(digits, 16).unwrap();
            expected[code(first)..=code(last)].fill(true);
        }
        let wrong: Vec<_> = ('\0'..=char::MAX)
            .filter(|character| is_printable(*character) != expected[*character as usize])
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
