//! Where keys lie that were not listed yet, guessed from a page that was.
//!
//! A guess only says where a request begins. A wrong one makes a request that brings little, or leaves one
//! to be made; it never leaves out a key.

use std::collections::BTreeSet;

/// Characters before the first one that differs in a page which may change behind it.
const CARRY: usize = 8;
/// Characters from there on which are counted with.
const PRECISION: usize = 6;
/// More characters in one place are no alphabet but noise.
const MOST_CHARACTERS: usize = 128;

/// How closely keys follow each other.
#[derive(Debug, Clone)]
pub(super) struct Density {
    /// What stands in front of the places.
    front: Vec<char>,
    /// The characters that keys have in each place, in order.
    places: Vec<Vec<char>>,
    /// From the first key to the last one, with each place a digit.
    span: u128,
    /// The number of keys less one.
    steps: u128,
}

impl Density {
    /// That of these keys, which are in order; nothing if they do not tell.
    pub(super) fn of<'a>(keys: impl ExactSizeIterator<Item = &'a str> + Clone) -> Option<Self> {
        let steps = u128::try_from(keys.len().checked_sub(1)?).ok()?;
        let first: Vec<char> = keys.clone().next()?.chars().collect();
        let last: Vec<char> = keys.clone().last()?.chars().collect();
        let same = first.iter().zip(&last).take_while(|(one, other)| one == other).count();
        let from = same.saturating_sub(CARRY);
        let mut seen = vec![BTreeSet::new(); same + PRECISION - from];
        for key in keys {
            for (seen, character) in seen.iter_mut().zip(key.chars().skip(from)) {
                seen.insert(character);
            }
        }
        let hexadecimal = hexadecimal_letters(&seen);
        let mut places = Vec::new();
        for seen in seen {
            if seen.is_empty() || seen.len() > MOST_CHARACTERS {
                break;
            }
            places.push(alphabet(&seen, hexadecimal));
        }
        let front = first.get(..from)?.to_vec();
        let mut density = Self { front, places, span: 0, steps };
        density.span = density.number(&last)?.checked_sub(density.number(&first)?)?;
        (density.span > 0 && steps > 0).then_some(density)
    }

    /// Where the key lies that has about so many others between itself and `behind`.
    pub(super) fn guess(&self, behind: &str, keys: u32) -> Option<String> {
        let known: Vec<char> = behind.chars().collect();
        let way = self.span.checked_mul(u128::from(keys))? / self.steps;
        let mut number = self.number(&known)?.checked_add(way.max(1))?;
        let mut characters = Vec::with_capacity(self.places.len());
        for place in self.places.iter().rev() {
            let size = place.len() as u128;
            let digit = usize::try_from(number % size).ok()?;
            characters.push(*place.get(digit)?);
            number /= size;
        }
        // It goes beyond what the keys had in common.
        if number > 0 {
            return None;
        }
        Some(self.front.iter().chain(characters.iter().rev()).collect())
    }

    /// A key as a number; nothing if it begins otherwise.
    fn number(&self, key: &[char]) -> Option<u128> {
        let rest = key.strip_prefix(self.front.as_slice())?;
        let mut number = 0_u128;
        for (index, place) in self.places.iter().enumerate() {
            let digit = match rest.get(index) {
                None => 0,
                Some(character) => {
                    place.partition_point(|known| known < character).min(place.len() - 1)
                }
            };
            number = number.checked_mul(place.len() as u128)?.checked_add(digit as u128)?;
        }
        Some(number)
    }
}

/// The first and the last letter of hexadecimal numbers, if all letters that change are digits of such.
fn hexadecimal_letters(seen: &[BTreeSet<char>]) -> Option<[char; 2]> {
    let changing = || seen.iter().filter(|seen| seen.len() > 1);
    let letters = || changing().flatten().filter(|seen| seen.is_ascii_alphabetic());
    let first = letters().next()?;
    let range = if first.is_ascii_lowercase() { ['a', 'f'] } else { ['A', 'F'] };
    letters().all(|letter| (range[0]..=range[1]).contains(letter)).then_some(range)
}

/// The characters that may come in a place where these came.
fn alphabet(seen: &BTreeSet<char>, hexadecimal: Option<[char; 2]>) -> Vec<char> {
    let has = |is: fn(&char) -> bool| seen.iter().any(is);
    let mut characters = seen.clone();
    let letters = match hexadecimal {
        Some([from, to]) if has(char::is_ascii_alphanumeric) => {
            characters.extend('0'..='9');
            characters.extend(from..=to);
            return characters.into_iter().collect();
        }
        _ => [('0', '9', has(char::is_ascii_digit)), ('a', 'z', has(char::is_ascii_lowercase))],
    };
    for (from, to, is_seen) in
        letters.into_iter().chain([('A', 'Z', has(char::is_ascii_uppercase))])
    {
        if is_seen {
            characters.extend(from..=to);
        }
    }
    characters.into_iter().collect()
}
