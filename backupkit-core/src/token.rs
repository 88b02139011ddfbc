//! Opaque tokens that adapters hand out and get back, and the token that tells a call to stop.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::future::Future;
use std::sync::Arc;

macro_rules! opaque_token {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub struct $name(Arc<[u8]>);

        impl $name {
            /// Wraps bytes that only the adapter understands.
            pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
                Self(bytes.into())
            }

            /// The bytes.
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&STANDARD_NO_PAD.encode(&self.0))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                let bytes = STANDARD_NO_PAD.decode(text).map_err(serde::de::Error::custom)?;
                Ok(Self::new(bytes))
            }
        }
    };
}

opaque_token! {
    /// Names one look at a source: an oplog time, a change token.
    ViewToken
}
opaque_token! {
    /// Names a place in a listing: it continues behind the item that came with the token.
    ListToken
}
opaque_token! {
    /// Names a place in a stream of bytes: reading continues behind the piece that came with it.
    ReadToken
}
opaque_token! {
    /// Names how far a step of a restore has been written durably.
    WriteToken
}

/// Tells a call, and all that it starts, to stop soon. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct CancelToken(tokio_util::sync::CancellationToken);

impl CancelToken {
    /// Returns a token that is not cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a token that is cancelled with this one, and can be cancelled alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Asks to stop.
    pub fn cancel(&self) {
        self.0.cancel();
    }

    /// Whether somebody asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until somebody asks to stop. Cancel safe.
    pub async fn cancelled(&self) {
        self.0.cancelled().await;
    }

    /// Does `work` unless somebody asks to stop: then it is dropped where it waits.
    ///
    /// # Errors
    /// `Cancelled` if somebody asked to stop; else those of `work`.
    pub(crate) async fn unless_cancelled<T>(
        &self,
        work: impl Future<Output = crate::Result<T>>,
    ) -> crate::Result<T> {
        tokio::select! {
            biased;
            () = self.cancelled() => Err(crate::Error::cancelled()),
            result = work => result,
        }
    }

    /// Returns a `Cancelled` error if somebody asked to stop.
    pub fn check(&self) -> crate::Result<()> {
        if self.is_cancelled() { Err(crate::Error::cancelled()) } else { Ok(()) }
    }
}
