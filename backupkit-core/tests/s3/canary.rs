//! What libraries below write into logs, when a program around the engine keeps all of it: no secret.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backupkit_core::adapters::s3::{S3Credentials, S3Destination, S3Role, S3Settings};
use backupkit_core::destination::Destination as _;
use backupkit_core::testing::ManualClock;
use backupkit_core::testing::fakes::{S3Effect, S3Fault, S3Lender, S3Server};
use bytes::Bytes;
use tempfile::TempDir;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::scene::{BUCKET, env, key, settings};

const SECRET: &str = "canary-of-a-secret-key";
const TOKEN: &str = "canary-of-a-session-token";
const LENT: &str = "canary-of-a-lent-key";
const IDENTITY: &str = "canary-of-an-identity";
const PROXY_PASSWORD: &str = "canary-of-a-proxy";
/// As headers have it.
const PROXY_WORD: &str = "bmFzOmNhbmFyeS1vZi1hLXByb3h5";
/// What follows is a signature.
const SIGNATURE: &str = "Signature=";

/// Keeps all that is logged, at every level.
#[derive(Debug, Clone, Default)]
struct Everything(Arc<Mutex<String>>);

impl Everything {
    fn note(&self, target: &str, record: impl FnOnce(&mut dyn Visit)) {
        let mut text = Text(String::new());
        record(&mut text);
        let mut kept = self.0.lock().unwrap();
        writeln!(kept, "{target}:{}", text.0).unwrap();
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.note(span.metadata().target(), |visit| span.record(visit));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        self.note("span", |visit| values.record(visit));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.note(event.metadata().target(), |visit| event.record(visit));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Each kind of call, with one that fails for each.
async fn use_all(settings: S3Settings, credentials: &S3Credentials, server: &S3Server) {
    let clock = ManualClock::default().with_auto_advance();
    let destination = S3Destination::new(settings, credentials, env(&clock)).unwrap();
    let config = key("config");
    drop(destination.check().await);
    drop(destination.create(&config, Bytes::from_static(b"body").into()).await);
    drop(destination.get(&config, Some(0..2)).await);
    for effect in
        [S3Effect::refuse(403, "AccessDenied"), S3Effect::slow_down(), S3Effect::CutBody(1)]
    {
        server.add_fault(S3Fault::new(effect));
        drop(destination.get(&config, None).await);
        drop(destination.stat(&config).await);
    }
    drop(destination.delete(&config).await);
}

/// On one thread: the log is kept of that.
#[tokio::test]
async fn nothing_secret_is_logged_at_any_level() {
    let everything = Everything::default();
    let guard = tracing::subscriber::set_default(everything.clone());
    let server = S3Server::start(BUCKET);
    server.take_only(S3Server::ACCESS_KEY_ID, SECRET, Some(TOKEN));
    let session = S3Credentials::Keys {
        access_key_id: S3Server::ACCESS_KEY_ID.to_owned(),
        secret_access_key: SECRET.into(),
        session_token: Some(TOKEN.into()),
    };
    let wrong = S3Credentials::keys(S3Server::ACCESS_KEY_ID, LENT);
    for credentials in [&session, &wrong] {
        use_all(settings(&server), credentials, &server).await;
    }
    // A proxy that is the server itself, which does not ask.
    let proxied = settings(&server).with_proxy(server.endpoint());
    use_all(proxied.with_proxy_user("nas", PROXY_PASSWORD), &session, &server).await;
    // Keys that are lent.
    let lender = S3Lender::start();
    lender.lend("LENTID", LENT, TOKEN, Duration::from_hours(1));
    server.take_only("LENTID", LENT, Some(TOKEN));
    let folder = TempDir::new().unwrap();
    let token_file = folder.path().join("token");
    let role = || S3Role::new(S3Lender::ROLE).with_sts_endpoint(lender.endpoint());
    let lent = [
        S3Credentials::WebIdentity { token_file: token_file.clone(), role: role() },
        S3Credentials::AssumedRole { base: Box::new(wrong), role: role() },
        S3Credentials::Instance { endpoint: Some(lender.endpoint()) },
        S3Credentials::Container {
            endpoint: format!("{}/container", lender.endpoint()),
            token_file: Some(token_file.clone()),
        },
    ];
    for credentials in &lent {
        for text in [S3Lender::TOKEN, IDENTITY] {
            std::fs::write(&token_file, text).unwrap();
            use_all(settings(&server), credentials, &server).await;
        }
    }
    drop(guard);
    let kept = everything.0.lock().unwrap().clone();
    for canary in
        [SECRET, TOKEN, LENT, IDENTITY, PROXY_PASSWORD, PROXY_WORD, S3Lender::TOKEN, SIGNATURE]
    {
        let line = kept.lines().find(|line| line.contains(canary));
        assert!(line.is_none(), "{canary}: {line:?}");
    }
}
