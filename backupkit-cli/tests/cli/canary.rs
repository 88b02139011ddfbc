//! Secrets reach neither output nor files, whatever is done.

use std::ffi::OsStr;
use std::path::Path;

use serde_json::Value;

use crate::scene::{Outcome, Scene};

const PASSWORD: &str = "canary-password-1f2e";
const FROM_FILE: &str = "canary-from-a-file-7a6b";
const FROM_COMMAND: &str = "canary-from-a-command-9c8d";
const FROM_VARIABLE: &str = "canary-from-a-variable-3e4f";
const LITERAL: &str = "canary-literal-5b5a";
const FAILING: &str = "canary-of-a-failing-command-0d0c";

/// A place with secrets of each kind, and how many outputs were looked at.
struct Planted {
    scene: Scene,
    master_keys: Vec<String>,
    keys_given: String,
}

impl Planted {
    fn new() -> Self {
        let scene = Scene::new();
        let generate = || scene.run(["key", "generate"]).expect(0).stdout().trim().to_owned();
        let master_keys = vec![generate(), generate()];
        let keys_given = master_keys[0].clone();
        scene.write("given/file", format!("{FROM_FILE}\n"));
        scene.write("given/command", format!("{FROM_COMMAND}\n"));
        Self { scene, master_keys, keys_given }
    }

    fn canaries(&self) -> Vec<String> {
        let digits = self.master_keys.iter().map(|key| key.rsplit(':').next().unwrap().to_owned());
        let canaries =
            [PASSWORD, FROM_FILE, FROM_COMMAND, FROM_VARIABLE, LITERAL, FAILING].map(str::to_owned);
        canaries.into_iter().chain(digits).collect()
    }

    /// Runs a command in each form of output, and looks through what it prints.
    fn run(&self, arguments: &[&str], codes: &[i32]) -> Vec<Outcome> {
        let forms: [&[&str]; 3] = [&["-v"], &["--json"], &["--ndjson"]];
        forms.map(|form| self.run_as(arguments, form, codes)).into()
    }

    fn run_as(&self, arguments: &[&str], form: &[&str], codes: &[i32]) -> Outcome {
        let mut command = self.scene.command(arguments);
        command
            .args(form)
            .env("BACKUPKIT_PASSWORD", PASSWORD)
            .env("BACKUPKIT_MASTER_KEY", &self.keys_given)
            .env("A_PASSWORD", FROM_VARIABLE)
            .env("RUST_BACKTRACE", "full");
        let outcome = Outcome(command.output().unwrap());
        let (stdout, stderr) = (outcome.stdout(), outcome.stderr());
        let told = format!("{arguments:?} {form:?}\n{stdout}\n{stderr}");
        assert!(codes.contains(&outcome.code().unwrap()), "{:?}: {told}", outcome.code());
        for canary in self.canaries() {
            assert!(!told.contains(&canary), "{canary}: {told}");
        }
        outcome
    }

    /// Looks through every file but those that were given.
    fn look_through_files(&self) {
        let mut names = Vec::new();
        for file in self.scene.files("") {
            if file.components().any(|part| part.as_os_str() == "given") {
                continue;
            }
            let bytes = std::fs::read(&file).unwrap();
            for canary in self.canaries() {
                let is_in = bytes.windows(canary.len()).any(|part| part == canary.as_bytes());
                assert!(!is_in, "{canary} in {}", file.display());
            }
            names.extend(file.file_name().map(OsStr::to_owned));
        }
        assert!(names.iter().any(|name| name == "state.db"), "{names:?}");
    }
}

fn configuration(root: &Path) -> String {
    let root = root.display();
    format!(
        r#"
[connections.docs]
kind = "folder"
path = "{root}/src"
[connections.disk]
kind = "folder"
path = "{root}/disk"
[repositories.a]
connection = "disk"
path = "a"
password = "${{A_PASSWORD}}"
create = true
[repositories.b]
connection = "disk"
path = "b"
password = "file:{root}/given/file"
create = true
[repositories.c]
connection = "disk"
path = "c"
password = "cmd:cat given/command"
create = true
[plans.all]
from = "docs"
to = ["a", "b", "c"]
"#
    )
}

