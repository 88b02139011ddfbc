//! Where a bucket is, and how its server behaves.

mod retention;

use std::fmt;
use std::path::PathBuf;

use secrecy::SecretString;

pub use self::retention::{S3Retention, S3RetentionMode};

/// The names of directory buckets of AWS end with this.
const DIRECTORY_BUCKET: &str = "--x-s3";
/// The part of a prefix after which AWS's own addresses are told from others.
const AWS_DOMAINS: [&str; 2] = [".amazonaws.com", ".amazonaws.com.cn"];

/// Where a bucket is, and how its server behaves. The only secret is that of a proxy, which is never
/// shown.
#[derive(Clone)]
#[non_exhaustive]
pub struct S3Settings {
    /// The bucket.
    pub bucket: String,
    /// What keys begin with, without `/` at its ends; empty for the whole bucket.
    pub prefix: String,
    /// The address of the server, such as `https://minio.example:9000`; nothing means AWS.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
    /// Whether the bucket stands in the path of addresses, and not in the name of the host.
    pub path_style: bool,
    /// A file with certificates, in PEM, to trust besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// The address of an HTTP proxy.
    pub proxy: Option<String>,
    /// The name and the password that the proxy wants to hear.
    pub proxy_user: Option<(String, SecretString)>,
    /// The storage class of packs; all else has the bucket's default.
    pub storage_class: Option<String>,
    /// Whether the server keeps conditions of writes, so that of two writers one is refused. It is
    /// tried before it is relied on.
    pub conditional_writes: bool,
    /// Whether a SHA-256 goes with each object for the server to compare and to keep. With a retention
    /// one goes all the same: servers want it with each lock.
    pub checksums: bool,
    /// For how long the files of a repository cannot be deleted; nothing for as long as nobody does.
    pub retention: Option<S3Retention>,
}

impl S3Settings {
    /// The region of buckets that name none.
    pub const DEFAULT_REGION: &'static str = "us-east-1";

    /// Returns the settings of a bucket at AWS.
    pub fn new(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            prefix: String::new(),
            endpoint: None,
            region: Self::DEFAULT_REGION.to_owned(),
            path_style: false,
            ca_file: None,
            proxy: None,
            proxy_user: None,
            storage_class: None,
            conditional_writes: true,
            checksums: true,
            retention: None,
        }
    }

    /// Names what keys begin with.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl AsRef<str>) -> Self {
        prefix.as_ref().trim_matches('/').clone_into(&mut self.prefix);
        self
    }

    /// Names the server. The bucket comes to stand in the path, unless the server is AWS's.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        let endpoint = endpoint.into().trim_end_matches('/').to_owned();
        self.path_style = !is_aws(&endpoint);
        self.endpoint = Some(endpoint);
        self
    }

    /// Names the region.
    #[must_use]
    pub fn with_region(mut self, region: impl Into<String>) -> Self {
        self.region = region.into();
        self
    }

    /// Says whether the bucket stands in the path.
    #[must_use]
    pub fn with_path_style(mut self, path_style: bool) -> Self {
        self.path_style = path_style;
        self
    }

    /// Names certificates to trust.
    #[must_use]
    pub fn with_ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(file.into());
        self
    }

    /// Names a proxy.
    #[must_use]
    pub fn with_proxy(mut self, proxy: impl Into<String>) -> Self {
        self.proxy = Some(proxy.into());
        self
    }

    /// Says who asks the proxy.
    #[must_use]
    pub fn with_proxy_user(
        mut self,
        name: impl Into<String>,
        password: impl Into<SecretString>,
    ) -> Self {
        self.proxy_user = Some((name.into(), password.into()));
        self
    }

    /// Names the storage class of packs.
    #[must_use]
    pub fn with_storage_class(mut self, class: impl Into<String>) -> Self {
        self.storage_class = Some(class.into());
        self
    }

    /// Says that the server does not keep conditions of writes: two writers of one key may both
    /// succeed.
    #[must_use]
    pub fn without_conditional_writes(mut self) -> Self {
        self.conditional_writes = false;
        self
    }

    /// Retains the files of a repository, in a bucket that was made with Object Lock.
    #[must_use]
    pub fn with_retention(mut self, retention: S3Retention) -> Self {
        self.retention = Some(retention);
        self
    }

    /// Sends no checksums beside the signature, for servers that refuse them.
    #[must_use]
    pub fn without_checksums(mut self) -> Self {
        self.checksums = false;
        self
    }

    /// The place as people write it: `s3://bucket/prefix` at AWS, else `s3:https://host/bucket/prefix`.
    pub fn location(&self) -> String {
        let mut location = match &self.endpoint {
            Some(endpoint) => format!("s3:{}/{}", without_user(endpoint), self.bucket),
            None => format!("s3://{}", self.bucket),
        };
        if !self.prefix.is_empty() {
            location.push('/');
            location.push_str(&self.prefix);
        }
        location
    }

    /// The place as snapshots name it: always with the server, so that no two places have one name.
    pub(super) fn uri(&self) -> String {
        let server = match &self.endpoint {
            Some(endpoint) if !is_aws(endpoint) => {
                endpoint.split_once("://").map_or(endpoint.as_str(), |(_, server)| server)
            }
            // Names of buckets are unique there, whatever the region.
            _ => "s3.amazonaws.com",
        };
        let mut uri = format!("s3://{server}/{}", self.bucket);
        if !self.prefix.is_empty() {
            uri.push('/');
            uri.push_str(&self.prefix);
        }
        uri
    }

    /// Whether checksums go with what is written.
    pub(super) fn sends_checksums(&self) -> bool {
        self.checksums || self.retention.is_some()
    }

    /// Whether both are the same bucket of the same server.
    pub(super) fn is_same_bucket(&self, other: &Self) -> bool {
        let place = |settings: &Self| {
            let mut settings = settings.clone();
            settings.prefix.clear();
            settings.uri()
        };
        place(self) == place(other)
    }

    /// Whether the server is AWS's.
    pub(super) fn is_aws(&self) -> bool {
        self.endpoint.as_deref().is_none_or(is_aws)
    }

    /// Whether the server is known to list keys in the order of their bytes.
    pub(super) fn lists_by_bytes(&self) -> bool {
        self.is_aws() && !self.is_directory_bucket()
    }

    /// Whether it is a directory bucket of AWS, whose keys are listed in no order.
    pub(super) fn is_directory_bucket(&self) -> bool {
        self.is_aws() && self.bucket.ends_with(DIRECTORY_BUCKET)
    }

    /// What stands in front of every key.
    pub(super) fn root(&self) -> String {
        if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) }
    }
}

