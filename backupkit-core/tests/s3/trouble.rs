//! Servers that are slow, busy or down for a while.

use std::time::Duration;

use backupkit_core::ErrorKind;
use backupkit_core::destination::Destination as _;
use backupkit_core::testing::fakes::{S3Effect, S3Fault, S3Operation};
use backupkit_core::testing::random_bytes;

use crate::scene::{BUCKET, Scene, key};

#[tokio::test]
async fn trouble_that_passes_is_waited_out() {
    for effect in [
        S3Effect::slow_down(),
        S3Effect::refuse(429, "TooManyRequests"),
        S3Effect::refuse(500, "InternalError"),
        S3Effect::refuse(400, "RequestTimeout"),
        S3Effect::refuse(400, "XAmzContentSHA256Mismatch"),
        S3Effect::RefuseInHtml { status: 504 },
        S3Effect::RefuseInHtml { status: 503 },
        S3Effect::Reset,
        S3Effect::LoseReply,
    ] {
        let scene = Scene::warmed_up().await;
        scene.server.add_fault(S3Fault::new(effect.clone()).times(4));
        scene.create("index/a", b"x").await.unwrap();
        scene.server.add_fault(S3Fault::new(effect.clone()).times(4));
        assert_eq!(scene.get("index/a").await.unwrap(), "x");
        scene.server.add_fault(S3Fault::new(effect.clone()).times(4));
        assert_eq!(scene.list("index").await.unwrap().len(), 1);
        scene.server.add_fault(S3Fault::new(effect.clone()).times(4));
        scene.destination.delete(&key("index/a")).await.unwrap();
        let error = scene.destination.stat(&key("index/a")).await.unwrap_err();
        assert!(error.is(ErrorKind::NotFound), "{effect:?}: {error}");
    }
}

#[tokio::test]
async fn a_wait_that_the_server_names_is_kept() {
    let scene = Scene::warmed_up().await;
    let effect = S3Effect::Refuse {
        status: 429,
        code: "TooManyRequests",
        retry_after_seconds: Some(90),
        headers: &[],
    };
    scene.server.add_fault(S3Fault::new(effect));
    let started = scene.elapsed();
    scene.create("index/a", b"x").await.unwrap();
    let waited = scene.since(started);
    assert!(waited >= Duration::from_secs(90) && waited < Duration::from_mins(3), "{waited:?}");
}

#[tokio::test]
async fn a_server_that_asks_to_slow_down_is_told_from_one_that_does_not() {
    let scene = Scene::warmed_up().await;
    scene.server.add_fault(S3Fault::new(S3Effect::refuse(500, "InternalError")));
    scene.create("index/a", b"x").await.unwrap();
    assert!(!scene.destination.is_slowed_down());
    scene.server.add_fault(S3Fault::new(S3Effect::slow_down()));
    scene.create("index/b", b"x").await.unwrap();
    assert!(scene.destination.is_slowed_down());
    scene.clock.advance(Duration::from_secs(31));
    assert!(!scene.destination.is_slowed_down());
}

#[tokio::test]
async fn a_server_that_never_stops_asking_to_slow_down_is_given_up_after_half_an_hour() {
    let scene = Scene::warmed_up().await;
    scene.server.add_fault(S3Fault::new(S3Effect::slow_down()).always());
    let started = scene.elapsed();
    let error = scene.create("index/a", b"x").await.unwrap_err();
    assert!(error.is(ErrorKind::RateLimited), "{error}");
    let waited = scene.since(started);
    assert!(waited > Duration::from_mins(30) && waited < Duration::from_mins(40), "{waited:?}");
}

#[tokio::test]
async fn a_server_that_stays_broken_is_given_up_sooner() {
    let scene = Scene::warmed_up().await;
    let broken = S3Effect::refuse(500, "InternalError");
    scene.server.add_fault(S3Fault::new(broken).always());
    let started = scene.elapsed();
    let error = scene.get("index/a").await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "s3-unavailable"));
    assert!(error.report().contains("attempts=10"), "{}", error.report());
    assert!(scene.since(started) < Duration::from_mins(15));
    assert_eq!(scene.server.counters().requests, 10);
}

