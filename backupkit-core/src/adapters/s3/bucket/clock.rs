//! The clock of the server.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use jiff::Timestamp;

use super::Bucket;
use crate::adapters::s3::errors::failed;
use crate::error::Result;

impl Bucket {
    /// The time that the server puts on its replies, in whole seconds; nothing if it puts none. `below` is
    /// a prefix that may be listed.
    pub(in crate::adapters::s3) async fn server_time(
        &self,
        below: &str,
    ) -> Result<Option<Timestamp>> {
        let doing = "ask the server for its time";
        self.0
            .calls
            .run(|| async {
                let request = self
                    .0
                    .client
                    .list_objects_v2()
                    .bucket(self.name())
                    .prefix(self.full_key(below))
                    .max_keys(1);
                let dated = Dated::default();
                let sent = request.customize().interceptor(dated.clone()).send();
                sent.await.map_err(|error| failed(doing, error))?;
                Ok(dated.time())
            })
            .await
    }
}

/// Looks at the time of one reply.
#[derive(Debug, Clone, Default)]
struct Dated(Arc<Mutex<Option<String>>>);

impl Dated {
    fn time(&self) -> Option<Timestamp> {
        let date = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let time = DateTime::from_str(date.as_deref()?, DateTimeFormat::HttpDate).ok()?;
        Timestamp::from_second(time.secs()).ok()
    }
}

impl Intercept for Dated {
    fn name(&self) -> &'static str {
        "Dated"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").map(str::to_owned);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date;
        Ok(())
    }
}
