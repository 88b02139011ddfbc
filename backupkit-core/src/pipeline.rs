//! The stages of a backup, in the order of the data.
//!
//! ```text
//! list -> unchanged in every lane? -> read -> chunk -> hash -> known in every lane? -> compress once
//!      -> per lane: seal -> pack -> create -> index
//! nodes -> directories -> trees -> (all lanes) -> snapshot per lane
//! ```
//! Data flows one way. Only the reading side looks at the pause gate; the rest drains because its
//! input stopped.

pub(crate) mod attend;
pub(crate) mod budget;
pub(crate) mod checkpoint;
pub(crate) mod chunk;
pub(crate) mod closure;
pub(crate) mod control;
pub(crate) mod directories;
pub(crate) mod driver;
pub(crate) mod guard;
pub(crate) mod lane;
pub(crate) mod node;
pub(crate) mod parent;
pub(crate) mod per_lane;
pub(crate) mod progress;
pub(crate) mod read;
pub(crate) mod sequence;
pub(crate) mod store;
pub(crate) mod task;
