//! Buckets: what addresses, options and variables say about them together.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;

use backupkit_core::adapters::s3::{S3Credentials, S3Kind, S3Role};
use backupkit_core::destination::Destination;
use backupkit_core::manage::ConnectionBody;
use backupkit_core::registry::{
    ConnectionSecrets, RepositoryPlace, SourceContext, SystemKind as _, TargetContext,
};
use backupkit_core::source::Source;
use backupkit_core::target::RestoreTarget;
use backupkit_core::{Error, ErrorKind, Result};
use secrecy::SecretString;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::app::App;
use crate::environment::Environment;
use crate::exit::usage;
use crate::moment;
use crate::uri::{self, BucketAddress, Place};

const ACCESS_KEY_ID: &str = "BACKUPKIT_S3_ACCESS_KEY_ID";
const SECRET_ACCESS_KEY: &str = "BACKUPKIT_S3_SECRET_ACCESS_KEY";
const SESSION_TOKEN: &str = "BACKUPKIT_S3_SESSION_TOKEN";
const PROXY_PASSWORD: &str = "BACKUPKIT_S3_PROXY_PASSWORD";

/// Where a container that is told only a path asks. Source: the SDK reference of AWS.
const CONTAINER_SERVICE: &str = "http://169.254.170.2";

/// What the address says already.
const IN_ADDRESS: [&str; 2] = ["bucket", "prefix"];
/// The point in time that a bucket is backed up as of.
const CONSISTENT_AT: &str = "consistent_at";
/// What is true or false.
const FLAGS: [&str; 10] = [
    "acls",
    "bucket_settings",
    "checksums",
    "conditional_writes",
    "path_style",
    "restore_acls",
    "restore_locks",
    "tags",
    "unordered",
    "versions",
];
/// What is a number.
const NUMBERS: [&str; 6] =
    ["max_age_days", "max_bytes", "min_age_days", "min_bytes", "retention_days", "thaw_days"];
/// What may be given more than once.
const LISTS: [&str; 5] = ["exclude", "exclude_tags", "include", "include_tags", "storage_classes"];

