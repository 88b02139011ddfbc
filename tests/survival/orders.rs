//! What a worker process is told.

use std::fmt;
use std::str::FromStr;

/// Where a process ends itself, or stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Once it has read so many bytes.
    Read(u64),
    /// At the so-manieth beginning or end of a call of the store or the repository, in a stage.
    Step { stage: Stage, number: u64 },
    /// Before or after the so-manieth call of this name.
    Call { name: String, number: u64, is_over: bool },
    /// Never.
    Never,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Start,
    Read,
    AllRead,
    Committing,
    Created,
}

impl Stage {
    pub(crate) const ALL: [Self; 5] =
        [Self::Start, Self::Read, Self::AllRead, Self::Committing, Self::Created];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Start => "before the first byte",
            Self::Read => "while it reads",
            Self::AllRead => "all is read, nothing committed",
            Self::Committing => "committing, no snapshot",
            Self::Created => "the snapshot is there, the run has not ended",
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(bytes) => write!(f, "read {bytes}"),
            Self::Step { stage, number } => write!(f, "step {} {number}", *stage as usize),
            Self::Call { name, number, is_over } => write!(f, "call {name} {number} {is_over}"),
            Self::Never => f.write_str("never"),
        }
    }
}

impl FromStr for Moment {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let words: Vec<&str> = text.split(' ').collect();
        let number = |text: &str| text.parse().map_err(drop);
        Ok(match words[..] {
            ["read", bytes] => Self::Read(number(bytes)?),
            ["step", stage, count] => {
                let stage = usize::try_from(number(stage)?).map_err(drop)?;
                Self::Step { stage: *Stage::ALL.get(stage).ok_or(())?, number: number(count)? }
            }
            ["call", name, count, is_over] => Self::Call {
                name: name.to_owned(),
                number: number(count)?,
                is_over: is_over == "true",
            },
            ["never"] => Self::Never,
            _ => return Err(()),
        })
    }
}
