//! The contract of [`Destination`], case by case.

mod abandoned;
mod deleting;
mod extending;
mod swap;

pub use abandoned::what_is_abandoned_is_no_object;
pub use deleting::{
    a_deleted_key_can_be_created_with_other_bytes, delete_many_removes_all_and_may_be_repeated,
    delete_removes_and_may_be_repeated,
};
pub use extending::what_is_retained_for_longer_stays_as_it_is;
pub use swap::{
    of_concurrent_swaps_exactly_one_wins, swap_creates_only_what_is_missing,
    swap_replaces_only_what_is_expected, swap_without_the_capability_is_unsupported,
};

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::{KeepAlive, not_applicable};
use crate::destination::{Destination, ExclusiveCreate, ObjectKey, Payload, PayloadFile};
use crate::error::{Error, ErrorKind};
use crate::testing::entropy::Random;
use crate::testing::random_bytes;

/// Makes one test for each line of the contract of
/// [`Destination`](crate::destination::Destination), in a module `$name`. `$fixture` is an async
/// closure that returns an empty destination as a
/// [`DestinationFixture`](crate::testing::conformance::DestinationFixture), for each test a new one.
#[macro_export]
macro_rules! destination_conformance {
    ($name:ident, $fixture:expr $(,)?) => {
        $crate::__conformance_tests! { destination, $name, $fixture;
            a_created_object_is_read_back
            every_byte_value_survives
            an_empty_object_is_kept
            an_object_of_many_parts_is_one_object
            a_file_is_stored_as_it_is
            a_large_object_comes_back_whole
            an_object_is_there_for_another_handle
            a_range_gives_its_bytes
            a_range_beyond_the_end_is_refused
            a_missing_object_is_not_found
            stat_tells_the_size
            the_same_bytes_may_be_created_again
            other_bytes_are_refused_and_change_nothing
            of_concurrent_creators_exactly_one_wins
            concurrent_creators_of_the_same_bytes_all_succeed
            list_gives_each_object_below_the_prefix_once
            list_of_nothing_is_empty
            list_keeps_to_whole_segments
            list_shows_no_partial_objects
            a_dropped_create_leaves_nothing_or_a_whole_object
            delete_removes_and_may_be_repeated
            delete_many_removes_all_and_may_be_repeated
            a_deleted_key_can_be_created_with_other_bytes
            what_is_abandoned_is_no_object
            what_is_retained_for_longer_stays_as_it_is
            calls_of_all_kinds_may_run_at_the_same_time
            check_is_healthy_and_leaves_nothing
            capabilities_are_constant
            swap_creates_only_what_is_missing
            swap_replaces_only_what_is_expected
            of_concurrent_swaps_exactly_one_wins
            swap_without_the_capability_is_unsupported
        }
    };
}

type Reopen = Box<dyn Fn() -> BoxFuture<'static, Arc<dyn Destination>> + Send + Sync>;

/// An empty destination and what keeps it alive.
pub struct DestinationFixture {
    destination: Arc<dyn Destination>,
    reopen: Option<Reopen>,
    keep_alive: KeepAlive,
}

impl fmt::Debug for DestinationFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DestinationFixture")
            .field("destination", &self.destination)
            .finish_non_exhaustive()
    }
}

impl DestinationFixture {
    /// Returns a fixture of this destination.
    pub fn new(destination: impl Destination) -> Self {
        Self { destination: Arc::new(destination), reopen: None, keep_alive: Vec::new() }
    }

    /// Keeps something until the case has ended, such as a temporary directory.
    #[must_use]
    pub fn keeping(mut self, thing: impl Send + Sync + 'static) -> Self {
        self.keep_alive.push(Box::new(thing));
        self
    }

    /// Says how another process would open the same destination.
    #[must_use]
    pub fn with_reopen(
        mut self,
        reopen: impl Fn() -> BoxFuture<'static, Arc<dyn Destination>> + Send + Sync + 'static,
    ) -> Self {
        self.reopen = Some(Box::new(reopen));
        self
    }
}

/// A key as repositories have them.
fn key(n: u64) -> ObjectKey {
    let name = hex::encode(random_bytes(n, 32));
    parse(&format!("data/{}/{name}", &name[..2]))
}

fn parse(text: &str) -> ObjectKey {
    ObjectKey::new(text).expect("a key")
}

async fn create(destination: &dyn Destination, key: &ObjectKey, bytes: &Bytes) {
    let created = destination.create(key, bytes.clone().into()).await;
    created.expect("an object can be created");
}

