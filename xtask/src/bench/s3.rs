//! `cargo xtask bench s3`: buckets as source and as destination, on one server of this machine.
//!
//! What is compared runs in turn within a round, and ratios are taken within it. Nothing is asserted;
//! goals stand beside the figures.

mod figures;
mod scene;

use std::fs;
use std::path::{Path, PathBuf};

use self::figures::Figures;
use self::scene::{Line, Scene};
use super::data::{self, Set};
use super::report::to_f64;
use super::{build, describe_machine};
use crate::step::step;
use crate::{Outcome, cache};

const HELP: &str = "\
cargo xtask bench s3 [OPTIONS]

Buckets on versitygw, fetched once. Prints medians, and ratios within each round with their goals.

  --rounds N     how often (default 3)
  --parts LIST   of objects,unchanged,repository,delay,memory (default all)
  --work DIR     where data and repositories lie (default in the cache; 15 GB)
  --out FILE     also write the tables into a file";

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// A backup of a bucket, against one of the same bytes in a folder and a bare download.
    Objects,
    /// A backup of a bucket in which nothing changed, against its bare listing.
    Unchanged,
    /// A backup of a folder into a bucket, against restic.
    Repository,
    /// A backup of a bucket from which all comes later, against one from which it does not, and against
    /// one connection.
    Delay,
    /// A backup of a bucket of a million keys.
    Memory,
}

const PARTS: [(&str, Part); 5] = [
    ("objects", Part::Objects),
    ("unchanged", Part::Unchanged),
    ("repository", Part::Repository),
    ("delay", Part::Delay),
    ("memory", Part::Memory),
];

/// As the goals have it.
const SMALL: (usize, usize) = (1_000, 64 << 10);
const LARGE: (usize, usize) = (20, 64 << 20);
const UNCHANGED: (usize, usize) = (100_000, 1 << 10);
/// Enough that what a program does once does not count.
const DELAYED: (usize, usize) = (5_000, 16 << 10);
/// One connection takes a second for each twenty.
const ONE_BY_ONE: (usize, usize) = (200, 16 << 10);
const DELAY_MILLISECONDS: u32 = 50;
const MANY: (usize, usize) = (1_000_000, 64);

struct Options {
    rounds: u32,
    parts: Vec<Part>,
    work: Option<PathBuf>,
    out: Option<PathBuf>,
}

impl Options {
    fn parse(arguments: &[String]) -> Outcome<Self> {
        let parts = PARTS.iter().map(|(_, part)| *part).collect();
        let mut options = Self { rounds: 3, parts, work: None, out: None };
        for pair in arguments.chunks(2) {
            let [name, value] = pair else {
                return Err(format!("`bench s3 {}` needs a value", pair.join(" ")));
            };
            match name.as_str() {
                "--rounds" => {
                    let number = value.parse().ok().filter(|number| *number > 0);
                    options.rounds =
                        number.ok_or_else(|| format!("`--rounds {value}`: a number from 1 on"))?;
                }
                "--parts" => {
                    options.parts = value.split(',').map(named).collect::<Outcome<_>>()?;
                }
                "--work" => options.work = Some(PathBuf::from(value)),
                "--out" => options.out = Some(PathBuf::from(value)),
                _ => return Err(format!("`bench s3` does not know `{name}`\n\n{HELP}")),
            }
        }
        Ok(options)
    }
}

fn named(name: &str) -> Outcome<Part> {
    let found = PARTS.iter().find(|(known, _)| *known == name);
    found.map(|(_, part)| *part).ok_or_else(|| format!("`bench s3` has no part `{name}`\n\n{HELP}"))
}

