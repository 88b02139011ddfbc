//! The settings that say who asks.

use std::path::PathBuf;

use serde_json::Value;

use super::{Reader, wrong_address, wrong_path};
use crate::adapters::s3::S3Role;
use crate::adapters::s3::credentials::wrong_container;

/// Who asks, without secrets.
#[derive(Debug)]
pub(in crate::adapters::s3::kind) enum Authentication {
    Keys { access_key_id: String },
    Profile { file: PathBuf, profile: String },
    Environment,
    AssumeRole { base: Box<Self>, role: S3Role },
    WebIdentity { token_file: PathBuf, role: S3Role },
    Instance { endpoint: Option<String> },
    Container { endpoint: String, token_file: Option<PathBuf> },
    Anonymous,
}

/// The settings that say who asks.
pub(in crate::adapters::s3::kind) const IDENTITY: [&str; 13] = [
    "auth",
    "access_key_id",
    "profile_file",
    "profile",
    "base_auth",
    "role_arn",
    "role_session_name",
    "external_id",
    "sts_endpoint",
    "token_file",
    "instance_endpoint",
    "container_endpoint",
    "proxy_user",
];

/// What each way has to say.
fn fields_of(auth: &str) -> Option<&'static [&'static str]> {
    Some(match auth {
        "keys" => &["access_key_id"],
        "profile" => &["profile_file", "profile"],
        "assume_role" => {
            &["base_auth", "role_arn", "role_session_name", "external_id", "sts_endpoint"]
        }
        "web_identity" => &["token_file", "role_arn", "role_session_name", "sts_endpoint"],
        "instance" => &["instance_endpoint"],
        "container" => &["container_endpoint", "token_file"],
        "environment" | "anonymous" => &[],
        _ => return None,
    })
}

impl Reader {
    pub(super) fn authentication(&mut self) -> Option<Authentication> {
        let auth = self.text("auth", |_| None).unwrap_or_else(|| "keys".to_owned());
        let Some(fields) = fields_of(&auth) else {
            let why = "is none of keys, profile, environment, assume_role, web_identity, instance, \
                       container and anonymous";
            self.errors.add("auth", why);
            return None;
        };
        let mut fields = fields.to_vec();
        let base = self.text("base_auth", |base| {
            let is_base =
                matches!(base, "keys" | "profile" | "environment" | "instance" | "container");
            (!is_base).then_some("is none of keys, profile, environment, instance and container")
        });
        let base = base.unwrap_or_else(|| "keys".to_owned());
        if auth == "assume_role" {
            fields.extend(fields_of(&base).unwrap_or_default());
        }
        let others = IDENTITY.iter().filter(|name| !["auth", "proxy_user"].contains(name));
        for name in others.filter(|name| !fields.contains(name)) {
            if self.fields.contains_key(*name) {
                self.errors.add(*name, format!("means nothing with auth = {auth:?}"));
            }
        }
        if auth == "assume_role" {
            let (base, role) = (self.way(&base), self.role());
            return Some(Authentication::AssumeRole { base: Box::new(base?), role: role? });
        }
        self.way(&auth)
    }

    /// Whom the proxy knows.
    pub(super) fn proxy_user(&mut self) -> Option<String> {
        // The name ends at the colon.
        let user = self.text("proxy_user", |name| {
            let is_name = !name.contains(':') && !name.chars().any(char::is_control);
            (!is_name).then_some("is no name: it holds a colon or a control character")
        });
        if user.is_some() && !self.fields.contains_key("proxy") {
            self.errors.add("proxy_user", "means nothing without proxy");
        }
        user
    }

    fn way(&mut self, auth: &str) -> Option<Authentication> {
        Some(match auth {
            "keys" => {
                let id = self.text("access_key_id", wrong_key_id);
                let why = "is missing: give the id of a key, or choose another way with auth";
                self.require("access_key_id", why);
                Authentication::Keys { access_key_id: id? }
            }
            "profile" => {
                let profile = self.text("profile", |_| None);
                let file = self.text("profile_file", wrong_path);
                let why = "is missing: give the whole path of a shared file of credentials";
                self.require("profile_file", why);
                let profile = profile.unwrap_or_else(|| "default".to_owned());
                Authentication::Profile { file: PathBuf::from(file?), profile }
            }
            "web_identity" => {
                let file = self.text("token_file", wrong_path);
                self.require(
                    "token_file",
                    "is missing: give the whole path of the file with the token",
                );
                let role = self.role();
                Authentication::WebIdentity { token_file: PathBuf::from(file?), role: role? }
            }
            "instance" => Authentication::Instance {
                endpoint: self.text("instance_endpoint", |address| wrong_address(address, true)),
            },
            "container" => {
                let token_file = self.text("token_file", wrong_path).map(PathBuf::from);
                let endpoint = self.text("container_endpoint", wrong_container);
                let why = "is missing: give the address that the container is told to ask";
                self.require("container_endpoint", why);
                Authentication::Container { endpoint: endpoint?, token_file }
            }
            "environment" => Authentication::Environment,
            _ => Authentication::Anonymous,
        })
    }

