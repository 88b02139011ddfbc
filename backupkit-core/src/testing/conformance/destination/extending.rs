//! What is retained for longer.

use super::{DestinationFixture, assert_object, create, key, list};
use crate::error::ErrorKind;
use crate::testing::random_bytes;

/// [`extend_retention`](crate::destination::Destination::extend_retention) leaves objects as they are,
/// and only what is there can be retained.
pub async fn what_is_retained_for_longer_stays_as_it_is(fixture: DestinationFixture) {
    let destination = &*fixture.destination;
    let bytes = random_bytes(1, 100);
    create(destination, &key(1), &bytes).await;
    let before = list(destination, "data").await;
    for dry_run in [true, false, false] {
        match destination.extend_retention(&key(1), dry_run).await {
            Ok(_) => {}
            Err(error) => {
                let found = (error.kind(), error.code());
                assert_eq!(found, (ErrorKind::Unsupported, "no-retention"), "{error:?}");
            }
        }
        let missing = destination.extend_retention(&key(2), dry_run).await;
        let missing = missing.expect_err("nothing is there to be retained").kind();
        assert!(matches!(missing, ErrorKind::NotFound | ErrorKind::Unsupported), "{missing}");
    }
    assert_eq!(list(destination, "data").await, before);
    assert_object(destination, &key(1), &bytes).await;
}
