//! The client: one for each bucket and key.

use std::path::Path;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Config, IdentityCache, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, RuntimeComponents, SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{
    Provider as TlsProvider, TlsContext, TrustStore, rustls_provider::CryptoMode,
};
use aws_smithy_http_client::{Builder as HttpBuilder, Connector, ConnectorBuilder};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::ExposeSecret as _;

use super::credentials::Provider;
use super::percent::encoded;
use super::settings::S3Settings;
use super::silence::Watched;
use super::small_file::read_small_file;
use crate::error::{Error, ErrorKind, Result};

/// A server that is there answers sooner, whatever its load.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A request that stands still for so long is given up: nothing of it is taken, and no reply comes.
const SILENCE: Duration = Duration::from_mins(1);
/// The same for somebody who waits before a screen.
const SHORT_SILENCE: Duration = Duration::from_secs(10);
/// A reply that stands still for so long is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// As many as calls at the same time.
const IDLE_CONNECTIONS: usize = 64;

/// Makes a client. Nothing is sent yet.
///
/// # Errors
/// `InvalidConfig` for certificates or a proxy that will not do.
pub(super) fn build(settings: &S3Settings, provider: Option<Provider>) -> Result<Client> {
    require_plain(settings)?;
    let mut builder = Config::builder()
        // Pinned, as the version of the crate: what is sent must not change by itself.
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(settings.region.clone()))
        .force_path_style(settings.path_style)
        .http_client(Watched::new(http_client(settings)?, SILENCE))
        // What gives credentials knows when to read them again.
        .identity_cache(IdentityCache::no_cache())
        // Servers that are not AWS's refuse what they do not know. Each body is signed by its hash.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        // Calls are repeated by us: the client's own budget for that is one for the whole process.
        .retry_config(RetryConfig::disabled())
        // The same for all requests: the client has connections of their own for each limit.
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build())
        // Uploads come from memory; a line that is slow for a while is no reason to end them.
        .stalled_stream_protection(
            StalledStreamProtectionConfig::enabled()
                .upload_enabled(false)
                .grace_period(STALL_TIMEOUT)
                .build(),
        );
    builder.set_endpoint_url(settings.endpoint.clone());
    builder = match provider {
        Some(provider) => builder.credentials_provider(provider),
        None => builder.allow_no_auth(),
    };
    Ok(Client::from_conf(builder.build()))
}

/// Addresses are shown, so none holds credentials.
pub(super) fn require_plain(settings: &S3Settings) -> Result<()> {
    for address in [&settings.endpoint, &settings.proxy].into_iter().flatten() {
        if address.contains('@') {
            let why = "the address of the server or of the proxy holds credentials";
            return Err(Error::new(ErrorKind::InvalidConfig, why)
                .with_code("s3-address")
                .with_hint("write it as http://host:port; addresses are shown and logged"));
        }
    }
    Ok(())
}

/// The same client and its connections, for somebody who waits before a screen.
pub(super) fn impatient(client: &Client) -> Client {
    let config = client.config();
    match config.http_client() {
        Some(http) => {
            let http = Watched::new(http, SHORT_SILENCE);
            Client::from_conf(config.to_builder().http_client(http).build())
        }
        None => client.clone(),
    }
}

fn http_client(settings: &S3Settings) -> Result<SharedHttpClient> {
    let proxy = proxy(settings)?;
    let is_plain =
        settings.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let tls = if is_plain { None } else { Some(tls(settings.ca_file.as_deref())?) };
    Ok(HttpBuilder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder();
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        let connector =
            connector.proxy_config(proxy.clone()).pool_max_idle_per_host(IDLE_CONNECTIONS);
        match &tls {
            None => connector.build_http(),
            Some(context) => connector
                .tls_provider(TlsProvider::Rustls(CryptoMode::Ring))
                .tls_context(context.clone())
                .build(),
        }
    }))
}

