//! The stages of a backup, in the order of the data.
//!
//! ```text
//! list -> unchanged in every lane? -> read -> chunk -> hash -> known in every lane? -> compress once
//!      -> per lane: seal -> pack -> create -> index
//! nodes -> directories -> trees -> (all lanes) -> snapshot per lane
//! ```
//! Data flows one way. Only the reading side looks at the pause gate; the rest drains because its
//! input stopped.

pub(crate) mod budget;
pub(crate) mod control;
pub(crate) mod per_lane;
pub(crate) mod pool;