    fn role(&mut self) -> Option<S3Role> {
        let arn = self.text("role_arn", wrong_role);
        let session = self.text("role_session_name", |name| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
            let is_name = (2..=64).contains(&name.len()) && name.bytes().all(fits);
            (!is_name).then_some("is no name of a session: 2 to 64 letters, digits and _+=,.@-")
        });
        let external_id = self.text("external_id", |id| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&byte);
            let is_id = (2..=1_224).contains(&id.len()) && id.bytes().all(fits);
            (!is_id).then_some("is no external id: 2 to 1224 letters, digits and _+=,.@:/-")
        });
        // Whoever reads and writes objects in the clear anyway may ask for the role so, too.
        let is_open =
            self.fields.get("endpoint").and_then(Value::as_str).is_some_and(is_in_the_clear);
        let endpoint = self.text("sts_endpoint", |address| {
            wrong_address(address, true).or_else(|| {
                (is_in_the_clear(address) && !is_open)
                    .then_some("would get and lend keys in the clear: begin it with https://")
            })
        });
        self.require("role_arn", "is missing: give the role, arn:aws:iam::ACCOUNT:role/NAME");
        let mut role = S3Role::new(arn?);
        role.session_name = session.unwrap_or(role.session_name);
        role.external_id = external_id;
        role.sts_endpoint = endpoint;
        Some(role)
    }

    fn require(&mut self, name: &str, why: &str) {
        if !self.fields.contains_key(name) {
            self.errors.add(name, why);
        }
    }
}

/// Whether what goes to an address can be read on its way through a network.
fn is_in_the_clear(address: &str) -> bool {
    address.starts_with("http://") && wrong_container(address).is_some()
}

fn wrong_key_id(id: &str) -> Option<&'static str> {
    let fits = |byte: u8| byte.is_ascii_graphic() && !b"/,=".contains(&byte);
    (id.len() > 128 || !id.bytes().all(fits)).then_some("is no id of a key")
}

fn wrong_role(arn: &str) -> Option<&'static str> {
    let is_arn = arn.starts_with("arn:") && arn.bytes().all(|byte| byte.is_ascii_graphic());
    (!is_arn || arn.len() > 2_048).then_some("is no role, such as arn:aws:iam::ACCOUNT:role/NAME")
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    fn wrong(json: &str) -> Vec<String> {
        let json = format!(r#"{{"bucket":"b",{json}}}"#);
        let settings = RawValue::from_string(json).unwrap();
        let errors = super::super::read(&settings).err().unwrap_or_default();
        errors.iter().map(|error| error.field.clone()).collect()
    }

    #[test]
    fn each_way_to_ask_has_its_own_settings() {
        let role = r#""role_arn":"arn:aws:iam::1:role/r""#;
        let web = |lender: &str| {
            format!(r#""auth":"web_identity","token_file":"/t","sts_endpoint":"{lender}",{role}"#)
        };
        for (json, fields) in [
            (format!(r#""auth":"assume_role","access_key_id":"k",{role}"#), &[][..]),
            (
                format!(
                    r#""auth":"assume_role","base_auth":"profile","profile_file":"/f",
                       "external_id":"x-1","role_session_name":"nas","sts_endpoint":"https://h",{role}"#
                ),
                &[],
            ),
            (web("http://h"), &["sts_endpoint"]),
            (web("http://127.0.0.1:9000"), &[]),
            (format!(r#"{},"endpoint":"http://h""#, web("http://h")), &[]),
            (format!(r#"{},"endpoint":"https://h""#, web("http://h")), &["sts_endpoint"]),
            (format!(r#""auth":"assume_role","base_auth":"instance",{role}"#), &[]),
            (format!(r#""auth":"web_identity","token_file":"/t",{role}"#), &[]),
            (r#""auth":"instance""#.to_owned(), &[]),
            (
                r#""auth":"container","container_endpoint":"http://169.254.170.2/v2/x""#.to_owned(),
                &[],
            ),
            (r#""auth":"assume_role""#.to_owned(), &["access_key_id", "role_arn"]),
            (
                format!(
                    r#""auth":"assume_role","base_auth":"web_identity","token_file":"/t",{role}"#
                ),
                &["base_auth", "token_file", "access_key_id"],
            ),
            (r#""auth":"web_identity","role_arn":"x""#.to_owned(), &["token_file", "role_arn"]),
            (format!(r#""auth":"instance",{role}"#), &["role_arn"]),
            (
                r#""auth":"container","container_endpoint":"http://h/x""#.to_owned(),
                &["container_endpoint"],
            ),
            (r#""auth":"keys","access_key_id":"k","base_auth":"keys""#.to_owned(), &["base_auth"]),
            (
                format!(
                    r#""auth":"assume_role","access_key_id":"k","external_id":"a b",
                       "role_session_name":"n","sts_endpoint":"h",{role}"#
                ),
                &["role_session_name", "external_id", "sts_endpoint"],
            ),
            (r#""auth":"anonymous","proxy":"http://p","proxy_user":"u""#.to_owned(), &[]),
            (r#""auth":"anonymous","proxy_user":"u""#.to_owned(), &["proxy_user"]),
            (
                r#""auth":"anonymous","proxy":"http://p","proxy_user":"u:p""#.to_owned(),
                &["proxy_user"],
            ),
        ] {
            assert_eq!(wrong(&json), fields, "{json}");
        }
    }
}
