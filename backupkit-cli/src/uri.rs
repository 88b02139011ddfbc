//! Where things are: plain paths and addresses with a scheme.

#[cfg(feature = "s3")]
mod bucket;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use backupkit_core::{Error, Result};

use crate::exit::usage;

#[cfg(feature = "s3")]
pub(crate) use bucket::BucketAddress;

/// What other programs write without `//`, such as `s3:https://host/bucket`.
const SHORT_SCHEMES: [&str; 13] = [
    "azure",
    "b2",
    "gdrive",
    "gs",
    "mongodb",
    "mongodb+srv",
    "opendal",
    "rclone",
    "rest",
    "rest+https",
    "s3",
    "sftp",
    "swift",
];

/// Where repositories may lie.
#[derive(Debug)]
pub(crate) enum Place {
    /// A folder, with its whole path.
    Folder(PathBuf),
    /// A bucket, or what is below a prefix of it.
    #[cfg(feature = "s3")]
    Bucket(BucketAddress),
}

/// Returns what the address of a repository names.
///
/// # Errors
/// As for [`folder`].
pub(crate) fn place(address: &OsStr) -> Result<Place> {
    #[cfg(feature = "s3")]
    if let Some((scheme, rest)) = split_scheme(address.as_bytes())
        && scheme == "s3"
    {
        refuse_userinfo(address)?;
        return bucket::parse(rest).map(Place::Bucket);
    }
    absolute_folder(address).map(Place::Folder)
}

/// Whether an address is one of a bucket.
#[cfg(feature = "s3")]
pub(crate) fn is_bucket(address: &OsStr) -> bool {
    split_scheme(address.as_bytes()).is_some_and(|(scheme, _)| scheme == "s3")
}

/// Returns the folder that a plain path, `file:///path` or `local:path` names.
///
/// # Errors
/// A usage error for other schemes, for stored connections, and for credentials in an address. None
/// repeats a credential.
pub(crate) fn folder(address: &OsStr) -> Result<PathBuf> {
    let bytes = address.as_bytes();
    if bytes.is_empty() {
        return Err(usage("the address is empty").with_hint("give a path or file:///path"));
    }
    if bytes.contains(&0) {
        return Err(usage("the address holds a NUL character"));
    }
    if let Some(name) = bytes.strip_prefix(b"@") {
        return Err(usage(format!(
            "stored connections are not built in yet: @{}",
            name.escape_ascii()
        ))
        .with_hint("if it is a folder, put ./ in front"));
    }
    let Some((scheme, rest)) = split_scheme(bytes) else {
        return Ok(PathBuf::from(address));
    };
    refuse_userinfo(address)?;
    match scheme.as_str() {
        "file" => file(rest),
        "local" if !rest.is_empty() => Ok(PathBuf::from(OsStr::from_bytes(rest))),
        scheme => Err(not_built_in(scheme)),
    }
}

/// As [`folder`], made absolute, so that messages say which one is meant.
pub(crate) fn absolute_folder(address: &OsStr) -> Result<PathBuf> {
    std::path::absolute(folder(address)?)
        .map_err(|error| Error::io("find the working directory", error))
}

/// Replaces what stands before `@` in every address of a text.
pub(crate) fn redact(text: &str) -> String {
    let mut redacted = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("//") {
        let (before, after) = rest.split_at(at + 2);
        redacted.push_str(before);
        rest = after;
        let end = rest.find(|c: char| c == '/' || c.is_whitespace()).unwrap_or(rest.len());
        if let Some(userinfo) = rest[..end].rfind('@') {
            redacted.push_str("***");
            rest = &rest[userinfo..];
        }
    }
    redacted.push_str(rest);
    redacted
}

fn not_built_in(scheme: &str) -> Error {
    usage(format!("{scheme}: is not built in yet; only folders are"))
        .with_hint("give a path or file:///path; for a folder of this name, put ./ in front")
}

