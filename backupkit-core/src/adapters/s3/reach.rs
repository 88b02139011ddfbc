//! Tries the way to a server, step by step, before anybody asks it for something.

use std::time::Duration;

use aws_sdk_s3::config::http::HttpRequest;
use jiff::Timestamp;

use super::client;
use super::credentials::web::{Reach, Reply, Web};
use super::errors::{PROXY_HINT, PROXY_REFUSED, UNREACHABLE};
use super::settings::S3Settings;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::probe::{Probe, Probing};

const FIND: &str = "find the address of the server";
const FIND_PROXY: &str = "find the address of the proxy";
const CONNECT: &str = "connect to it";
const ANSWER: &str = "get an answer from the server";
const CLOCK: &str = "compare its clock with ours";

/// Whoever does not answer so soon is not there.
const STEP_TIME: Duration = Duration::from_secs(3);
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// Servers refuse requests from clocks that are further off.
const MOST_SKEW: Duration = Duration::from_mins(15);
/// So much is told.
const TOLD_SKEW: Duration = Duration::from_mins(5);

/// Tries the way. It is good if no step failed.
pub(super) async fn probe(settings: &S3Settings, env: &Env) -> Probe {
    let mut probing = Probing::new(env);
    let server = settings.endpoint.clone().unwrap_or_else(|| {
        let domain = if settings.region.starts_with("cn-") { "com.cn" } else { "com" };
        format!("https://s3.{}.amazonaws.{domain}", settings.region)
    });
    let (find, first, field) = match &settings.proxy {
        Some(proxy) => (FIND_PROXY, proxy.as_str(), "proxy"),
        None => (FIND, server.as_str(), "endpoint"),
    };
    let hint = format!("check {field}, and that this machine can look up names");
    let Some(addresses) = probing.step_async(find, &hint, look_up(first)).await else {
        return skip(probing, &[CONNECT, ANSWER, CLOCK], "it has no address");
    };
    let hint = format!("see whether it runs there and no firewall stands between; check {field}");
    if probing.step_async(CONNECT, &hint, connect(addresses)).await.is_none() {
        return skip(probing, &[ANSWER, CLOCK], "there is no connection");
    }
    let hint = "check the endpoint: whether it begins with https:// or http://, and its port";
    let Some(reply) = probing.step_async(ANSWER, hint, answer(settings, &server)).await else {
        return skip(probing, &[CLOCK], "there is no answer");
    };
    compare(&mut probing, reply.date, env.now());
    probing.finish()
}

fn skip(mut probing: Probing<'_>, steps: &[&str], why: &str) -> Probe {
    for step in steps {
        probing.skip(*step, why);
    }
    probing.finish()
}

/// The addresses of whoever stands in a URL.
async fn look_up(address: &str) -> Result<Vec<std::net::SocketAddr>> {
    let (is_secure, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (scheme == "https", rest),
        None => (false, address),
    };
    let authority = rest.split('/').next().unwrap_or(rest);
    let usual = if is_secure { 443 } else { 80 };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().unwrap_or(usual)),
        _ => (authority, usual),
    };
    let host = host.trim_matches(['[', ']']);
    let none = |why: &str| {
        Error::new(ErrorKind::Unavailable, format!("cannot look up {host}: {why}"))
            .with_code(UNREACHABLE)
    };
    match tokio::time::timeout(STEP_TIME, tokio::net::lookup_host((host, port))).await {
        Err(_) => Err(none("nobody answers")),
        Ok(Err(_)) => Err(none("there is no such name")),
        Ok(Ok(found)) => {
            let found: Vec<_> = found.collect();
            if found.is_empty() { Err(none("it has no address")) } else { Ok(found) }
        }
    }
}

async fn connect(addresses: Vec<std::net::SocketAddr>) -> Result<()> {
    let connected = tokio::net::TcpStream::connect(&addresses[..]);
    match tokio::time::timeout(STEP_TIME, connected).await {
        Err(_) => Err(Error::new(ErrorKind::Timeout, "cannot connect: nobody answers")),
        Ok(Err(error)) => {
            let message = format!("cannot connect: {}", error.kind());
            Err(Error::new(ErrorKind::Unavailable, message).with_code(UNREACHABLE))
        }
        Ok(Ok(_)) => Ok(()),
    }
}

/// Whatever a server says to nobody: it need not know who asks.
async fn answer(settings: &S3Settings, server: &str) -> Result<Reply> {
    client::require_plain(settings)?;
    let doing = "ask the server";
    let mut request = HttpRequest::empty();
    request.set_uri(format!("{}/", server.trim_end_matches('/'))).map_err(|_| {
        Error::new(ErrorKind::InvalidConfig, "the endpoint is no address").with_code("s3-settings")
    })?;
    let web = Web::new(settings);
    let asked = web.send(Reach::Far, request, doing);
    let reply = tokio::time::timeout(ANSWER_TIME, asked).await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Timeout, "cannot ask the server: it does not answer"))
    })?;
    if reply.status == 407 {
        return Err(Error::new(ErrorKind::Unauthenticated, "the proxy refuses")
            .with_code(PROXY_REFUSED)
            .with_hint(PROXY_HINT));
    }
    Ok(reply)
}

fn compare(probing: &mut Probing<'_>, theirs: Option<Timestamp>, ours: Timestamp) {
    let Some(theirs) = theirs else {
        probing.skip(CLOCK, "the server does not say what time it is");
        return;
    };
    let skew = theirs.duration_since(ours).unsigned_abs();
    let minutes = skew.as_secs() / 60;
    if skew <= TOLD_SKEW {
        probing.step(CLOCK, "", || Ok(()));
    } else if skew <= MOST_SKEW {
        probing.skip(
            CLOCK,
            &format!("they are {minutes} minutes apart; at 15 the server refuses: set ours"),
        );
    } else {
        let hint = "set the clock of this machine; servers refuse one that is 15 minutes off";
        probing.step::<()>(CLOCK, hint, || {
            let message = format!("they are {minutes} minutes apart");
            Err(Error::new(ErrorKind::Unauthenticated, message).with_code("s3-clock"))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::ProbeOutcome;

    #[test]
    fn clocks_may_be_a_little_apart() {
        let now = Timestamp::UNIX_EPOCH;
        for (seconds, expected) in
            [(0, "ok"), (-299, "ok"), (301, "skipped"), (-899, "skipped"), (960, "failed")]
        {
            let env = Env::system();
            let mut probing = Probing::new(&env);
            compare(&mut probing, Timestamp::from_second(seconds).ok(), now);
            let probe = probing.finish();
            assert_eq!(probe.steps[0].outcome.as_str(), expected, "{seconds}");
        }
    }

    #[tokio::test]
    async fn the_steps_end_where_the_way_does() {
        let env = Env::system();
        let outcomes = async |endpoint: &str| {
            let settings = S3Settings::new("b").with_endpoint(endpoint);
            let probe = probe(&settings, &env).await;
            let word = |outcome: &ProbeOutcome| outcome.as_str().chars().next().unwrap();
            probe.steps.iter().map(|step| word(&step.outcome)).collect::<String>()
        };
        assert_eq!(outcomes("http://no-such-host.invalid").await, "fsss");
        // The port is taken, so that nobody else listens there, and refuses.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let endpoint = format!("http://{}", socket.local_addr().unwrap());
        assert_eq!(outcomes(&endpoint).await, "ofss");
    }
}
