//! Small requests to those who lend keys.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_runtime_api::client::http::{
    HttpConnector as _, HttpConnectorSettings, SharedHttpConnector,
};
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::super::client;
use super::super::errors::{not_reached, odd_reply};
use super::super::settings::S3Settings;
use crate::error::{Error, ErrorKind, Result};

/// As long as for the server itself.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What is on this machine answers at once, or there is nothing.
const LOCAL_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// For a whole request and its reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(20);
/// Replies are smaller.
const MOST_REPLY_BYTES: usize = 256 << 10;

/// Sends requests. Connections are made when the first one is sent.
pub(in crate::adapters::s3) struct Web {
    settings: S3Settings,
    far: OnceLock<SharedHttpConnector>,
    near: OnceLock<SharedHttpConnector>,
}

/// Whom a request goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::adapters::s3) enum Reach {
    /// A server, through the proxy and with the certificates of settings.
    Far,
    /// This machine, which a proxy would take for itself.
    Near,
}

/// What came back.
pub(in crate::adapters::s3) struct Reply {
    pub(in crate::adapters::s3) status: u16,
    /// What the clock of the server shows.
    pub(in crate::adapters::s3) date: Option<Timestamp>,
    pub(super) text: Zeroizing<String>,
}

impl Web {
    pub(in crate::adapters::s3) fn new(settings: &S3Settings) -> Self {
        Self { settings: settings.clone(), far: OnceLock::new(), near: OnceLock::new() }
    }

    /// Sends a request, once. `doing` is what for, such as "ask for a role".
    ///
    /// # Errors
    /// `Unavailable` or `Timeout` without a reply that can be read; `InvalidConfig` for certificates or a
    /// proxy that will not do.
    pub(in crate::adapters::s3) async fn send(
        &self,
        reach: Reach,
        request: HttpRequest,
        doing: &str,
    ) -> Result<Reply> {
        let connector = self.connector(reach)?;
        let sent = async {
            let reply = connector.call(request).await;
            let reply = reply.map_err(|error| not_reached(doing, &error))?;
            let status = reply.status().as_u16();
            let date = reply.headers().get("date").and_then(to_time);
            let mut body = ByteStream::new(reply.into_body());
            let mut bytes = Zeroizing::new(Vec::new());
            while let Some(part) = body.next().await {
                let part = part.map_err(|_| odd_reply(doing, "the reply broke off"))?;
                if bytes.len() + part.len() > MOST_REPLY_BYTES {
                    return Err(odd_reply(doing, "the reply is far too long"));
                }
                bytes.extend_from_slice(&part);
            }
            let text = std::str::from_utf8(&bytes);
            let text = text.map_err(|_| odd_reply(doing, "the reply is not text"))?;
            Ok(Reply { status, date, text: Zeroizing::new(text.to_owned()) })
        };
        tokio::time::timeout(REPLY_TIMEOUT, sent).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, format!("cannot {doing}: nobody answers")))
        })
    }

    fn connector(&self, reach: Reach) -> Result<SharedHttpConnector> {
        let (made, proxy, connect_timeout, ca_file) = match reach {
            Reach::Far => {
                let proxy = client::proxy(&self.settings)?;
                (&self.far, proxy, CONNECT_TIMEOUT, self.settings.ca_file.clone())
            }
            Reach::Near => {
                (&self.near, ProxyConfig::disabled(), LOCAL_CONNECT_TIMEOUT, None::<PathBuf>)
            }
        };
        if let Some(made) = made.get() {
            return Ok(made.clone());
        }
        let timeouts = HttpConnectorSettings::builder().connect_timeout(connect_timeout).build();
        let builder = Connector::builder().connector_settings(timeouts).proxy_config(proxy);
        let connector = SharedHttpConnector::new(client::secured(builder, ca_file.as_deref())?);
        Ok(made.get_or_init(|| connector).clone())
    }
}

fn to_time(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text).ok().map(|time| time.timestamp())
}

/// Makes a request without a body.
pub(super) fn request(
    method: &str,
    address: &str,
    headers: &[(&'static str, &str)],
    body: Option<&str>,
    doing: &str,
) -> Result<HttpRequest> {
    let refused = |what: &str| {
        Error::new(ErrorKind::InvalidConfig, format!("cannot {doing}: {what} cannot be sent"))
            .with_code("s3-settings")
    };
    let mut request = match body {
        None => HttpRequest::empty(),
        Some(text) => HttpRequest::new(text.as_bytes().to_vec().into()),
    };
    request.set_method(method).map_err(|_| refused("the method"))?;
    request.set_uri(address).map_err(|_| refused("the address"))?;
    for (name, value) in headers {
        request
            .headers_mut()
            .try_insert(*name, (*value).to_owned())
            .map_err(|_| refused("a header"))?;
    }
    Ok(request)
}