async fn assert_object(destination: &dyn Destination, key: &ObjectKey, bytes: &Bytes) {
    let found = destination.get(key, None).await;
    let found = found.expect("an object can be read");
    // Not `assert_eq`: nobody wants to see megabytes.
    assert!(
        found == *bytes,
        "{key} gives {} other bytes than the {} created",
        found.len(),
        bytes.len()
    );
}

/// The sizes of the objects below a prefix.
async fn list(destination: &dyn Destination, prefix: &str) -> BTreeMap<ObjectKey, u64> {
    let objects: Vec<_> =
        destination.list(&parse(prefix)).try_collect().await.expect("a prefix can be listed");
    let count = objects.len();
    let listed: BTreeMap<_, _> =
        objects.into_iter().map(|object| (object.key, object.size_bytes)).collect();
    assert_eq!(listed.len(), count, "an object is listed twice");
    listed
}

fn assert_kind<T: fmt::Debug>(result: Result<T, Error>, kind: ErrorKind) {
    match result {
        Ok(value) => panic!("{value:?} instead of the error {kind}"),
        Err(error) => assert_eq!(error.kind(), kind, "{error:?}"),
    }
}

/// Contract 1 and 2.
pub async fn a_created_object_is_read_back(fixture: DestinationFixture) {
    let destination = &*fixture.destination;
    for key in ["config", "keys/00ff", "locks/ab-tmp_1.x"] {
        let bytes = Bytes::from(format!("bytes of {key}"));
        create(destination, &parse(key), &bytes).await;
        assert_object(destination, &parse(key), &bytes).await;
    }
}

/// Contract 2.
pub async fn every_byte_value_survives(fixture: DestinationFixture) {
    let bytes: Bytes = (0..=u8::MAX).chain((0..=u8::MAX).rev()).collect();
    create(&*fixture.destination, &key(1), &bytes).await;
    assert_object(&*fixture.destination, &key(1), &bytes).await;
}

/// Contract 1, 2 and 3.
pub async fn an_empty_object_is_kept(fixture: DestinationFixture) {
    let destination = &*fixture.destination;
    create(destination, &key(1), &Bytes::new()).await;
    create(destination, &key(1), &Bytes::new()).await;
    assert_object(destination, &key(1), &Bytes::new()).await;
    assert_eq!(list(destination, "data").await, [(key(1), 0)].into());
    let other = destination.create(&key(1), vec![1].into()).await;
    assert_kind(other, ErrorKind::AlreadyExists);
}

/// Contract 1.
pub async fn an_object_of_many_parts_is_one_object(fixture: DestinationFixture) {
    let bytes = random_bytes(1, 100_000);
    let mut parts = vec![Bytes::new()];
    parts.extend((0..bytes.len()).step_by(999).map(|at| {
        let end = bytes.len().min(at + 999);
        bytes.slice(at..end)
    }));
    parts.push(Bytes::new());
    let destination = &*fixture.destination;
    let payload = Payload::from_parts(parts);
    let created = destination.create(&key(1), payload).await;
    created.expect("parts can be created");
    assert_object(destination, &key(1), &bytes).await;
    // How the bytes are cut is no part of the object.
    create(destination, &key(1), &bytes).await;
}

/// Contract 1.
pub async fn a_file_is_stored_as_it_is(fixture: DestinationFixture) {
    let destination = &*fixture.destination;
    // A name is not needed, and the payload may be only the beginning of it.
    let file = |bytes: &[u8]| {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(bytes).expect("a temporary file is written");
        file.write_all(b"rest").expect("a temporary file is written");
        PayloadFile::new(file, bytes.len() as u64, "a temporary file")
    };
    for (n, len_bytes) in [(1, 0), (2, 3_000_000)] {
        let bytes = random_bytes(n, len_bytes);
        let payload = file(&bytes);
        for _ in 0..2 {
            let created = destination.create(&key(n), payload.clone().into()).await;
            created.expect("a file can be created");
        }
        assert_object(destination, &key(n), &bytes).await;
        let mut kept = vec![0; len_bytes];
        payload.read_exact_at(&mut kept, 0).expect("the file is still there");
        assert!(kept == bytes, "the file was changed");
    }
    let other = destination.create(&key(2), file(b"other").into()).await;
    assert_kind(other, ErrorKind::AlreadyExists);
}

/// Contract 1 and 2.
pub async fn a_large_object_comes_back_whole(fixture: DestinationFixture) {
    let destination = &*fixture.destination;
    let bytes = random_bytes(1, (20 << 20) + 1);
    create(destination, &key(1), &bytes).await;
    assert_object(destination, &key(1), &bytes).await;
    let last = 20 << 20..(20 << 20) + 1;
    let tail = destination.get(&key(1), Some(last)).await;
    let tail = tail.expect("the last byte can be read");
    assert_eq!(tail, bytes.slice(20 << 20..));
}

