//! The contract of destinations on real servers, which keep the one of the tests honest. They are started
//! by `cargo xtask test`; for one that was not, each case says that it is skipped.

use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Config, Credentials, Region};
use backupkit_core::Env;
use backupkit_core::adapters::s3::{S3Credentials, S3Destination, S3Settings};
use backupkit_core::destination::Destination;
use backupkit_core::destination_conformance;
use backupkit_core::testing::conformance::{DestinationFixture, Setup};
use futures::FutureExt as _;

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A prefix of its own in the bucket of the server whose address this variable holds, and the key to it; or
/// why there is none.
pub(crate) fn place_on(
    server: &str,
    adapt: impl Fn(S3Settings) -> S3Settings,
) -> Result<(S3Settings, String, String), String> {
    let id = variable("BACKUPKIT_TEST_S3_ACCESS_KEY_ID");
    let secret = variable("BACKUPKIT_TEST_S3_SECRET_ACCESS_KEY");
    let (Some(endpoint), Some(id), Some(secret)) = (variable(server), id, secret) else {
        return Err(format!("no server in {server}"));
    };
    let prefix = hex::encode(Env::system().random::<8>().expect("randomness"));
    let settings = S3Settings::new("bucket").with_endpoint(endpoint).with_prefix(prefix);
    Ok((adapt(settings), id, secret))
}

/// Says that a test does not run; a failure where nothing may be skipped.
pub(crate) fn skip(why: &str) {
    let must_run = std::env::var("BACKUPKIT_REQUIRE_SERVERS").as_deref() == Ok("1");
    assert!(!must_run, "BACKUPKIT_REQUIRE_SERVERS=1, but {why}");
    eprintln!("SKIPPED: {why}");
}

/// A bucket of its own on a server, and the key to it. Says why where there is no server.
pub(crate) async fn bucket_on(server: &str, name: &str) -> Option<(S3Settings, String, String)> {
    make_bucket_on(server, name, false).await
}

/// As [`bucket_on`], with Object Lock.
pub(crate) async fn locking_bucket_on(
    server: &str,
    name: &str,
) -> Option<(S3Settings, String, String)> {
    make_bucket_on(server, name, true).await
}

async fn make_bucket_on(
    server: &str,
    name: &str,
    has_object_lock: bool,
) -> Option<(S3Settings, String, String)> {
    let (mut settings, id, secret) = match place_on(server, |settings| settings) {
        Ok(place) => place,
        Err(why) => {
            skip(&why);
            return None;
        }
    };
    settings.bucket = format!("{name}-{}", settings.prefix);
    let client = client(&settings, &id, &secret);
    let request = client.create_bucket().bucket(&settings.bucket);
    let has_object_lock = has_object_lock.then_some(true);
    request.set_object_lock_enabled_for_bucket(has_object_lock).send().await.unwrap();
    Some((settings, id, secret))
}

/// A client that knows nothing of ours.
pub(crate) fn client(settings: &S3Settings, id: &str, secret: &str) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(settings.region.clone()))
        .endpoint_url(settings.endpoint.clone().unwrap())
        .force_path_style(true)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .credentials_provider(Credentials::new(id, secret, None, None, "test"));
    Client::from_conf(config.build())
}

/// A prefix of its own for each case.
fn setup(server: &str, adapt: impl Fn(S3Settings) -> S3Settings) -> Setup<DestinationFixture> {
    let (settings, id, secret) = match place_on(server, adapt) {
        Ok(place) => place,
        Err(why) => return Setup::Unavailable(why),
    };
    let open = move || {
        let credentials = S3Credentials::keys(id.clone(), secret.clone());
        S3Destination::new(settings.clone(), &credentials, Env::system()).expect("a destination")
    };
    let fixture = DestinationFixture::new(open()).with_reopen(move || {
        let other: Arc<dyn Destination> = Arc::new(open());
        async { other }.boxed()
    });
    fixture.into()
}

destination_conformance!(minio, async || -> Setup<DestinationFixture> {
    setup("BACKUPKIT_TEST_S3_MINIO", |settings| settings)
});

destination_conformance!(seaweedfs, async || -> Setup<DestinationFixture> {
    setup("BACKUPKIT_TEST_S3_SEAWEEDFS", |settings| settings)
});

destination_conformance!(moto, async || -> Setup<DestinationFixture> {
    setup("BACKUPKIT_TEST_S3_MOTO", |settings| settings)
});

// It keeps no conditions of writes.
destination_conformance!(rclone, async || -> Setup<DestinationFixture> {
    setup("BACKUPKIT_TEST_S3_RCLONE", S3Settings::without_conditional_writes)
});
