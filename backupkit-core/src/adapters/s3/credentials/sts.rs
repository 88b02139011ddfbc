//! Roles that STS lends. Source: the API reference of AWS's Security Token Service, version 2011-06-15.

use std::collections::BTreeMap;

use aws_sdk_s3::config::Credentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_xml::decode::{Document, ScopedDecoder, try_data};
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::S3Role;
use super::lent::{Lent, credentials};
use super::web::{Reach, Reply, Web, request};
use crate::adapters::s3::errors::{REFUSED_ROLE as REFUSED, UNAVAILABLE, odd_reply, one_line};
use crate::adapters::s3::percent::encode;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};

const VERSION: &str = "2011-06-15";
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// Who asks for a role.
pub(super) enum Asked {
    /// Somebody with a key.
    By(Credentials),
    /// Somebody with a token.
    With(Zeroizing<String>),
}

impl Asked {
    pub(super) fn by(credentials: Credentials) -> Self {
        Self::By(credentials)
    }

    pub(super) fn with(token: Zeroizing<String>) -> Self {
        Self::With(token)
    }
}

/// Where STS is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    address: String,
    region: String,
}

impl Place {
    /// The named place, else the one of the region.
    pub(super) fn new(endpoint: Option<&str>, region: &str) -> Self {
        let Some(endpoint) = endpoint else {
            let domain =
                if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
            let address = format!("https://sts.{region}.{domain}/");
            return Self { address, region: region.to_owned() };
        };
        let endpoint = endpoint.trim_end_matches('/');
        // Signatures are for the region of STS, which need not be that of the bucket.
        let host = endpoint.split_once("://").map_or(endpoint, |(_, host)| host);
        let region =
            match host.strip_prefix("sts").and_then(|rest| rest.split_once("amazonaws.com")) {
                Some((".", _)) => "us-east-1",
                Some((named, _)) => named.trim_matches('.').trim_start_matches("-fips."),
                None => region,
            };
        Self { address: format!("{endpoint}/"), region: region.to_owned() }
    }
}

/// Asks for a role.
///
/// # Errors
/// `Unauthenticated` for a refusal; `RateLimited`, `Unavailable` or `Timeout` if it may succeed later.
pub(super) async fn ask(
    web: &Web,
    env: &Env,
    place: &Place,
    role: &S3Role,
    asked: Asked,
) -> Result<Lent> {
    let doing = format!("take on the role {}", one_line(&role.arn));
    let action = match &asked {
        Asked::By(_) => "AssumeRole",
        Asked::With(_) => "AssumeRoleWithWebIdentity",
    };
    let mut fields = vec![
        ("Action", action),
        ("Version", VERSION),
        ("RoleArn", &role.arn),
        ("RoleSessionName", &role.session_name),
    ];
    match &asked {
        Asked::By(_) => fields.extend(role.external_id.as_deref().map(|id| ("ExternalId", id))),
        Asked::With(token) => fields.push(("WebIdentityToken", token.trim())),
    }
    let form = Zeroizing::new(to_form(&fields));
    let headers = [("content-type", FORM), ("accept", "text/xml")];
    let mut request = request("POST", &place.address, &headers, Some(&form), &doing)?;
    if let Asked::By(base) = asked {
        let signed = signed_headers(env, place, base, &form);
        let signed = signed.ok_or_else(|| {
            Error::new(ErrorKind::Internal, format!("cannot {doing}: it cannot be signed"))
        })?;
        for (name, value) in signed {
            request.headers_mut().insert(name, value);
        }
    }
    let reply = web.send(Reach::Far, request, &doing).await?;
    if reply.status == 200 {
        to_lent(&reply, action, env.now())
            .ok_or_else(|| odd_reply(&doing, "the reply holds no key"))
    } else {
        Err(refusal(&reply, &doing))
    }
}

/// The headers that make up a signature.
fn signed_headers(
    env: &Env,
    place: &Place,
    base: Credentials,
    form: &str,
) -> Option<Vec<(&'static str, String)>> {
    let identity = base.into();
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::Headers;
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(&place.region)
        .name("sts")
        .time(env.now().into())
        .settings(settings)
        .build()
        .ok()?
        .into();
    let headers = [("content-type", FORM)];
    let body = SignableBody::Bytes(form.as_bytes());
    let request = SignableRequest::new("POST", &place.address, headers.into_iter(), body).ok()?;
    let (instructions, _) = sign(request, &parameters).ok()?.into_parts();
    let (headers, _) = instructions.into_parts();
    Some(headers.iter().map(|header| (header.name(), header.value().to_owned())).collect())
}

fn to_lent(reply: &Reply, action: &str, now: Timestamp) -> Option<Lent> {
    let result = format!("{action}Result");
    let found = leaves(&reply.text, &[&result, "Credentials"]);
    let part = |name: &str| found.get(name).map(|value| value.trim()).filter(|one| !one.is_empty());
    let keys =
        credentials(part("AccessKeyId")?, part("SecretAccessKey")?, Some(part("SessionToken")?));
    let expiration: Timestamp = part("Expiration")?.parse().ok()?;
    // How long it lasts is a matter of the clock of who lends it.
    Some(Lent::until(keys, expiration, reply.date.unwrap_or(now)))
}

