//! `cargo xtask tidy`: the rules of this project that no other tool knows.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::step::{step, workspace_root};

/// More than this is more than one idea.
const MOST_LINES: usize = 599;

/// Split, so that this file does not break its own rules.
const FORBIDDEN: [(&str, &str); 3] = [
    (concat!("todo", "!"), "finish it, or return an error that says what is missing"),
    (concat!("unimplemented", "!"), "finish it, or return an error that says what is missing"),
    (concat!("#[", "ignore"), "a test runs, or says why it skipped"),
];

/// Not allowed where tests are; a clock that the test turns is something else.
const FORBIDDEN_IN_TESTS: (&str, &str) =
    (concat!("::sle", "ep("), "wait for what happens, or turn a paused clock on");

/// What an adapter may not name: a third party could not either.
const INNER_MODULES: [&str; 9] = [
    "crate::repo",
    "crate::engine",
    "crate::pipeline",
    "crate::activity",
    "crate::blocking",
    "crate::buffers",
    "crate::counters",
    "crate::pool",
    "crate::scratch",
];

/// Two of one of these would be two TLS stacks or two HTTP stacks in one program.
const ONE_VERSION: [&str; 3] = ["rustls", "hyper", "http"];

pub(crate) fn run() -> Outcome {
    step("tidy", check)
}

pub(crate) fn check() -> Outcome {
    let root = workspace_root();
    let mut findings = Vec::new();
    for path in rust_files(&root)? {
        let text = fs::read_to_string(&path)
            .map_err(|error| format!("read {}: {error}", path.display()))?;
        let shown = path.strip_prefix(&root).unwrap_or(&path);
        findings.extend(findings_in(shown, &text));
    }
    let lock = root.join("Cargo.lock");
    let lock =
        fs::read_to_string(&lock).map_err(|error| format!("read {}: {error}", lock.display()))?;
    findings.extend(doubled_in(&lock));
    for finding in &findings {
        println!("    {finding}");
    }
    if findings.is_empty() { Ok(()) } else { Err(format!("{} findings", findings.len())) }
}

fn rust_files(root: &Path) -> Outcome<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let listing =
            fs::read_dir(&folder).map_err(|error| format!("list {}: {error}", folder.display()))?;
        for entry in listing {
            let entry = entry.map_err(|error| format!("list {}: {error}", folder.display()))?;
            let kind =
                entry.file_type().map_err(|error| format!("list {}: {error}", folder.display()))?;
            let path = entry.path();
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if kind.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "rs")
            {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn findings_in(path: &Path, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    if path.ends_with("mod.rs") {
        let folder = path.parent().unwrap_or(path).display();
        findings.push(format!("{}: name it `{folder}.rs`", path.display()));
    }
    let lines = text.lines().count();
    if lines > MOST_LINES {
        findings.push(format!("{}: {lines} lines; split it by idea", path.display()));
    }
    let has_part = |part: &str| path.iter().any(|one| one == part);
    let is_adapter = has_part("adapters");
    let mut is_test = has_part("tests") || path.ends_with("tests.rs");
    for (index, line) in text.lines().enumerate() {
        is_test |= line.trim_start().starts_with("#[cfg(test)]");
        let code = line.split("//").next().unwrap_or(line);
        let mut find = |word: &str, remedy: &str| {
            if code.contains(word) {
                let place = format!("{}:{}", path.display(), index + 1);
                findings.push(format!("{place}: `{word}`: {remedy}"));
            }
        };
        for (word, remedy) in FORBIDDEN {
            find(word, remedy);
        }
        if is_test {
            find(FORBIDDEN_IN_TESTS.0, FORBIDDEN_IN_TESTS.1);
        }
        if is_adapter {
            for module in INNER_MODULES {
                find(module, "an adapter uses only what a third party could use");
            }
        }
    }
    findings
}

fn doubled_in(lock: &str) -> Vec<String> {
    let count = |name: &str| {
        let line = format!("name = \"{name}\"");
        lock.lines().filter(|one| *one == line).count()
    };
    ONE_VERSION
        .iter()
        .filter(|name| count(name) > 1)
        .map(|name| format!("Cargo.lock: {} versions of {name}; one is allowed", count(name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        findings_in(Path::new(path), text).len()
    }

    #[test]
    fn good_code_has_no_findings() {
        assert_eq!(findings("src/lib.rs", "//! Fine.\nfn main() {}\n"), 0);
    }

    #[test]
    fn module_files_are_found() {
        assert_eq!(findings("src/repo/mod.rs", ""), 1);
    }

    #[test]
    fn the_600th_line_is_found() {
        assert_eq!(findings("src/lib.rs", &"\n".repeat(599)), 0);
        assert_eq!(findings("src/lib.rs", &"\n".repeat(600)), 1);
    }

    #[test]
    fn forbidden_words_are_found_in_code_but_not_in_comments() {
        let word = FORBIDDEN[0].0;
        assert_eq!(findings("src/lib.rs", &format!("fn a() {{ {word}() }}")), 1);
        assert_eq!(findings("src/lib.rs", &format!("// {word}")), 0);
    }

    #[test]
    fn sleeping_is_found_in_tests_only() {
        let line = format!("std::thread{}x)", FORBIDDEN_IN_TESTS.0);
        assert_eq!(findings("src/lib.rs", &line), 0);
        assert_eq!(findings("tests/crash/main.rs", &line), 1);
        assert_eq!(findings("src/pack/tests.rs", &line), 1);
        assert_eq!(findings("src/lib.rs", &format!("#[cfg(test)]\nmod tests {{\n{line}\n}}")), 1);
    }

    #[test]
    fn adapters_do_not_know_the_engine() {
        assert_eq!(findings("src/adapters/fs.rs", "use crate::repo::Pack;"), 1);
        assert_eq!(findings("src/engine.rs", "use crate::repo::Pack;"), 0);
    }

    #[test]
    fn a_second_version_is_found() {
        let lock = "name = \"http\"\nname = \"hyper\"\nname = \"http\"\n";
        assert_eq!(doubled_in(lock).len(), 1);
    }
}
