//! What the wrappers and the fault plans do, from outside.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use backupkit::destination::{
    Destination, LimitDestination, Limits, MemoryDestination, ObjectKey, RetryDestination,
    RetryPolicy,
};
use backupkit::model::EntryPath;
use backupkit::source::{BodyContent, BodyEnd, ListedItem, OpenContext, Source, SourceView};
use backupkit::store::InMemoryAdapterStore;
use backupkit::testing::fakes::FakeS3;
use backupkit::testing::{
    Fault, FaultDestination, FaultPlan, FaultSource, ManualClock, MemorySource, Operation,
    PausePoint, SeededEntropy, SourceFaults, random_bytes,
};
use backupkit::{CancelToken, Clock, Env, ErrorKind, Retry};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

const SECOND: Duration = Duration::from_secs(1);

/// On one thread, so that the order of events is the test's.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(test);
}

fn key(text: &str) -> ObjectKey {
    ObjectKey::new(text).unwrap()
}

fn path(text: &str) -> EntryPath {
    EntryPath::from_slashed(text.as_bytes())
}

struct Setup {
    memory: MemoryDestination,
    plan: FaultPlan,
    faulty: Arc<FaultDestination>,
    clock: ManualClock,
    env: Env,
}

fn setup() -> Setup {
    let memory = MemoryDestination::new();
    let plan = FaultPlan::new();
    let faulty = FaultDestination::new(Arc::new(memory.clone()), &plan);
    let clock = ManualClock::default();
    let env = Env::system()
        .with_clock(Arc::new(clock.clone()))
        .with_entropy(Arc::new(SeededEntropy::new(1)));
    Setup { memory, plan, faulty: Arc::new(faulty), clock, env }
}

fn setup_without_waits() -> Setup {
    let mut setup = setup();
    setup.clock = setup.clock.with_auto_advance();
    setup.env = setup.env.with_clock(Arc::new(setup.clock.clone()));
    setup
}

#[test]
fn a_call_is_repeated_until_it_succeeds() {
    run(async {
        let setup = setup_without_waits();
        setup.plan.add(Fault::fail(ErrorKind::Unavailable).times(4));
        let retry = RetryDestination::new(setup.faulty, RetryPolicy::new(), setup.env);
        retry.create(&key("config"), vec![1].into()).await.unwrap();
        assert_eq!(setup.plan.calls(), 5);
        assert_eq!(setup.memory.objects()[&key("config")], vec![1]);
    });
}

#[test]
fn an_error_that_will_not_go_away_is_returned_at_once() {
    run(async {
        let setup = setup();
        setup.plan.add(Fault::fail(ErrorKind::PermissionDenied));
        let retry = RetryDestination::new(setup.faulty, RetryPolicy::new(), setup.env);
        let error = retry.stat(&key("config")).await.unwrap_err();
        assert!(error.is(ErrorKind::PermissionDenied));
        assert_eq!(setup.plan.calls(), 1);
    });
}

#[test]
fn attempts_and_time_are_limited() {
    run(async {
        let setup = setup_without_waits();
        setup.plan.add(Fault::fail(ErrorKind::Unavailable).forever());
        let policy = RetryPolicy::new().with_max_attempts(3);
        let retry =
            RetryDestination::new(Arc::clone(&setup.faulty) as _, policy, setup.env.clone());
        let error = retry.stat(&key("config")).await.unwrap_err();
        assert!(error.is(ErrorKind::Unavailable));
        assert_eq!(error.context(), [("attempts", String::from("3"))]);
        assert_eq!(setup.plan.calls(), 3);

        let policy = RetryPolicy::new().with_max_attempts(u32::MAX).with_total_time(60 * SECOND);
        let retry = RetryDestination::new(setup.faulty, policy, setup.env);
        let before = setup.clock.elapsed_since_boot();
        retry.stat(&key("config")).await.unwrap_err();
        let spent = setup.clock.elapsed_since_boot().checked_sub(before).unwrap();
        assert!((10 * SECOND..=60 * SECOND).contains(&spent), "{spent:?}");
    });
}

