//! Settings become sources, destinations and targets.

use super::*;
use crate::registry::RepositoryPlace;

fn settings(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

#[test]
fn only_another_server_proxy_or_trust_is_another_place() {
    let with = |more: &str| {
        settings(&format!(r#"{{"bucket":"b","access_key_id":"k","endpoint":"https://a"{more}}}"#))
    };
    let is_same = |more: &str| S3Kind::new().is_same_endpoint(&with(""), &with(more));
    for more in ["", r#","prefix":"x""#, r#","region":"r""#, r#","storage_class":"S""#] {
        assert!(is_same(more), "{more}");
    }
    for more in [r#","proxy":"http://p""#, r#","ca_file":"/x""#, r#","bogus":1"#] {
        assert!(!is_same(more), "{more}");
    }
    let aws = settings(r#"{"bucket":"b","access_key_id":"k"}"#);
    assert!(!S3Kind::new().is_same_endpoint(&with(""), &aws));
}

#[test]
fn who_asks_is_taken_from_other_settings_and_nothing_else() {
    let kept = settings(r#"{"bucket":"b","prefix":"p","auth":"keys","access_key_id":"old"}"#);
    for (now, expected) in [
        (
            r#"{"bucket":"c","access_key_id":"new"}"#,
            r#"{"access_key_id":"new","bucket":"b","prefix":"p"}"#,
        ),
        (
            r#"{"bucket":"c","region":"r","auth":"profile","profile_file":"/f","profile":"q"}"#,
            r#"{"auth":"profile","bucket":"b","prefix":"p","profile":"q","profile_file":"/f"}"#,
        ),
    ] {
        let found = S3Kind::new().with_identity_of(&kept, &settings(now)).unwrap();
        assert_eq!(found.get(), expected);
        assert!(S3Kind::new().check_settings(&found).is_empty());
    }
}

#[test]
fn secrets_are_kept_only_for_keys() {
    let used = |json: &str| S3Kind::new().used_secrets(&settings(json)).len();
    assert_eq!(used(r#"{"bucket":"b","access_key_id":"k"}"#), 2);
    assert_eq!(used(r#"{"bucket":"b","auth":"environment"}"#), 0);
    assert_eq!(S3Kind::new().secrets_with("secret_access_key"), ["session_token"]);
}

#[test]
fn a_repository_lies_below_its_connection() {
    let place = |prefix: &str, path| below(S3Settings::new("b").with_prefix(prefix), path);
    assert_eq!(place("", "").unwrap().prefix, "");
    assert_eq!(place("a", "").unwrap().prefix, "a");
    assert_eq!(place("", "x/y").unwrap().prefix, "x/y");
    assert_eq!(place("a", "x/y").unwrap().prefix, "a/x/y");
    for path in ["..", "a/../..", "/etc", "./a", "a//b", "a/"] {
        assert!(place("a", path).is_err(), "{path}");
    }
}

#[test]
fn a_repository_in_the_bucket_that_is_backed_up_is_left_out() {
    let kind = S3Kind::new();
    let env = Env::system();
    let bucket = settings(r#"{"bucket":"b","auth":"anonymous"}"#);
    let below = settings(r#"{"bucket":"b","auth":"anonymous","prefix":"x"}"#);
    let open = |of: &RawValue, repository: &RawValue, path| {
        let repositories = [RepositoryPlace { kind: S3Kind::NAME, settings: repository, path }];
        let secrets = &ConnectionSecrets::default();
        let cx = SourceContext { secrets, env: &env, host: "h", repositories: &repositories };
        kind.source(of, &cx).map(drop)
    };
    open(&bucket, &below, "").unwrap();
    open(&bucket, &bucket, "x").unwrap();
    open(&below, &bucket, "").unwrap();
    assert!(open(&bucket, &bucket, "").unwrap_err().is(ErrorKind::InvalidConfig));
}

#[cfg(feature = "testing")]
#[tokio::test]
async fn nothing_is_restored_into_a_repository_of_the_same_bucket() {
    let (kind, env) = (S3Kind::new(), Env::system());
    let bucket = settings(r#"{"bucket":"b","auth":"anonymous"}"#);
    let below = settings(r#"{"bucket":"b","auth":"anonymous","prefix":"x"}"#);
    let other = settings(r#"{"bucket":"c","auth":"anonymous"}"#);
    let open = async |to: &RawValue, repository: &RawValue, path| {
        let repositories = [RepositoryPlace { kind: S3Kind::NAME, settings: repository, path }];
        let secrets = &ConnectionSecrets::default();
        let cx = TargetContext { secrets, env: &env, repositories: &repositories };
        let snapshot = crate::testing::MemorySnapshot::new().into_reader();
        let target = kind.target(to, &cx).unwrap();
        let cx = target.open(crate::target::RestoreContext {
            snapshot,
            options: crate::target::RestoreOptions::default(),
            store: Arc::new(crate::store::InMemoryAdapterStore::default()),
            cancel: crate::token::CancelToken::new(),
        });
        cx.await.map(drop).map_err(|error| error.code())
    };
    let refused = Err("target-holds-repository");
    assert_eq!(open(&below, &bucket, "x").await, refused);
    assert_eq!(open(&below, &bucket, "x/y").await, refused);
    assert_eq!(open(&below, &bucket, "").await, refused);
    assert_eq!(open(&bucket, &below, "").await, refused);
    assert_eq!(open(&below, &bucket, "y").await, Ok(()));
    assert_eq!(open(&bucket, &other, "").await, Ok(()));
}

#[test]
fn nobody_asks_who_was_not_named() {
    let open = |kind: &S3Kind, json: &str, secrets: &ConnectionSecrets| {
        kind.destination(&settings(json), secrets, "", &Env::system()).map(drop)
    };
    let none = ConnectionSecrets::default();
    let keys = r#"{"bucket":"b","access_key_id":"k"}"#;
    let from_environment = r#"{"bucket":"b","auth":"environment"}"#;
    for json in [keys, from_environment] {
        let error = open(&S3Kind::new(), json, &none).unwrap_err();
        assert_eq!(error.code(), "s3-no-credentials", "{json}");
        assert!(error.hint().is_some());
    }
    let secrets = none.clone().with(S3Kind::SECRET_ACCESS_KEY, "s".into());
    open(&S3Kind::new(), keys, &secrets).unwrap();
    let kind = S3Kind::new().with_environment(S3Credentials::keys("k", "s"));
    open(&kind, from_environment, &none).unwrap();
    open(&kind, r#"{"bucket":"b","auth":"anonymous"}"#, &none).unwrap();
    assert!(open(&kind, keys, &none).is_err());
}

#[test]
fn a_token_of_the_environment_is_for_nobody_but_aws() {
    let token_file = "/var/run/secrets/token".into();
    let role = crate::adapters::s3::S3Role::new("arn:aws:iam::1:role/r");
    let kind = S3Kind::new().with_environment(S3Credentials::WebIdentity { token_file, role });
    let open = |json: &str| {
        let secrets = ConnectionSecrets::default();
        kind.destination(&settings(json), &secrets, "", &Env::system()).map(drop)
    };
    open(r#"{"bucket":"b","auth":"environment"}"#).unwrap();
    let assumed = r#""auth":"assume_role","base_auth":"environment","role_arn":"arn:x""#;
    for who in [r#""auth":"environment""#, assumed] {
        let json = format!(r#"{{"bucket":"b","endpoint":"https://other.example",{who}}}"#);
        let refused = open(&json).unwrap_err();
        assert_eq!(refused.code(), "s3-no-credentials", "{json}: {}", refused.report());
    }
}
