//! Who asks buckets, and by which way: roles, services on machines, proxies.

use std::process::Command;
use std::time::Duration;

use backupkit_core::testing::fakes::{S3Effect, S3Fault, S3Lender, S3Operation, S3Server};

use crate::scene::{Outcome, Scene};

const SECRET: &str = "canary-lent-secret";
const TOKEN: &str = "canary-lent-token";
const PROXY_PASSWORD: &str = "canary-proxy-password";

/// A server that takes only a key that is lent.
struct Access {
    scene: Scene,
    server: S3Server,
    lender: S3Lender,
}

impl Access {
    fn new() -> Self {
        let (server, lender) = (S3Server::start("bucket"), S3Lender::start());
        lender.lend("LENT", SECRET, TOKEN, Duration::from_hours(1));
        server.take_only("LENT", SECRET, Some(TOKEN));
        Self { scene: Scene::new(), server, lender }
    }

    fn address(&self) -> String {
        format!("s3:{}/bucket/nas", self.server.endpoint())
    }

    /// What `--s3` says for a role.
    fn role(&self) -> String {
        format!(
            "auth=assume_role,role_arn={},external_id={},sts_endpoint={}",
            S3Lender::ROLE,
            S3Lender::EXTERNAL_ID,
            self.lender.endpoint()
        )
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.scene.command(arguments);
        command
            .env("BACKUPKIT_S3_ACCESS_KEY_ID", S3Server::ACCESS_KEY_ID)
            .env("BACKUPKIT_S3_SECRET_ACCESS_KEY", S3Server::SECRET_ACCESS_KEY);
        command
    }

    /// Runs a command with the key, and looks through what it prints.
    fn run(&self, arguments: &[&str]) -> Outcome {
        quiet(self.command(arguments))
    }
}

/// Runs a command at the highest level of logging, and finds no secret in what it prints.
fn quiet(mut command: Command) -> Outcome {
    command
        .env("RUST_LOG", "trace")
        .env("LOG_SENSITIVE_BODIES", "true")
        .env("BACKUPKIT_S3_PROXY_PASSWORD", PROXY_PASSWORD);
    let outcome = Outcome(command.output().unwrap());
    let told = outcome.stdout() + &outcome.stderr();
    for canary in [
        SECRET,
        TOKEN,
        PROXY_PASSWORD,
        S3Server::SECRET_ACCESS_KEY,
        S3Lender::TOKEN,
        crate::scene::PASSWORD,
        "Signature=",
    ] {
        assert!(!told.contains(canary), "{canary}: {told}");
    }
    outcome
}

#[test]
fn a_role_is_taken_on_by_options_and_by_connections() {
    let access = Access::new();
    let (address, role) = (access.address(), access.role());
    access.run(&["backup", "src", "--to", &address, "--init", "--s3", &role, "-v"]).expect(0);
    access.run(&["restore", "latest", "-r", &address, "--to", "out", "--s3", &role]).expect(0);
    access.run(&["connection", "add", "nas", "--bucket", &address, "--s3", &role]).expect(0);
    // From now on the state has the key that takes on the role.
    let state = |arguments: &[&str]| quiet(access.scene.command(arguments));
    state(&["connection", "test", "nas"]).expect(0);
    for purpose in ["source", "repository", "maintenance", "target"] {
        state(&["connection", "test", "nas", "--for", purpose]).expect(0);
    }
    state(&["repo", "add", "r", "--connection", "nas"]).expect(0);
    let listed = state(&["connection", "list", "--json"]).expect(0).stdout();
    assert!(listed.contains(S3Lender::ROLE), "{listed}");
    // What fails tells no more.
    access.lender.refuse(403, "AccessDenied");
    let refused = access.run(&["snapshots", "-r", &address, "--s3", &role]).expect(14);
    assert!(refused.stderr().contains("external id"), "{}", refused.stderr());
    access.server.take_only("other", "key", None);
    access.run(&["snapshots", "-r", &address, "--s3", &role, "--json"]);
}