fn refusal(reply: &Reply, doing: &str) -> Error {
    let told = leaves(&reply.text, &["Error"]);
    let part = |name: &str| told.get(name).map(|text| one_line(text)).unwrap_or_default();
    let (code, message) = (part("Code"), part("Message"));
    let words = match (message.is_empty(), code.is_empty()) {
        (false, _) => message,
        (true, false) => code.clone(),
        (true, true) => format!("STS answers with status {}", reply.status),
    };
    let (kind, ours, hint) = match code.as_str() {
        "Throttling" | "ThrottlingException" | "RequestLimitExceeded" => {
            (ErrorKind::RateLimited, "s3-slow-down", None)
        }
        "IDPCommunicationError" => (ErrorKind::Unavailable, UNAVAILABLE, None),
        "ExpiredToken" | "ExpiredTokenException" => (
            ErrorKind::Unauthenticated,
            REFUSED,
            Some("the token or key that asks is too old; see that something renews it"),
        ),
        "InvalidIdentityToken" => {
            (ErrorKind::Unauthenticated, REFUSED, Some("check the file with the token"))
        }
        "SignatureDoesNotMatch" | "InvalidClientTokenId" | "IncompleteSignature" => (
            ErrorKind::Unauthenticated,
            REFUSED,
            Some("check the key that takes on the role, and the clock of this machine"),
        ),
        "AccessDenied" => (
            ErrorKind::Unauthenticated,
            REFUSED,
            Some("check the role, whom it trusts, and the external id"),
        ),
        _ if reply.status >= 500 || reply.status == 429 => {
            (ErrorKind::Unavailable, UNAVAILABLE, None)
        }
        _ => (
            ErrorKind::Unauthenticated,
            REFUSED,
            Some("check the role, the region and the address of STS"),
        ),
    };
    let mut error = Error::new(kind, format!("cannot {doing}: {words}")).with_code(ours);
    if !code.is_empty() {
        error = error.with_context("sts_code", code);
    }
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// The texts of the elements at a path below the root, by name.
fn leaves(text: &str, path: &[&str]) -> BTreeMap<String, Zeroizing<String>> {
    fn descend(
        scope: &mut ScopedDecoder<'_, '_>,
        path: &[&str],
        found: &mut BTreeMap<String, Zeroizing<String>>,
    ) {
        while let Some(mut tag) = scope.next_tag() {
            let name = tag.start_el().local().to_owned();
            match path.split_first() {
                Some((first, rest)) if *first == name => descend(&mut tag, rest, found),
                Some(_) => {}
                None => {
                    if let Ok(text) = try_data(&mut tag) {
                        found.insert(name, Zeroizing::new(text.into_owned()));
                    }
                }
            }
        }
    }
    let mut found = BTreeMap::new();
    if let Ok(mut document) = Document::try_from(text.as_bytes())
        && let Ok(mut root) = document.root_element()
    {
        descend(&mut root, path, &mut found);
    }
    found
}

/// As forms of web pages are sent.
fn to_form(fields: &[(&str, &str)]) -> String {
    let mut form = String::new();
    for (name, value) in fields {
        if !form.is_empty() {
            form.push('&');
        }
        form.push_str(name);
        form.push('=');
        encode(value, &mut form);
    }
    form
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_of_the_region_and_signed_for_its_own() {
        let place = |address: &str, region: &str| Place {
            address: address.to_owned(),
            region: region.to_owned(),
        };
        let regional = "https://sts.eu-central-1.amazonaws.com/";
        for (endpoint, region, expected) in [
            (None, "eu-central-1", place(regional, "eu-central-1")),
            (Some(regional), "us-west-2", place(regional, "eu-central-1")),
            (None, "cn-north-1", place("https://sts.cn-north-1.amazonaws.com.cn/", "cn-north-1")),
            (
                Some("https://sts.amazonaws.com"),
                "eu-central-1",
                place("https://sts.amazonaws.com/", "us-east-1"),
            ),
            (Some("http://h:9000"), "x", place("http://h:9000/", "x")),
        ] {
            assert_eq!(Place::new(endpoint, region), expected, "{endpoint:?}");
        }
    }

    #[test]
    fn forms_hold_any_text() {
        assert_eq!(to_form(&[("a", "x y&z"), ("b", "ä=~")]), "a=x%20y%26z&b=%C3%A4%3D~");
    }

    #[test]
    fn replies_without_a_key_are_none() {
        let reply =
            |text: &str| Reply { status: 200, date: None, text: Zeroizing::new(text.to_owned()) };
        let whole = "<AssumeRoleResponse><AssumeRoleResult><Credentials>\
                     <AccessKeyId>k</AccessKeyId><SecretAccessKey>s/&#43;=</SecretAccessKey>\
                     <SessionToken>t</SessionToken><Expiration>1970-01-01T01:00:00Z</Expiration>\
                     </Credentials></AssumeRoleResult></AssumeRoleResponse>";
        let now = Timestamp::UNIX_EPOCH;
        let lent = to_lent(&reply(whole), "AssumeRole", now).unwrap();
        assert_eq!(lent.credentials.secret_access_key(), "s/+=");
        for text in ["", "<", "<html/>", &whole.replace("SessionToken", "x"), &whole[..60]] {
            assert!(to_lent(&reply(text), "AssumeRole", now).is_none(), "{text}");
        }
    }
}
