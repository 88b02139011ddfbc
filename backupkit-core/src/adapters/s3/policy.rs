//! The least that a key needs: policies in the language of AWS, which most servers understand.

use serde_json::{Value, json};

use super::bucket::Setting;
use super::{
    ArchivedObjects, S3Retention, S3RetentionMode, S3Settings, S3SourceOptions, S3TargetOptions,
};
use crate::registry::Purpose;

/// Locks, and what tries whether a server keeps its promises, come and go also where a key may only add.
const PASSING: [&str; 2] = ["locks/", "backupkit/"];

/// The policy of a key that uses a bucket for this, as JSON. The names of the actions are those of the
/// Service Authorization Reference for Amazon S3.
pub(super) fn policy(
    settings: &S3Settings,
    options: &S3SourceOptions,
    target: S3TargetOptions,
    purpose: Purpose,
) -> String {
    let places = Places::of(settings);
    let statements = match purpose {
        Purpose::Source => {
            let mut actions = READ.to_vec();
            if options.acls {
                actions.extend(["s3:GetObjectAcl", "s3:GetObjectVersionAcl"]);
            }
            let (mut listing, mut seen) = (vec!["s3:ListBucket"], Vec::new());
            if options.consistent_at.is_some() || options.versions {
                actions.push("s3:GetObjectVersion");
                listing.push("s3:ListBucketVersions");
                seen.push("s3:GetBucketVersioning");
            }
            if matches!(options.archived, ArchivedObjects::Thaw { .. }) {
                actions.push("s3:RestoreObject");
            }
            let mut statements =
                vec![places.list(&listing), allow("ReadObjects", &actions, &[places.objects("")])];
            if options.bucket_settings && settings.prefix.is_empty() {
                seen = Setting::ALL.map(Setting::action).to_vec();
            }
            if !seen.is_empty() {
                let bucket = std::slice::from_ref(&places.bucket);
                statements.push(allow("ReadSettings", &seen, bucket));
            }
            statements
        }
        Purpose::Repository => {
            let passing = PASSING.map(|folder| places.objects(folder));
            let mut statements = vec![
                places.list(&see_repository(settings)),
                allow("AddAndReadFiles", &add_and_read(settings), &[places.objects("")]),
                allow("RemoveLocks", &["s3:DeleteObject"], &passing),
            ];
            let own = settings.retention.map(S3Retention::mode);
            statements.extend(retain(settings, &places, own.as_slice()));
            statements
        }
        Purpose::Maintenance => {
            let mut actions = add_and_read(settings);
            actions.push("s3:DeleteObject");
            let mut statements = vec![
                places.list(&see_repository(settings)),
                allow("AddReadAndRemoveFiles", &actions, &[places.objects("")]),
            ];
            // What is locked stays in its mode, also if another one is asked for by now.
            statements.extend(retain(settings, &places, &S3RetentionMode::ALL));
            statements
        }
        Purpose::Target => {
            let tagging = ["s3:PutObjectTagging", "s3:GetObjectTagging"];
            let mut actions: Vec<&str> = WRITE.into_iter().chain(tagging).collect();
            if target.locks {
                actions.extend(["s3:PutObjectRetention", "s3:PutObjectLegalHold"]);
                // Whether the server keeps them is looked at for each object.
                actions.extend(["s3:GetObjectRetention", "s3:GetObjectLegalHold"]);
            }
            let mut listing = vec!["s3:ListBucket", "s3:ListBucketMultipartUploads"];
            if target.versions {
                listing.push("s3:ListBucketVersions");
                // What is deleted stays below a mark: nobody may delete a version.
                actions.extend(["s3:GetObjectVersion", "s3:DeleteObject"]);
            }
            let mut statements = vec![places.list(&listing)];
            if target.versions {
                let bucket = std::slice::from_ref(&places.bucket);
                statements.push(allow("SeeVersioning", &["s3:GetBucketVersioning"], bucket));
            }
            if target.acls {
                actions.extend(["s3:PutObjectAcl", "s3:GetObjectAcl"]);
                let bucket = std::slice::from_ref(&places.bucket);
                statements.push(allow("FindOwner", &["s3:GetBucketAcl"], bucket));
            }
            statements.extend([
                allow("WriteAndCompareObjects", &actions, &[places.objects("")]),
                // What tries whether a server keeps its promises goes again.
                allow("RemoveTries", &["s3:DeleteObject"], &[places.objects("backupkit/")]),
            ]);
            statements
        }
    };
    format!("{:#}", json!({ "Version": "2012-10-17", "Statement": statements }))
}