#[test]
fn connections_to_buckets_move_to_another_state_by_a_file() {
    let access = Access::new();
    let (address, role) = (access.address(), access.role());
    access.run(&["connection", "add", "nas", "--bucket", &address, "--s3", &role]).expect(0);
    let proxied = format!("proxy={},proxy_user=ada,auth=anonymous", access.server.endpoint());
    access.run(&["connection", "add", "open", "--bucket", &address, "--s3", &proxied]).expect(0);
    let exported = access.run(&["config", "export"]).expect(0).stdout();
    for line in [
        "secret_access_key = \"${NAS_SECRET_ACCESS_KEY}\"",
        "proxy_password = \"${OPEN_PROXY_PASSWORD}\"",
        "auth = \"assume_role\"",
        "proxy_user = \"ada\"",
    ] {
        assert!(exported.contains(line), "{line}: {exported}");
    }
    access.scene.write("moved.toml", &exported);
    access.scene.write("secret", S3Server::SECRET_ACCESS_KEY);
    let import = |with: &dyn Fn(&mut Command)| {
        let mut command =
            access.scene.command(["config", "import", "moved.toml", "--state", "new/s.db"]);
        with(&mut command);
        quiet(command)
    };
    let unset = import(&|_| {}).expect(2).stderr();
    assert!(unset.contains("NAS_SECRET_ACCESS_KEY is not set"), "{unset}");
    import(&|command| {
        command
            .env("NAS_SECRET_ACCESS_KEY", S3Server::SECRET_ACCESS_KEY)
            .env("OPEN_PROXY_PASSWORD", PROXY_PASSWORD);
    })
    .expect(0);
    let test = ["connection", "test", "nas", "--for", "repository", "--state", "new/s.db"];
    quiet(access.scene.command(test)).expect(0);
    // A secret that stands in the file is refused, and not told.
    let literal = exported.replace("${NAS_SECRET_ACCESS_KEY}", SECRET);
    access.scene.write("moved.toml", literal);
    let refused = import(&|_| {}).expect(2).stderr();
    assert!(refused.contains("connections.nas.secret_access_key"), "{refused}");
}

#[test]
fn services_on_machines_are_asked_only_by_name() {
    let access = Access::new();
    let address = access.address();
    access.scene.write("token", S3Lender::TOKEN);
    let with_aws = |arguments: &[&str]| {
        let mut command = access.scene.command(arguments);
        command
            .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", access.lender.endpoint() + "/container")
            .env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", access.scene.path("token"));
        quiet(command)
    };
    with_aws(&["repo", "init", "-r", &address]).expect(2);
    assert!(access.lender.asked().is_empty());
    with_aws(&["repo", "init", "-r", &address, "--s3", "auth=environment"]).expect(0);
    let instance = format!("auth=instance,instance_endpoint={}", access.lender.endpoint());
    quiet(access.scene.command(["snapshots", "-r", &address, "--s3", &instance])).expect(0);
    let far = "auth=container,container_endpoint=http://far.example/x";
    let refused = quiet(access.scene.command(["snapshots", "-r", &address, "--s3", far])).expect(2);
    assert!(refused.stderr().contains("container_endpoint"), "{}", refused.stderr());
}

#[test]
fn proxies_are_those_of_settings_and_of_no_variable() {
    let access = Access::new();
    let (address, role) = (access.address(), access.role());
    let mut command = access.command(&["repo", "init", "-r", &address, "--s3", &role]);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
    {
        // Where nobody listens.
        command.env(name, "http://127.0.0.1:1");
    }
    quiet(command).expect(0);
    let mut command = access.scene.command(["snapshots", "-r", &address]);
    command.args(["--s3", "auth=anonymous,proxy=http://127.0.0.1:1,proxy_user=ada"]);
    let refused = Outcome(command.output().unwrap()).expect(2);
    assert!(refused.stderr().contains("BACKUPKIT_S3_PROXY_PASSWORD"), "{}", refused.stderr());
}

#[test]
fn a_test_of_a_connection_is_for_a_purpose() {
    let access = Access::new();
    let address = access.address();
    access.server.take_only(S3Server::ACCESS_KEY_ID, S3Server::SECRET_ACCESS_KEY, None);
    access.run(&["connection", "add", "nas", "--bucket", &address]).expect(0);
    access.run(&["connection", "add", "docs", "--folder", "src"]).expect(0);
    let test = |purpose: &str| access.run(&["connection", "test", "nas", "--for", purpose]);
    // A key that only adds is good for backups, and for nothing that removes.
    let refuse =
        |operation| S3Fault::new(S3Effect::refuse(403, "AccessDenied")).on(operation).always();
    access.server.add_fault(refuse(S3Operation::DeleteObject));
    let told = test("repository").expect(0).stdout();
    assert!(told.contains("compare its clock") && told.contains("may not delete"), "{told}");
    test("maintenance").expect(1);
    access.server.clear_faults();
    // One that only reads is a source.
    access.server.add_fault(refuse(S3Operation::PutObject));
    test("source").expect(0);
    test("repository").expect(1);
    test("target").expect(1);
    access.server.clear_faults();
    access.run(&["connection", "test", "docs", "--for", "repository"]).expect(0);
    access.run(&["connection", "test", "docs", "--for", "magic"]).expect(2);
    // The first hard failure ends it.
    let endpoint = "s3:http://no-such-host.invalid/bucket";
    access.run(&["connection", "set", "nas", "--bucket", endpoint]).expect(0);
    let told = test("repository").expect(1).stdout();
    assert!(told.contains("there is no such name"), "{told}");
    assert!(!told.contains("write an object"), "{told}");
}
