//! Lists entries depth first, each directory behind what it holds.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Entry, EntryPath, FileMode, FileTime, Metadata};
use crate::source::{Listed, ListedItem};
use crate::token::ListToken;

/// A listing that is known as a whole.
#[derive(Debug, Default)]
pub(super) struct Listing {
    places: BTreeMap<Place, ListedItem>,
}

/// A place in the listing, and what a token holds. In the order of the listing: a directory is done
/// behind everything below it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place(EntryPath);

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.0 == other.0 {
            Ordering::Equal
        } else if other.0.starts_with(&self.0) {
            Ordering::Greater
        } else if self.0.starts_with(&other.0) {
            Ordering::Less
        } else {
            self.0.cmp(&other.0)
        }
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Listing {
    /// Lists these entries, the directories above them below `root`, and these directories besides.
    pub(super) fn new(
        root: &EntryPath,
        entries: impl IntoIterator<Item = Entry>,
        directories: impl IntoIterator<Item = EntryPath>,
    ) -> Self {
        let mut listing = Self::default();
        let mut all: BTreeSet<EntryPath> = directories.into_iter().collect();
        for entry in entries {
            all.extend(entry.path.parent());
            let place = Place(entry.path.clone());
            listing.places.insert(place, ListedItem::Entry(Box::new(entry)));
        }
        for directory in all {
            let mut above = Some(directory);
            while let Some(path) = above.filter(|path| path.starts_with(root)) {
                above = path.parent();
                let item = ListedItem::DirDone {
                    path: path.clone(),
                    metadata: Box::new(Metadata::new(FileMode::DIRECTORY, FileTime::EPOCH)),
                };
                // The root of all has no name to be announced by.
                if !path.is_empty() {
                    listing.places.insert(Place(path), item);
                }
            }
        }
        listing
    }

    /// Leaves out a directory, which is to be announced later, and returns it.
    pub(super) fn remove(&mut self, path: &EntryPath) -> Option<Listed> {
        let (place, item) = self.places.remove_entry(&Place(path.clone()))?;
        Some(place.listed(item))
    }

    /// The items behind `after`.
    pub(super) fn behind(&self, after: Option<&ListToken>) -> Vec<Listed> {
        let after = after.and_then(|token| EntryPath::from_token(token.as_bytes()));
        let items: Vec<_> = match after.map(Place) {
            None => self.places.iter().collect(),
            Some(place) => {
                use std::ops::Bound::{Excluded, Unbounded};
                self.places.range((Excluded(place), Unbounded)).collect()
            }
        };
        let listed = |(place, item): (&Place, &ListedItem)| place.listed(item.clone());
        items.into_iter().map(listed).collect()
    }
}

impl Place {
    fn listed(&self, item: ListedItem) -> Listed {
        Listed { item, token: ListToken::new(self.0.to_token()) }
    }
}
