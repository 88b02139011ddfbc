//! Connections to buckets.

mod read;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use self::read::{Authentication, S3Fields};
use super::policy::policy;
use super::reach;
use super::{
    S3Credentials, S3Destination, S3Settings, S3Source, S3SourceOptions, S3Target, S3TargetOptions,
};
use crate::destination::Destination;
use crate::env::{Env, within};
use crate::error::{Error, ErrorKind, Result};
use crate::fields::FieldErrors;
use crate::probe::{Probe, Probing};
use crate::registry::{ConnectionSecrets, Purpose, SourceContext, SystemKind, TargetContext};
use crate::source::Source;
use crate::target::RestoreTarget;

/// The key, what goes with it, and the password of a proxy.
const SECRETS: [&str; 3] =
    [S3Kind::SECRET_ACCESS_KEY, S3Kind::SESSION_TOKEN, S3Kind::PROXY_PASSWORD];
/// Somebody waits before a screen.
const PROBE_TIME: Duration = Duration::from_secs(15);
const GIVE_AGAIN: &str = "give it again: it goes when a connection comes to lead elsewhere";

/// Buckets. Settings are an object with these fields; all but `bucket` may be left out:
///
/// | field | meaning |
/// |---|---|
/// | `bucket` | the bucket |
/// | `prefix` | what keys begin with, such as `backups/nas` |
/// | `endpoint` | the server, such as `https://minio.example:9000`; without it AWS |
/// | `region` | the region; without it `us-east-1` |
/// | `path_style` | whether the bucket stands in the path; without it, all but AWS |
/// | `ca_file` | a file with certificates to trust besides those of the system |
/// | `proxy` | an HTTP proxy, such as `http://proxy.example:3128` |
/// | `storage_class` | the storage class of packs |
/// | `conditional_writes` | `false` for a server that does not keep them |
/// | `checksums` | `false` for a server that refuses them |
/// | `retention_mode` | `governance` or `compliance`: what a repository needs cannot be deleted for `retention_days`, in a bucket with Object Lock |
/// | `retention_days` | for how many days, from 1 to 36500 |
/// | `tags` | `true` to read the tags of objects that are backed up |
/// | `acls` | `true` to read the access lists of objects that are backed up |
/// | `unordered` | `true` for a server that lists keys in no order |
/// | `bucket_settings` | `false` to leave the settings of a bucket that is backed up |
/// | `archived` | `skip` (the default), `thaw` or `fail`: objects in archives, when they are to be backed up |
/// | `thaw_tier` | of `thaw`: `standard` (the default), `bulk` or `expedited` |
/// | `thaw_days` | of `thaw`: for how many days they are there; 7 without it |
/// | `consistent_at` | `now`, or a time such as `2026-03-01T14:00:00Z`: the point in time that a bucket is backed up as of, if it keeps versions |
/// | `versions` | `true` to back up older versions of objects, and to restore those of a snapshot into a bucket that keeps versions |
/// | `restore_locks` | `true` to lock objects that are restored as they were |
/// | `restore_acls` | `true` to give access lists back |
/// | `proxy_user` | whom the proxy knows; the secret is `proxy_password` |
/// | `auth` | `keys` (the default), `profile`, `environment`, `assume_role`, `web_identity`, `instance`, `container` or `anonymous` |
/// | `access_key_id` | of `keys`; the secrets are `secret_access_key` and maybe `session_token` |
/// | `profile_file`, `profile` | of `profile`: a shared file of credentials, and the profile in it |
/// | `role_arn`, `role_session_name` | of `assume_role` and `web_identity`: the role, and what logs call the session |
/// | `base_auth` | of `assume_role`: who takes on the role, `keys` (the default), `profile`, `environment`, `instance` or `container`, with their fields |
/// | `external_id` | of `assume_role`: what the account wants to hear from outsiders |
/// | `sts_endpoint` | where roles are lent; without it STS of the region, or the server itself if it is not AWS's |
/// | `token_file` | of `web_identity`: a file with a token; of `container` maybe, too |
/// | `instance_endpoint` | of `instance`: the metadata service; without it that of EC2 |
/// | `container_endpoint` | of `container`: where the container asks for its key |
#[derive(Debug, Clone, Default)]
pub struct S3Kind {
    environment: Option<S3Credentials>,
}

