//! Test data that other programs wrote; see `tests/fixtures/README.md`.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The lines of a file of vectors made with Go.
pub(super) fn lines(name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join("go").join(name)).unwrap();
    assert!(!text.is_empty());
    text.lines().map(str::to_owned).collect()
}

/// Bytes and the JSON that Go makes of them.
pub(super) fn hex_and_json(name: &str) -> Vec<(Vec<u8>, String)> {
    let pair = |line: String| {
        let (digits, json) = line.split_once('\t').unwrap();
        (hex::decode(digits).unwrap(), json.to_owned())
    };
    lines(name).into_iter().map(pair).collect()
}

/// The files that `program` wrote of `kind` (`trees` or `snapshots`), by id.
pub(super) fn stored(kind: &str, program: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(root().join(kind).join(program))
        .unwrap()
        .map(|file| {
            let path = file.unwrap().path();
            let id = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (id, std::fs::read(path).unwrap())
        })
        .collect();
    assert!(!files.is_empty());
    files.sort();
    files
}
