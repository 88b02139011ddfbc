//! What is left of objects that never became whole.

use std::time::Duration;

use super::{DestinationFixture, create, key, list};
use crate::destination::{Leftovers, ObjectKey};
use crate::testing::random_bytes;

/// [`remove_abandoned`](crate::destination::Destination::remove_abandoned) leaves objects alone.
pub async fn what_is_abandoned_is_no_object(fixture: DestinationFixture) {
    let destination = &*fixture.destination;
    for n in 0..3 {
        create(destination, &key(n), &random_bytes(n, 100)).await;
    }
    let before = list(destination, "data").await;
    let prefix = ObjectKey::new("data").expect("a key");
    for dry_run in [true, false] {
        let found = destination.remove_abandoned(&prefix, Duration::ZERO, dry_run).await;
        assert_eq!(found.expect("an answer"), Leftovers::default());
    }
    assert_eq!(list(destination, "data").await, before);
}
