//! Gives keys to the client, and asks for others in time.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future;
use aws_sdk_s3::config::{Credentials, ProvideCredentials};
use futures::future::BoxFuture;
use secrecy::ExposeSecret;

use super::super::profile;
use super::super::settings::S3Settings;
use super::lent::{Lent, credentials, read_file};
use super::web::Web;
use super::{S3Credentials, instance, sts};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};

/// A file of credentials is read again after so long: programs change keys there.
const READ_AGAIN: Duration = Duration::from_mins(5);
/// When nobody lends another key in time, the former one is used on, and it is tried again then.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// Gives credentials to the client. Clones share what was read.
#[derive(Clone)]
pub(in crate::adapters::s3) struct Provider(Arc<Inner>);

struct Inner {
    given: S3Credentials,
    region: String,
    /// The server, if it is none of AWS's.
    own_server: Option<String>,
    env: Env,
    web: Web,
    state: Mutex<State>,
    /// One asks, and the others wait.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    kept: Option<Kept>,
    /// How often a key was forgotten because it was refused.
    forgotten: u64,
}

/// Times are since boot.
struct Kept {
    credentials: Credentials,
    fresh_until: Duration,
    good_until: Duration,
}

impl Provider {
    pub(super) fn new(given: S3Credentials, settings: &S3Settings, env: &Env) -> Self {
        let own_server = settings.endpoint.clone().filter(|_| !settings.is_aws());
        Self(Arc::new(Inner {
            given,
            region: settings.region.clone(),
            own_server,
            env: env.clone(),
            web: Web::new(settings),
            state: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        }))
    }

    /// How often keys were forgotten.
    pub(in crate::adapters::s3) fn forgotten(&self) -> u64 {
        self.0.state().forgotten
    }

    /// Forgets a key that was refused, unless that has happened since `forgotten` was asked for. Returns
    /// whether there may be another one.
    pub(in crate::adapters::s3) fn renew(&self, forgotten: u64) -> bool {
        if matches!(self.0.given, S3Credentials::Keys { .. } | S3Credentials::Anonymous) {
            return false;
        }
        let mut state = self.0.state();
        // Many calls are refused together; the first has got rid of the key.
        if state.forgotten == forgotten {
            state.kept = None;
            state.forgotten += 1;
        }
        true
    }
}

impl Inner {
    async fn load(&self) -> Result<Credentials> {
        if let S3Credentials::Keys { .. } = self.given {
            return Ok(self.ask(&self.given).await?.credentials);
        }
        if let Some(fresh) = self.fresh() {
            return Ok(fresh);
        }
        let _asking = self.asking.lock().await;
        if let Some(fresh) = self.fresh() {
            return Ok(fresh);
        }
        // Not of a key that was refused while it was on its way.
        let forgotten = self.state().forgotten;
        match self.ask(&self.given).await {
            Ok(Lent { credentials, fresh_for, good_for }) => {
                let now = self.now();
                let mut state = self.state();
                if state.forgotten == forgotten {
                    state.kept = Some(Kept {
                        credentials: credentials.clone(),
                        fresh_until: now.saturating_add(fresh_for),
                        good_until: now.saturating_add(good_for),
                    });
                }
                Ok(credentials)
            }
            Err(error) => {
                let now = self.now();
                let mut state = self.state();
                match &mut state.kept {
                    Some(kept) if now < kept.good_until => {
                        kept.fresh_until = kept.good_until.min(now.saturating_add(ASK_AGAIN));
                        Ok(kept.credentials.clone())
                    }
                    _ => Err(error),
                }
            }
        }
    }

    fn fresh(&self) -> Option<Credentials> {
        let now = self.now();
        let state = self.state();
        let kept = state.kept.as_ref().filter(|kept| now < kept.fresh_until)?;
        Some(kept.credentials.clone())
    }

    /// Asks for a key, whatever is kept.
    fn ask<'a>(&'a self, given: &'a S3Credentials) -> BoxFuture<'a, Result<Lent>> {
        Box::pin(async move {
            match given {
                S3Credentials::Keys { access_key_id, secret_access_key, session_token } => {
                    let token = session_token.as_ref().map(ExposeSecret::expose_secret);
                    let keys = credentials(access_key_id, secret_access_key.expose_secret(), token);
                    Ok(Lent::for_time(keys, READ_AGAIN))
                }
                S3Credentials::Profile { file, profile } => {
                    let text = read_file(file).await?;
                    let keys = profile::find(&text, profile).map_err(|error| {
                        error.while_doing(format!("find a key in {}", file.display()))
                    })?;
                    let token = keys.session_token.as_ref().map(ExposeSecret::expose_secret);
                    let secret = keys.secret_access_key.expose_secret();
                    Ok(Lent::for_time(credentials(&keys.access_key_id, secret, token), READ_AGAIN))
                }
                S3Credentials::AssumedRole { base, role } => {
                    let is_able = !matches!(
                        **base,
                        S3Credentials::Anonymous | S3Credentials::AssumedRole { .. }
                    );
                    if !is_able {
                        let message = "nobody, and no role, takes on another role";
                        return Err(Error::new(ErrorKind::InvalidConfig, message));
                    }
                    let base = self.ask(base).await?.credentials;
                    let asked = sts::Asked::by(base);
                    sts::ask(&self.web, &self.env, &self.sts(role), role, asked).await
                }
                S3Credentials::WebIdentity { token_file, role } => {
                    let token = read_file(token_file).await?;
                    let asked = sts::Asked::with(token);
                    sts::ask(&self.web, &self.env, &self.sts(role), role, asked).await
                }
                S3Credentials::Instance { endpoint } => {
                    instance::of_machine(&self.web, &self.env, endpoint.as_deref()).await
                }
                S3Credentials::Container { endpoint, token_file } => {
                    let token = match token_file {
                        Some(file) => Some(read_file(file).await?),
                        None => None,
                    };
                    instance::of_container(&self.web, &self.env, endpoint, token).await
                }
                S3Credentials::Anonymous => {
                    Err(Error::new(ErrorKind::Internal, "nobody has no credentials"))
                }
            }
        })
    }

    fn sts(&self, role: &super::S3Role) -> sts::Place {
        // The key of a server of one's own is no business of AWS.
        let named = role.sts_endpoint.as_deref().or(self.own_server.as_deref());
        sts::Place::new(named, &self.region)
    }

    fn now(&self) -> Duration {
        self.env.clock().elapsed_since_boot()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProvideCredentials for Provider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.0.load().await.map_err(CredentialsError::provider_error)
        })
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("given", &self.0.given).finish_non_exhaustive()
    }
}
