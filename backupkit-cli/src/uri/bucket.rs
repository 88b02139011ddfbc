//! Addresses of buckets: `s3://bucket/prefix`, `s3:https://host/bucket/prefix`, and restic's
//! `s3:host/bucket/prefix`.

use backupkit_core::Result;

use crate::exit::usage;

/// What the address of a bucket says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BucketAddress {
    /// The server; nothing if options or AWS are meant.
    pub(crate) endpoint: Option<String>,
    pub(crate) bucket: String,
    /// Empty for the whole bucket.
    pub(crate) prefix: String,
}

/// Reads what follows `s3:`.
pub(super) fn parse(rest: &[u8]) -> Result<BucketAddress> {
    let wrong = |why: &str| {
        usage(format!("an s3 address {why}"))
            .with_hint("write s3://bucket/prefix, or s3:https://host/bucket/prefix")
    };
    let text = std::str::from_utf8(rest).map_err(|_| wrong("is not UTF-8"))?;
    let (endpoint, path) = if let Some(path) = text.strip_prefix("//") {
        (None, path)
    } else {
        let schemes = ["https://", "http://"];
        let scheme = schemes.into_iter().find(|scheme| text.starts_with(scheme));
        let (scheme, server) = match scheme {
            Some(scheme) => (scheme, &text[scheme.len()..]),
            None => ("https://", text),
        };
        let (host, path) = server.split_once('/').ok_or_else(|| wrong("names no bucket"))?;
        if host.is_empty() {
            return Err(wrong("names no server"));
        }
        (Some(format!("{scheme}{host}")), path)
    };
    let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
    if bucket.is_empty() {
        return Err(wrong("names no bucket"));
    }
    let prefix = prefix.trim_matches('/').to_owned();
    Ok(BucketAddress { endpoint, bucket: bucket.to_owned(), prefix })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(endpoint: Option<&str>, bucket: &str, prefix: &str) -> BucketAddress {
        let endpoint = endpoint.map(str::to_owned);
        BucketAddress { endpoint, bucket: bucket.to_owned(), prefix: prefix.to_owned() }
    }

    #[test]
    fn addresses_name_server_bucket_and_prefix() {
        for (text, expected) in [
            ("//b", address(None, "b", "")),
            ("//b/a/c/", address(None, "b", "a/c")),
            ("https://h:9000/b/a", address(Some("https://h:9000"), "b", "a")),
            ("http://h/b", address(Some("http://h"), "b", "")),
            ("s3.amazonaws.com/b/a", address(Some("https://s3.amazonaws.com"), "b", "a")),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn addresses_without_a_bucket_are_refused() {
        for text in ["", "//", "///x", "https://h", "https://h/", "https:///b", "b", "/b"] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().code(), "usage", "{text}");
        }
    }
}