/// The proxy of settings. Variables of the environment name none.
pub(super) fn proxy(settings: &S3Settings) -> Result<ProxyConfig> {
    let Some(address) = &settings.proxy else { return Ok(ProxyConfig::disabled()) };
    let proxy = ProxyConfig::all(address.as_str()).map_err(|_| {
        Error::new(ErrorKind::InvalidConfig, "the address of the proxy is not one")
            .with_code("s3-proxy")
            .with_hint("write it as http://host:port")
    })?;
    Ok(match &settings.proxy_user {
        // The client puts them into an address: one that is none would be no proxy at all.
        Some((name, password)) => {
            proxy.with_basic_auth(encoded(name), encoded(password.expose_secret()))
        }
        None => proxy,
    })
}

/// A connector for whatever address, which trusts the system and a file.
pub(super) fn secured(builder: ConnectorBuilder, ca_file: Option<&Path>) -> Result<Connector> {
    let provider = TlsProvider::Rustls(CryptoMode::Ring);
    Ok(builder.tls_provider(provider).tls_context(tls(ca_file)?).build())
}

/// Whom to trust: the certificates of the system, and those of a file.
fn tls(ca_file: Option<&Path>) -> Result<TlsContext> {
    let mut trusted = TrustStore::empty().with_native_roots(true);
    if let Some(file) = ca_file {
        trusted.add_pem_certificate(certificates(file)?);
    }
    TlsContext::builder().with_trust_store(trusted).build().map_err(|error| {
        Error::new(ErrorKind::InvalidConfig, "cannot use the certificates to trust")
            .with_code("s3-ca-file")
            .with_source(error)
    })
}

/// A file of certificates, each of which can be read: the client would panic over one that cannot.
fn certificates(file: &Path) -> Result<Vec<u8>> {
    let refused = |why: String| {
        Error::new(ErrorKind::InvalidConfig, why)
            .with_code("s3-ca-file")
            .with_hint("ca_file names a file with certificates in PEM")
    };
    let pem = read_small_file(file).map_err(|error| refused(error.to_string()))?;
    let mut trusted = RootCertStore::empty();
    for (number, found) in (1..).zip(CertificateDer::pem_slice_iter(&pem)) {
        let damaged = || refused(format!("certificate {number} in {} is damaged", file.display()));
        let found = found.map_err(|error| damaged().with_source(error))?;
        trusted.add(found).map_err(|error| damaged().with_source(error))?;
    }
    if trusted.is_empty() {
        return Err(refused(format!("{} holds no certificate", file.display())));
    }
    Ok(pem.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::s3::S3Credentials;
    use crate::env::Env;

    /// Of nobody.
    const CERTIFICATE: &str = include_str!("../../../tests/fixtures/certificate.pem");

    fn open(pem: &str) -> Result<Client> {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, pem).unwrap();
        let settings = S3Settings::new("b").with_endpoint("https://h").with_ca_file(file);
        build(&settings, S3Credentials::keys("k", "s").provider(&settings, &Env::system()))
    }

    #[test]
    fn addresses_with_credentials_are_refused() {
        for settings in [
            S3Settings::new("b").with_endpoint("https://user:canary@h"),
            S3Settings::new("b").with_proxy("http://user:canary@h"),
        ] {
            let error = build(&settings, None).unwrap_err();
            assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidConfig, "s3-address"));
            assert!(!error.report().contains("canary"));
        }
    }

    #[test]
    fn certificates_that_cannot_be_read_are_refused_before_they_are_used() {
        open(CERTIFICATE).unwrap();
        open(&format!("what comes before\n{CERTIFICATE}{CERTIFICATE}")).unwrap();
        let (half, _) = CERTIFICATE.split_at(CERTIFICATE.len() / 2);
        let begin = "-----BEGIN CERTIFICATE-----\n";
        let end = "-----END CERTIFICATE-----\n";
        for pem in [
            "",
            "nothing",
            begin,
            half,
            &format!("{half}\n{end}"),
            &format!("{CERTIFICATE}{half}"),
            &format!("{CERTIFICATE}{begin}AAAA\n{end}"),
            &format!("{begin}???\n{end}{CERTIFICATE}"),
        ] {
            let error = open(pem).unwrap_err();
            assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidConfig, "s3-ca-file"));
            assert!(!error.report().contains("AAAA"));
        }
    }
}