/// Contract 1: durable.
pub async fn an_object_is_there_for_another_handle(fixture: DestinationFixture) {
    let Some(reopen) = &fixture.reopen else {
        return not_applicable("the fixture opens the destination only once");
    };
    let bytes = random_bytes(1, 10_000);
    create(&*fixture.destination, &key(1), &bytes).await;
    let other = reopen().await;
    assert_object(&*other, &key(1), &bytes).await;
    assert_eq!(list(&*other, "data").await, [(key(1), 10_000)].into());
    other.delete(&key(1)).await.expect("an object can be deleted");
    let gone = fixture.destination.get(&key(1), None).await;
    assert_kind(gone, ErrorKind::NotFound);
}

/// Contract 2.
pub async fn a_range_gives_its_bytes(fixture: DestinationFixture) {
    let destination = &*fixture.destination;
    let bytes = random_bytes(1, 70_000);
    create(destination, &key(1), &bytes).await;
    let mut ranges = vec![(0, 1), (0, 70_000), (69_999, 70_000), (65_535, 65_537)];
    let mut random = Random::new(1);
    for _ in 0..20 {
        let start = random.below(70_000);
        ranges.push((start, start + 1 + random.below(70_000 - start)));
    }
    for (start, end) in ranges {
        let found = destination.get(&key(1), Some(start..end)).await;
        let found = found.expect("a range can be read");
        let slice = |at: u64| usize::try_from(at).expect("a small number");
        let wanted = bytes.slice(slice(start)..slice(end));
        assert!(found == wanted, "wrong bytes from {start} to {end}");
    }
}

/// Contract 2: an error and never fewer bytes.
pub async fn a_range_beyond_the_end_is_refused(fixture: DestinationFixture) {
    let destination = &*fixture.destination;
    create(destination, &key(1), &random_bytes(1, 100)).await;
    create(destination, &key(2), &Bytes::new()).await;
    for (n, range) in [(1, 0..101), (1, 99..101), (1, 101..102), (1, 200..300), (2, 0..1)] {
        let found = destination.get(&key(n), Some(range)).await;
        assert_kind(found, ErrorKind::InvalidInput);
    }
}

/// Contract 2.
pub async fn a_missing_object_is_not_found(fixture: DestinationFixture) {
    let destination = &*fixture.destination;
    for round in 0..2 {
        assert_kind(destination.get(&key(1), None).await, ErrorKind::NotFound);
        assert_kind(destination.get(&key(1), Some(0..1)).await, ErrorKind::NotFound);
        assert_kind(destination.stat(&key(1)).await, ErrorKind::NotFound);
        if round == 0 {
            // A neighbour is no reason to find it.
            create(destination, &key(2), &Bytes::from_static(b"x")).await;
        }
    }
}

/// Contract 2.
pub async fn stat_tells_the_size(fixture: DestinationFixture) {
    let destination = &*fixture.destination;
    for len_bytes in [0u16, 1, 5_000] {
        let key = key(u64::from(len_bytes));
        create(destination, &key, &random_bytes(1, usize::from(len_bytes))).await;
        let found = destination.stat(&key).await.expect("an object is there");
        assert_eq!(found.key, key);
        assert_eq!(found.size_bytes, u64::from(len_bytes));
    }
}

/// Contract 1.
pub async fn the_same_bytes_may_be_created_again(fixture: DestinationFixture) {
    let bytes = random_bytes(1, 50_000);
    for _ in 0..3 {
        create(&*fixture.destination, &key(1), &bytes).await;
    }
    assert_object(&*fixture.destination, &key(1), &bytes).await;
    let listed = list(&*fixture.destination, "data").await;
    assert_eq!(listed, [(key(1), 50_000)].into());
}

/// Contract 1.
pub async fn other_bytes_are_refused_and_change_nothing(fixture: DestinationFixture) {
    let destination = &*fixture.destination;
    let bytes = random_bytes(1, 50_000);
    create(destination, &key(1), &bytes).await;
    let mut last_differs = bytes.to_vec();
    last_differs[49_999] ^= 1;
    let others =
        [last_differs.into(), bytes.slice(..49_999), random_bytes(2, 50_001), Bytes::new()];
    for other in others {
        let created = destination.create(&key(1), other.into()).await;
        assert_kind(created, ErrorKind::AlreadyExists);
        assert_object(destination, &key(1), &bytes).await;
    }
    assert_eq!(list(destination, "data").await.len(), 1);
}

