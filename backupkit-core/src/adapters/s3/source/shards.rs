//! Directories of very many entries are divided.
//!
//! A tree is read and written as a whole, and anew whenever something in it changes. So in a directory
//! only the first entries stand themselves. All others stand in directories in between, each with a run of
//! them. A run ends where a hash of the next name says so: an entry that comes or goes changes the run it
//! is in, and the others stay as they are. Nothing has to be known ahead, and a directory that grows moves
//! none of its first entries.
//!
//! Objects and directories are divided each by itself. Objects of a directory come in the order of their
//! names from every server; only its directories come in the one order or the other.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::super::keys::{range_of_directories, range_of_objects};

/// What the sizes of runs are held to. All counts are of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// So many always stand in the directory itself.
    pub(super) undivided: u32,
    /// A run has at least so many, unless it is the last one.
    pub(super) least: u32,
    /// No run has more; in the directory itself stand no more than this besides.
    pub(super) most: u32,
    /// One name in so many begins a run.
    pub(super) one_in: u32,
}

/// What stands in the runs of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Objects,
    Directories,
}

/// A directory that stands for no part of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shard {
    #[serde(rename = "n")]
    pub(super) name: String,
    /// When what is in it last changed, in seconds since 1970.
    #[serde(rename = "m")]
    pub(super) modified: i64,
}

/// The entries of one kind in a directory, as far as they have come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sequence {
    /// In the run at hand.
    #[serde(rename = "c")]
    count: u32,
    /// Where they stand, once it is not the directory itself.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    shard: Option<Shard>,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { undivided: 65_536, least: 1_024, most: 16_384, one_in: 4_096 }
    }
}

impl Sequence {
    /// Whether nothing came yet.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes the next entry in, which stands for this part of a key. Gives the name of the shard where it
    /// stands, if in any, and the shard that gets no more entries.
    pub(super) fn take(
        &mut self,
        part: &str,
        kind: Kind,
        sizes: Sizes,
    ) -> (Option<String>, Option<Shard>) {
        let least = if self.shard.is_some() { sizes.least } else { sizes.undivided };
        let most = if self.shard.is_some() { sizes.most } else { least + sizes.most };
        let mut over = None;
        if self.count >= most || (self.count >= least && begins(part, sizes.one_in)) {
            let name = match kind {
                Kind::Objects => range_of_objects(part),
                Kind::Directories => range_of_directories(part),
            };
            over = self.shard.replace(Shard { name, modified: 0 });
            self.count = 0;
        }
        self.count += 1;
        (self.shard.as_ref().map(|shard| shard.name.clone()), over)
    }

    /// Notes when something in the run at hand changed, in seconds since 1970.
    pub(super) fn note_change(&mut self, modified: i64) {
        if let Some(shard) = &mut self.shard {
            shard.modified = shard.modified.max(modified);
        }
    }

    /// Ends the last shard.
    pub(super) fn end(&mut self) -> Option<Shard> {
        self.shard.take()
    }
}

/// Whether a run begins with this part. Known from the part alone.
fn begins(part: &str, one_in: u32) -> bool {
    let hash = Sha256::digest(part);
    let number = hash.iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte));
    number.is_multiple_of(one_in)
}