impl S3Kind {
    /// Its name.
    pub const NAME: &'static str = "s3";
    /// The secret that belongs to an `access_key_id`.
    pub const SECRET_ACCESS_KEY: &'static str = "secret_access_key";
    /// The secret that comes with a key that is lent for a time.
    pub const SESSION_TOKEN: &'static str = "session_token";

    /// The secret of the `proxy_user`.
    pub const PROXY_PASSWORD: &'static str = "proxy_password";
    /// The settings that say who asks.
    pub const IDENTITY: &'static [&'static str] = &read::IDENTITY;

    /// Returns the kind. Connections with `auth = "environment"` do not work until
    /// [`Self::with_environment`] says what that is.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says who asks through connections with `auth = "environment"`: what the program around the
    /// engine has found in its surroundings.
    #[must_use]
    pub fn with_environment(mut self, credentials: S3Credentials) -> Self {
        self.environment = Some(credentials);
        self
    }

    /// What settings say, with secrets.
    fn open(&self, settings: &RawValue, secrets: &ConnectionSecrets) -> Result<Opened> {
        let S3Fields { mut settings, proxy_user, authentication, options, target_options } =
            parse(settings)?;
        let credentials = self.credentials(authentication, secrets)?;
        if !settings.is_aws()
            && self.environment.as_ref().is_some_and(|given| is_of_aws(given, &credentials))
        {
            let why =
                "the role that the environment names is one of AWS, and this server is another";
            return Err(no_credentials(why).with_hint(
                "say auth=web_identity with role_arn, token_file and sts_endpoint, or give a key",
            ));
        }
        if let Some(name) = proxy_user {
            let password = secrets.get(Self::PROXY_PASSWORD).ok_or_else(|| {
                no_credentials("the connection has no password for its proxy").with_hint(GIVE_AGAIN)
            })?;
            settings.proxy_user = Some((name, password.clone()));
        }
        Ok(Opened { settings, credentials, options, target_options })
    }

    fn credentials(
        &self,
        authentication: Authentication,
        secrets: &ConnectionSecrets,
    ) -> Result<S3Credentials> {
        match authentication {
            Authentication::Anonymous => Ok(S3Credentials::Anonymous),
            Authentication::Profile { file, profile } => {
                Ok(S3Credentials::Profile { file, profile })
            }
            Authentication::Environment => self.environment.clone().ok_or_else(|| {
                no_credentials("the environment holds no key for S3")
                    .with_hint("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
            }),
            Authentication::AssumeRole { base, role } => {
                let base = Box::new(self.credentials(*base, secrets)?);
                Ok(S3Credentials::AssumedRole { base, role })
            }
            Authentication::WebIdentity { token_file, role } => {
                Ok(S3Credentials::WebIdentity { token_file, role })
            }
            Authentication::Instance { endpoint } => Ok(S3Credentials::Instance { endpoint }),
            Authentication::Container { endpoint, token_file } => {
                Ok(S3Credentials::Container { endpoint, token_file })
            }
            Authentication::Keys { access_key_id } => {
                let secret = secrets.get(Self::SECRET_ACCESS_KEY).ok_or_else(|| {
                    no_credentials("the connection has no secret access key").with_hint(GIVE_AGAIN)
                })?;
                Ok(S3Credentials::Keys {
                    access_key_id,
                    secret_access_key: secret.clone(),
                    session_token: secrets.get(Self::SESSION_TOKEN).cloned(),
                })
            }
        }
    }
}

impl SystemKind for S3Kind {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn check_settings(&self, settings: &RawValue) -> FieldErrors {
        read::read(settings).err().unwrap_or_default()
    }

