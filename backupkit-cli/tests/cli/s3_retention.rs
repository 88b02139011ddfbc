//! Repositories that cannot be deleted for a time, in buckets with Object Lock.

use backupkit_core::testing::fakes::{S3Effect, S3Fault, S3Operation, S3Server, S3ServerOptions};

use crate::scene::{Outcome, Scene};

const UNTIL: &str = "x-amz-object-lock-retain-until-date";

struct Bucket {
    scene: Scene,
    server: S3Server,
}

impl Bucket {
    fn new() -> Self {
        let options = S3ServerOptions::default().with_object_lock();
        let server = S3Server::start_with("bucket", options);
        server.set_now("2026-03-01T00:00:00Z".parse().unwrap());
        Self { scene: Scene::new(), server }
    }

    fn address(&self) -> String {
        format!("s3:{}/bucket", self.server.endpoint())
    }

    fn run(&self, arguments: &[&str], settings: &str) -> Outcome {
        let mut command = self.scene.command(arguments);
        command
            .env("BACKUPKIT_S3_ACCESS_KEY_ID", S3Server::ACCESS_KEY_ID)
            .env("BACKUPKIT_S3_SECRET_ACCESS_KEY", S3Server::SECRET_ACCESS_KEY)
            .env("BACKUPKIT_S3", settings);
        Outcome(command.output().unwrap())
    }

    /// `repo extend`, later.
    fn extend(&self, days: u16, arguments: &[&str]) -> Outcome {
        let address = self.address();
        let extend = ["repo", "extend", "-r", &address];
        self.run(&[&extend, arguments].concat(), &governed(days))
    }

    /// The ends of retentions, of all but what comes and goes.
    fn ends(&self) -> Vec<(String, Option<String>)> {
        let keys = self.server.keys("bucket").into_iter();
        let needed = keys.filter(|key| !key.starts_with("backupkit/"));
        let end = |key: String| {
            let until = self.server.object("bucket", &key).unwrap().headers.get(UNTIL).cloned();
            (key, until.map(|until| until[..10].to_owned()))
        };
        needed.map(end).collect()
    }
}

fn governed(days: u16) -> String {
    format!("retention_mode=governance,retention_days={days}")
}

/// A repository with a snapshot, retained for thirty days from March on, a day later.
fn backed_up() -> Bucket {
    let bucket = Bucket::new();
    let address = bucket.address();
    bucket.run(&["backup", "src", "--to", &address, "--init"], &governed(30)).expect(0);
    bucket.server.set_now("2026-03-02T00:00:00Z".parse().unwrap());
    bucket
}

#[test]
fn a_backup_is_retained_and_then_for_longer() {
    let bucket = backed_up();
    let ends = bucket.ends();
    assert!(ends.len() >= 5, "{ends:?}");
    assert!(ends.iter().all(|(_, end)| end.as_deref() == Some("2026-04-01")), "{ends:?}");
    // A pack that no index names is nobody's.
    let orphan = format!("data/ab/{}", "ab".repeat(32));
    bucket.server.put("bucket", &orphan, "x");
    let objects = ends.len() as u64;
    let counts = |report: &Outcome| {
        let report = report.json();
        let count = |name: &str| report[name].as_u64().unwrap();
        ["objects", "extended", "long_enough", "too_new", "failed"].map(count)
    };
    let enough = bucket.extend(30, &["--json"]).expect(0);
    assert_eq!(counts(&enough), [objects, 0, objects, 0, 0]);
    let tried = bucket.extend(60, &["--json", "--dry-run"]).expect(0);
    assert_eq!(counts(&tried), [objects, objects, 0, 0, 0]);
    assert_eq!(bucket.server.counters().of(S3Operation::PutRetention), 0);
    let extended = bucket.extend(60, &[]).expect(0);
    assert!(extended.stdout().contains(&format!("{objects} extended")), "{}", extended.stdout());
    let ends = bucket.ends();
    for (key, end) in &ends {
        let expected = (*key != orphan).then_some("2026-05-02");
        assert_eq!(end.as_deref(), expected, "{key}");
    }
    assert_eq!(ends.len() as u64, objects + 1, "its lock is gone: {ends:?}");
    let again = bucket.extend(60, &["--json"]).expect(0);
    assert_eq!(counts(&again), [objects, 0, objects, 0, 0]);
}

