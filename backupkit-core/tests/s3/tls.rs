//! Certificates that are trusted, and those that are not, on a server behind TLS.

use std::sync::Arc;

use backupkit_core::Error;
use backupkit_core::ErrorKind::Unavailable;
use backupkit_core::adapters::s3::S3Destination;
use backupkit_core::destination::Destination as _;
use backupkit_core::testing::ManualClock;
use backupkit_core::testing::fakes::S3Server;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::scene::{BUCKET, credentials, env, key, settings};

/// Who vouches for servers.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let der = parameters.self_signed(&key).unwrap();
        let body = STANDARD.encode(der.der());
        let pem = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        Self { issuer: Issuer::new(parameters, key), pem }
    }

    /// What a server of this name shows.
    fn vouch(&self, name: &str, is_expired: bool) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if is_expired {
            parameters.not_before = date_time_ymd(2000, 1, 1);
            parameters.not_after = date_time_ymd(2001, 1, 1);
        }
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap()
    }
}

/// Puts TLS before a server, for as long as the tasks are kept. Returns its address.
async fn secure(server: &S3Server, config: ServerConfig) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let behind = server.endpoint().replace("http://", "");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, behind) = (acceptor.clone(), behind.clone());
            connections.spawn(async move {
                // Who does not trust goes away.
                let Ok(mut client) = acceptor.accept(stream).await else { return };
                let mut server = TcpStream::connect(behind).await.unwrap();
                drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
            });
        }
    });
    (format!("https://{address}"), tasks)
}

/// What comes of reading through TLS; `trusted` is what a `ca_file` holds.
async fn read(config: ServerConfig, trusted: Option<&str>) -> Result<(), Error> {
    let server = S3Server::start(BUCKET);
    server.put(BUCKET, "config", "private");
    let (endpoint, _tasks) = secure(&server, config).await;
    let mut settings = settings(&server).with_endpoint(endpoint);
    let folder = TempDir::new().unwrap();
    if let Some(pem) = trusted {
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, pem).unwrap();
        settings = settings.with_ca_file(file);
    }
    let clock = ManualClock::default().with_auto_advance();
    let destination = S3Destination::new(settings, &credentials(), env(&clock)).unwrap();
    let read = destination.get(&key("config"), None).await;
    if read.is_err() {
        assert_eq!(server.counters().requests, 0, "nothing is sent to who is not trusted");
    }
    read.map(|bytes| assert_eq!(bytes, "private"))
}

#[tokio::test]
async fn a_server_is_trusted_by_the_certificate_that_settings_name() {
    let authority = Authority::new();
    read(authority.vouch("127.0.0.1", false), Some(&authority.pem)).await.unwrap();
    // Among others.
    let both = Authority::new().pem + &authority.pem;
    read(authority.vouch("127.0.0.1", false), Some(&both)).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_not_trusted_is_told_with_what_to_do_and_asked_once() {
    let (authority, other) = (Authority::new(), Authority::new());
    for (config, trusted, hint) in [
        (authority.vouch("127.0.0.1", false), None, "ca_file"),
        (authority.vouch("127.0.0.1", false), Some(&other.pem), "ca_file"),
        (authority.vouch("127.0.0.1", true), Some(&authority.pem), "renew"),
        (authority.vouch("other.example", false), Some(&authority.pem), "name"),
    ] {
        let error = read(config, trusted.map(String::as_str)).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (Unavailable, "s3-certificate"), "{error:?}");
        assert_eq!(error.retry(), backupkit_core::Retry::Never);
        assert!(error.hint().is_some_and(|told| told.contains(hint)), "{hint}: {error:?}");
    }
}