impl App<'_> {
    /// The destination in a bucket.
    pub(crate) fn bucket(&self, address: &BucketAddress) -> Result<Arc<dyn Destination>> {
        let (ConnectionBody { settings, .. }, secrets) = self.bucket_connection(address)?;
        self.bucket_kind().destination(&settings, &secrets, "", &self.env)
    }

    /// The bucket as a source of a backup on `host`. Repositories in it are left out.
    pub(crate) fn bucket_source(
        &self,
        address: &BucketAddress,
        host: &str,
        repositories: &[OsString],
    ) -> Result<Arc<dyn Source>> {
        let mut others = Vec::new();
        for repository in repositories {
            if let Place::Bucket(bucket) = uri::place(repository)? {
                others.push(self.bucket_connection(&bucket)?.0.settings);
            }
        }
        let places: Vec<_> = others
            .iter()
            .map(|settings| RepositoryPlace { kind: S3Kind::NAME, settings, path: "" })
            .collect();
        let (ConnectionBody { settings, .. }, secrets) = self.bucket_connection(address)?;
        let (secrets, env, repositories) = (&secrets, &self.env, &places[..]);
        let context = SourceContext { secrets, env, host, repositories };
        self.bucket_kind().source(&settings, &context)
    }

    /// The bucket as what a repository is restored into, which does not lie there.
    pub(crate) fn bucket_target(
        &self,
        address: &BucketAddress,
        repository: &OsStr,
    ) -> Result<Arc<dyn RestoreTarget>> {
        let repository = match uri::place(repository)? {
            Place::Bucket(bucket) => Some(self.bucket_connection(&bucket)?.0.settings),
            Place::Folder(_) => None,
        };
        let places: Vec<_> = repository
            .iter()
            .map(|settings| RepositoryPlace { kind: S3Kind::NAME, settings, path: "" })
            .collect();
        let (ConnectionBody { settings, .. }, secrets) = self.bucket_connection(address)?;
        let (secrets, env, repositories) = (&secrets, &self.env, &places[..]);
        let context = TargetContext { secrets, env, repositories };
        self.bucket_kind().target(&settings, &context)
    }

    /// A bucket as a connection to it, and its secrets.
    ///
    /// # Errors
    /// A usage error that names whatever is missing or wrong.
    pub(crate) fn bucket_connection(
        &self,
        address: &BucketAddress,
    ) -> Result<(ConnectionBody, ConnectionSecrets)> {
        let mut fields = self.fields(address)?;
        let word = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or("keys");
        let auth = if word("auth") == "assume_role" { word("base_auth") } else { word("auth") };
        let auth = auth.to_owned();
        let mut secrets = ConnectionSecrets::default();
        if auth == "keys" {
            secrets = self.keys(&mut fields)?;
        } else if auth == "profile" && !fields.contains_key("profile_file") {
            let file = profile_file(self.environment).ok_or_else(|| {
                usage("there is no home folder with a file of credentials")
                    .with_hint("name one with --s3 profile_file=FILE")
            })?;
            fields.insert("profile_file".to_owned(), file.to_string_lossy().into());
        }
        if fields.contains_key("proxy_user") {
            let password = self.text(PROXY_PASSWORD)?.ok_or_else(|| {
                usage("no password for the proxy was given")
                    .with_hint(format!("set {PROXY_PASSWORD}"))
            })?;
            secrets = secrets.with(S3Kind::PROXY_PASSWORD, SecretString::from(password));
        }
        Ok((self.to_connection(fields)?, secrets))
    }

    /// A bucket as a connection to it, whoever asks.
    ///
    /// # Errors
    /// A usage error that names whatever is wrong.
    pub(crate) fn bucket_for_anybody(&self, address: &BucketAddress) -> Result<ConnectionBody> {
        let mut fields = self.fields(address)?;
        fields.retain(|name, _| !S3Kind::IDENTITY.contains(&name.as_str()));
        fields.insert("auth".to_owned(), "anonymous".into());
        self.to_connection(fields)
    }

    fn fields(&self, address: &BucketAddress) -> Result<Map<String, Value>> {
        let mut fields = options(&self.options.s3)?;
        // A time is one of here, unless it says otherwise.
        if let Some(Value::String(text)) = fields.get_mut(CONSISTENT_AT)
            && text != "now"
        {
            *text = moment::parse(text, &self.env)?.to_string();
        }
        fields.insert("bucket".to_owned(), address.bucket.clone().into());
        if !address.prefix.is_empty() {
            fields.insert("prefix".to_owned(), address.prefix.clone().into());
        }
        if let Some(endpoint) = &address.endpoint {
            fields.insert("endpoint".to_owned(), endpoint.clone().into());
        }
        Ok(fields)
    }

    fn to_connection(&self, fields: Map<String, Value>) -> Result<ConnectionBody> {
        let settings =
            RawValue::from_string(Value::Object(fields).to_string()).map_err(|error| {
                Error::new(ErrorKind::Internal, "cannot write settings as JSON").with_source(error)
            })?;
        let errors = self.bucket_kind().check_settings(&settings);
        if !errors.is_empty() {
            return Err(usage(format!("the settings of the bucket will not do: {errors}"))
                .with_hint("correct the address, or what --s3 says"));
        }
        Ok(ConnectionBody::new(S3Kind::NAME, settings.into()))
    }

    /// The kind, with the variables of AWS for those who choose them.
    pub(crate) fn bucket_kind(&self) -> S3Kind {
        match given(self.environment) {
            None => S3Kind::new(),
            Some(credentials) => S3Kind::new().with_environment(credentials),
        }
    }

    fn text(&self, name: &'static str) -> Result<Option<&str>> {
        match self.environment.variable(name) {
            None => Ok(None),
            Some(value) => match value.to_str() {
                Some(text) => Ok(Some(text)),
                None => Err(usage(format!("{name} is not UTF-8"))),
            },
        }
    }

    /// The key: its id among the fields, and its secrets.
    fn keys(&self, fields: &mut Map<String, Value>) -> Result<ConnectionSecrets> {
        let (id, secret) = (self.text(ACCESS_KEY_ID)?, self.text(SECRET_ACCESS_KEY)?);
        if let Some(id) = id
            && !fields.contains_key("access_key_id")
        {
            fields.insert("access_key_id".to_owned(), id.into());
        }
        let Some(secret) = secret.filter(|_| fields.contains_key("access_key_id")) else {
            return Err(usage("no key for the bucket was given").with_hint(format!(
                "set {ACCESS_KEY_ID} and {SECRET_ACCESS_KEY}, or choose another one with \
                 --s3 auth=environment, --s3 auth=profile or --s3 auth=anonymous"
            )));
        };
        let secrets = ConnectionSecrets::default()
            .with(S3Kind::SECRET_ACCESS_KEY, SecretString::from(secret));
        Ok(match self.text(SESSION_TOKEN)? {
            Some(token) => secrets.with(S3Kind::SESSION_TOKEN, SecretString::from(token)),
            None => secrets,
        })
    }
}

