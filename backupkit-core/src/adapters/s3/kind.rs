//! Connections to buckets.

mod read;

use std::sync::Arc;

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use self::read::{Authentication, S3Fields};
use super::policy::policy;
use super::{S3Credentials, S3Destination, S3Settings, S3Source, S3Target};
use crate::destination::Destination;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::fields::FieldErrors;
use crate::registry::{ConnectionSecrets, Purpose, SourceContext, SystemKind, TargetContext};
use crate::source::Source;
use crate::target::RestoreTarget;

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
/// | `tags` | `true` to read the tags of objects that are backed up |
/// | `acls` | `true` to read the access lists of objects that are backed up |
/// | `bucket_settings` | `false` to leave the settings of a bucket that is backed up |
/// | `archived` | `skip` (the default), `thaw` or `fail`: objects in archives, when they are to be backed up |
/// | `thaw_tier` | of `thaw`: `standard` (the default), `bulk` or `expedited` |
/// | `thaw_days` | of `thaw`: for how many days they are there; 7 without it |
/// | `restore_locks` | `true` to lock objects that are restored as they were |
/// | `restore_acls` | `true` to give access lists back |
/// | `auth` | `keys` (the default), `profile`, `environment` or `anonymous` |
/// | `access_key_id` | of `keys`; the secrets are `secret_access_key` and maybe `session_token` |
/// | `profile_file`, `profile` | of `profile`: a shared file of credentials, and the profile in it |
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
            Authentication::Keys { access_key_id } => {
                let secret = secrets.get(Self::SECRET_ACCESS_KEY).ok_or_else(|| {
                    no_credentials("the connection has no secret access key").with_hint(
                        "give it again: it goes when a connection comes to lead elsewhere",
                    )
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
        &[Self::SECRET_ACCESS_KEY, Self::SESSION_TOKEN]
    }

    /// Requests are signed with the secret, and go to a server through a proxy, trusting somebody: these
    /// three are the place.
    fn is_same_endpoint(&self, settings: &RawValue, other: &RawValue) -> bool {
        let place = |settings| {
            let S3Fields { settings, .. } = read::read(settings).ok()?;
            Some((settings.endpoint, settings.proxy, settings.ca_file))
        };
        place(settings).is_some_and(|found| Some(found) == place(other))
    }

    fn policy(&self, settings: &RawValue, purpose: Purpose) -> Result<String> {
        let S3Fields { settings, options, target_options, .. } = parse(settings)?;
        Ok(policy(&settings, &options, target_options, purpose))
    }

    fn used_secrets(&self, settings: &RawValue) -> &'static [&'static str] {
        match read::read(settings) {
            Ok(S3Fields { authentication: Authentication::Keys { .. }, .. }) => self.secret_names(),
            _ => &[],
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
        let S3Fields { settings, authentication, options, .. } = parse(settings)?;
        let credentials = self.credentials(authentication, cx.secrets)?;
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
        let S3Fields { settings, authentication, .. } = parse(settings)?;
        let credentials = self.credentials(authentication, secrets)?;
        let settings = below(settings, path)?;
        Ok(Arc::new(S3Destination::new(settings, &credentials, env.clone())?))
    }

    fn target(
        &self,
        settings: &RawValue,
        cx: &TargetContext<'_>,
    ) -> Result<Arc<dyn RestoreTarget>> {
        let S3Fields { settings, authentication, target_options, .. } = parse(settings)?;
        let credentials = self.credentials(authentication, cx.secrets)?;
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
mod tests {
    use super::*;
    use crate::registry::RepositoryPlace;

    fn settings(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn only_another_server_proxy_or_trust_is_another_place() {
        let with = |more: &str| {
            settings(&format!(
                r#"{{"bucket":"b","access_key_id":"k","endpoint":"https://a"{more}}}"#
            ))
        };
        let is_same = |more: &str| S3Kind::new().is_same_endpoint(&with(""), &with(more));
        for more in ["", r#","prefix":"x""#, r#","region":"r""#, r#","storage_class":"S""#] {
            assert!(is_same(more), "{more}");
        }
        for more in [r#","proxy":"http://p""#, r#","ca_file":"/x""#, r#","bogus":1"#] {
            assert!(!is_same(more), "{more}");
        }
        let aws = settings(r#"{"bucket":"b","access_key_id":"k"}"#);
        assert!(!S3Kind::new().is_same_endpoint(&with(""), &aws));
    }

    #[test]
    fn who_asks_is_taken_from_other_settings_and_nothing_else() {
        let kept = settings(r#"{"bucket":"b","prefix":"p","auth":"keys","access_key_id":"old"}"#);
        for (now, expected) in [
            (
                r#"{"bucket":"c","access_key_id":"new"}"#,
                r#"{"access_key_id":"new","bucket":"b","prefix":"p"}"#,
            ),
            (
                r#"{"bucket":"c","region":"r","auth":"profile","profile_file":"/f","profile":"q"}"#,
                r#"{"auth":"profile","bucket":"b","prefix":"p","profile":"q","profile_file":"/f"}"#,
            ),
        ] {
            let found = S3Kind::new().with_identity_of(&kept, &settings(now)).unwrap();
            assert_eq!(found.get(), expected);
            assert!(S3Kind::new().check_settings(&found).is_empty());
        }
    }

    #[test]
    fn secrets_are_kept_only_for_keys() {
        let used = |json: &str| S3Kind::new().used_secrets(&settings(json)).len();
        assert_eq!(used(r#"{"bucket":"b","access_key_id":"k"}"#), 2);
        assert_eq!(used(r#"{"bucket":"b","auth":"environment"}"#), 0);
        assert_eq!(S3Kind::new().secrets_with("secret_access_key"), ["session_token"]);
    }

    #[test]
    fn a_repository_lies_below_its_connection() {
        let place = |prefix: &str, path| below(S3Settings::new("b").with_prefix(prefix), path);
        assert_eq!(place("", "").unwrap().prefix, "");
        assert_eq!(place("a", "").unwrap().prefix, "a");
        assert_eq!(place("", "x/y").unwrap().prefix, "x/y");
        assert_eq!(place("a", "x/y").unwrap().prefix, "a/x/y");
        for path in ["..", "a/../..", "/etc", "./a", "a//b", "a/"] {
            assert!(place("a", path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_repository_in_the_bucket_that_is_backed_up_is_left_out() {
        let kind = S3Kind::new();
        let env = Env::system();
        let bucket = settings(r#"{"bucket":"b","auth":"anonymous"}"#);
        let below = settings(r#"{"bucket":"b","auth":"anonymous","prefix":"x"}"#);
        let open = |of: &RawValue, repository: &RawValue, path| {
            let repositories = [RepositoryPlace { kind: S3Kind::NAME, settings: repository, path }];
            let secrets = &ConnectionSecrets::default();
            let cx = SourceContext { secrets, env: &env, host: "h", repositories: &repositories };
            kind.source(of, &cx).map(drop)
        };
        open(&bucket, &below, "").unwrap();
        open(&bucket, &bucket, "x").unwrap();
        open(&below, &bucket, "").unwrap();
        assert!(open(&bucket, &bucket, "").unwrap_err().is(ErrorKind::InvalidConfig));
    }

    #[cfg(feature = "testing")]
    #[tokio::test]
    async fn nothing_is_restored_into_a_repository_of_the_same_bucket() {
        let (kind, env) = (S3Kind::new(), Env::system());
        let bucket = settings(r#"{"bucket":"b","auth":"anonymous"}"#);
        let below = settings(r#"{"bucket":"b","auth":"anonymous","prefix":"x"}"#);
        let other = settings(r#"{"bucket":"c","auth":"anonymous"}"#);
        let open = async |to: &RawValue, repository: &RawValue, path| {
            let repositories = [RepositoryPlace { kind: S3Kind::NAME, settings: repository, path }];
            let secrets = &ConnectionSecrets::default();
            let cx = TargetContext { secrets, env: &env, repositories: &repositories };
            let snapshot = crate::testing::MemorySnapshot::new().into_reader();
            let target = kind.target(to, &cx).unwrap();
            let cx = target.open(crate::target::RestoreContext {
                snapshot,
                options: crate::target::RestoreOptions::default(),
                store: Arc::new(crate::store::InMemoryAdapterStore::default()),
                cancel: crate::token::CancelToken::new(),
            });
            cx.await.map(drop).map_err(|error| error.code())
        };
        let refused = Err("target-holds-repository");
        assert_eq!(open(&below, &bucket, "x").await, refused);
        assert_eq!(open(&below, &bucket, "x/y").await, refused);
        assert_eq!(open(&below, &bucket, "").await, refused);
        assert_eq!(open(&bucket, &below, "").await, refused);
        assert_eq!(open(&below, &bucket, "y").await, Ok(()));
        assert_eq!(open(&bucket, &other, "").await, Ok(()));
    }

    #[test]
    fn nobody_asks_who_was_not_named() {
        let open = |kind: &S3Kind, json: &str, secrets: &ConnectionSecrets| {
            kind.destination(&settings(json), secrets, "", &Env::system()).map(drop)
        };
        let none = ConnectionSecrets::default();
        let keys = r#"{"bucket":"b","access_key_id":"k"}"#;
        let from_environment = r#"{"bucket":"b","auth":"environment"}"#;
        for json in [keys, from_environment] {
            let error = open(&S3Kind::new(), json, &none).unwrap_err();
            assert_eq!(error.code(), "s3-no-credentials", "{json}");
            assert!(error.hint().is_some());
        }
        let secrets = none.clone().with(S3Kind::SECRET_ACCESS_KEY, "s".into());
        open(&S3Kind::new(), keys, &secrets).unwrap();
        let kind = S3Kind::new().with_environment(S3Credentials::keys("k", "s"));
        open(&kind, from_environment, &none).unwrap();
        open(&kind, r#"{"bucket":"b","auth":"anonymous"}"#, &none).unwrap();
        assert!(open(&kind, keys, &none).is_err());
    }
}
