//! Roles that machines and containers have. Sources: the user guide of EC2, "Use the Instance Metadata
//! Service to access instance metadata", and the SDK reference of AWS, "Container credential provider".

use jiff::Timestamp;
use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

use super::lent::{Lent, credentials};
use super::web::{Reach, Reply, Web, request};
use crate::adapters::s3::errors::{REFUSED_ROLE as REFUSED, UNAVAILABLE, odd_reply};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};

/// Where each machine of EC2 asks about itself.
const METADATA: &str = "http://169.254.169.254";
const ROLES: &str = "latest/meta-data/iam/security-credentials";
/// For how long a token of the service is good; it is used for one key.
const TOKEN_SECONDS: &str = "60";

/// Where containers ask that have no TLS there: on the same machine. Others would see the key pass.
const CONTAINER_HOSTS: [&str; 6] =
    ["127.0.0.1", "[::1]", "localhost", "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"];

/// A key as services on machines write it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    access_key_id: String,
    secret_access_key: String,
    token: String,
    expiration: String,
}

impl Drop for Document {
    fn drop(&mut self) {
        self.secret_access_key.zeroize();
        self.token.zeroize();
    }
}

/// The key of the role of this machine.
///
/// # Errors
/// `Unauthenticated` if it has none; `Unavailable` or `Timeout` if nobody answers.
pub(super) async fn of_machine(web: &Web, env: &Env, endpoint: Option<&str>) -> Result<Lent> {
    let doing = "ask for the role of this machine";
    let endpoint = endpoint.unwrap_or(METADATA).trim_end_matches('/');
    let ask = async |method: &str, path: &str, header: (&'static str, &str)| {
        let address = format!("{endpoint}/{path}");
        let request = request(method, &address, &[header], None, doing)?;
        let reply = web.send(Reach::Near, request, doing).await.map_err(|error| {
            error.with_hint("only machines of EC2, and others that say so, have such a service")
        })?;
        if reply.status == 200 { Ok(reply) } else { Err(refusal(&reply, doing)) }
    };
    // Only version 2 of the service: the first one tells its keys to whoever gets a program to ask.
    let lasts = ("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS);
    let token = ask("PUT", "latest/api/token", lasts).await?.text;
    let header = ("x-aws-ec2-metadata-token", token.trim());
    let roles = ask("GET", &format!("{ROLES}/"), header).await?.text;
    let role = roles.lines().next().unwrap_or_default().trim();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
    if role.is_empty() || !role.bytes().all(fits) {
        return Err(odd_reply(doing, "the service names no role"));
    }
    let reply = ask("GET", &format!("{ROLES}/{role}"), header).await?;
    to_lent(&reply, env, doing)
}

/// The key of the role of this container.
///
/// # Errors
/// As for [`of_machine`].
pub(super) async fn of_container(
    web: &Web,
    env: &Env,
    endpoint: &str,
    token: Option<Zeroizing<String>>,
) -> Result<Lent> {
    let doing = "ask for the role of this container";
    if let Some(why) = wrong_container(endpoint) {
        let message = format!("cannot {doing}: the address {why}");
        return Err(Error::new(ErrorKind::InvalidConfig, message));
    }
    let headers: Vec<_> =
        token.as_ref().map(|token| ("authorization", token.trim())).into_iter().collect();
    let request = request("GET", endpoint, &headers, None, doing)?;
    let reply = web.send(Reach::Near, request, doing).await?;
    if reply.status == 200 { to_lent(&reply, env, doing) } else { Err(refusal(&reply, doing)) }
}

fn to_lent(reply: &Reply, env: &Env, doing: &str) -> Result<Lent> {
    // What does not fit is not told: it may be of the key.
    let odd = || odd_reply(doing, "the reply holds no key");
    let found: Document = serde_json::from_str(&reply.text).map_err(|_| odd())?;
    let expiration: Timestamp = found.expiration.parse().map_err(|_| odd())?;
    let keys = credentials(&found.access_key_id, &found.secret_access_key, Some(&found.token));
    Ok(Lent::until(keys, expiration, reply.date.unwrap_or_else(|| env.now())))
}

fn refusal(reply: &Reply, doing: &str) -> Error {
    let message = format!("cannot {doing}: the service answers with status {}", reply.status);
    match reply.status {
        404 => Error::new(ErrorKind::Unauthenticated, message)
            .with_code(REFUSED)
            .with_hint("give the machine a role"),
        400 | 401 | 403 => Error::new(ErrorKind::Unauthenticated, message)
            .with_code(REFUSED)
            .with_hint("let this machine use version 2 of its metadata service"),
        _ => Error::new(ErrorKind::Unavailable, message).with_code(UNAVAILABLE),
    }
}

/// Why a container does not ask there.
pub(in crate::adapters::s3) fn wrong_container(address: &str) -> Option<&'static str> {
    let is_far = address.starts_with("https://");
    let rest = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"));
    let Some(rest) = rest.filter(|rest| rest.bytes().all(|byte| byte.is_ascii_graphic())) else {
        return Some("does not begin with https:// or http://");
    };
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    if host.contains('@') {
        return Some("holds credentials; addresses are shown and logged");
    }
    // A port comes after the last colon, unless that is one of an address in brackets.
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    };
    (name.is_empty() || !is_far && !CONTAINER_HOSTS.contains(&name))
        .then_some("is neither https:// nor an address of the container itself")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_containers_do_not_cross_networks_in_the_clear() {
        for address in
            ["https://h/x", "http://127.0.0.1:80/x", "http://[fd00:ec2::23]/v1", "http://[::1]:8/x"]
        {
            assert_eq!(wrong_container(address), None, "{address}");
        }
        for address in ["http://h/x", "http://127.0.0.1.h/", "ftp://h", "https://", "https://u@h/"]
        {
            assert!(wrong_container(address).is_some(), "{address}");
        }
    }
}