#[test]
fn the_wait_that_the_other_side_names_is_kept() {
    run(async {
        let setup = setup_without_waits();
        let slow = Fault::fail(ErrorKind::RateLimited).with_retry(Retry::After(100 * SECOND));
        setup.plan.add(slow);
        let before = setup.clock.elapsed_since_boot();
        let retry = RetryDestination::new(setup.faulty, RetryPolicy::new(), setup.env);
        retry.delete(&key("config")).await.unwrap();
        let spent = setup.clock.elapsed_since_boot().checked_sub(before).unwrap();
        assert!((100 * SECOND..102 * SECOND).contains(&spent), "{spent:?}");
    });
}

#[test]
fn a_swap_whose_reply_was_lost_has_succeeded() {
    run(async {
        let setup = setup_without_waits();
        setup.plan.add(Fault::lose_reply(ErrorKind::Timeout));
        let retry =
            RetryDestination::new(Arc::clone(&setup.faulty) as _, RetryPolicy::new(), setup.env);
        let lease = key("locks/lease");
        let mine = Bytes::from_static(b"mine");
        retry.swap(&lease, None, mine.clone()).await.unwrap();
        // Without an earlier attempt of ours a conflict is one.
        let again = retry.swap(&lease, None, mine).await.unwrap_err();
        assert!(again.is(ErrorKind::Conflict));
    });
}

#[test]
fn a_listing_that_breaks_off_goes_on_without_giving_an_object_twice() {
    run(async {
        let setup = setup_without_waits();
        for n in 0..50 {
            setup.memory.put_raw(&key(&format!("data/{n}")), "x");
        }
        setup.plan.add(Fault::lose_reply(ErrorKind::Unavailable).times(3));
        let retry = RetryDestination::new(setup.faulty, RetryPolicy::new(), setup.env);
        let objects: Vec<_> = retry.list(&key("data")).try_collect().await.unwrap();
        assert_eq!(objects.len(), 50);
        assert_eq!(setup.plan.calls_of(Operation::List), 4);
    });
}

#[test]
fn no_more_calls_run_at_the_same_time_than_allowed() {
    run(async {
        let setup = setup();
        let (first, second) = (PausePoint::new(), PausePoint::new());
        setup.plan.add(Fault::pause(&first));
        setup.plan.add(Fault::pause(&second).at_call(2));
        let limits = Limits::new().with_concurrency(1);
        let limit = LimitDestination::new(setup.faulty, limits, &setup.env);
        assert_eq!(limit.capabilities().concurrency, 1);
        let (one, two) = (key("keys/1"), key("keys/2"));
        let calls = futures::future::join(limit.delete(&one), limit.delete(&two));
        let test = async {
            first.reached().await;
            tokio::task::yield_now().await;
            assert!(!second.is_reached());
            first.release();
            second.reached().await;
            second.release();
        };
        let ((one, two), ()) = futures::future::join(calls, test).await;
        one.and(two).unwrap();
    });
}

#[test]
fn what_is_listed_can_be_deleted_while_listing_with_one_call_at_a_time() {
    run(async {
        let setup = setup();
        for n in 0..5 {
            setup.memory.put_raw(&key(&format!("locks/{n}")), "x");
        }
        let limits = Limits::new().with_concurrency(1);
        let limit = LimitDestination::new(setup.faulty, limits, &setup.env);
        let mut locks = limit.list(&key("locks"));
        while let Some(lock) = locks.next().await {
            limit.delete(&lock.unwrap().key).await.unwrap();
        }
        assert!(setup.memory.objects().is_empty());
    });
}

