//! Keys that are lent for a time: by STS, to machines and to containers.

use std::time::Duration;

use backupkit_core::ErrorKind::{Unauthenticated, Unavailable};
use backupkit_core::adapters::s3::{S3Credentials, S3Destination, S3Role};
use backupkit_core::destination::Destination as _;
use backupkit_core::testing::ManualClock;
use backupkit_core::testing::fakes::{S3Lender, S3Server};
use futures::future::join_all;
use tempfile::TempDir;

use crate::scene::{BUCKET, credentials, env, key, settings};

const HOUR: Duration = Duration::from_hours(1);
/// Parts of all that is secret here.
const CANARY: &str = "canary";

struct Loan {
    server: S3Server,
    lender: S3Lender,
    clock: ManualClock,
    folder: TempDir,
}

impl Loan {
    fn new() -> Self {
        let loan = Self {
            server: S3Server::start(BUCKET),
            lender: S3Lender::start(),
            clock: ManualClock::default().with_auto_advance(),
            folder: TempDir::new().unwrap(),
        };
        loan.server.put(BUCKET, "config", "private");
        loan.write_token(S3Lender::TOKEN);
        loan
    }

    fn write_token(&self, text: &str) {
        std::fs::write(self.folder.path().join("token"), format!("{text}\n")).unwrap();
    }

    fn role(&self) -> S3Role {
        S3Role::new(S3Lender::ROLE).with_sts_endpoint(self.lender.endpoint())
    }

    fn assumed(&self) -> S3Credentials {
        let role = self.role().with_external_id(S3Lender::EXTERNAL_ID).with_session_name("nas");
        S3Credentials::AssumedRole { base: Box::new(credentials()), role }
    }

    fn with_token(&self) -> S3Credentials {
        let token_file = self.folder.path().join("token");
        S3Credentials::WebIdentity { token_file, role: self.role() }
    }

    fn of_machine(&self) -> S3Credentials {
        S3Credentials::Instance { endpoint: Some(self.lender.endpoint()) }
    }

    fn of_container(&self) -> S3Credentials {
        S3Credentials::Container {
            endpoint: format!("{}/container", self.lender.endpoint()),
            token_file: Some(self.folder.path().join("token")),
        }
    }

    /// Lends a key of this number, for so long.
    fn lend(&self, number: u32, lasts: Duration) {
        let (id, secret, token) = parts(number);
        self.lender.lend(&id, &secret, &token, lasts);
    }

    /// The server takes only the key of this number.
    fn take(&self, number: u32) {
        let (id, secret, token) = parts(number);
        self.server.take_only(&id, &secret, Some(&token));
    }

    fn open(&self, credentials: &S3Credentials) -> S3Destination {
        S3Destination::new(settings(&self.server), credentials, env(&self.clock)).unwrap()
    }
}

fn parts(number: u32) -> (String, String, String) {
    (
        format!("LENT{number}"),
        format!("{CANARY}-secret-{number}/+="),
        format!("{CANARY}-token-{number}"),
    )
}

#[tokio::test]
async fn whoever_is_lent_a_key_asks_with_it_and_once() {
    let loan = Loan::new();
    for (way, credentials, requests) in [
        ("role", loan.assumed(), 1),
        ("token", loan.with_token(), 1),
        ("machine", loan.of_machine(), 3),
        ("container", loan.of_container(), 1),
    ] {
        loan.lend(1, HOUR);
        loan.take(1);
        let asked = loan.lender.asked().len();
        let destination = loan.open(&credentials);
        let config = key("config");
        let reads = (0..8).map(|_| destination.get(&config, None));
        for read in join_all(reads).await {
            assert_eq!(read.unwrap(), "private", "{way}");
        }
        assert_eq!(loan.lender.asked().len() - asked, requests, "{way}: eight calls, one key");
    }
    let asked = loan.lender.asked();
    assert_eq!(asked[0]["RoleSessionName"], "nas");
    assert_eq!(asked[1]["RoleSessionName"], S3Role::DEFAULT_SESSION_NAME);
}

#[tokio::test]
async fn another_key_is_asked_for_before_one_ends_and_when_it_is_refused() {
    let loan = Loan::new();
    for (number, lasts) in [(1, HOUR), (2, HOUR), (3, HOUR)] {
        loan.lend(number, lasts);
    }
    loan.take(1);
    let destination = loan.open(&loan.assumed());
    let config = key("config");
    destination.get(&config, None).await.unwrap();
    loan.clock.advance(Duration::from_mins(54));
    destination.get(&config, None).await.unwrap();
    // Five minutes before the end, by the clock of the lender.
    loan.clock.advance(Duration::from_mins(2));
    loan.take(2);
    destination.get(&config, None).await.unwrap();
    assert_eq!(loan.lender.asked().len(), 2);
    // Taken back long before its end, while many calls run: one of them asks.
    loan.take(3);
    let reads = (0..6).map(|_| destination.get(&config, None));
    for read in join_all(reads).await {
        assert_eq!(read.unwrap(), "private");
    }
    assert_eq!(loan.lender.asked().len(), 3);
}

