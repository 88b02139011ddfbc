//! Gives up requests of which nothing is taken, and which nothing answers.
//!
//! What counts is progress, not size: an upload may take as long as a slow line needs. A limit for each
//! size would also be a connection of its own for each, because the client keeps connections by limit.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::config::{
    AsyncSleep as _, ConfigBag, HttpClient, RuntimeComponents, RuntimeComponentsBuilder,
    SharedAsyncSleep, SharedHttpClient,
};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::result::ConnectorError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// How often is looked whether something was taken.
const TICK: Duration = Duration::from_secs(5);

/// A client whose requests end when they stand still for so long, or a tick longer.
#[derive(Debug)]
pub(super) struct Watched {
    inner: SharedHttpClient,
    ticks: u32,
}

impl Watched {
    pub(super) fn new(inner: SharedHttpClient, silence: Duration) -> Self {
        let ticks = silence.as_secs().div_ceil(TICK.as_secs()).max(1);
        Self { inner, ticks: u32::try_from(ticks).unwrap_or(u32::MAX) }
    }
}

impl HttpClient for Watched {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        match components.sleep_impl() {
            Some(sleep) => {
                SharedHttpConnector::new(WatchedConnector { inner, sleep, ticks: self.ticks })
            }
            None => inner,
        }
    }

    fn validate_base_client_config(
        &self,
        components: &RuntimeComponentsBuilder,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.inner.validate_base_client_config(components, config)
    }

    fn validate_final_config(
        &self,
        components: &RuntimeComponents,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.inner.validate_final_config(components, config)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.inner.connector_metadata()
    }
}

#[derive(Debug)]
struct WatchedConnector {
    inner: SharedHttpConnector,
    sleep: SharedAsyncSleep,
    ticks: u32,
}

impl HttpConnector for WatchedConnector {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let taken = Arc::new(AtomicU64::new(0));
        if request.body().content_length() != Some(0) {
            let body = std::mem::replace(request.body_mut(), SdkBody::taken());
            let counted = Counted { body, taken: Arc::clone(&taken) };
            *request.body_mut() = SdkBody::from_body_1_x(counted);
        }
        let sent = self.inner.call(request);
        let (sleep, most) = (self.sleep.clone(), self.ticks);
        HttpConnectorFuture::new(async move {
            let mut sent = std::pin::pin!(sent);
            let (mut seen, mut silent) = (0, 0u32);
            loop {
                tokio::select! {
                    biased;
                    reply = &mut sent => return reply.map_err(of_connection),
                    () = sleep.sleep(TICK) => {}
                }
                let now = taken.load(Ordering::Relaxed);
                silent = if now == seen { silent.saturating_add(1) } else { 0 };
                seen = now;
                if silent >= most {
                    return Err(ConnectorError::timeout("the server does not answer".into()));
                }
            }
        })
    }
}

/// What goes wrong from here on is of the connection; the client says "other" of what it does not know,
/// and of requests that were never made.
fn of_connection(error: ConnectorError) -> ConnectorError {
    let is_unknown = error.is_other() && error.as_other().is_none();
    if is_unknown { ConnectorError::io(error.into()) } else { error }
}

/// A body, and how many of its frames were taken.
#[derive(Debug)]
struct Counted {
    body: SdkBody,
    taken: Arc<AtomicU64>,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.taken.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        Body::size_hint(&self.body)
    }
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests {
    use aws_sdk_s3::config::{AsyncSleep, Sleep};
    use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::adapters::s3::payload::Parts;

    /// Takes a frame of a body after each wait, `frames` at most, and answers after another wait.
    #[derive(Debug)]
    struct Slow {
        wait: Duration,
        frames: usize,
        last: Duration,
    }

    impl HttpConnector for Slow {
        fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
            let (wait, frames, last) = (self.wait, self.frames, self.last);
            HttpConnectorFuture::new(async move {
                let mut body = std::mem::replace(request.body_mut(), SdkBody::taken());
                for _ in 0..frames {
                    sleep(wait).await;
                    let next = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
                    let Some(frame) = next.await else { break };
                    assert!(frame.unwrap().into_data().unwrap().len() <= 64 << 10);
                }
                sleep(last).await;
                Ok(HttpResponse::new(200.try_into().unwrap(), SdkBody::empty()))
            })
        }
    }

    #[derive(Debug)]
    struct PausedSleep;

    impl AsyncSleep for PausedSleep {
        fn sleep(&self, duration: Duration) -> Sleep {
            Sleep::new(sleep(duration))
        }
    }

    /// How long a request with 1 MiB, which is 16 frames, took; `Err` if it was given up.
    async fn sent(slow: Slow) -> Result<Duration, Duration> {
        let started = Instant::now();
        let parts = Parts::new([Bytes::from(vec![0; 1 << 20])].into()).await.unwrap();
        let body = parts.body().into_inner();
        let watched = WatchedConnector {
            inner: SharedHttpConnector::new(slow),
            sleep: SharedAsyncSleep::new(PausedSleep),
            ticks: 12,
        };
        let reply = watched.call(HttpRequest::new(body)).await;
        match reply {
            Ok(_) => Ok(started.elapsed()),
            Err(error) => {
                assert!(error.is_timeout());
                Err(started.elapsed())
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_may_take_as_long_as_it_gets_on() {
        let (wait, last) = (Duration::from_secs(50), Duration::from_secs(55));
        let took = sent(Slow { wait, frames: 16, last }).await.unwrap();
        assert_eq!(took, 16 * wait + last);
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_stands_still_is_given_up() {
        let (wait, last) = (Duration::from_secs(1), Duration::from_hours(1));
        for frames in [0, 3, 16] {
            let took = sent(Slow { wait, frames, last }).await.unwrap_err();
            assert!(took >= Duration::from_mins(1), "{took:?}");
            assert!(took <= Duration::from_secs(60 + 16 + 10), "{took:?}");
        }
    }
}