    fn secret_names(&self) -> &'static [&'static str] {
        &SECRETS
    }

    /// Requests are signed with the secret, and go to a server, or to who lends roles, through a proxy,
    /// trusting somebody: these are the place.
    fn is_same_endpoint(&self, settings: &RawValue, other: &RawValue) -> bool {
        let place = |settings| {
            let S3Fields { settings, authentication, .. } = read::read(settings).ok()?;
            let lender = match authentication {
                Authentication::AssumeRole { role, .. } => role.sts_endpoint,
                _ => None,
            };
            Some((settings.endpoint, settings.proxy, settings.ca_file, lender))
        };
        place(settings).is_some_and(|found| Some(found) == place(other))
    }

    fn policy(&self, settings: &RawValue, purpose: Purpose) -> Result<String> {
        let S3Fields { settings, options, target_options, .. } = parse(settings)?;
        Ok(policy(&settings, &options, target_options, purpose))
    }

    fn used_secrets(&self, settings: &RawValue) -> &'static [&'static str] {
        let Ok(S3Fields { authentication, proxy_user, .. }) = read::read(settings) else {
            return &[];
        };
        let asks = match &authentication {
            Authentication::AssumeRole { base, .. } => base,
            other => other,
        };
        // In their order: the key, what goes with it, and the password.
        match (matches!(asks, Authentication::Keys { .. }), proxy_user.is_some()) {
            (true, true) => &SECRETS,
            (true, false) => &SECRETS[..2],
            (false, true) => &SECRETS[2..],
            (false, false) => &[],
        }
    }

    fn secrets_with(&self, name: &str) -> &'static [&'static str] {
        if name == Self::SECRET_ACCESS_KEY { &[Self::SESSION_TOKEN] } else { &[] }
    }

    fn with_identity_of(&self, settings: &RawValue, other: &RawValue) -> Result<Box<RawValue>> {
        let (mut fields, mut others) = (fields(settings)?, fields(other)?);
        for name in read::IDENTITY {
            fields.remove(name);
            fields.extend(others.remove_entry(name));
        }
        to_raw_value(&fields).map_err(wrong_settings)
    }

    fn location(&self, settings: &RawValue) -> Result<String> {
        Ok(parse(settings)?.settings.location())
    }

    fn source(&self, settings: &RawValue, cx: &SourceContext<'_>) -> Result<Arc<dyn Source>> {
        let Opened { settings, credentials, options, .. } = self.open(settings, cx.secrets)?;
        let mut excluded = Vec::new();
        for place in cx.repositories.iter().filter(|place| place.kind == Self::NAME) {
            let repository = below(parse(place.settings)?.settings, place.path)?;
            if !settings.is_same_bucket(&repository) {
                continue;
            }
            if repository.prefix.is_empty() && settings.prefix.is_empty() {
                let why = "cannot back up a bucket into itself: the repository is all of it";
                return Err(Error::new(ErrorKind::InvalidConfig, why)
                    .with_hint("give the repository a prefix or another bucket"));
            }
            if !repository.prefix.is_empty() {
                excluded.push(repository.prefix);
            }
        }
        let source = S3Source::new(settings, &credentials, cx.env.clone(), cx.host)?;
        Ok(Arc::new(source.with_options(options).with_excluded_prefixes(excluded)))
    }

    fn destination(
        &self,
        settings: &RawValue,
        secrets: &ConnectionSecrets,
        path: &str,
        env: &Env,
    ) -> Result<Arc<dyn Destination>> {
        let Opened { settings, credentials, .. } = self.open(settings, secrets)?;
        let settings = below(settings, path)?;
        Ok(Arc::new(S3Destination::new(settings, &credentials, env.clone())?))
    }

    fn target(
        &self,
        settings: &RawValue,
        cx: &TargetContext<'_>,
    ) -> Result<Arc<dyn RestoreTarget>> {
        let Opened { settings, credentials, target_options, .. } =
            self.open(settings, cx.secrets)?;
        let mut repositories = Vec::new();
        for place in cx.repositories.iter().filter(|place| place.kind == Self::NAME) {
            let repository = below(parse(place.settings)?.settings, place.path)?;
            if settings.is_same_bucket(&repository) {
                repositories.push(repository.prefix);
            }
        }
        let target = S3Target::new(settings, &credentials, cx.env.clone())?;
        Ok(Arc::new(target.with_options(target_options).with_repositories(repositories)))
    }

    /// First the way to the server, then what the purpose needs; 15 seconds in all.
    fn probe<'a>(
        &'a self,
        settings: &'a RawValue,
        purpose: Purpose,
        secrets: &'a ConnectionSecrets,
        env: &'a Env,
    ) -> BoxFuture<'a, Result<Probe>> {
        Box::pin(async move {
            let Opened { settings, credentials, options, target_options } =
                self.open(settings, secrets)?;
            let started = env.clock().elapsed_since_boot();
            let mut probing = Probing::new(env);
            let way = reach::probe(&settings, env).await;
            let is_open = way.is_healthy();
            probing.extend(way);
            if !is_open {
                return Ok(probing.finish());
            }
            let trying = async {
                let env = env.clone();
                match purpose {
                    Purpose::Source => {
                        let source = S3Source::new(settings, &credentials, env, "")?;
                        source.with_options(options).check().await
                    }
                    Purpose::Repository => {
                        S3Destination::new(settings, &credentials, env)?.check().await
                    }
                    Purpose::Maintenance => {
                        let destination = S3Destination::new(settings, &credentials, env)?;
                        Ok(destination.check_for_maintenance().await)
                    }
                    Purpose::Target => {
                        let target = S3Target::new(settings, &credentials, env)?;
                        target.with_options(target_options).check().await
                    }
                }
            };
            let took = env.clock().elapsed_since_boot().saturating_sub(started);
            let limit = PROBE_TIME.saturating_sub(took);
            match within(env.clock(), limit, trying).await {
                Err(error) if error.is(ErrorKind::Timeout) => {
                    let hint = "see whether the server is overloaded, or the line is slow";
                    probing.step::<()>("answer within 15 seconds", hint, || Err(error));
                }
                tried => probing.extend(tried?),
            }
            Ok(probing.finish())
        })
    }
}