#[test]
fn no_secret_reaches_output_state_or_repository() {
    let mut planted = Planted::new();
    let root = planted.scene.path("");
    let root = Path::new(root.to_str().unwrap().trim_end_matches('/'));
    let good = configuration(root);
    planted.scene.write("good.toml", &good);
    planted.scene.write("given/literal.toml", good.replace("${A_PASSWORD}", LITERAL));
    let broken = good.replace("\"${A_PASSWORD}\"", &format!("\"{LITERAL}"));
    planted.scene.write("given/broken.toml", broken);
    let failing = format!("cmd:printf {FAILING}; exit 3");
    planted.scene.write("given/failing.toml", good.replace("cmd:cat given/command", &failing));
    // Each where the other one lies.
    let swapped = [("path = \"a\"", "path = \"x\""), ("path = \"b\"", "path = \"a\"")];
    let wrong = swapped.iter().fold(good.clone(), |text, (from, to)| text.replace(from, to));
    let wrong = wrong.replace("path = \"x\"", "path = \"b\"");
    planted.scene.write("wrong.toml", wrong);

    for file in ["given/literal.toml", "given/broken.toml"] {
        planted.run(&["config", "validate", file], &[2]);
        planted.run(&["config", "import", file], &[2]);
    }
    planted.run(&["config", "import", "given/failing.toml"], &[2]);
    planted.run(&["config", "import", "good.toml", "--dry-run"], &[0]);
    planted.run(&["config", "import", "good.toml"], &[0]);
    planted.run(&["config", "import", "wrong.toml"], &[12]);
    planted.run(&["config", "export"], &[0]);
    planted.run_as(&["config", "export", "exported.toml"], &[], &[0]);

    // One with the given password, and one whose password is not that.
    planted.run_as(&["repo", "add", "given", "--connection", "disk", "--path", "d"], &[], &[0]);
    planted.run_as(&["repo", "add", "other", "--connection", "disk", "--path", "a"], &[], &[12]);
    planted.run(&["repo", "set", "given", "--password"], &[0]);
    planted.run(&["repo", "set", "a", "--password"], &[12]);
    for name in ["a", "b", "c", "given"] {
        planted.run(&["repo", "test", name], &[0]);
    }
    planted.run(&["repo", "list"], &[0]);
    planted.run(&["connection", "list"], &[0]);
    planted.run(&["connection", "test", "docs"], &[0]);
    planted.run(&["plan", "set", "all", "--to", "a", "--to", "b", "--to", "given"], &[0]);
    planted.run(&["plan", "run", "all"], &[0]);
    planted.run(&["run", "list"], &[0]);
    planted.run(&["run", "show", "latest"], &[0]);
    planted.run(&["run", "logs", "latest"], &[0]);
    // A run that fails.
    std::fs::rename(planted.scene.path("disk"), planted.scene.path("gone")).unwrap();
    planted.run_as(&["plan", "run", "all"], &["-v"], &[1, 4, 10]);
    planted.run(&["repo", "test", "a"], &[1]);
    planted.run(&["run", "logs", "latest"], &[0]);
    std::fs::rename(planted.scene.path("gone"), planted.scene.path("disk")).unwrap();
    planted.look_through_files();

    // Another master key, in all its wrong forms.
    let [first, second] = [planted.master_keys[0].clone(), planted.master_keys[1].clone()];
    planted.run(&["key", "rotate"], &[1]);
    for wrong in [second.clone(), format!("{first}0"), first[..60].to_owned(), LITERAL.to_owned()] {
        planted.keys_given = wrong;
        planted.run(&["repo", "test", "a"], &[2]);
    }
    planted.keys_given = format!("{second} {first}");
    planted.run(&["key", "rotate"], &[0]);
    planted.keys_given = second;
    planted.run(&["repo", "test", "b"], &[0]);
    planted.look_through_files();
}

#[test]
fn a_generated_password_is_shown_once_and_stands_nowhere() {
    let scene = Scene::new();
    scene.run(["connection", "add", "disk", "--folder", "disk"]).expect(0);
    let mut add = scene.command(["repo", "add", "nas", "--connection", "disk", "--json"]);
    let added = Outcome(add.env_remove("BACKUPKIT_PASSWORD").output().unwrap()).expect(0);
    let added: Value = added.json();
    let password = added["password"].as_str().unwrap();
    for arguments in
        [&["repo", "list", "--json"][..], &["repo", "test", "nas"], &["config", "export"]]
    {
        let shown = scene.run(arguments).expect(0);
        assert!(!shown.stdout().contains(password) && !shown.stderr().contains(password));
    }
    for file in scene.files("") {
        let bytes = std::fs::read(&file).unwrap();
        let is_in = bytes.windows(password.len()).any(|part| part == password.as_bytes());
        assert!(!is_in, "{}", file.display());
    }
}
