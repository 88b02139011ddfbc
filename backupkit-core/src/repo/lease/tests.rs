use std::sync::Arc;

use futures::future::join_all;

use super::*;
use crate::adapters::s3::{S3Credentials, S3Destination, S3Settings};
use crate::destination::{Destination, DestinationCapabilities, MemoryDestination};
use crate::env::Env;
use crate::repo::InitOptions;
use crate::testing::fakes::S3Server;
use crate::testing::{Fault, FaultDestination, FaultPlan, ManualClock, Operation};

const PASSWORD: &str = "x";

async fn init(destination: impl Destination, env: &Env) -> Repository {
    let destination = Arc::new(destination);
    Repository::init(destination, &PASSWORD.into(), InitOptions::default(), env).await.unwrap()
}

async fn acquire(repository: &Repository, holder: &str) -> Result<Option<RepositoryLease>> {
    RepositoryLease::acquire(repository, holder, &CancelToken::new()).await
}

fn env(clock: &ManualClock) -> Env {
    Env::system().with_clock(Arc::new(clock.clone()))
}

/// A repository on a server whose clock stands still.
struct OnServer {
    server: S3Server,
    clock: ManualClock,
    ours: Repository,
    theirs: Repository,
}

impl OnServer {
    async fn new() -> Self {
        let server = S3Server::start("bucket");
        server.set_now(Timestamp::constant(1_767_225_600, 0));
        let clock = ManualClock::default();
        let ours = init(Self::open(&server, &clock), &env(&clock)).await;
        // Another machine, whose clock is years ahead.
        let other = ManualClock::new("2099-01-01T00:00:00Z".parse().unwrap());
        let destination = Arc::new(Self::open(&server, &other));
        let theirs = Repository::open(destination, &PASSWORD.into(), &env(&other)).await.unwrap();
        Self { server, clock, ours, theirs }
    }

    fn open(server: &S3Server, clock: &ManualClock) -> S3Destination {
        let settings = S3Settings::new("bucket").with_endpoint(server.endpoint());
        let keys = S3Credentials::keys(S3Server::ACCESS_KEY_ID, S3Server::SECRET_ACCESS_KEY);
        S3Destination::new(settings, &keys, env(clock)).unwrap()
    }

    /// Lets the clock of the server go on from where it starts.
    fn server_at(&self, seconds: i64) {
        self.server.set_now(Timestamp::from_second(1_767_225_600 + seconds).unwrap());
    }
}

#[tokio::test]
async fn a_lease_is_free_again_once_it_is_given_up() {
    let stage = OnServer::new().await;
    for epoch in 1..4 {
        let lease = acquire(&stage.ours, "a").await.unwrap().unwrap();
        assert_eq!(lease.0.epoch, epoch);
        lease.check().await.unwrap();
        lease.renew().await.unwrap();
        lease.check().await.unwrap();
        let refused = acquire(&stage.theirs, "b").await.unwrap_err();
        assert!(refused.is(ErrorKind::Locked) && refused.to_string().contains("by a"), "{refused}");
        lease.release().await.unwrap();
        lease.renew().await.unwrap();
    }
}

#[tokio::test]
async fn only_the_clock_of_the_server_says_that_a_lease_has_run_out() {
    let stage = OnServer::new().await;
    let lease = acquire(&stage.ours, "a").await.unwrap().unwrap();
    for seconds in [0, 299, 300] {
        stage.server_at(seconds);
        assert_eq!(acquire(&stage.theirs, "b").await.unwrap_err().code(), "repository-leased");
    }
    lease.renew().await.unwrap();
    stage.server_at(600);
    assert_eq!(acquire(&stage.theirs, "b").await.unwrap_err().code(), "repository-leased");
    stage.server_at(601);
    let other = acquire(&stage.theirs, "b").await.unwrap().unwrap();
    assert_eq!(other.0.epoch, 2);
    assert_eq!(lease.check().await.unwrap_err().code(), REPOSITORY_LEASE_LOST);
    assert_eq!(lease.renew().await.unwrap_err().code(), REPOSITORY_LEASE_LOST);
    let advance = async {
        stage.clock.sleeping(1).await;
        stage.clock.advance(LEASE_RENEWAL);
    };
    assert_eq!(tokio::join!(lease.keep(), advance).0.code(), REPOSITORY_LEASE_LOST);
    lease.release().await.unwrap();
    other.check().await.unwrap();
}

#[tokio::test]
async fn a_lease_that_was_not_renewed_is_of_no_use_before_others_may_take_it() {
    let stage = OnServer::new().await;
    let lease = acquire(&stage.ours, "a").await.unwrap().unwrap();
    stage.clock.advance(FREEZE_AFTER.saturating_sub(Duration::from_secs(1)));
    lease.check().await.unwrap();
    stage.clock.advance(Duration::from_secs(1));
    assert_eq!(lease.check().await.unwrap_err().code(), REPOSITORY_LEASE_LOST);
    assert_eq!(acquire(&stage.theirs, "b").await.unwrap_err().code(), "repository-leased");
    // Nobody took it, so it can be had again.
    lease.renew().await.unwrap();
    lease.check().await.unwrap();
}