#[test]
fn bytes_pass_at_the_allowed_rate() {
    run(async {
        let setup = setup_without_waits();
        let limits =
            Limits::new().with_upload_bytes_per_second(1_000).with_download_bytes_per_second(500);
        let limit = LimitDestination::new(setup.faulty, limits, &setup.env);
        let before = setup.clock.elapsed_since_boot();
        for n in 0..6 {
            let payload = random_bytes(n, 2_000).into();
            let created = limit.create(&key(&format!("data/{n}")), payload).await;
            created.unwrap();
        }
        // The last one is still to be paid for.
        let spent = setup.clock.elapsed_since_boot().checked_sub(before).unwrap();
        assert_eq!(spent, 10 * SECOND);
        for range in [None, Some(0..500), Some(0..500)] {
            limit.get(&key("data/1"), range).await.unwrap();
        }
        let spent = setup.clock.elapsed_since_boot().checked_sub(before).unwrap();
        assert_eq!(spent, 15 * SECOND);
    });
}

#[test]
fn after_the_planned_death_nothing_is_done() {
    run(async {
        let Setup { memory, plan, faulty, .. } = setup();
        plan.die_after(2);
        plan.record();
        for n in 0..4 {
            let name = key(&format!("data/{n}"));
            let created = faulty.create(&name, vec![1].into()).await;
            assert_eq!(created.is_ok(), n < 2);
        }
        assert_eq!(memory.objects().len(), 2);
        assert_eq!(plan.log().len(), 4);
        assert!(plan.is_dead());
        let listed: Result<Vec<_>, _> = faulty.list(&key("data")).try_collect().await;
        assert_eq!(listed.unwrap_err().retry(), Retry::Never);

        plan.clear();
        plan.die_during(plan.calls() + 1);
        let lost = faulty.create(&key("data/9"), vec![1].into()).await;
        assert!(lost.is_err());
        assert_eq!(memory.objects().len(), 3);
        assert!(faulty.stat(&key("data/9")).await.is_err());
    });
}

#[test]
fn faults_hit_only_the_calls_they_name() {
    run(async {
        let Setup { memory, plan, faulty, .. } = setup();
        memory.put_raw(&key("data/1"), "abc");
        memory.put_raw(&key("index/1"), "abc");
        let damage = Fault::flip_bit().on(Operation::Get).with_prefix("data/");
        plan.add(damage.at_call(2));
        for (name, wanted) in
            [("data/1", "abc"), ("index/1", "abc"), ("data/1", "acc"), ("data/1", "abc")]
        {
            let found = faulty.get(&key(name), None).await.unwrap();
            assert_eq!(found, wanted);
        }
    });
}

#[test]
fn a_hanging_call_can_be_dropped() {
    run(async {
        let Setup { memory, plan, faulty, clock, .. } = setup();
        plan.add(Fault::hang());
        let name = key("config");
        let call = faulty.create(&name, vec![1].into());
        let patience = clock.sleep(SECOND);
        let advance = async {
            clock.sleeping(1).await;
            clock.advance(SECOND);
        };
        let waited = futures::future::join(patience, advance);
        let ended = futures::future::select(call, Box::pin(waited)).await;
        assert!(matches!(ended, futures::future::Either::Right(_)));
        assert!(memory.objects().is_empty());
    });
}

async fn open(source: &dyn Source) -> Arc<dyn SourceView> {
    let cx = OpenContext {
        resume: None,
        parent: None,
        store: Arc::new(InMemoryAdapterStore::default()),
        cancel: CancelToken::new(),
    };
    source.open(cx).await.unwrap()
}

async fn entry(view: &dyn SourceView, path: &EntryPath) -> backupkit::model::Entry {
    let listed: Vec<_> = view.list(None).map(Result::unwrap).collect().await;
    let found = listed.into_iter().find_map(|listed| match listed.item {
        ListedItem::Entry(entry) if entry.path == *path => Some(*entry),
        _ => None,
    });
    found.unwrap()
}

#[test]
fn a_file_that_changes_while_read_says_so_or_gives_nothing() {
    run(async {
        let file = path("file");
        let source = MemorySource::new().with_file(&file, "old bytes");
        for validators in [false, true] {
            let point = PausePoint::new();
            source.pause_at(&file, 5, &point);
            source.set(&file, "old bytes");
            let source = if validators { source.clone().with_validators() } else { source.clone() };
            let view = open(&source).await;
            let body = view.body(&entry(&*view, &file).await, None).await.unwrap();
            let BodyContent::Ranged(body) = body.content else {
                panic!("a file in memory can be read at any place");
            };
            let change = async {
                point.reached().await;
                source.set(&file, "new bytes!");
                point.release();
            };
            let (read, ()) = futures::future::join(body.read_at(0..100), change).await;
            if validators {
                assert!(read.unwrap_err().is(ErrorKind::SourceChanged));
            } else {
                assert_eq!(read.unwrap(), "old bytes");
                assert_eq!(body.finish().await.unwrap(), BodyEnd::Changed);
            }
        }
        assert_eq!(source.bytes_read(), 18);
    });
}