/// What `--s3 NAME=VALUE` says. No message repeats a value.
fn options(options: &[String]) -> Result<Map<String, Value>> {
    let mut fields = Map::new();
    for option in options.iter().map(|option| option.trim()).filter(|option| !option.is_empty()) {
        let Some((name, value)) = option.split_once('=') else {
            return Err(usage("--s3 needs a name and a value").with_hint("write --s3 NAME=VALUE"));
        };
        if IN_ADDRESS.contains(&name) {
            return Err(usage(format!("--s3 {name}: the address says that")));
        }
        let of_secrets = [
            (S3Kind::SECRET_ACCESS_KEY, SECRET_ACCESS_KEY),
            (S3Kind::SESSION_TOKEN, SESSION_TOKEN),
            (S3Kind::PROXY_PASSWORD, PROXY_PASSWORD),
        ];
        if let Some((_, variable)) = of_secrets.iter().find(|(secret, _)| *secret == name) {
            return Err(usage(format!("--s3 {name}: command lines are seen by others"))
                .with_hint(format!("set {variable}")));
        }
        if LISTS.contains(&name) {
            let list = fields.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            list.as_array_mut().into_iter().for_each(|list| list.push(value.into()));
            continue;
        }
        let value = match value {
            "true" if FLAGS.contains(&name) => Value::Bool(true),
            "false" if FLAGS.contains(&name) => Value::Bool(false),
            text if NUMBERS.contains(&name) => {
                text.parse::<u64>().map_or_else(|_| text.into(), Value::from)
            }
            text => text.into(),
        };
        fields.insert(name.to_owned(), value);
    }
    Ok(fields)
}

/// Who asks by the variables that AWS's own programs take: a key, else a token, else a container.
fn given(environment: &Environment) -> Option<S3Credentials> {
    let text = |name: &str| environment.variable(name)?.to_str();
    let keys = text("AWS_ACCESS_KEY_ID").zip(text("AWS_SECRET_ACCESS_KEY"));
    if let Some((id, secret)) = keys {
        return Some(S3Credentials::Keys {
            access_key_id: id.to_owned(),
            secret_access_key: SecretString::from(secret),
            session_token: text("AWS_SESSION_TOKEN").map(SecretString::from),
        });
    }
    let file = |name: &str| environment.variable(name).map(PathBuf::from);
    if let Some(token_file) = file("AWS_WEB_IDENTITY_TOKEN_FILE")
        && let Some(arn) = text("AWS_ROLE_ARN")
    {
        let role = S3Role::new(arn);
        let session = text("AWS_ROLE_SESSION_NAME").unwrap_or(S3Role::DEFAULT_SESSION_NAME);
        return Some(S3Credentials::WebIdentity {
            token_file,
            role: role.with_session_name(session),
        });
    }
    let path = text("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    let endpoint = path
        .map(|path| format!("{CONTAINER_SERVICE}{path}"))
        .or_else(|| text("AWS_CONTAINER_CREDENTIALS_FULL_URI").map(str::to_owned))?;
    let token_file = file("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    Some(S3Credentials::Container { endpoint, token_file })
}

/// Where AWS's own programs keep keys.
fn profile_file(environment: &Environment) -> Option<PathBuf> {
    if let Some(file) = environment.variable("AWS_SHARED_CREDENTIALS_FILE") {
        return Some(PathBuf::from(file));
    }
    Some(PathBuf::from(environment.variable("HOME")?).join(".aws").join("credentials"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        options(&words).map(|fields| Value::Object(fields).to_string())
    }

    #[test]
    fn options_become_settings() {
        let read = read(&["region=eu-1", "path_style=false", "ca_file=/x=y"]).unwrap();
        assert_eq!(read, r#"{"ca_file":"/x=y","path_style":false,"region":"eu-1"}"#);
    }

    #[test]
    fn what_filters_is_a_list_or_a_number() {
        let read = read(&["exclude=*.tmp", "max_bytes=5", "exclude=a,b/", "min_bytes=5K"]).unwrap();
        assert_eq!(read, r#"{"exclude":["*.tmp","a,b/"],"max_bytes":5,"min_bytes":"5K"}"#);
    }

    #[test]
    fn secrets_do_not_stand_on_command_lines() {
        for word in ["secret_access_key=geheim", "proxy_password=geheim", "geheim", "bucket=geheim"]
        {
            let shown = read(&[word]).unwrap_err().report();
            assert!(!shown.contains("geheim"), "{shown}");
        }
    }
}