/// All that a connection says, with its secrets.
struct Opened {
    settings: S3Settings,
    credentials: S3Credentials,
    options: S3SourceOptions,
    target_options: S3TargetOptions,
}

/// Whether these credentials are a token that the environment gave for AWS. Other servers lend roles
/// themselves, and would get it.
fn is_of_aws(given: &S3Credentials, credentials: &S3Credentials) -> bool {
    match credentials {
        S3Credentials::AssumedRole { base, .. } => is_of_aws(given, base),
        S3Credentials::WebIdentity { token_file, role } => {
            let is_given = matches!(given, S3Credentials::WebIdentity { token_file: known, .. } if known == token_file);
            is_given && role.sts_endpoint.is_none()
        }
        _ => false,
    }
}

fn parse(settings: &RawValue) -> Result<S3Fields> {
    read::read(settings).or_else(|errors| {
        errors.into_result("the settings of an S3 connection")?;
        Err(Error::new(ErrorKind::Internal, "settings are refused without a reason"))
    })
}

fn fields(settings: &RawValue) -> Result<Map<String, Value>> {
    serde_json::from_str(settings.get()).map_err(wrong_settings)
}

fn wrong_settings(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::InvalidInput, "cannot read the settings of an S3 connection")
        .with_source(error)
}

fn no_credentials(why: &'static str) -> Error {
    Error::new(ErrorKind::Unauthenticated, why).with_code("s3-no-credentials")
}

/// A place below a prefix. Nothing leads out of it.
fn below(mut settings: S3Settings, path: &str) -> Result<S3Settings> {
    if path.is_empty() {
        return Ok(settings);
    }
    if let Some(why) = read::wrong_prefix(path) {
        return Err(Error::new(ErrorKind::InvalidInput, format!("path: {path:?} {why}"))
            .with_hint("write it relative to the connection, such as `nas/documents`"));
    }
    settings.prefix =
        if settings.prefix.is_empty() { path.to_owned() } else { settings.root() + path };
    Ok(settings)
}

#[cfg(test)]
mod tests;
