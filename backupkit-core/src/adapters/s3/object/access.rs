//! Who may do what with an object, where that is more than its owner's full control.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_s3::types::{Grant, Grantee, Permission};
use serde::{Deserialize, Serialize};

/// Stands for whoever owns the object: somebody else in another account.
const OWNER: &str = "owner";
/// What its owner may do if nobody says anything.
const FULL_CONTROL: &str = "FULL_CONTROL";

/// An access list: grantees by permission. A grantee is `owner`, or what headers name: `id=…`, `uri=…` or
/// `emailAddress=…`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(in crate::adapters::s3) struct AccessList(BTreeMap<String, BTreeSet<String>>);

impl AccessList {
    /// Reads what a server tells. Whether all of it could be read is the second value.
    pub(in crate::adapters::s3) fn new(owner: Option<&str>, grants: &[Grant]) -> (Self, bool) {
        let (mut list, mut is_whole) = (Self::default(), true);
        for grant in grants {
            let permission = grant.permission().map(Permission::as_str);
            let grantee = grant.grantee().and_then(|grantee| named(owner, grantee));
            match permission.zip(grantee) {
                Some((permission, grantee)) => {
                    list.0.entry(permission.to_owned()).or_default().insert(grantee);
                }
                None => is_whole = false,
            }
        }
        (list, is_whole)
    }

    /// Whether it says no more than that the owner may do all.
    pub(in crate::adapters::s3) fn is_usual(&self) -> bool {
        let is_of_owner = |grantees: &BTreeSet<String>| grantees.iter().all(|one| one == OWNER);
        self.0.keys().all(|permission| permission == FULL_CONTROL)
            && self.0.values().all(is_of_owner)
    }

    /// Whether it says no more than that this account may do all.
    pub(in crate::adapters::s3) fn is_usual_of(&self, id: &str) -> bool {
        let is_owner = |one: &String| one == OWNER || one.strip_prefix("id=") == Some(id);
        self.0.keys().all(|permission| permission == FULL_CONTROL)
            && self.0.values().flatten().all(is_owner)
    }

    /// Whether the owner is named in it.
    pub(in crate::adapters::s3) fn names_owner(&self) -> bool {
        self.0.values().any(|grantees| grantees.contains(OWNER))
    }

    /// Puts the id of an account in the place of the owner.
    pub(in crate::adapters::s3) fn set_owner(&mut self, id: &str) {
        for grantees in self.0.values_mut() {
            if grantees.remove(OWNER) {
                grantees.insert(format!("id={id}"));
            }
        }
    }

    /// The value of the header that grants a permission; nothing if nobody has it.
    pub(in crate::adapters::s3) fn header(&self, permission: &str) -> Option<String> {
        let grantees = self.0.get(permission)?.iter();
        let quoted = grantees.filter_map(|grantee| grantee.split_once('='));
        let quoted: Vec<_> = quoted.map(|(kind, name)| format!("{kind}=\"{name}\"")).collect();
        (!quoted.is_empty()).then(|| quoted.join(", "))
    }

    /// Whether all of it can stand in headers.
    pub(in crate::adapters::s3) fn is_sendable(&self) -> bool {
        let is_known = |permission: &str| {
            [FULL_CONTROL, "READ", "READ_ACP", "WRITE_ACP"].contains(&permission)
        };
        let is_plain = |byte: u8| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b',';
        self.0.keys().all(|permission| is_known(permission))
            && self.0.values().flatten().all(|one| one == OWNER || one.bytes().all(is_plain))
    }
}

fn named(owner: Option<&str>, grantee: &Grantee) -> Option<String> {
    let text = |name: &str, value: Option<&str>| {
        value.filter(|value| !value.is_empty()).map(|value| format!("{name}={value}"))
    };
    let given = text("id", grantee.id())
        .or_else(|| text("uri", grantee.uri()))
        .or_else(|| text("emailAddress", grantee.email_address()));
    let owner = owner.filter(|owner| !owner.is_empty());
    match (&given, owner) {
        (Some(given), Some(owner)) if given.strip_prefix("id=") == Some(owner) => {
            Some(OWNER.to_owned())
        }
        // Some servers have one account, without a name.
        (None, None) => Some(OWNER.to_owned()),
        _ => given,
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::Type;

    use super::*;

    fn grant(id: Option<&str>, uri: Option<&str>, permission: Permission) -> Grant {
        let grantee = Grantee::builder()
            .r#type(Type::CanonicalUser)
            .set_id(id.map(str::to_owned))
            .set_uri(uri.map(str::to_owned));
        Grant::builder().grantee(grantee.build().unwrap()).permission(permission).build()
    }

    #[test]
    fn what_an_owner_always_may_is_usual() {
        let full = grant(Some("me"), None, Permission::FullControl);
        let (list, is_whole) = AccessList::new(Some("me"), std::slice::from_ref(&full));
        assert!(is_whole && list.is_usual() && list.names_owner());
        let unnamed = grant(None, None, Permission::FullControl);
        assert!(AccessList::new(None, &[unnamed]).0.is_usual());
        let (list, _) = AccessList::new(Some("you"), std::slice::from_ref(&full));
        assert!(!list.is_usual() && !list.names_owner());
        let read = grant(None, Some("http://everybody"), Permission::Read);
        assert!(list.is_usual_of("me") && !list.is_usual_of("you"));
        assert!(!AccessList::new(Some("you"), &[full.clone(), read.clone()]).0.is_usual_of("me"));
        assert!(!AccessList::new(Some("me"), &[full, read]).0.is_usual());
    }

    #[test]
    fn headers_name_whoever_is_granted_something() {
        let grants = [
            grant(Some("me"), None, Permission::FullControl),
            grant(Some("b"), None, Permission::Read),
            grant(None, Some("http://everybody"), Permission::Read),
        ];
        let (mut list, _) = AccessList::new(Some("me"), &grants);
        let text = serde_json::to_string(&list).unwrap();
        assert_eq!(text, r#"{"FULL_CONTROL":["owner"],"READ":["id=b","uri=http://everybody"]}"#);
        assert!(list.is_sendable());
        list.set_owner("new");
        assert_eq!(list.header("FULL_CONTROL").unwrap(), "id=\"new\"");
        assert_eq!(list.header("READ").unwrap(), "id=\"b\", uri=\"http://everybody\"");
        assert_eq!(list.header("WRITE_ACP"), None);
        let odd = grant(Some("a\", id=\"b"), None, Permission::Read);
        assert!(!AccessList::new(None, &[odd]).0.is_sendable());
        let other = grant(Some("a"), None, Permission::Write);
        assert!(!AccessList::new(None, &[other]).0.is_sendable());
    }
}