/// Contract 1 and 6.
pub async fn of_concurrent_creators_exactly_one_wins(fixture: DestinationFixture) {
    if fixture.destination.capabilities().exclusive_create != ExclusiveCreate::Atomic {
        return not_applicable("creation is checked, so creators may race");
    }
    for round in 0..5 {
        let start = Arc::new(Barrier::new(8));
        let mut creators = JoinSet::new();
        for n in 0..8 {
            let destination = Arc::clone(&fixture.destination);
            let bytes = random_bytes(n, 200_000);
            let start = Arc::clone(&start);
            creators.spawn(async move {
                start.wait().await;
                let created = destination.create(&key(round), bytes.clone().into()).await;
                (created, bytes)
            });
        }
        let mut winners = Vec::new();
        for (created, bytes) in creators.join_all().await {
            match created {
                Ok(()) => winners.push(bytes),
                Err(error) => assert_kind(Err::<(), _>(error), ErrorKind::AlreadyExists),
            }
        }
        assert_eq!(winners.len(), 1, "several creators of one key succeeded");
        assert_object(&*fixture.destination, &key(round), &winners[0]).await;
    }
}

/// Contract 1 and 6.
pub async fn concurrent_creators_of_the_same_bytes_all_succeed(fixture: DestinationFixture) {
    if fixture.destination.capabilities().exclusive_create != ExclusiveCreate::Atomic {
        return not_applicable("creation is checked, so creators may race");
    }
    let bytes = random_bytes(1, 200_000);
    for round in 0..3 {
        let start = Arc::new(Barrier::new(8));
        let mut creators = JoinSet::new();
        for _ in 0..8 {
            let (destination, bytes) = (Arc::clone(&fixture.destination), bytes.clone());
            let start = Arc::clone(&start);
            creators.spawn(async move {
                start.wait().await;
                create(&*destination, &key(round), &bytes).await;
            });
        }
        creators.join_all().await;
        assert_object(&*fixture.destination, &key(round), &bytes).await;
    }
    assert_eq!(list(&*fixture.destination, "data").await.len(), 3);
}

/// Contract 3, with more objects than a page of any server has.
pub async fn list_gives_each_object_below_the_prefix_once(fixture: DestinationFixture) {
    let destination = &*fixture.destination;
    let mut wanted = BTreeMap::new();
    for n in 0..2_100 {
        wanted.insert(key(n), n % 7);
    }
    let creators = stream::iter(wanted.clone()).map(|(key, size)| async move {
        let bytes = random_bytes(1, usize::try_from(size).expect("a small number"));
        create(destination, &key, &bytes).await;
    });
    let concurrency = destination.capabilities().concurrency.clamp(1, 32);
    creators.buffer_unordered(concurrency).collect::<()>().await;
    create(destination, &parse("index/ab"), &Bytes::new()).await;
    let listed = list(destination, "data").await;
    assert_eq!(listed.len(), wanted.len(), "a listing is not complete");
    assert!(listed == wanted, "a listing has other keys or sizes");
    for folder in ["data/00", "data/7f", "data/ff"] {
        let folder_key = parse(folder);
        let mut wanted = wanted.clone();
        wanted.retain(|key, _| key.is_below(&folder_key));
        assert_eq!(list(destination, folder).await, wanted);
    }
}

/// Contract 3.
pub async fn list_of_nothing_is_empty(fixture: DestinationFixture) {
    let destination = &*fixture.destination;
    for prefix in ["data", "data/3f", "snapshots", "config"] {
        assert_eq!(list(destination, prefix).await, BTreeMap::new());
    }
    create(destination, &parse("index/ab"), &Bytes::new()).await;
    assert_eq!(list(destination, "data").await, BTreeMap::new());
    assert_eq!(list(destination, "index/ac").await, BTreeMap::new());
}

/// Contract 3.
pub async fn list_keeps_to_whole_segments(fixture: DestinationFixture) {
    let destination = &*fixture.destination;
    let keys = ["index/ab", "index/abc", "index/ab-c", "index2/ab", "config"];
    for key in keys {
        create(destination, &parse(key), &Bytes::from_static(b"1")).await;
    }
    let keys_of = |listed: BTreeMap<ObjectKey, u64>| -> Vec<String> {
        listed.into_keys().map(|key| key.to_string()).collect()
    };
    let listed = keys_of(list(destination, "index").await);
    assert_eq!(listed, ["index/ab", "index/ab-c", "index/abc"]);
    assert_eq!(keys_of(list(destination, "index/ab").await), ["index/ab"]);
    assert_eq!(keys_of(list(destination, "config").await), ["config"]);
}

