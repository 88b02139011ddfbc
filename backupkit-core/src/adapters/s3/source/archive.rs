//! Objects in archives.

use aws_sdk_s3::types::Tier;

use super::super::errors::THAWING;
use super::Shared;
use super::found::ListedObject;
use crate::error::{Error, ErrorKind};

/// What to do with objects that cannot be read before somebody brings them back from an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ArchivedObjects {
    /// They are left out, each with a warning. The next backup tries again.
    #[default]
    Skip,
    /// They are asked for from the archive, and left out, each with a warning. A backup that begins when
    /// they are there, hours later, reads them. The server takes money for it.
    Thaw {
        /// How fast, and how dear.
        tier: ThawTier,
        /// For how many days they are there, before they are in the archive alone again.
        days: u16,
    },
    /// The backup fails.
    Fail,
}

/// How fast objects come from an archive. Not every archive knows each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ThawTier {
    /// Within hours.
    #[default]
    Standard,
    /// Within half a day or two days, for the least money.
    Bulk,
    /// Within minutes, for the most money.
    Expedited,
}

impl ThawTier {
    fn as_sdk(self) -> Tier {
        match self {
            Self::Standard => Tier::Standard,
            Self::Bulk => Tier::Bulk,
            Self::Expedited => Tier::Expedited,
        }
    }
}

/// Why an object in an archive is left out; it may be asked for on that occasion.
pub(super) async fn left_out(shared: &Shared, object: &ListedObject, archived: Error) -> Error {
    let ArchivedObjects::Thaw { tier, days } = shared.options.archived else { return archived };
    // The next backup asks again.
    match shared.hasty.thaw(object.named(), &tier.as_sdk(), days).await {
        Ok(()) => {
            shared.notes.thawing(&object.key);
            let key = object.key.escape_debug();
            let why = "it was asked for from its archive, and a later backup reads it";
            Error::new(ErrorKind::Unsupported, format!("cannot read {key} yet: {why}"))
                .with_code(THAWING)
        }
        Err(refused) => refused,
    }
}
