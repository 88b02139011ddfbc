//! A value that each lane has, kept once while it is the same in all of them.

/// One value per lane. Most content is equal in all repositories, so it is stored and encoded once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PerLane<T> {
    /// All lanes have this.
    Same(T),
    /// One value a lane, in the order of the lanes.
    Each(Vec<T>),
}

impl<T> PerLane<T> {
    /// The value of one lane.
    pub(crate) fn get(&self, lane: usize) -> &T {
        match self {
            Self::Same(value) => value,
            Self::Each(values) => &values[lane],
        }
    }

    /// Collects one value a lane; at least one.
    pub(crate) fn collect(values: Vec<T>) -> Self
    where
        T: PartialEq,
    {
        let mut values = values;
        match values.split_first() {
            Some((first, rest)) if rest.iter().all(|value| value == first) => {
                Self::Same(values.swap_remove(0))
            }
            _ => Self::Each(values),
        }
    }

    /// Applies `change` to each distinct value.
    pub(crate) fn map<U>(&self, mut change: impl FnMut(&T) -> U) -> PerLane<U> {
        match self {
            Self::Same(value) => PerLane::Same(change(value)),
            Self::Each(values) => PerLane::Each(values.iter().map(change).collect()),
        }
    }

    /// The distinct values, each with the lanes that have it, out of `lanes`.
    pub(crate) fn distinct(&self, lanes: usize) -> Vec<(&T, Vec<usize>)> {
        match self {
            Self::Same(value) => vec![(value, (0..lanes).collect())],
            Self::Each(values) => {
                values.iter().enumerate().map(|(lane, value)| (value, vec![lane])).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_kept_once() {
        assert_eq!(PerLane::collect(vec![1, 1]), PerLane::Same(1));
        let different = PerLane::collect(vec![1, 2]);
        assert_eq!((different.get(0), different.get(1)), (&1, &2));
        assert_eq!(different.distinct(2), [(&1, vec![0]), (&2, vec![1])]);
        assert_eq!(PerLane::Same(7).distinct(2), [(&7, vec![0, 1])]);
    }
}
