//! Shared files of credentials: `[profile]` and `name = value` below it.

use std::collections::BTreeMap;

use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};

/// A key as such a file has it.
#[derive(Debug)]
pub(super) struct ProfileKeys {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: SecretString,
    pub(super) session_token: Option<SecretString>,
}

/// What stands in profiles that get their keys elsewhere.
const ELSEWHERE: [&str; 5] =
    ["credential_process", "credential_source", "role_arn", "sso_session", "sso_start_url"];

/// Finds the key of a profile.
///
/// # Errors
/// `InvalidConfig`: there is no such profile, or no key in it. No message repeats a value.
pub(super) fn find(text: &str, profile: &str) -> Result<ProfileKeys> {
    let refused = |why: String| Error::new(ErrorKind::InvalidConfig, why).with_code("s3-profile");
    let Some(mut fields) = section(text, profile) else {
        return Err(refused(format!("there is no profile `{profile}`"))
            .with_hint("name one that the file has"));
    };
    let mut take = |name: &str| fields.remove(name).filter(|value| !value.is_empty());
    let (id, secret) = (take("aws_access_key_id"), take("aws_secret_access_key"));
    let token = take("aws_session_token");
    if let (Some(id), Some(secret)) = (id, secret) {
        return Ok(ProfileKeys {
            access_key_id: id.to_string(),
            secret_access_key: SecretString::from(secret.as_str()),
            session_token: token.map(|token| SecretString::from(token.as_str())),
        });
    }
    let elsewhere = ELSEWHERE.iter().find(|name| fields.contains_key(**name));
    Err(match elsewhere {
        Some(name) => {
            refused(format!("profile `{profile}` gets its key by `{name}`, which is not built in"))
                .with_hint("name a profile with aws_access_key_id and aws_secret_access_key")
        }
        None => refused(format!("profile `{profile}` has no key"))
            .with_hint("it needs aws_access_key_id and aws_secret_access_key"),
    })
}

/// The fields of a section, which may come in several parts.
fn section(text: &str, profile: &str) -> Option<BTreeMap<String, Zeroizing<String>>> {
    let mut found: Option<BTreeMap<_, _>> = None;
    let mut is_inside = false;
    for line in text.trim_start_matches('\u{feff}').lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            let name = name.trim();
            // As files of settings write it, too.
            let name = name.strip_prefix("profile ").map_or(name, str::trim);
            is_inside = name == profile;
            if is_inside {
                found.get_or_insert_default();
            }
        } else if is_inside
            && let Some((name, value)) = line.split_once('=')
            && let Some(fields) = &mut found
        {
            let value = Zeroizing::new(value.trim().to_owned());
            fields.insert(name.trim().to_ascii_lowercase(), value);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    const TEXT: &str = "# mine\n[default]\naws_access_key_id = AK1\naws_secret_access_key=s/1=\n\n\
                        [profile nas]\r\nAWS_ACCESS_KEY_ID=AK2\r\naws_secret_access_key = s2\r\n\
                        aws_session_token = t2\r\n[role]\nrole_arn = arn:x\n[empty]\n";

    #[test]
    fn each_profile_has_its_own_key() {
        let keys = find(TEXT, "default").unwrap();
        assert_eq!(keys.access_key_id, "AK1");
        assert_eq!(keys.secret_access_key.expose_secret(), "s/1=");
        assert!(keys.session_token.is_none());
        let keys = find(TEXT, "nas").unwrap();
        assert_eq!(keys.access_key_id, "AK2");
        assert_eq!(keys.session_token.unwrap().expose_secret(), "t2");
    }

    #[test]
    fn what_gives_no_key_says_why() {
        for (profile, word) in
            [("other", "no profile"), ("role", "role_arn"), ("empty", "has no key")]
        {
            let error = find(TEXT, profile).unwrap_err();
            assert_eq!(error.code(), "s3-profile");
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
