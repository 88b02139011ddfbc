//! Settings as text becomes settings, or all that is wrong with them.

mod filter;
mod identity;
mod options;
mod retention;

use std::path::{Path, PathBuf};

use serde_json::value::RawValue;
use serde_json::{Map, Value};

pub(super) use self::identity::{Authentication, IDENTITY};
use crate::adapters::s3::{S3Settings, S3SourceOptions, S3TargetOptions};
use crate::fields::FieldErrors;

/// What settings say.
#[derive(Debug)]
pub(super) struct S3Fields {
    /// Without the user of the proxy, who has a secret.
    pub(super) settings: S3Settings,
    pub(super) proxy_user: Option<String>,
    pub(super) authentication: Authentication,
    /// How it is read as a source.
    pub(super) options: S3SourceOptions,
    /// What a restore into it gives back.
    pub(super) target_options: S3TargetOptions,
}

/// All but those of [`IDENTITY`].
const FIELDS: [&str; 32] = [
    "bucket",
    "prefix",
    "endpoint",
    "region",
    "path_style",
    "ca_file",
    "proxy",
    "storage_class",
    "conditional_writes",
    "checksums",
    "retention_mode",
    "retention_days",
    "tags",
    "acls",
    "bucket_settings",
    "unordered",
    "archived",
    "thaw_tier",
    "thaw_days",
    "restore_locks",
    "restore_acls",
    "include",
    "exclude",
    "min_bytes",
    "max_bytes",
    "min_age_days",
    "max_age_days",
    "storage_classes",
    "include_tags",
    "exclude_tags",
    "consistent_at",
    "versions",
];

/// Classes whose objects cannot be read before they are brought back.
const ARCHIVES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// Reads settings, or says all that is wrong.
pub(super) fn read(settings: &RawValue) -> Result<S3Fields, FieldErrors> {
    let Ok(Value::Object(fields)) = serde_json::from_str(settings.get()) else {
        return Err(FieldErrors::default().with("", "an S3 connection has settings with names"));
    };
    let mut reader = Reader { fields, errors: FieldErrors::default() };
    let read = reader.read();
    match read {
        Some(read) if reader.errors.is_empty() => Ok(read),
        _ => Err(reader.errors),
    }
}

/// Why a prefix will not do.
pub(super) fn wrong_prefix(prefix: &str) -> Option<&'static str> {
    if prefix.chars().any(char::is_control) {
        Some("holds control characters")
    } else if prefix.len() > 512 {
        Some("is longer than 512 bytes")
    } else if prefix.split('/').any(|part| matches!(part, "" | "." | "..")) {
        // Some servers refuse such keys, and some take them for others.
        Some("has an empty part, or one of . and ..")
    } else {
        None
    }
}

struct Reader {
    fields: Map<String, Value>,
    errors: FieldErrors,
}

impl Reader {
    fn read(&mut self) -> Option<S3Fields> {
        let bucket = self.text("bucket", wrong_bucket);
        if bucket.is_none() && !self.fields.contains_key("bucket") {
            self.errors.add("bucket", "is missing: give the name of the bucket");
        }
        let prefix = self.text("prefix", |prefix| wrong_prefix(prefix.trim_matches('/')));
        let endpoint = self.text("endpoint", |address| wrong_address(address, true));
        let region = self.text("region", wrong_region);
        let path_style = self.flag("path_style");
        let ca_file = self.text("ca_file", wrong_path);
        let proxy = self.text("proxy", |address| wrong_address(address, false));
        let storage_class = self.text("storage_class", wrong_class);
        let conditional_writes = self.flag("conditional_writes");
        let checksums = self.flag("checksums");
        let retention = self.retention();
        let (options, target_options) = (self.source_options(), self.target_options());
        let authentication = self.authentication();
        let proxy_user = self.proxy_user();
        let is_known = |name: &str| FIELDS.contains(&name) || IDENTITY.contains(&name);
        let unknown: Vec<String> =
            self.fields.keys().filter(|name| !is_known(name)).cloned().collect();
        for name in unknown {
            let known = [&FIELDS[..], &IDENTITY].concat().join(", ");
            self.errors.add(name, format!("is not known; these are: {known}"));
        }
        let mut settings = S3Settings::new(bucket?);
        if let Some(prefix) = prefix {
            settings = settings.with_prefix(prefix);
        }
        if let Some(endpoint) = endpoint {
            settings = settings.with_endpoint(endpoint);
        }
        settings.region = region.unwrap_or(settings.region);
        settings.path_style = path_style.unwrap_or(settings.path_style);
        settings.ca_file = ca_file.map(PathBuf::from);
        settings.proxy = proxy;
        settings.storage_class = storage_class;
        settings.conditional_writes = conditional_writes.unwrap_or(true);
        settings.checksums = checksums.unwrap_or(true);
        settings.retention = retention;
        if is_arn(&settings.bucket) && settings.path_style {
            self.errors
                .add("bucket", "is an access point, which stands in no path: give its alias");
        }
        Some(S3Fields {
            settings,
            proxy_user,
            authentication: authentication?,
            options,
            target_options,
        })
    }

