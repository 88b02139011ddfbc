//! What can be asked of the benchmark.

use std::path::PathBuf;

use super::data::Set;
use super::programs::PEERS;
use crate::Outcome;

pub(super) const HELP: &str = "\
cargo xtask bench [OPTIONS]
cargo xtask bench s3 [OPTIONS]      buckets; `cargo xtask bench s3 --help`

Runs this program and its peers in turn on the same data, and prints medians and ratios.

  --rounds N                  how often (default 3)
  --sets mixed,small,source   on which data (default all)
  --peers restic,rustic       against whom; `none`: nobody (default whoever is found)
  --scale N                   so many times the data (default 1: 3 GiB, 50,000 and 100,000 files)
  --work DIR                  where data and repositories lie (default in the cache; 20 GB)
  --out FILE                  also write the tables into a file
  --build-rustic              build rustic once into the cache";

pub(crate) struct Options {
    pub(crate) rounds: u32,
    pub(crate) sets: Vec<Set>,
    /// `None`: each one that the machine has.
    pub(crate) peers: Option<Vec<String>>,
    pub(crate) scale: u64,
    pub(crate) work: Option<PathBuf>,
    pub(crate) out: Option<PathBuf>,
    pub(crate) build_rustic: bool,
}

impl Options {
    pub(crate) fn parse(arguments: &[String]) -> Outcome<Self> {
        let mut options = Self {
            rounds: 3,
            sets: Set::ALL.to_vec(),
            peers: None,
            scale: 1,
            work: None,
            out: None,
            build_rustic: false,
        };
        let mut rest = arguments.iter();
        while let Some(name) = rest.next() {
            if name == "--build-rustic" {
                options.build_rustic = true;
                continue;
            }
            let value = rest.next().ok_or_else(|| format!("`bench {name}` needs a value"))?;
            let number = || {
                let number = value.parse().ok().filter(|number| *number > 0);
                number.ok_or_else(|| format!("`bench {name} {value}`: a number from 1 on"))
            };
            match name.as_str() {
                "--rounds" => options.rounds = u32::try_from(number()?).unwrap_or(u32::MAX),
                "--scale" => options.scale = number()?,
                "--sets" => {
                    options.sets = value.split(',').map(Set::named).collect::<Outcome<_>>()?;
                }
                "--peers" => {
                    options.peers = Some(value.split(',').map(peer).collect::<Outcome<_>>()?);
                }
                "--work" => options.work = Some(PathBuf::from(value)),
                "--out" => options.out = Some(PathBuf::from(value)),
                _ => return Err(format!("`bench` does not know `{name}`\n\n{HELP}")),
            }
        }
        Ok(options)
    }

    /// Whether a peer is to be compared.
    pub(crate) fn wants(&self, peer: &str) -> bool {
        self.peers.as_ref().is_none_or(|peers| peers.iter().any(|wanted| wanted == peer))
    }
}

fn peer(name: &str) -> Outcome<String> {
    if name == "none" || PEERS.contains(&name) {
        return Ok(name.to_owned());
    }
    Err(format!("`bench` does not know the peer `{name}`; there are {}", PEERS.join(", ")))
}