#[tokio::test]
async fn a_key_is_used_to_its_end_while_nobody_lends_another() {
    let loan = Loan::new();
    loan.lend(1, HOUR);
    loan.take(1);
    let destination = loan.open(&loan.assumed());
    let config = key("config");
    destination.get(&config, None).await.unwrap();
    for _ in 0..200 {
        loan.lender.refuse(403, "AccessDenied");
    }
    loan.clock.advance(Duration::from_mins(57));
    destination.get(&config, None).await.unwrap();
    destination.get(&config, None).await.unwrap();
    assert_eq!(loan.lender.asked().len(), 2, "it is not asked for each call");
    loan.clock.advance(Duration::from_mins(4));
    let error = destination.get(&config, None).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (Unauthenticated, "s3-role-refused"));
}

#[tokio::test]
async fn refusals_of_lenders_are_told_apart() {
    let loan = Loan::new();
    loan.lend(1, HOUR);
    loan.take(1);
    for (status, code) in [
        (403, "AccessDenied"),
        (400, "ExpiredTokenException"),
        (403, "InvalidClientTokenId"),
        (400, "ValidationError"),
    ] {
        loan.lender.refuse(status, code);
        let destination = loan.open(&loan.assumed());
        let error = destination.get(&key("config"), None).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (Unauthenticated, "s3-role-refused"), "{code}");
        assert!(error.hint().is_some() && error.report().contains(code), "{}", error.report());
    }
    // What may pass is waited for.
    for (status, code) in
        [(400, "Throttling"), (500, "InternalFailure"), (400, "IDPCommunicationError")]
    {
        loan.lender.refuse(status, code);
        let destination = loan.open(&loan.assumed());
        assert_eq!(destination.get(&key("config"), None).await.unwrap(), "private", "{code}");
    }
    for _ in 0..20 {
        loan.lender.refuse(503, "ServiceUnavailable");
    }
    let error = loan.open(&loan.assumed()).get(&key("config"), None).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (Unavailable, "s3-unavailable"), "{error:?}");
}

#[tokio::test]
async fn who_has_no_role_is_told_so() {
    let loan = Loan::new();
    // Nothing to lend: a machine without a role.
    for credentials in [loan.of_machine(), loan.of_container()] {
        let error = loan.open(&credentials).get(&key("config"), None).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (Unauthenticated, "s3-role-refused"), "{error:?}");
        assert_eq!(error.hint(), Some("give the machine a role"));
    }
    loan.write_token("another");
    let error = loan.open(&loan.with_token()).get(&key("config"), None).await.unwrap_err();
    assert!(error.report().contains("InvalidIdentityToken"), "{}", error.report());
    std::fs::remove_file(loan.folder.path().join("token")).unwrap();
    let error = loan.open(&loan.with_token()).get(&key("config"), None).await.unwrap_err();
    // A missing file is no missing object.
    assert_eq!((error.kind(), error.code()), (Unauthenticated, "s3-no-credentials"));
}

#[tokio::test]
async fn a_machine_without_such_a_service_is_no_reason_to_ask_elsewhere() {
    let loan = Loan::new();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let endpoint = format!("http://{}", socket.local_addr().unwrap());
    let credentials = S3Credentials::Instance { endpoint: Some(endpoint) };
    let error = loan.open(&credentials).get(&key("config"), None).await.unwrap_err();
    assert!(error.is(Unavailable), "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("EC2")), "{error:?}");
    assert_eq!(loan.server.counters().requests, 0);
}

#[tokio::test]
async fn a_role_of_ones_own_server_is_asked_for_there() {
    let loan = Loan::new();
    loan.lend(1, HOUR);
    // Without an address of STS, at a server that is not AWS's.
    let role = S3Role::new(S3Lender::ROLE).with_external_id(S3Lender::EXTERNAL_ID);
    let credentials = S3Credentials::AssumedRole { base: Box::new(credentials()), role };
    let settings = settings(&loan.server).with_endpoint(loan.lender.endpoint());
    let destination = S3Destination::new(settings, &credentials, env(&loan.clock)).unwrap();
    let _error = destination.get(&key("config"), None).await.unwrap_err();
    assert_eq!(loan.lender.asked()[0]["Action"], "AssumeRole");
}

#[tokio::test]
async fn nothing_that_was_lent_is_shown() {
    let loan = Loan::new();
    loan.lend(1, HOUR);
    loan.take(2);
    loan.write_token(CANARY);
    let base = S3Credentials::keys(S3Server::ACCESS_KEY_ID, "canary-of-the-base");
    let wrong = S3Credentials::AssumedRole { base: Box::new(base), role: loan.role() };
    for credentials in
        [loan.assumed(), wrong, loan.with_token(), loan.of_machine(), loan.of_container()]
    {
        let destination = loan.open(&credentials);
        let error = destination.get(&key("config"), None).await.unwrap_err();
        let probe = destination.check().await.unwrap();
        for shown in [
            error.report(),
            format!("{error:?}"),
            format!("{credentials:?} {destination:?}"),
            format!("{probe:?}"),
        ] {
            assert!(!shown.contains(CANARY), "{shown}");
        }
    }
}