/// The scheme in lower case, and what follows its colon. `None` for a plain path.
fn split_scheme(address: &[u8]) -> Option<(String, &[u8])> {
    let colon = address.iter().position(|&byte| byte == b':')?;
    let (scheme, rest) = (&address[..colon], &address[colon + 1..]);
    let is_scheme = scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if !is_scheme {
        return None;
    }
    let scheme = String::from_utf8_lossy(scheme).to_ascii_lowercase();
    let known = SHORT_SCHEMES.contains(&scheme.as_str())
        || scheme == "local"
        || (scheme == "file" && rest.starts_with(b"/"));
    (known || rest.starts_with(b"//")).then_some((scheme, rest))
}

/// Refuses what stands before an `@` in the authority.
fn refuse_userinfo(address: &OsStr) -> Result<()> {
    let text = address.to_string_lossy();
    let redacted = redact(&text);
    if redacted == text {
        return Ok(());
    }
    Err(usage(format!("{redacted} holds credentials, and addresses are shown and logged"))
        .with_hint("take them out of the address"))
}

fn file(rest: &[u8]) -> Result<PathBuf> {
    let path = match rest.strip_prefix(b"//") {
        Some(rest) => rest.strip_prefix(b"localhost").unwrap_or(rest),
        None => rest,
    };
    if !path.starts_with(b"/") {
        return Err(usage("a file address needs an absolute path")
            .with_hint("write file:///path, or the plain path"));
    }
    let path = percent_decode(path)
        .filter(|path| !path.contains(&0))
        .ok_or_else(|| usage("a file address has a wrong % in it").with_hint("write % as %25"))?;
    Ok(PathBuf::from(OsString::from_vec(path)))
}

fn percent_decode(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let (&[high, low], after) = rest.split_first_chunk()?;
        decoded.push(digit(high)? * 16 + digit(low)?);
        rest = after;
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(address: &str) -> Result<PathBuf> {
        folder(OsStr::new(address))
    }

    #[test]
    fn paths_and_file_addresses_name_folders() {
        for (address, path) in [
            ("/srv/repo", "/srv/repo"),
            ("repo", "repo"),
            ("./s3:x", "./s3:x"),
            ("C:x", "C:x"),
            ("12:30", "12:30"),
            ("a b:c", "a b:c"),
            ("file.txt:", "file.txt:"),
            ("file:///srv/a%20b", "/srv/a b"),
            ("file:///srv/%C3%A4", "/srv/ä"),
            ("file://localhost/srv", "/srv"),
            ("FILE:/srv", "/srv"),
            ("local:repo", "repo"),
        ] {
            assert_eq!(parse(address).unwrap(), PathBuf::from(path), "{address}");
        }
    }

    #[test]
    fn names_that_are_not_text_are_paths() {
        let name = OsStr::from_bytes(b"/srv/\xff");
        assert_eq!(folder(name).unwrap(), PathBuf::from(name));
    }

    #[test]
    fn what_is_not_a_folder_is_refused() {
        for address in [
            "",
            "@nas",
            "s3://bucket/prefix",
            "s3:https://host/bucket",
            "sftp:host:/srv",
            "rest:http://x/",
            "gdrive://id",
            "mongodb+srv://host/db",
            "https://host/",
            "file://other/srv",
            "file:///a%2",
            "file:///a%zz",
            "file:///a%00",
            "local:",
        ] {
            let error = parse(address).unwrap_err();
            assert_eq!(error.code(), "usage", "{address}");
        }
    }

    #[test]
    fn credentials_are_refused_and_never_repeated() {
        for address in [
            "rest:https://user:geheim@host/repo",
            "s3://key:geheim@bucket/x",
            "sftp://geheim@host/x",
            "file://geheim@localhost/x",
        ] {
            let error = parse(address).unwrap_err();
            assert_eq!(error.code(), "usage");
            let shown = error.report();
            assert!(shown.contains("credentials") && !shown.contains("geheim"), "{shown}");
        }
    }

    #[test]
    fn redaction_leaves_the_rest_of_a_text() {
        let text = "cannot open 's3://a:b@c/d@e' and http://f//g@h ok";
        assert_eq!(redact(text), "cannot open 's3://***@c/d@e' and http://f//***@h ok");
    }
}