#[tokio::test]
async fn a_third_of_all_requests_may_be_refused() {
    let scene = Scene::warmed_up().await;
    for k in 0..40 {
        scene.server.add_fault(S3Fault::new(S3Effect::slow_down()).after(2 * k));
    }
    let creates = (0..60u64).map(|n| {
        let (destination, bytes) = (&scene.destination, random_bytes(n, 1_000));
        async move { destination.create(&key(&format!("data/{n}")), bytes.into()).await }
    });
    for created in futures::future::join_all(creates).await {
        created.unwrap();
    }
    assert_eq!(scene.list("data").await.unwrap().len(), 60);
    assert_eq!(scene.server.counters().of(S3Operation::PutObject), 100);
}

#[tokio::test]
async fn few_requests_come_until_the_server_has_shown_that_it_takes_more() {
    let scene = Scene::warmed_up().await;
    scene.server.add_fault(S3Fault::new(S3Effect::Hold).on(S3Operation::HeadObject).always());
    scene.server.put(BUCKET, "data/x", "x");
    let calls = (0..100).map(|_| async { scene.destination.stat(&key("data/x")).await });
    let release = async {
        scene.server.held(8).await;
        // Nothing more comes until these have their replies: what was sent before this read would have come.
        let other = scene.other_with(|settings| settings);
        other.get(&key("data/x"), None).await.unwrap();
        assert_eq!(scene.server.counters().of(S3Operation::HeadObject), 8);
        scene.server.release(8);
        // Twice as many.
        scene.server.held(8 + 16).await;
        scene.server.release(1_000);
    };
    let (found, ()) = tokio::join!(futures::future::join_all(calls), release);
    assert!(found.into_iter().all(|found| found.is_ok()));
}

#[tokio::test]
async fn uploads_of_all_sizes_share_a_connection() {
    let scene = Scene::warmed_up().await;
    for n in 0..10u64 {
        let bytes = random_bytes(n, 1_000 + 50_000 * usize::try_from(n).unwrap());
        scene.destination.create(&key(&format!("data/{n}")), bytes.into()).await.unwrap();
    }
    assert_eq!(scene.server.counters().connections, 0, "the first one serves all");
}

#[tokio::test]
async fn replies_that_all_break_off_are_not_asked_for_back_to_back() {
    let scene = Scene::warmed_up().await;
    let bytes = random_bytes(1, 1 << 20);
    scene.server.put(BUCKET, "data/x", bytes.clone());
    scene.server.add_fault(S3Fault::new(S3Effect::CutBody(64 << 10)).always());
    let started = scene.elapsed();
    assert!(scene.get("data/x").await.unwrap() == bytes);
    assert_eq!(scene.server.counters().of(S3Operation::GetObject), 16);
    assert!(scene.since(started) >= 15 * Duration::from_millis(50));
}

#[tokio::test]
async fn one_key_that_is_always_refused_is_given_up_although_others_succeed() {
    let scene = Scene::warmed_up().await;
    let fault = S3Fault::new(S3Effect::slow_down()).for_keys_with("index/bad");
    scene.server.add_fault(fault.always());
    let bad = scene.create("index/bad", b"x");
    let mut bad = std::pin::pin!(bad);
    let started = scene.elapsed();
    let error = loop {
        tokio::select! {
            biased;
            bad = &mut bad => break bad.unwrap_err(),
            good = scene.get("locks/first") => assert_eq!(good.unwrap(), "first"),
        }
        assert!(scene.since(started) < Duration::from_hours(2), "it is never given up");
    };
    assert!(error.is(ErrorKind::RateLimited), "{error}");
    assert!(scene.since(started) > Duration::from_mins(45));
}

/// Minutes of silence go by at once.
#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_given_up() {
    let scene = Scene::new();
    scene.server.add_fault(S3Fault::new(S3Effect::Hold).always());
    let error = scene.get("index/a").await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Timeout, "s3-timeout"));
    assert!(error.report().contains("attempts=10"), "{}", error.report());
    let created = scene.create("data/3f/x", b"x").await.unwrap_err();
    assert_eq!(created.code(), "s3-timeout");
}
