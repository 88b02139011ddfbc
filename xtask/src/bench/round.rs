//! One round over one set: every operation by every program in turn.

use std::fs;
use std::path::{Path, PathBuf};

use super::data::Set;
use super::measure::{Usage, bytes_below, cool, measure, warm};
use super::options::Options;
use super::programs::Program;
use super::report::{Report, Sample};
use crate::{Outcome, cache};

/// Where restored files wait to be removed.
pub(crate) fn aside(work: &Path) -> PathBuf {
    work.join("aside")
}

/// Where one program works in a round.
struct Place {
    repository: PathBuf,
    cache: PathBuf,
    target: PathBuf,
    log: PathBuf,
}

pub(crate) fn run(
    number: u32,
    set: Set,
    options: &Options,
    programs: &[Program],
    work: &Path,
    report: &mut Report,
) -> Outcome {
    let scene = work.join("scene");
    cache::remove(&scene)?;
    cache::create(&scene)?;
    let folder = scene.join("data");
    let mut round = Round { number, set, report, work, scene: &scene, folder };
    let data = set.folder(options.scale, work);
    // The same path for the changed copy, or it would be another backup.
    rename(&data, &round.folder)?;
    let changed = set.changed_folder(options.scale, work);
    // Whoever goes first meets a machine at rest: let it be another one each time.
    let mut turn: Vec<&Program> = programs.iter().collect();
    turn.rotate_left(number as usize % programs.len());
    let outcome = round.run(&turn, &programs[0], changed.as_deref());
    rename(&round.folder, &data)?;
    outcome?;
    cache::remove(&scene)
}

struct Round<'a> {
    number: u32,
    set: Set,
    report: &'a mut Report,
    work: &'a Path,
    scene: &'a Path,
    folder: PathBuf,
}

impl Round<'_> {
    fn run(&mut self, turn: &[&Program], ours: &Program, changed: Option<&Path>) -> Outcome {
        // One repository made by this program, a copy for each: the same polynomial, the same key.
        let fresh = self.scene.join("fresh");
        measure(
            ours.init(&fresh, None, &self.scene.join("cache-init")),
            &self.scene.join("init.log"),
        )?;
        let mut places = Vec::new();
        for program in turn {
            places.push(self.place(program.name(), &fresh)?);
        }
        let folder = self.folder.clone();
        self.backup("first backup", turn, &places, &folder)?;
        self.backup("unchanged", turn, &places, &folder)?;
        if let Some(changed) = changed {
            let aside = self.folder.with_extension("aside");
            rename(&self.folder, &aside)?;
            rename(changed, &self.folder)?;
            let outcome = self.backup("1 % changed", turn, &places, &folder);
            rename(&self.folder, changed)?;
            rename(&aside, &self.folder)?;
            outcome?;
        }
        for (program, place) in turn.iter().zip(&places) {
            cool(&place.repository)?;
            let usage = measure(program.check(&place.repository, &place.cache), &place.log)?;
            self.note("check --read-data", program, usage, None);
        }
        for (program, place) in turn.iter().zip(&places) {
            cool(&place.repository)?;
            let command = program.restore(&place.repository, &place.target, &place.cache);
            let usage = measure(command, &place.log)?;
            cool(&place.target)?;
            self.note("restore", program, usage, None);
        }
        for place in &places {
            self.discard(&place.target)?;
            cache::remove(&place.repository)?;
        }
        self.back_up_twice(ours, &fresh)?;
        self.run_plan(ours, &fresh)
    }

    fn backup(
        &mut self,
        operation: &'static str,
        turn: &[&Program],
        places: &[Place],
        folder: &Path,
    ) -> Outcome {
        // Or whoever comes first reads from the disk, and the others do not.
        warm(folder)?;
        for (program, place) in turn.iter().zip(places) {
            let before = bytes_below(&place.repository)?;
            let command = program.backup(folder, &[&place.repository], &place.cache);
            let usage = measure(command, &place.log)?;
            let stored = bytes_below(&place.repository)? - before;
            self.note(operation, program, usage, Some(stored));
        }
        Ok(())
    }

    /// One read into one repository, then one read into two.
    fn back_up_twice(&mut self, ours: &Program, fresh: &Path) -> Outcome {
        let places = [self.place("one", fresh)?, self.place("two", fresh)?];
        let second = self.scene.join("second");
        let log = &places[0].log;
        let one = ours.backup(&self.folder, &[&places[0].repository], &places[0].cache);
        let usage = measure(one, log)?;
        self.note("one repository", ours, usage, None);
        cache::remove(&places[0].repository)?;
        // Not a copy: that would be the same repository named twice.
        measure(ours.init(&second, Some(fresh), &self.scene.join("cache-init")), log)?;
        let both = [places[1].repository.as_path(), second.as_path()];
        let two = ours.backup(&self.folder, &both, &places[1].cache);
        let usage = measure(two, log)?;
        self.note("two repositories", ours, usage, None);
        Ok(())
    }

    /// What a backup costs that is on record, with checkpoints at their usual pace, against one that is not.
    fn run_plan(&mut self, ours: &Program, fresh: &Path) -> Outcome {
        let place = self.place("plan", fresh)?;
        for command in ours.plan(&self.folder, &place.repository, &place.cache) {
            measure(command, &place.log)?;
        }
        let usage = measure(ours.run_plan(&place.cache), &place.log)?;
        self.note("as a run on record", ours, usage, None);
        Ok(())
    }

    /// Puts restored files aside until the end of the benchmark: for minutes after many files were
    /// removed, file systems look long for places for new ones. Few large ones go at once.
    fn discard(&self, target: &Path) -> Outcome {
        if self.set == Set::Mixed {
            return cache::remove(target);
        }
        let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let to = aside(self.work).join(format!("{}-{}-{name}", self.number, self.set.name()));
        cache::create(&aside(self.work))?;
        rename(target, &to)
    }

    fn place(&self, name: &str, fresh: &Path) -> Outcome<Place> {
        let folder = |kind: &str| self.scene.join(format!("{kind}-{name}"));
        let place = Place {
            repository: folder("repository"),
            cache: folder("cache"),
            target: folder("target"),
            log: self.scene.with_file_name(format!("{name}.log")),
        };
        copy(fresh, &place.repository)?;
        cache::create(&place.cache)?;
        Ok(place)
    }

    fn note(
        &mut self,
        operation: &'static str,
        program: &Program,
        usage: Usage,
        stored: Option<u64>,
    ) {
        println!(
            "    {operation:<18} {:<10} {:7.2} s  {:7.2} CPU s  {:5} MiB",
            program.name(),
            usage.wall_seconds,
            usage.cpu_seconds,
            usage.peak_bytes >> 20,
        );
        let sample = Sample { usage, stored_bytes: stored };
        self.report.add(self.set.name(), operation, program.name(), sample);
    }
}

fn rename(from: &Path, to: &Path) -> Outcome {
    fs::rename(from, to)
        .map_err(|error| format!("rename {} to {}: {error}", from.display(), to.display()))
}

fn copy(from: &Path, to: &Path) -> Outcome {
    let failed = |error| format!("copy {}: {error}", from.display());
    cache::create(to)?;
    for entry in fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let to = to.join(entry.file_name());
        if entry.file_type().map_err(failed)?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to).map_err(failed)?;
        }
    }
    Ok(())
}
