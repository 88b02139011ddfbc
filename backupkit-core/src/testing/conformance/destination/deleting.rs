//! What is deleted is gone.

use bytes::Bytes;

use super::{DestinationFixture, assert_kind, assert_object, create, key, list};
use crate::error::ErrorKind;
use crate::testing::random_bytes;

/// Contract 4.
pub async fn delete_removes_and_may_be_repeated(fixture: DestinationFixture) {
    let destination = &*fixture.destination;
    create(destination, &key(1), &Bytes::from_static(b"1")).await;
    create(destination, &key(2), &Bytes::from_static(b"2")).await;
    for n in [1, 1, 3] {
        let deleted = destination.delete(&key(n)).await;
        deleted.expect("what is gone can be deleted");
    }
    assert_kind(destination.get(&key(1), None).await, ErrorKind::NotFound);
    assert_kind(destination.stat(&key(1)).await, ErrorKind::NotFound);
    assert_eq!(list(destination, "data").await, [(key(2), 1)].into());
}

/// Contract 4.
pub async fn delete_many_removes_all_and_may_be_repeated(fixture: DestinationFixture) {
    let destination = &*fixture.destination;
    let most = 2 + destination.capabilities().delete_batch.min(8) as u64;
    for n in 0..most {
        create(destination, &key(n), &Bytes::from_static(b"x")).await;
    }
    let all: Vec<_> = (1..most + 3).map(key).collect();
    for keys in [&all[..], &all[..], &[]] {
        let undeleted = destination.delete_many(keys).await;
        let undeleted = undeleted.expect("what is gone can be deleted");
        assert!(undeleted.is_empty(), "{undeleted:?}");
        assert_eq!(list(destination, "data").await, [(key(0), 1)].into());
    }
}

/// Contract 1 and 4.
pub async fn a_deleted_key_can_be_created_with_other_bytes(fixture: DestinationFixture) {
    let destination = &*fixture.destination;
    for n in 0..3 {
        let bytes = random_bytes(n, 1_000);
        create(destination, &key(1), &bytes).await;
        assert_object(destination, &key(1), &bytes).await;
        let deleted = destination.delete(&key(1)).await;
        deleted.expect("an object can be deleted");
    }
}