#[tokio::test]
async fn where_no_clock_tells_a_lease_is_watched() {
    let (clock, memory) = (ManualClock::default(), MemoryDestination::new());
    let repository = init(memory.clone(), &env(&clock)).await;
    let lease = acquire(&repository, "a").await.unwrap().unwrap();
    let watching = async |is_renewed: bool| {
        let renewing = async {
            clock.sleeping(1).await;
            if is_renewed {
                lease.renew().await.unwrap();
            }
            clock.advance(LEASE_TIME + LEASE_RENEWAL);
        };
        tokio::join!(acquire(&repository, "b"), renewing).0
    };
    assert_eq!(watching(true).await.unwrap_err().code(), "repository-leased");
    let other = watching(false).await.unwrap().unwrap();
    assert_eq!(lease.renew().await.unwrap_err().code(), REPOSITORY_LEASE_LOST);
    other.release().await.unwrap();
    // Bytes that say nothing may be those of somebody.
    memory.put_raw(&key().unwrap(), "damaged");
    let third = watching(false).await.unwrap().unwrap();
    third.check().await.unwrap();
}

#[tokio::test]
async fn a_renewal_whose_reply_was_lost_loses_nothing() {
    let (clock, plan) = (ManualClock::default(), FaultPlan::new());
    let memory = MemoryDestination::new();
    let faulty = FaultDestination::new(Arc::new(memory.clone()), &plan);
    let repository = init(faulty, &env(&clock)).await;
    let lease = acquire(&repository, "a").await.unwrap().unwrap();
    for fault in [Fault::lose_reply(ErrorKind::Unavailable), Fault::fail(ErrorKind::Unavailable)] {
        plan.add(fault.on(Operation::Swap));
        lease.renew().await.unwrap_err();
        lease.check().await.unwrap();
        lease.renew().await.unwrap();
        lease.check().await.unwrap();
    }
    memory.remove_raw(&key().unwrap());
    assert_eq!(lease.check().await.unwrap_err().code(), REPOSITORY_LEASE_LOST);
}

#[tokio::test]
async fn a_lease_that_cannot_be_renewed_is_lost_in_time() {
    let (clock, plan) = (ManualClock::default().with_auto_advance(), FaultPlan::new());
    let faulty = FaultDestination::new(Arc::new(MemoryDestination::new()), &plan);
    let repository = init(faulty, &env(&clock)).await;
    let lease = acquire(&repository, "a").await.unwrap().unwrap();
    let started = env(&clock).clock().elapsed_since_boot();
    plan.add(Fault::fail(ErrorKind::Unavailable).on(Operation::Swap).forever());
    let lost = lease.keep().await;
    assert_eq!(lost.code(), REPOSITORY_LEASE_LOST, "{lost}");
    let took = env(&clock).clock().elapsed_since_boot().saturating_sub(started);
    assert!(took >= FREEZE_AFTER && took < LEASE_TIME, "{took:?}");
}

#[tokio::test]
async fn there_is_no_lease_where_nothing_can_be_replaced() {
    let memory = MemoryDestination::new().with_capabilities(DestinationCapabilities::new(8));
    let repository = init(memory, &Env::system()).await;
    assert!(acquire(&repository, "a").await.unwrap().is_none());
}

/// Lets many take it at the same time, again and again.
async fn race(repository: &Repository, rounds: u64) {
    for round in 1..=rounds {
        let holders: Vec<String> = (0..8).map(|n| format!("holder {n}")).collect();
        let taken = join_all(holders.iter().map(|holder| acquire(repository, holder))).await;
        let (mut won, refused): (Vec<_>, Vec<_>) = taken.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1, "round {round}");
        for refused in refused {
            assert!(refused.unwrap_err().is(ErrorKind::Locked));
        }
        let lease = won.remove(0).unwrap().unwrap();
        assert_eq!(lease.0.epoch, round);
        lease.check().await.unwrap();
        lease.renew().await.unwrap();
        lease.release().await.unwrap();
    }
}

#[tokio::test]
async fn of_many_who_take_it_at_once_one_does() {
    race(&OnServer::new().await.ours, 10).await;
}

/// On servers that `cargo xtask test` starts; for one that was not it says that it is skipped.
#[tokio::test]
#[expect(clippy::print_stderr, reason = "says what was not tested")]
async fn of_many_who_take_it_at_once_one_does_on_real_servers() {
    let variable = |name: &str| std::env::var(format!("BACKUPKIT_TEST_S3_{name}")).ok();
    for server in ["MINIO", "SEAWEEDFS", "MOTO"] {
        let found = (variable(server), variable("ACCESS_KEY_ID"), variable("SECRET_ACCESS_KEY"));
        let (Some(endpoint), Some(id), Some(secret)) = found else {
            eprintln!("SKIPPED: no server in BACKUPKIT_TEST_S3_{server}");
            continue;
        };
        let prefix = hex::encode(Env::system().random::<8>().unwrap());
        let settings = S3Settings::new("bucket").with_endpoint(endpoint).with_prefix(prefix);
        let keys = S3Credentials::keys(id, secret);
        let destination = S3Destination::new(settings, &keys, Env::system()).unwrap();
        // Some make the bucket with the first object.
        let here = crate::destination::ObjectKey::new("here").unwrap();
        destination.create(&here, bytes::Bytes::from_static(b"x").into()).await.unwrap();
        assert!(destination.time().await.unwrap().is_some(), "{server}");
        race(&init(destination, &Env::system()).await, 5).await;
    }
}
