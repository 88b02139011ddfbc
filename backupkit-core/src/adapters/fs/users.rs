//! Names of users and groups, from the files that the system keeps them in.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::sync::Arc;

/// More than any real file of this kind has.
const FILE_LIMIT_BYTES: u64 = 64 << 20;

/// Names by number. What only a network directory knows has no name, as with static builds of other
/// programs.
#[derive(Debug, Clone)]
pub(super) struct Names {
    users: HashMap<u32, Arc<str>>,
    groups: HashMap<u32, Arc<str>>,
    none: Arc<str>,
}

impl Names {
    /// Reads the names of this machine.
    pub(super) fn load() -> Self {
        // A machine without these files has numbers only.
        let read = |path: &str, fields: usize| match File::open(path) {
            Ok(file) => parse(BufReader::new(file.take(FILE_LIMIT_BYTES)), fields),
            Err(_) => HashMap::new(),
        };
        Self { users: read("/etc/passwd", 7), groups: read("/etc/group", 4), none: Arc::from("") }
    }

    pub(super) fn user(&self, uid: u32) -> Arc<str> {
        Arc::clone(self.users.get(&uid).unwrap_or(&self.none))
    }

    pub(super) fn group(&self, gid: u32) -> Arc<str> {
        Arc::clone(self.groups.get(&gid).unwrap_or(&self.none))
    }
}

/// The first line with a number names it. Lines with too few fields, comments and the `+` and `-` lines
/// of network directories do not count.
fn parse(file: impl BufRead, n_fields: usize) -> HashMap<u32, Arc<str>> {
    let mut names = HashMap::new();
    for line in file.split(b'\n') {
        let Ok(line) = line else { break };
        let line = String::from_utf8_lossy(&line);
        let fields: Vec<&str> = line.trim().split(':').collect();
        let name = fields[0];
        if fields.len() < n_fields || name.is_empty() || name.starts_with(['#', '+', '-']) {
            continue;
        }
        if let Ok(number) = fields[2].parse::<u32>() {
            names.entry(number).or_insert_with(|| Arc::from(name));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_complete_line_names_a_number() {
        let file = "# a comment\nroot:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\n\
                    +nis:x:5:5:::\nshort:x:6\nann:x:1000:1000:,,,:/home/ann:/bin/zsh\n";
        let names = parse(file.as_bytes(), 7);
        assert_eq!(names.len(), 2);
        assert_eq!(&*names[&0], "root");
        assert_eq!(&*names[&1000], "ann");
    }
}
