//! Which steps of a plan are done, in a few numbers.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// So many gaps are kept; what is behind them is done again.
const MAX_GAPS: usize = 8192;

/// Steps by their number in the plan: a watermark, and the gaps below it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DoneSteps {
    /// None from here on is done.
    below: usize,
    /// None in these is done. Ascending.
    gaps: Vec<Range<usize>>,
}

impl DoneSteps {
    /// Adds a step behind all others; `false` if there is no room for the gap before it.
    pub(super) fn add(&mut self, number: usize) -> bool {
        self.add_all(number..number.saturating_add(1))
    }

    /// Adds the steps of `other` from this number on, which is behind all others, as far as there is
    /// room.
    pub(super) fn add_from(&mut self, start: usize, other: &Self) {
        let starts = std::iter::once(0).chain(other.gaps.iter().map(|gap| gap.end));
        let ends = other.gaps.iter().map(|gap| gap.start).chain([other.below]);
        for (from, end) in starts.zip(ends) {
            let steps = start.max(from)..end;
            if !steps.is_empty() && !self.add_all(steps) {
                return;
            }
        }
    }

    fn add_all(&mut self, numbers: Range<usize>) -> bool {
        if numbers.start > self.below {
            if self.gaps.len() >= MAX_GAPS {
                return false;
            }
            self.gaps.push(self.below..numbers.start);
        }
        self.below = numbers.end;
        true
    }

    /// How many are done.
    pub(super) fn count(&self) -> usize {
        let gaps: usize = self.gaps.iter().map(ExactSizeIterator::len).sum();
        self.below.saturating_sub(gaps)
    }

    pub(super) fn contains(&self, number: usize) -> bool {
        let next = self.gaps.partition_point(|gap| gap.end <= number);
        number < self.below && self.gaps.get(next).is_none_or(|gap| number < gap.start)
    }

    /// Whether it can have been made by adding steps.
    pub(super) fn is_sound(&self) -> bool {
        let mut edges = self.gaps.iter().flat_map(|gap| [gap.start, gap.end]);
        self.gaps.len() <= MAX_GAPS
            && edges.clone().skip(1).zip(edges.clone()).all(|(after, before)| before < after)
            && edges.next_back().is_none_or(|end| end < self.below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_contained_and_nothing_else() {
        let mut done = DoneSteps::default();
        for number in [2, 3, 7, 8, 10] {
            assert!(done.add(number));
        }
        assert!(done.is_sound());
        let contained: Vec<_> = (0..20).filter(|number| done.contains(*number)).collect();
        assert_eq!(contained, [2, 3, 7, 8, 10]);
    }

    #[test]
    fn the_rest_of_another_is_added_behind() {
        let of = |numbers: &[usize]| {
            let mut done = DoneSteps::default();
            assert!(numbers.iter().all(|number| done.add(*number)));
            done
        };
        let other = of(&[0, 1, 2, 3, 7, 8, 10]);
        for start in 0..13 {
            for own in [&[][..], &[0], &[0, 2, 3, 4, 6]] {
                let own: Vec<_> = own.iter().copied().filter(|number| *number < start).collect();
                let mut done = of(&own);
                done.add_from(start, &other);
                assert!(done.is_sound());
                let rest = (start..20).filter(|number| other.contains(*number));
                let all: Vec<_> = own.iter().copied().chain(rest).collect();
                assert_eq!(done, of(&all), "{start}, {own:?}");
            }
        }
    }

    #[test]
    fn a_plan_full_of_gaps_stays_small() {
        let mut done = DoneSteps::default();
        let added = (1..100_000).step_by(2).take_while(|number| done.add(*number)).count();
        assert_eq!(added, MAX_GAPS);
        assert!(done.contains(2 * MAX_GAPS - 1) && !done.contains(2 * MAX_GAPS + 1));
    }

    #[test]
    fn odd_numbers_from_outside_are_found() {
        let cases: [(usize, &[(usize, usize)]); 3] =
            [(5, &[(4, 5)]), (9, &[(3, 3)]), (9, &[(3, 5), (4, 6)])];
        for (below, gaps) in cases {
            let gaps = gaps.iter().map(|(start, end)| *start..*end).collect();
            assert!(!DoneSteps { below, gaps }.is_sound());
        }
    }
}