/// Servers tell what locks an object only to those who may know. Where versions are kept, tags are asked for
/// of the one that was read.
const READ: [&str; 5] = [
    "s3:GetObject",
    "s3:GetObjectTagging",
    "s3:GetObjectVersionTagging",
    "s3:GetObjectRetention",
    "s3:GetObjectLegalHold",
];
const WRITE: [&str; 4] =
    ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"];

/// What the files of a repository need.
fn add_and_read(settings: &S3Settings) -> Vec<&'static str> {
    let mut actions = WRITE.to_vec();
    if settings.retention.is_some() {
        // Whether the server keeps it is looked at, and what is retained for long enough is left.
        actions.push("s3:GetObjectRetention");
    }
    actions
}

/// What shows a repository.
fn see_repository(settings: &S3Settings) -> Vec<&'static str> {
    let mut actions = vec!["s3:ListBucket", "s3:ListBucketMultipartUploads"];
    if settings.retention.is_some() {
        // Somebody may have put another version before the one that is to be retained.
        actions.push("s3:ListBucketVersions");
    }
    actions
}

/// To lock files for as long as the settings say, and not for ever: nobody could free the room then.
fn retain(settings: &S3Settings, places: &Places<'_>, modes: &[S3RetentionMode]) -> Option<Value> {
    let retention = settings.retention?;
    let mut statement = allow("RetainFiles", &["s3:PutObjectRetention"], &[places.objects("")]);
    let modes: Vec<_> = modes.iter().map(|mode| mode.wire()).collect();
    // A day is added to what is asked for, and a part of a day counts as one.
    let most_days = u32::from(retention.days()) + 2;
    statement["Condition"] = json!({
        "StringEquals": { "s3:object-lock-mode": modes },
        "NumericLessThanEquals": {
            "s3:object-lock-remaining-retention-days": most_days.to_string(),
        },
    });
    Some(statement)
}

/// How policies name a bucket and what is in it.
struct Places<'a> {
    bucket: String,
    /// What stands between the bucket and a key.
    joint: &'static str,
    prefix: &'a str,
}

impl<'a> Places<'a> {
    fn of(settings: &'a S3Settings) -> Self {
        let S3Settings { bucket, prefix, region, .. } = settings;
        if bucket.starts_with("arn:") {
            // An access point.
            return Self { bucket: bucket.clone(), joint: "/object/", prefix };
        }
        let partition = match region {
            region if region.starts_with("cn-") => "aws-cn",
            region if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        };
        Self { bucket: format!("arn:{partition}:s3:::{bucket}"), joint: "/", prefix }
    }

    /// What lies below a folder of the prefix.
    fn objects(&self, folder: &str) -> String {
        let Self { bucket, joint, prefix } = self;
        let slash = if prefix.is_empty() { "" } else { "/" };
        format!("{bucket}{joint}{}{slash}{folder}*", literally(prefix))
    }

    /// To look at what is there, below the prefix only.
    fn list(&self, actions: &[&str]) -> Value {
        let mut statement = allow("List", actions, std::slice::from_ref(&self.bucket));
        if !self.prefix.is_empty() {
            let below = format!("{}/*", literally(self.prefix));
            statement["Condition"] = json!({ "StringLike": { "s3:prefix": [below] } });
        }
        statement
    }
}

/// A prefix whose characters mean themselves: `*`, `?` and `$` stand for others in a policy.
fn literally(prefix: &str) -> String {
    let mut literal = String::with_capacity(prefix.len());
    for character in prefix.chars() {
        match character {
            '*' | '?' | '$' => literal.extend(["${", character.encode_utf8(&mut [0; 4]), "}"]),
            other => literal.push(other),
        }
    }
    literal
}

