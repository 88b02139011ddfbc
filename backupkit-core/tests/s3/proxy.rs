//! Requests through an HTTP proxy, with TLS and without.

use std::sync::{Arc, Mutex};

use backupkit_core::ErrorKind::{Unauthenticated, Unavailable};
use backupkit_core::adapters::s3::{S3Credentials, S3Destination, S3Role, S3Settings};
use backupkit_core::destination::Destination as _;
use backupkit_core::testing::ManualClock;
use backupkit_core::testing::fakes::{S3Lender, S3Server};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::scene::{BUCKET, credentials, env, key, settings};

/// With what addresses cannot hold.
const PASSWORD: &str = "canary:of a/proxy@%ü";

/// A proxy, and the first lines of what it was asked.
struct Proxy {
    address: String,
    _tasks: JoinSet<()>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Lets through whoever knows the password, if there is one. All goes to `server`.
    async fn start(server: &S3Server, user: Option<(&str, &str)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let behind = server.endpoint().replace("http://", "");
        let word = user.map(|(name, password)| STANDARD.encode(format!("{name}:{password}")));
        let noted = Arc::clone(&asked);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (noted, word, behind) = (Arc::clone(&noted), word.clone(), behind.clone());
                connections.spawn(pass(client, behind, word, noted));
            }
        });
        Self { address, _tasks: tasks, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn pass(
    mut client: TcpStream,
    behind: String,
    word: Option<String>,
    noted: Arc<Mutex<Vec<String>>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = client.read_u8().await else { return };
        head.push(byte);
    }
    let text = String::from_utf8(head.clone()).unwrap();
    let first = text.lines().next().unwrap().to_owned();
    let is_tunnel = first.starts_with("CONNECT ");
    noted.lock().unwrap().push(first);
    let is_known = word.is_none_or(|word| {
        let expected = format!("Basic {word}");
        text.lines().filter_map(|line| line.split_once(": ")).any(|(name, value)| {
            name.eq_ignore_ascii_case("proxy-authorization") && value == expected
        })
    });
    if !is_known {
        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\
                       proxy-authenticate: Basic realm=\"p\"\r\nconnection: close\r\n\r\n";
        client.write_all(refusal.as_bytes()).await.unwrap();
        return;
    }
    let mut server = TcpStream::connect(behind).await.unwrap();
    if is_tunnel {
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    } else {
        server.write_all(&head).await.unwrap();
    }
    drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
}

fn open(settings: S3Settings) -> S3Destination {
    let clock = ManualClock::default().with_auto_advance();
    S3Destination::new(settings, &credentials(), env(&clock)).unwrap()
}

#[tokio::test]
async fn requests_go_through_the_proxy_that_settings_name() {
    let server = S3Server::start(BUCKET);
    server.put(BUCKET, "config", "private");
    let proxy = Proxy::start(&server, None).await;
    // Nobody listens there but behind the proxy.
    let elsewhere = settings(&server).with_endpoint("http://s3.invalid:9000");
    let destination = open(elsewhere.with_proxy(&proxy.address));
    assert_eq!(destination.get(&key("config"), None).await.unwrap(), "private");
    let asked = proxy.asked();
    assert!(asked[0].starts_with("GET http://s3.invalid:9000/bucket/config"), "{asked:?}");
}

#[tokio::test]
async fn with_tls_the_proxy_sees_nothing_but_the_address() {
    let server = S3Server::start(BUCKET);
    let proxy = Proxy::start(&server, Some(("nas", PASSWORD))).await;
    let elsewhere = settings(&server).with_endpoint("https://s3.invalid");
    let through = elsewhere.with_proxy(&proxy.address).with_proxy_user("nas", PASSWORD);
    // What is behind speaks no TLS.
    let error = open(through).get(&key("config"), None).await.unwrap_err();
    assert!(error.is(Unavailable), "{error:?}");
    let asked = proxy.asked();
    assert!(asked.iter().all(|line| line == "CONNECT s3.invalid:443 HTTP/1.1"), "{asked:?}");
    assert_eq!(server.counters().requests, 0);
}

#[tokio::test]
async fn a_proxy_that_wants_a_password_gets_the_one_of_settings() {
    let server = S3Server::start(BUCKET);
    server.put(BUCKET, "config", "private");
    let proxy = Proxy::start(&server, Some(("nas", PASSWORD))).await;
    for endpoint in ["http://s3.invalid:9000", "https://s3.invalid"] {
        let through = settings(&server).with_endpoint(endpoint).with_proxy(&proxy.address);
        let wrong = through.clone().with_proxy_user("nas", "canary-wrong");
        for settings in [through.clone(), wrong] {
            let shown = format!("{settings:?}");
            let asked = proxy.asked().len();
            let error = open(settings).get(&key("config"), None).await.unwrap_err();
            let expected = (Unauthenticated, "s3-proxy-refused");
            assert_eq!((error.kind(), error.code()), expected, "{endpoint}: {error:?}");
            assert!(error.hint().is_some_and(|hint| hint.contains("proxy_user")), "{error:?}");
            assert_eq!(proxy.asked().len() - asked, 1, "a refusal is not asked for again");
            let shown = format!("{shown} {} {error:?}", error.report());
            assert!(!shown.contains("canary"), "{shown}");
        }
    }
    let elsewhere = settings(&server).with_endpoint("http://s3.invalid:9000");
    let right = elsewhere.with_proxy(&proxy.address).with_proxy_user("nas", PASSWORD);
    assert!(!format!("{right:?}").contains("canary"));
    assert_eq!(open(right).get(&key("config"), None).await.unwrap(), "private");
}

#[tokio::test]
async fn roles_are_asked_for_through_the_proxy_and_machines_without_it() {
    let server = S3Server::start(BUCKET);
    server.put(BUCKET, "config", "private");
    let lender = S3Lender::start();
    lender.lend("LENT", "secret", "token", std::time::Duration::from_hours(1));
    server.take_only("LENT", "secret", Some("token"));
    let proxy = Proxy::start(&server, None).await;
    let elsewhere = settings(&server).with_endpoint("http://s3.invalid").with_proxy(&proxy.address);
    let clock = ManualClock::default().with_auto_advance();
    let of_machine = S3Credentials::Instance { endpoint: Some(lender.endpoint()) };
    let destination = S3Destination::new(elsewhere.clone(), &of_machine, env(&clock)).unwrap();
    assert_eq!(destination.get(&key("config"), None).await.unwrap(), "private");
    assert_eq!((lender.asked().len(), proxy.asked().len()), (3, 1));
    let role = S3Role::new(S3Lender::ROLE).with_sts_endpoint("http://sts.invalid");
    let assumed = S3Credentials::AssumedRole { base: Box::new(credentials()), role };
    let destination = S3Destination::new(elsewhere, &assumed, env(&clock)).unwrap();
    let _refused = destination.get(&key("config"), None).await.unwrap_err();
    assert!(proxy.asked()[1].starts_with("POST http://sts.invalid/ "), "{:?}", proxy.asked());
    assert_eq!(lender.asked().len(), 3);
}
