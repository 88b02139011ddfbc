//! Who asks.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future;
use aws_sdk_s3::config::{Credentials, ProvideCredentials};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::profile;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};

/// A file of credentials is read again after so long: programs change keys there.
const READ_AGAIN: Duration = Duration::from_mins(5);

/// Who asks. It is always said; nothing is looked for in the surroundings.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum S3Credentials {
    /// A key.
    Keys {
        /// The public part.
        access_key_id: String,
        /// The secret part.
        secret_access_key: SecretString,
        /// What goes with a key that is lent for a time.
        session_token: Option<SecretString>,
    },
    /// A profile in a shared file of credentials. The file is read again every five minutes, and when
    /// its key is refused.
    Profile {
        /// The file.
        file: PathBuf,
        /// The profile in it.
        profile: String,
    },
    /// Nobody: requests are not signed.
    Anonymous,
}

impl S3Credentials {
    /// Returns a key without a session.
    pub fn keys(
        access_key_id: impl Into<String>,
        secret_access_key: impl Into<SecretString>,
    ) -> Self {
        Self::Keys {
            access_key_id: access_key_id.into(),
            secret_access_key: secret_access_key.into(),
            session_token: None,
        }
    }

    /// What gives them to the client; nothing for nobody.
    pub(super) fn provider(&self, env: &Env) -> Option<Provider> {
        match self {
            Self::Anonymous => None,
            given => {
                Some(Provider { given: given.clone(), env: env.clone(), kept: Arc::default() })
            }
        }
    }
}

/// Gives credentials to the client. Clones share what was read.
#[derive(Debug, Clone)]
pub(super) struct Provider {
    given: S3Credentials,
    env: Env,
    /// What a file held, and when it was read, since boot.
    kept: Arc<Mutex<Option<(Credentials, Duration)>>>,
}

impl Provider {
    /// Forgets what was read: it was refused. Returns whether there may be something else to read.
    pub(super) fn renew(&self) -> bool {
        *self.kept() = None;
        matches!(self.given, S3Credentials::Profile { .. })
    }

    async fn load(&self) -> Result<Credentials> {
        match &self.given {
            S3Credentials::Keys { access_key_id, secret_access_key, session_token } => {
                Ok(credentials(access_key_id, secret_access_key, session_token.as_ref()))
            }
            S3Credentials::Profile { file, profile } => {
                let now = self.env.clock().elapsed_since_boot();
                if let Some((kept, read_at)) = &*self.kept()
                    && now.saturating_sub(*read_at) < READ_AGAIN
                {
                    return Ok(kept.clone());
                }
                let (path, name) = (file.clone(), profile.clone());
                let read = tokio::task::spawn_blocking(move || {
                    let text = std::fs::read_to_string(&path).map(Zeroizing::new);
                    let text =
                        text.map_err(|error| Error::io(format!("read {}", path.display()), error))?;
                    profile::find(&text, &name).map_err(|error| {
                        error.while_doing(format!("find a key in {}", path.display()))
                    })
                });
                let keys = read.await.map_err(|error| {
                    Error::new(ErrorKind::Internal, "cannot read a file of credentials")
                        .with_source(error)
                })??;
                let (id, token) = (&keys.access_key_id, keys.session_token.as_ref());
                let read = credentials(id, &keys.secret_access_key, token);
                *self.kept() = Some((read.clone(), now));
                Ok(read)
            }
            S3Credentials::Anonymous => {
                Err(Error::new(ErrorKind::Internal, "nobody has no credentials"))
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, Option<(Credentials, Duration)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProvideCredentials for Provider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.load().await.map_err(CredentialsError::provider_error)
        })
    }
}

fn credentials(id: &str, secret: &SecretString, token: Option<&SecretString>) -> Credentials {
    let token = token.map(|token| token.expose_secret().to_owned());
    Credentials::new(id, secret.expose_secret(), token, None, "backupkit")
}
