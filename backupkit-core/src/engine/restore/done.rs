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
        if number > self.below {
            if self.gaps.len() >= MAX_GAPS {
                return false;
            }
            self.gaps.push(self.below..number);
        }
        self.below = number.saturating_add(1);
        true
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