fn allow(id: &str, actions: &[&str], resources: &[String]) -> Value {
    json!({ "Sid": id, "Effect": "Allow", "Action": actions, "Resource": resources })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::s3::{ConsistentAt, ThawTier};

    /// With all that can be asked for.
    fn text(settings: &S3Settings, purpose: Purpose) -> String {
        let target = S3TargetOptions::default().with_locks().with_acls().with_versions();
        let thaw = ArchivedObjects::Thaw { tier: ThawTier::Bulk, days: 1 };
        let options = S3SourceOptions::default().with_acls().with_archived(thaw);
        let options = options.with_consistent_at(ConsistentAt::Now);
        policy(settings, &options, target, purpose)
    }

    #[test]
    fn only_what_is_asked_for_is_allowed() {
        let settings = S3Settings::new("box");
        let least = |purpose| {
            let (options, target) = (S3SourceOptions::default(), S3TargetOptions::default());
            policy(&settings, &options, target, purpose)
        };
        for (purpose, action) in [
            (Purpose::Source, "s3:GetObjectAcl"),
            (Purpose::Source, "s3:GetObjectVersionAcl"),
            (Purpose::Source, "s3:RestoreObject"),
            (Purpose::Source, "s3:ListBucketVersions"),
            (Purpose::Source, "s3:GetObjectVersion\""),
            (Purpose::Target, "s3:PutObjectAcl"),
            (Purpose::Target, "s3:GetBucketAcl"),
            (Purpose::Target, "s3:PutObjectRetention"),
            (Purpose::Target, "s3:PutObjectLegalHold"),
            (Purpose::Target, "s3:ListBucketVersions"),
            (Purpose::Target, "s3:GetObjectVersion\""),
            (Purpose::Target, "s3:GetBucketVersioning"),
        ] {
            assert!(text(&settings, purpose).contains(action), "{action}");
            assert!(!least(purpose).contains(action), "{action}");
        }
    }

    #[test]
    fn a_repository_that_is_retained_may_be_and_nobody_may_end_that() {
        let free = S3Settings::new("box");
        let retention = S3Retention::new(S3RetentionMode::Governance, 30);
        let retained = free.clone().with_retention(retention);
        for purpose in [Purpose::Repository, Purpose::Maintenance] {
            let text = text(&retained, purpose);
            for action in ["s3:PutObjectRetention", "s3:GetObjectRetention"] {
                assert!(text.contains(action), "{action}: {text}");
            }
            assert!(!text.contains("Bypass") && !text.contains("LegalHold"), "{text}");
            assert!(!self::text(&free, purpose).contains("Retention"));
        }
        let source = |settings| text(settings, Purpose::Source);
        assert_eq!(source(&retained), source(&free));
    }

    #[test]
    fn nobody_may_retain_anything_for_ever() {
        let retention = S3Retention::new(S3RetentionMode::Governance, 30);
        let settings = S3Settings::new("box").with_prefix("a").with_retention(retention);
        for (purpose, modes) in [
            (Purpose::Repository, json!(["GOVERNANCE"])),
            (Purpose::Maintenance, json!(["GOVERNANCE", "COMPLIANCE"])),
        ] {
            let statements = statements(&settings, purpose);
            let retains = |statement: &&Value| {
                statement["Action"].to_string().contains("s3:PutObjectRetention")
            };
            let retaining: Vec<_> = statements.iter().filter(retains).collect();
            assert_eq!(retaining.len(), 1, "{statements:?}");
            let expected = json!({
                "Sid": "RetainFiles",
                "Effect": "Allow",
                "Action": ["s3:PutObjectRetention"],
                "Resource": ["arn:aws:s3:::box/a/*"],
                "Condition": {
                    "StringEquals": { "s3:object-lock-mode": modes },
                    "NumericLessThanEquals": {
                        "s3:object-lock-remaining-retention-days": "32",
                    },
                },
            });
            assert_eq!(*retaining[0], expected);
            assert!(statements[0].to_string().contains("s3:ListBucketVersions"));
        }
    }

    fn statements(settings: &S3Settings, purpose: Purpose) -> Vec<Value> {
        let text = text(settings, purpose);
        let policy: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(policy["Version"], "2012-10-17");
        policy["Statement"].as_array().unwrap().clone()
    }

    #[test]
    fn whoever_only_adds_may_remove_locks_and_nothing_else() {
        let settings = S3Settings::new("box").with_prefix("backups/nas");
        let statements = statements(&settings, Purpose::Repository);
        let may_delete = |statement: &&Value| statement["Action"].to_string().contains("Delete");
        let deleting: Vec<_> = statements.iter().filter(may_delete).collect();
        let places = json!([
            "arn:aws:s3:::box/backups/nas/locks/*",
            "arn:aws:s3:::box/backups/nas/backupkit/*"
        ]);
        assert_eq!(deleting.len(), 1);
        assert_eq!(deleting[0]["Action"], json!(["s3:DeleteObject"]));
        assert_eq!(deleting[0]["Resource"], places);
    }

    #[test]
    fn nobody_may_remove_versions_or_change_the_bucket() {
        let settings = S3Settings::new("box");
        for purpose in Purpose::ALL {
            let text = text(&settings, purpose);
            for never in ["DeleteObjectVersion", "Bypass", "PutBucket", "PutLifecycle", "s3:*"] {
                assert!(!text.contains(never), "{purpose:?}: {text}");
            }
            assert_eq!(text.contains("PutObject"), purpose != Purpose::Source, "{text}");
        }
    }

    #[test]
    fn older_versions_may_be_listed_and_read() {
        let options = S3SourceOptions::default().with_versions().with_acls();
        let (settings, target) = (S3Settings::new("box"), S3TargetOptions::default());
        let text = policy(&settings, &options, target, Purpose::Source);
        for action in [
            "s3:ListBucketVersions",
            "s3:GetBucketVersioning",
            "s3:GetObjectVersion\"",
            "s3:GetObjectVersionTagging",
            "s3:GetObjectVersionAcl",
        ] {
            assert!(text.contains(action), "{action}: {text}");
        }
    }

    #[test]
    fn only_the_prefix_is_seen() {
        let whole = statements(&S3Settings::new("box"), Purpose::Source);
        assert_eq!(whole[0].get("Condition"), None);
        assert_eq!(whole[0]["Resource"], json!(["arn:aws:s3:::box"]));
        assert_eq!(whole[1]["Resource"], json!(["arn:aws:s3:::box/*"]));
        let part = statements(&S3Settings::new("box").with_prefix("a/b"), Purpose::Source);
        let condition = json!({ "StringLike": { "s3:prefix": ["a/b/*"] } });
        assert_eq!(part[0]["Condition"], condition);
        assert_eq!(part[1]["Resource"], json!(["arn:aws:s3:::box/a/b/*"]));
    }

    #[test]
    fn whoever_reads_versions_sees_whether_they_are_kept_also_below_a_prefix() {
        for settings in [S3Settings::new("box"), S3Settings::new("box").with_prefix("a")] {
            let text = text(&settings, Purpose::Source);
            assert_eq!(text.matches("s3:GetBucketVersioning").count(), 1, "{text}");
        }
        let below = statements(&S3Settings::new("box").with_prefix("a"), Purpose::Source);
        assert_eq!(below[2]["Resource"], json!(["arn:aws:s3:::box"]));
        assert_eq!(below[2].get("Condition"), None, "it has no prefix");
    }

    #[test]
    fn characters_that_mean_more_in_a_policy_mean_themselves() {
        let settings = S3Settings::new("box").with_prefix("a*b?c$d");
        let statements = statements(&settings, Purpose::Source);
        assert_eq!(statements[1]["Resource"], json!(["arn:aws:s3:::box/a${*}b${?}c${$}d/*"]));
    }

    #[test]
    fn other_partitions_and_access_points_have_other_names() {
        let resource = |settings: &S3Settings| {
            statements(settings, Purpose::Source)[1]["Resource"][0].as_str().unwrap().to_owned()
        };
        let china = S3Settings::new("box").with_region("cn-north-1");
        assert_eq!(resource(&china), "arn:aws-cn:s3:::box/*");
        let government = S3Settings::new("box").with_region("us-gov-west-1");
        assert_eq!(resource(&government), "arn:aws-us-gov:s3:::box/*");
        let point = "arn:aws:s3:eu-west-1:123456789012:accesspoint/mine";
        let settings = S3Settings::new(point).with_prefix("a");
        assert_eq!(resource(&settings), format!("{point}/object/a/*"));
    }
}
