//! Access lists.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::bucket::Bucket;
use super::reply::{Reply, escape};
use super::request::Request;

/// Whom all buckets and objects belong to.
pub(super) const OWNER: &str = "fake-owner";

/// Headers that grant something, and what.
const PERMISSIONS: [(&str, &str); 4] = [
    ("x-amz-grant-full-control", "FULL_CONTROL"),
    ("x-amz-grant-read", "READ"),
    ("x-amz-grant-read-acp", "READ_ACP"),
    ("x-amz-grant-write-acp", "WRITE_ACP"),
];

pub(super) fn of_object(bucket: &Bucket, request: &Request) -> Reply {
    match bucket.find_owner(request) {
        Ok((object, _)) => Reply::xml("AccessControlPolicy", &document(&object.grants)),
        Err(reply) => reply,
    }
}

pub(super) fn of_bucket() -> Reply {
    Reply::xml("AccessControlPolicy", &document(&BTreeMap::new()))
}

fn document(grants: &BTreeMap<String, String>) -> String {
    let mut content = format!("<Owner><ID>{OWNER}</ID></Owner><AccessControlList>");
    if grants.is_empty() {
        content.push_str(&grant("id", OWNER, "FULL_CONTROL"));
    }
    for (header, permission) in PERMISSIONS {
        for grantee in grants.get(header).into_iter().flat_map(|list| list.split(',')) {
            let (kind, name) = grantee.trim().split_once('=').unwrap_or_default();
            content.push_str(&grant(kind, name.trim_matches('"'), permission));
        }
    }
    content.push_str("</AccessControlList>");
    content
}

fn grant(kind: &str, name: &str, permission: &str) -> String {
    let (class, element) = match kind {
        "uri" => ("Group", "URI"),
        "emailAddress" => ("AmazonCustomerByEmail", "EmailAddress"),
        _ => ("CanonicalUser", "ID"),
    };
    let mut text = String::new();
    _ = write!(
        text,
        "<Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
         xsi:type=\"{class}\"><{element}>{}</{element}></Grantee>\
         <Permission>{permission}</Permission></Grant>",
        escape(name)
    );
    text
}
