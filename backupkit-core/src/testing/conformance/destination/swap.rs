//! Cases of the optional swap.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::{DestinationFixture, assert_kind, assert_object, create, key, list};
use crate::error::ErrorKind;
use crate::testing::conformance::not_applicable;
use crate::testing::random_bytes;

/// `swap`.
pub async fn swap_creates_only_what_is_missing(fixture: DestinationFixture) {
    let destination = &*fixture.destination;
    if !destination.capabilities().swap {
        return not_applicable("swap is off");
    }
    let (one, two) = (Bytes::from_static(b"one"), Bytes::from_static(b"two"));
    let swapped = destination.swap(&key(1), None, one.clone()).await;
    swapped.expect("what is missing is created");
    assert_object(destination, &key(1), &one).await;
    let again = destination.swap(&key(1), None, two.clone()).await;
    assert_kind(again, ErrorKind::Conflict);
    let missing = destination.swap(&key(2), Some(one.clone()), two).await;
    assert_kind(missing, ErrorKind::Conflict);
    assert_eq!(list(destination, "data").await, [(key(1), 3)].into());
    assert_object(destination, &key(1), &one).await;
}

/// `swap`.
pub async fn swap_replaces_only_what_is_expected(fixture: DestinationFixture) {
    let destination = &*fixture.destination;
    if !destination.capabilities().swap {
        return not_applicable("swap is off");
    }
    let [one, two, three] = [b"one", b"two", b"3rd"].map(|text| Bytes::from_static(text));
    create(destination, &key(1), &one).await;
    let expected = Some(one.clone());
    let swapped = destination.swap(&key(1), expected, two.clone()).await;
    swapped.expect("what is expected is replaced");
    assert_object(destination, &key(1), &two).await;
    let late = destination.swap(&key(1), Some(one), three).await;
    assert_kind(late, ErrorKind::Conflict);
    assert_object(destination, &key(1), &two).await;
}

/// `swap` and contract 6.
pub async fn of_concurrent_swaps_exactly_one_wins(fixture: DestinationFixture) {
    if !fixture.destination.capabilities().swap {
        return not_applicable("swap is off");
    }
    let mut expected = None;
    for round in 0..5 {
        let start = Arc::new(Barrier::new(8));
        let mut swaps = JoinSet::new();
        for n in 0..8 {
            let destination = Arc::clone(&fixture.destination);
            let (expected, bytes) = (expected.clone(), random_bytes(round * 10 + n, 1_000));
            let start = Arc::clone(&start);
            swaps.spawn(async move {
                start.wait().await;
                let swapped = destination.swap(&key(1), expected, bytes.clone()).await;
                (swapped, bytes)
            });
        }
        let mut winners = Vec::new();
        for (swapped, bytes) in swaps.join_all().await {
            match swapped {
                Ok(()) => winners.push(bytes),
                Err(error) => assert_kind(Err::<(), _>(error), ErrorKind::Conflict),
            }
        }
        assert_eq!(winners.len(), 1, "several swaps of one object succeeded");
        assert_object(&*fixture.destination, &key(1), &winners[0]).await;
        expected = winners.pop();
    }
}

/// `swap`: what is not there says so.
pub async fn swap_without_the_capability_is_unsupported(fixture: DestinationFixture) {
    let destination = &*fixture.destination;
    if destination.capabilities().swap {
        return not_applicable("swap is on");
    }
    let bytes = Bytes::from_static(b"x");
    let swapped = destination.swap(&key(1), None, bytes).await;
    assert_kind(swapped, ErrorKind::Unsupported);
    assert_kind(destination.stat(&key(1)).await, ErrorKind::NotFound);
}