#[test]
fn a_source_fails_as_planned() {
    run(async {
        let files = ["a", "b", "c"].map(path);
        let mut source = MemorySource::new();
        for file in &files {
            source = source.with_file(file, "bytes");
        }
        let faults = SourceFaults::new();
        faults.fail_listing_of(files[0].clone(), ErrorKind::PermissionDenied);
        faults.fail_body(files[1].clone(), ErrorKind::Unavailable, 1);
        faults.fail_read_at(files[1].clone(), 4, ErrorKind::Unavailable, 1);
        faults.alter_byte_at(files[1].clone(), 0);
        let source = FaultSource::new(Arc::new(source), &faults);
        let view = open(&source).await;

        let listed: Vec<_> = view.list(None).collect().await;
        let error = listed[0].as_ref().unwrap_err();
        assert_eq!(error.path.as_ref(), Some(&files[0]));
        assert_eq!(listed.iter().filter(|listed| listed.is_ok()).count(), 2);
        let Ok(ListedItem::Entry(entry)) = listed[1].as_ref().map(|listed| &listed.item) else {
            panic!("the second file is listed");
        };

        assert!(view.body(entry, None).await.is_err());
        let body = view.body(entry, None).await.unwrap();
        let BodyContent::Ranged(body) = body.content else {
            panic!("a file in memory can be read at any place");
        };
        assert_eq!(body.read_at(1..4).await.unwrap(), "yte");
        assert!(body.read_at(0..5).await.is_err());
        assert_eq!(&body.read_at(0..5).await.unwrap()[1..], b"ytes");
        assert_ne!(body.read_at(0..1).await.unwrap(), "b");

        faults.end_listing_at(5, ErrorKind::Unavailable);
        let listed: Vec<_> = view.list(None).collect().await;
        assert_eq!(listed.len(), 2);
        assert_eq!(listed[1].as_ref().unwrap_err().path, None);
    });
}

#[test]
fn a_stream_of_another_version_is_not_continued() {
    run(async {
        let file = path("file");
        let source = MemorySource::new().with_stream(&file, random_bytes(1, 100), 10);
        let view = open(&source).await;
        let stream = async || {
            let body = view.body(&entry(&*view, &file).await, None).await.unwrap();
            match body.content {
                BodyContent::Stream(body) => body,
                BodyContent::Ranged(_) => panic!("it is a stream"),
            }
        };
        let first = stream().await.pieces(None).next().await.unwrap().unwrap();
        source.set(&file, random_bytes(2, 100));
        let mut rest = stream().await.pieces(first.token.as_ref());
        let error = rest.next().await.unwrap().unwrap_err();
        assert!(error.is(ErrorKind::SourceChanged));
    });
}

#[test]
fn many_keys_are_listed_without_being_held() {
    run(async {
        let view = open(&FakeS3::generated(50_000, 8)).await;
        let mut open_folders = std::collections::BTreeSet::new();
        let (mut entries, mut most_open) = (0, 0);
        let mut items = view.list(None);
        while let Some(listed) = items.next().await {
            match listed.unwrap().item {
                ListedItem::Entry(entry) => {
                    entries += 1;
                    open_folders.extend(entry.path.parent());
                }
                ListedItem::DirDone { path, .. } => {
                    open_folders.remove(&path);
                }
            }
            most_open = most_open.max(open_folders.len());
        }
        assert_eq!(entries, 50_000);
        assert!(open_folders.is_empty());
        assert_eq!(most_open, 2, "two folders are fed at the same time");
    });
}