/// Contract 1 and 3: what is listed is whole.
pub async fn list_shows_no_partial_objects(fixture: DestinationFixture) {
    const LEN_BYTES: u32 = 4 << 20;
    let destination = Arc::clone(&fixture.destination);
    let mut creators = JoinSet::new();
    creators.spawn(async move {
        for n in 0..4 {
            create(&*destination, &key(n), &random_bytes(n, LEN_BYTES as usize)).await;
        }
    });
    let mut over = false;
    while !over {
        over = creators.try_join_next().is_some_and(|ended| {
            ended.expect("objects can be created");
            true
        });
        let listed = list(&*fixture.destination, "data").await;
        let partial = listed.values().find(|size| **size != u64::from(LEN_BYTES));
        assert_eq!(partial, None, "a partial object is listed");
        tokio::task::yield_now().await;
    }
    assert_eq!(list(&*fixture.destination, "data").await.len(), 4);
}

/// Polls a future at most `count` times and drops it.
async fn poll_times<F: Future>(future: F, count: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut polls = 0;
    futures::future::poll_fn(|cx| {
        if polls == count {
            return Poll::Ready(None);
        }
        polls += 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            // Its waker brings us back for the next poll.
            Poll::Pending if polls < count => Poll::Pending,
            Poll::Pending => Poll::Ready(None),
        }
    })
    .await
}

/// Contract 5, dropped after each number of polls.
pub async fn a_dropped_create_leaves_nothing_or_a_whole_object(fixture: DestinationFixture) {
    let destination = &*fixture.destination;
    let bytes = random_bytes(1, 1 << 20);
    for polls in 0..64 {
        let key = key(polls);
        let call = destination.create(&key, bytes.clone().into());
        let ended = poll_times(call, usize::try_from(polls).expect("a small number")).await;
        match destination.get(&key, None).await {
            Ok(found) => assert!(found == bytes, "a part of an object is left"),
            Err(error) => {
                assert_kind(Err::<(), _>(error), ErrorKind::NotFound);
                assert!(ended.is_none(), "a created object is missing");
            }
        }
        // What is left does not stand in the way.
        create(destination, &key, &bytes).await;
        assert_object(destination, &key, &bytes).await;
        if let Some(created) = ended {
            return created.expect("an object can be created");
        }
    }
}

/// Contract 6.
pub async fn calls_of_all_kinds_may_run_at_the_same_time(fixture: DestinationFixture) {
    let mut workers = JoinSet::new();
    for worker in 0..6 {
        let destination = Arc::clone(&fixture.destination);
        workers.spawn(async move {
            let destination = &*destination;
            for round in 0..10 {
                let n = worker * 100 + round;
                let bytes = random_bytes(n, 20_000);
                create(destination, &key(n), &bytes).await;
                assert_object(destination, &key(n), &bytes).await;
                let part = destination.get(&key(n), Some(5..10)).await;
                assert_eq!(part.expect("a range can be read"), bytes.slice(5..10));
                assert!(list(destination, "data").await.contains_key(&key(n)));
                if round % 2 == 0 {
                    let deleted = destination.delete(&key(n)).await;
                    deleted.expect("an object can be deleted");
                    assert_kind(destination.stat(&key(n)).await, ErrorKind::NotFound);
                }
            }
        });
    }
    workers.join_all().await;
    assert_eq!(list(&*fixture.destination, "data").await.len(), 30);
}

/// `check`.
pub async fn check_is_healthy_and_leaves_nothing(fixture: DestinationFixture) {
    let destination = &*fixture.destination;
    for _ in 0..2 {
        let probe = destination.check().await.expect("a check comes to an end");
        assert!(probe.is_healthy(), "{probe:?}");
        assert!(!probe.steps.is_empty(), "a check tries nothing");
    }
    for prefix in ["config", "data", "index", "keys", "locks", "snapshots"] {
        assert_eq!(list(destination, prefix).await, BTreeMap::new());
    }
}

/// `capabilities` and `location`.
pub async fn capabilities_are_constant(fixture: DestinationFixture) {
    let destination = &*fixture.destination;
    let (before, location) = (destination.capabilities(), destination.location());
    create(destination, &key(1), &Bytes::new()).await;
    assert_eq!(destination.capabilities(), before);
    assert_eq!(destination.location(), location);
    assert!(before.concurrency > 0, "no call may run");
    assert!(!location.is_empty(), "nobody can tell where it is");
}
