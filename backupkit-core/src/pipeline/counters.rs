//! Numbers that a run counts while it goes, for progress and for the summary.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that only grow. Read at any time, exact at the end.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    read_bytes: AtomicU64,
    listed_entries: AtomicU64,
    listed_bytes: AtomicU64,
    finished_entries: AtomicU64,
    finished_bytes: AtomicU64,
    listing_done: AtomicU64,
}

macro_rules! counter {
    ($add:ident, $field:ident) => {
        pub(crate) fn $add(&self, count: u64) {
            self.$field.fetch_add(count, Ordering::Relaxed);
        }

        pub(crate) fn $field(&self) -> u64 {
            self.$field.load(Ordering::Relaxed)
        }
    };
}

impl Counters {
    counter!(add_read, read_bytes);
    counter!(add_listed, listed_entries);
    counter!(add_listed_bytes, listed_bytes);
    counter!(add_finished, finished_entries);
    counter!(add_finished_bytes, finished_bytes);

    pub(crate) fn set_listing_done(&self) {
        self.listing_done.store(1, Ordering::Relaxed);
    }

    pub(crate) fn is_listing_done(&self) -> bool {
        self.listing_done.load(Ordering::Relaxed) == 1
    }
}