    /// A text, if it is there and nothing is wrong with it.
    fn text(&mut self, name: &str, wrong: impl Fn(&str) -> Option<&'static str>) -> Option<String> {
        let why = match self.fields.get(name)? {
            Value::String(text) if text.is_empty() => "is empty",
            Value::String(text) => match wrong(text) {
                None => return Some(text.clone()),
                Some(why) => why,
            },
            _ => "is not text",
        };
        self.errors.add(name, why);
        None
    }

    fn flag(&mut self, name: &str) -> Option<bool> {
        let flag = self.fields.get(name)?.as_bool();
        if flag.is_none() {
            self.errors.add(name, "is neither true nor false");
        }
        flag
    }
}

fn wrong_bucket(bucket: &str) -> Option<&'static str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_fit = |part: &str| !part.is_empty() && part.bytes().all(fits);
    if is_arn(bucket) {
        // Those of several regions have none, and need another kind of signature.
        let parts: Vec<&str> = bucket.split([':', '/']).collect();
        let is_point = matches!(&parts[..], ["arn", _, "s3", _, _, "accesspoint", _]);
        return (bucket.len() > 255 || !is_point || !parts.into_iter().all(is_fit)).then_some(
            "is no access point of one region, arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME",
        );
    }
    (bucket.len() > 255 || !is_fit(bucket))
        .then_some("is no name of a bucket: letters, digits, dots and dashes")
}

fn is_arn(bucket: &str) -> bool {
    bucket.starts_with("arn:")
}

fn wrong_region(region: &str) -> Option<&'static str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (!region.bytes().all(fits)).then_some("is no name of a region, such as eu-central-1")
}

fn wrong_class(class: &str) -> Option<&'static str> {
    if ARCHIVES.contains(&class) {
        return Some("is an archive, from which nothing can be read at once; GLACIER_IR can");
    }
    (!is_class(class)).then_some("is no storage class, such as STANDARD_IA")
}

fn is_class(class: &str) -> bool {
    class.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

fn wrong_path(path: &str) -> Option<&'static str> {
    (path.contains('\0') || !Path::new(path).is_absolute())
        .then_some("is not absolute: write the whole path, from / on")
}