#[test]
fn what_cannot_be_retained_for_longer_is_named_and_fails() {
    let bucket = backed_up();
    let refusal = S3Fault::new(S3Effect::refuse(403, "AccessDenied"));
    let refusal = refusal.on(S3Operation::PutRetention).for_keys_with("snapshots/").always();
    bucket.server.add_fault(refusal);
    let partly = bucket.extend(60, &[]).expect(1);
    assert!(partly.stderr().contains("cannot retain snapshots/"), "{}", partly.stderr());
    assert!(partly.stdout().contains("1 object is NOT retained"), "{}", partly.stdout());
    bucket.server.clear_faults();
    // Of an index that cannot be read nobody knows the packs.
    let damaged = format!("index/{}", "0".repeat(64));
    bucket.server.set_now("2026-03-01T00:00:00Z".parse().unwrap());
    bucket.server.put("bucket", &damaged, "pay, and you get it back");
    bucket.server.set_now("2026-03-02T00:00:00Z".parse().unwrap());
    let report = bucket.extend(90, &["--json"]).expect(1).json();
    assert_eq!(report["failed"], 1, "{report}");
    assert!(report["failures"][0].as_str().unwrap().contains("the packs that index"), "{report}");
    assert!(bucket.ends().iter().all(|(_, end)| end.as_deref() == Some("2026-06-01")));
}

#[test]
fn where_nothing_is_retained_nothing_is_extended() {
    let bucket = backed_up();
    let address = bucket.address();
    let refused = bucket.run(&["repo", "extend", "-r", &address, "--json"], "").expect(1);
    let refused = refused.json_error();
    assert_eq!(refused["code"], "no-retention", "{refused}");
    assert!(refused["hint"].as_str().unwrap().contains("retention_mode"), "{refused}");
    bucket.scene.run(["repo", "init", "-r", "repo"]).expect(0);
    let refused = bucket.scene.run(["repo", "extend", "-r", "repo"]).expect(1);
    assert!(refused.stderr().contains("cannot retain anything"), "{}", refused.stderr());
}

#[test]
fn a_bucket_without_object_lock_is_no_place_for_it() {
    let server = S3Server::start("bucket");
    let bucket = Bucket { scene: Scene::new(), server };
    let address = bucket.address();
    let init = ["repo", "init", "-r", &address, "--json"];
    let refused = bucket.run(&init, &governed(30)).expect(1).json_error();
    assert_eq!(refused["code"], "s3-no-object-lock", "{refused}");
    for (settings, word) in [
        ("retention_mode=compliance", "retention_days"),
        ("retention_mode=forever,retention_days=3", "none of governance and compliance"),
    ] {
        let refused = bucket.run(&init, settings).expect(2).json_error().to_string();
        assert!(refused.contains(word), "{refused}");
    }
}

#[test]
fn a_policy_lets_what_is_retained_be_retained() {
    let bucket = Bucket::new();
    let policy = |settings: &str| {
        let policy = ["connection", "policy", "--bucket", "s3://box", "--for", "repository"];
        bucket.run(&policy, settings).expect(0).stdout()
    };
    let retained = policy(&governed(3));
    for word in ["s3:PutObjectRetention", "s3:ListBucketVersions", "remaining-retention-days"] {
        assert!(retained.contains(word), "{retained}");
    }
    assert!(!policy("").contains("Retention"));
}

#[test]
fn maintenance_extends_the_repositories_of_plans() {
    let bucket = Bucket::new();
    let address = bucket.address();
    let run = |arguments: &[&str]| bucket.run(arguments, &governed(30));
    run(&["connection", "add", "docs", "--folder", "src"]).expect(0);
    run(&["connection", "add", "nas", "--bucket", &address]).expect(0);
    run(&["repo", "add", "r", "--connection", "nas"]).expect(0);
    run(&["plan", "create", "daily", "--from", "docs", "--to", "r"]).expect(0);
    run(&["plan", "run", "daily"]).expect(0);
    bucket.server.set_now("2026-03-03T00:00:00Z".parse().unwrap());
    let objects = bucket.ends().len();
    let would = run(&["maintenance", "run", "--dry-run"]).expect(0).stdout();
    assert!(would.contains(&format!("extends   {objects} retained objects")), "{would}");
    assert!(bucket.ends().iter().all(|(_, end)| end.as_deref() == Some("2026-04-01")));
    let done = run(&["maintenance", "run"]).expect(0).stdout();
    assert!(done.contains(&format!("extended  {objects} retained objects")), "{done}");
    assert!(bucket.ends().iter().all(|(_, end)| end.as_deref() == Some("2026-04-03")));
    let again = run(&["maintenance", "run"]).expect(0).stdout();
    assert!(again.contains("removed   nothing"), "{again}");
    // Who may not retain is told so, and all else is done.
    let refusal = S3Fault::new(S3Effect::refuse(403, "AccessDenied"));
    bucket.server.add_fault(refusal.on(S3Operation::PutRetention).always());
    bucket.server.set_now("2026-03-06T00:00:00Z".parse().unwrap());
    let refused = run(&["maintenance", "run", "--json"]).expect(3).json();
    // And how many there are.
    assert_eq!(refused["report"]["problem_count"], objects + 1, "{refused}");
}