impl fmt::Debug for S3Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Settings")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("endpoint", &self.endpoint.as_deref().map(without_user))
            .field("region", &self.region)
            .field("path_style", &self.path_style)
            .field("ca_file", &self.ca_file)
            .field("proxy", &self.proxy.as_deref().map(without_user))
            .field("proxy_user", &self.proxy_user.as_ref().map(|(name, _)| name))
            .field("storage_class", &self.storage_class)
            .field("conditional_writes", &self.conditional_writes)
            .field("checksums", &self.checksums)
            .field("retention", &self.retention)
            .finish()
    }
}

/// An address without what may stand before its host: a name and a password. Those are refused, but
/// addresses are shown before.
fn without_user(address: &str) -> String {
    match (address.split_once("://"), address.rsplit_once('@')) {
        (_, None) => address.to_owned(),
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
    }
}

/// Whether an address is one of AWS's own.
fn is_aws(endpoint: &str) -> bool {
    let host = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let host = host.split(['/', ':']).next().unwrap_or(host).to_ascii_lowercase();
    AWS_DOMAINS.iter().any(|domain| host.ends_with(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_stands_in_the_path_everywhere_but_at_aws() {
        let with = |endpoint: &str| S3Settings::new("b").with_endpoint(endpoint);
        assert!(with("https://minio.example:9000/").path_style);
        assert!(with("http://127.0.0.1:9000").path_style);
        assert!(!with("https://s3.eu-central-1.amazonaws.com").path_style);
        assert!(!S3Settings::new("b").path_style);
        assert!(with("https://amazonaws.com.evil.example").path_style);
    }

    #[test]
    fn no_text_shows_a_password() {
        let settings = S3Settings::new("b")
            .with_endpoint("https://user:canary@h:9000")
            .with_proxy("http://user:canary@proxy");
        let shown = format!("{settings:?} {}", settings.location());
        assert!(!shown.contains("canary"), "{shown}");
        assert!(shown.contains("https://h:9000") && shown.contains("http://proxy"), "{shown}");
    }

    #[test]
    fn locations_are_what_people_write() {
        let aws = S3Settings::new("b").with_prefix("/a/b/");
        assert_eq!(aws.location(), "s3://b/a/b");
        assert_eq!(aws.root(), "a/b/");
        let own = S3Settings::new("b").with_endpoint("https://host:9000/");
        assert_eq!(own.location(), "s3:https://host:9000/b");
        assert_eq!(own.root(), "");
        assert_eq!(own.uri(), "s3://host:9000/b");
        assert_eq!(aws.uri(), "s3://s3.amazonaws.com/b/a/b");
        let regional = aws.with_endpoint("https://s3.eu-central-1.amazonaws.com");
        assert_eq!(regional.uri(), "s3://s3.amazonaws.com/b/a/b");
    }
}