fn wrong_address(address: &str, is_endpoint: bool) -> Option<&'static str> {
    let rest = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"));
    let Some(rest) = rest else {
        return Some("does not begin with https:// or http://");
    };
    let host = rest.strip_suffix('/').unwrap_or(rest);
    // Whatever it is, it is shown and logged.
    if host.contains('@') {
        return Some("holds credentials; addresses are shown and logged");
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if host.is_empty() || !host.bytes().all(fits) {
        return Some(if is_endpoint {
            "is no address of a server: https://host or https://host:port, without a path"
        } else {
            "is no address of a proxy, such as http://host:port"
        });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(json: &str) -> Vec<String> {
        let settings = RawValue::from_string(json.to_owned()).unwrap();
        let errors = read(&settings).err().unwrap_or_default();
        errors.iter().map(|error| error.field.clone()).collect()
    }

    #[test]
    fn every_wrong_field_is_told_at_once() {
        for (json, fields) in [
            (r#"{"bucket":"b","access_key_id":"k"}"#, &[][..]),
            (r#"{"bucket":"arn:aws:s3:eu-west-1:1:accesspoint/y","auth":"anonymous"}"#, &[]),
            (
                r#"{"bucket":"arn:aws:s3:eu-west-1:1:accesspoint/y","auth":"anonymous",
                    "endpoint":"https://h"}"#,
                &["bucket"],
            ),
            (r#"{"bucket":"arn:aws:s3:::x/y","auth":"anonymous"}"#, &["bucket"]),
            (r#"{"bucket":"arn:aws:s3::1:accesspoint/y.mrap","auth":"anonymous"}"#, &["bucket"]),
            (r#"{"bucket":"b","auth":"profile","profile_file":"/x","profile":"p"}"#, &[]),
            ("{}", &["bucket", "access_key_id"]),
            ("3", &[""]),
            (r#"{"bucket":3,"access_key_id":""}"#, &["bucket", "access_key_id"]),
            (r#"{"bucket":"a/b","access_key_id":"a b"}"#, &["bucket", "access_key_id"]),
            (r#"{"bucket":"b","auth":"profile"}"#, &["profile_file"]),
            (r#"{"bucket":"b","auth":"magic"}"#, &["auth"]),
            (r#"{"bucket":"b","auth":"anonymous","access_key_id":"k"}"#, &["access_key_id"]),
            (
                r#"{"bucket":"b","access_key_id":"k","prefix":"a//b","endpoint":"host","region":"a b",
                    "path_style":1,"ca_file":"x","proxy":"http://u:p@h","storage_class":"GLACIER",
                    "conditional_writes":"no","checksums":0,"secret_access_key":"s"}"#,
                &[
                    "prefix",
                    "endpoint",
                    "region",
                    "path_style",
                    "ca_file",
                    "proxy",
                    "storage_class",
                    "conditional_writes",
                    "checksums",
                    "secret_access_key",
                ],
            ),
        ] {
            assert_eq!(wrong(json), fields, "{json}");
        }
    }

    #[test]
    fn how_objects_come_from_an_archive_is_said_only_if_they_do() {
        for (json, fields) in [
            (r#""archived":"thaw""#, &[][..]),
            (r#""archived":"thaw","thaw_tier":"bulk","thaw_days":3"#, &[]),
            (r#""archived":"thaw","thaw_tier":"fast","thaw_days":0"#, &["thaw_tier", "thaw_days"]),
            (r#""archived":"skip","thaw_tier":"bulk","thaw_days":3"#, &["thaw_tier", "thaw_days"]),
            (r#""thaw_days":3"#, &["thaw_days"]),
            (r#""archived":"melt","thaw_days":3"#, &["archived"]),
        ] {
            let json = format!(r#"{{"bucket":"b","auth":"anonymous",{json}}}"#);
            assert_eq!(wrong(&json), fields, "{json}");
        }
    }

    #[test]
    fn filters_are_lists_and_numbers() {
        for (json, fields) in [
            (
                r#""include":["*.jpg","a/"],"exclude":"*.tmp","min_bytes":1,"max_bytes":1,
                    "min_age_days":0,"max_age_days":30,"storage_classes":["STANDARD"],
                    "include_tags":["a=b","c"],"exclude_tags":"d""#,
                &[][..],
            ),
            (
                r#""include":"a[","exclude":[1],"min_bytes":"1","max_bytes":-1,"min_age_days":1.5,
                    "max_age_days":5000000000,"storage_classes":["standard"],
                    "include_tags":1,"exclude_tags":[""]"#,
                &[
                    "include",
                    "exclude",
                    "min_bytes",
                    "max_bytes",
                    "min_age_days",
                    "max_age_days",
                    "storage_classes",
                    "include_tags",
                    "exclude_tags",
                ],
            ),
            (r#""include":[""],"min_bytes":2,"max_bytes":1"#, &["include", "max_bytes"]),
            (r#""min_age_days":2,"max_age_days":1"#, &["max_age_days"]),
        ] {
            let json = format!(r#"{{"bucket":"b","auth":"anonymous",{json}}}"#);
            assert_eq!(wrong(&json), fields, "{json}");
        }
    }

    #[test]
    fn a_point_in_time_is_now_or_has_a_zone() {
        for (json, fields) in [
            (r#""consistent_at":"now""#, &[][..]),
            (r#""consistent_at":"2026-03-01T14:00:00.5+02:00""#, &[]),
            (r#""consistent_at":"2026-03-01T14:00:00""#, &["consistent_at"]),
            (r#""consistent_at":"yesterday""#, &["consistent_at"]),
            (r#""consistent_at":1772373600"#, &["consistent_at"]),
        ] {
            let json = format!(r#"{{"bucket":"b","auth":"anonymous",{json}}}"#);
            assert_eq!(wrong(&json), fields, "{json}");
        }
    }

    #[test]
    fn addresses_are_of_servers_and_nothing_more() {
        for address in ["https://h", "http://127.0.0.1:9000", "https://[::1]:9000/", "https://h/"] {
            assert_eq!(wrong_address(address, true), None, "{address}");
        }
        for address in ["h", "ftp://h", "https://", "https://h/path", "https://h?x", "https://u@h"]
        {
            assert!(wrong_address(address, true).is_some(), "{address}");
        }
    }

    #[test]
    fn no_message_repeats_a_value() {
        let json = r#"{"bucket":"geheim!","proxy":"http://u:geheim@h","auth":"geheim"}"#;
        let settings = RawValue::from_string(json.to_owned()).unwrap();
        let errors = read(&settings).unwrap_err().to_string();
        assert!(!errors.contains("geheim"), "{errors}");
    }
}