pub(super) fn run(arguments: &[String]) -> Outcome {
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        println!("{HELP}");
        return Ok(());
    }
    let options = Options::parse(arguments)?;
    let work = match &options.work {
        Some(folder) => folder.clone(),
        None => cache::folder("bench")?,
    };
    let ours = step("build", build)?;
    let scene = step("start the server", || Scene::start(&ours, &work.join("s3")))?;
    let mut figures = Figures::new(&describe_machine());
    let mut bench = Bench { scene: &scene, figures: &mut figures, work: &work };
    for part in &options.parts {
        step(&format!("data: {part:?}"), || bench.prepare(*part))?;
    }
    for number in 0..options.rounds {
        for part in &options.parts {
            let name = format!("round {} of {}: {part:?}", number + 1, options.rounds);
            step(&name, || bench.round(*part, number))?;
        }
    }
    let text = figures.render();
    println!("\n{text}");
    if let Some(path) = &options.out {
        fs::write(path, &text).map_err(|error| format!("write {}: {error}", path.display()))?;
    }
    Ok(())
}

struct Bench<'a> {
    scene: &'a Scene,
    figures: &'a mut Figures,
    work: &'a Path,
}

impl Bench<'_> {
    fn prepare(&mut self, part: Part) -> Outcome {
        let scene = self.scene;
        match part {
            Part::Objects => {
                scene.seed("objects/small/", SMALL)?;
                scene.seed("objects/large/", LARGE)?;
                scene.write_folder("folder/small", SMALL)?;
                scene.write_folder("folder/large", LARGE)
            }
            Part::Unchanged => {
                scene.seed("unchanged/", UNCHANGED)?;
                let repository = scene.new_repository("unchanged")?;
                scene.measure(&scene.back_up_bucket(&scene.near(), "unchanged/", &repository))?;
                Ok(())
            }
            Part::Repository => {
                data::make(Set::Mixed, 1, self.work)?;
                data::make(Set::Small, 1, self.work)
            }
            Part::Delay => {
                scene.seed("delay/large/", LARGE)?;
                scene.seed("delay/small/", DELAYED)?;
                scene.seed("delay/few/", ONE_BY_ONE)
            }
            Part::Memory => Ok(()),
        }
    }

    fn round(&mut self, part: Part, number: u32) -> Outcome {
        match part {
            Part::Objects => self.objects(number),
            Part::Unchanged => self.unchanged(),
            Part::Repository => self.repository(number),
            Part::Delay => self.delay(),
            Part::Memory => self.memory(),
        }
    }

    fn objects(&mut self, number: u32) -> Outcome {
        let scene = self.scene;
        let from_bucket = scene.new_repository("from-bucket")?;
        let from_folder = scene.new_repository("from-folder")?;
        let mut commands = [
            ("backup of a bucket", scene.back_up_bucket(&scene.near(), "objects/", &from_bucket)),
            ("backup of a folder", scene.back_up_folder("folder", &from_folder)),
            ("bare download", scene.download(&scene.near(), "objects/", 8)),
        ];
        // Whoever goes first meets a machine at rest.
        commands.rotate_left(number as usize % 3);
        for (name, command) in &commands {
            self.figures.add("objects", name, scene.measure(command)?);
        }
        let gibibytes = count(SMALL.0 * SMALL.1 + LARGE.0 * LARGE.1) / to_f64(1 << 30);
        let bucket = self.figures.last("objects", "backup of a bucket").cpu_seconds;
        let folder = self.figures.last("objects", "backup of a folder").cpu_seconds;
        let download = self.figures.last("objects", "bare download").cpu_seconds;
        self.figures.ratio(
            "processor: bucket / (folder + bare download)",
            bucket / (folder + download),
            "at most 1.15",
        );
        self.figures.ratio("processor seconds per GiB of a bucket", bucket / gibibytes, "");
        Ok(())
    }

    fn unchanged(&mut self) -> Outcome {
        let scene = self.scene;
        let repository = scene.repository("unchanged");
        let listing = scene.measure(&scene.list(&scene.near(), "unchanged/"))?;
        let command = scene.back_up_bucket(&scene.near(), "unchanged/", &repository);
        let backup = scene.measure(&command)?;
        self.figures.add("unchanged", "bare listing", listing);
        self.figures.add("unchanged", "backup", backup);
        let wall = backup.wall_seconds / listing.wall_seconds;
        self.figures.ratio("unchanged: wall / listing", wall, "at most 1.20");
        let requests = to_f64(backup.requests) / to_f64(listing.requests);
        self.figures.ratio("unchanged: requests / listing", requests, "at most 1.20");
        Ok(())
    }

    fn repository(&mut self, number: u32) -> Outcome {
        let scene = self.scene;
        for set in [Set::Mixed, Set::Small] {
            let folder = set.folder(1, self.work);
            super::measure::warm(&folder)?;
            let name = format!("repository, {}", set.name());
            let address = scene.new_bucket_repository(&format!("{}-{number}", set.name()))?;
            let mut commands = [
                ("backupkit", Some(scene.back_up_into_bucket(&folder, &address.ours))),
                ("restic", scene.restic_backup(&folder, &address.restic)),
            ];
            commands.rotate_left(number as usize % 2);
            for (program, command) in &commands {
                if let Some(command) = command {
                    self.figures.add(&name, program, scene.measure(command)?);
                }
            }
            scene.remove("bucket/repositories")?;
            if commands.iter().all(|(_, command)| command.is_some()) {
                let ours = self.figures.last(&name, "backupkit");
                let theirs = self.figures.last(&name, "restic");
                let wall = theirs.wall_seconds / ours.wall_seconds;
                let what = format!("folder to bucket, {}: wall of restic / ours", set.name());
                self.figures.ratio(&what, wall, "at least 1.8");
                let cpu = theirs.cpu_seconds / ours.cpu_seconds;
                let what = format!("folder to bucket, {}: processor of restic / ours", set.name());
                self.figures.ratio(&what, cpu, "");
            }
        }
        Ok(())
    }

    fn delay(&mut self) -> Outcome {
        let scene = self.scene;
        let far = scene.delayed(DELAY_MILLISECONDS)?;
        let lines = [("near", scene.near()), ("far", Line::of(&far))];
        for (size, prefix) in [("large", "delay/large/"), ("small", "delay/small/")] {
            for (distance, line) in &lines {
                let repository = scene.new_repository("delay")?;
                let sample = scene.measure(&scene.back_up_bucket(line, prefix, &repository))?;
                self.figures.add("delay", &format!("{size}, {distance}"), sample);
            }
        }
        let one = scene.measure(&scene.download(&lines[1].1, "delay/few/", 1))?;
        self.figures.add("delay", "small, far, one connection", one);
        let wall = |name: &str| self.figures.last("delay", name).wall_seconds;
        let large = wall("large, far") / wall("large, near");
        let rate = |objects: (usize, usize), seconds: f64| count(objects.0) / seconds;
        let small = rate(DELAYED, wall("small, far"))
            / rate(ONE_BY_ONE, wall("small, far, one connection"));
        self.figures.ratio("50 ms later: large objects, wall / no delay", large, "at most 1.15");
        self.figures.ratio(
            "50 ms later: small objects, rate / one connection",
            small,
            "at least 30",
        );
        Ok(())
    }

    fn memory(&mut self) -> Outcome {
        let scene = self.scene;
        let many = scene.made_up(MANY)?;
        let line = Line::of(&many);
        let repository = scene.new_repository("memory")?;
        let first = scene.measure(&scene.back_up_bucket(&line, "", &repository))?;
        self.figures.add("1,000,000 keys", "first backup", first);
        let again = scene.measure(&scene.back_up_bucket(&line, "", &repository))?;
        self.figures.add("1,000,000 keys", "unchanged", again);
        let peak = to_f64(first.peak_bytes.max(again.peak_bytes)) / to_f64(1 << 20);
        self.figures.ratio("1,000,000 keys: peak memory in MiB", peak, "at most 200");
        Ok(())
    }
}

fn count(count: usize) -> f64 {
    to_f64(count as u64)
}
