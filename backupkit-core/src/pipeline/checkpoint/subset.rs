//! A row for some of the repositories that it was taken of, or for all of them in another order.

use super::row::{Row, SavedPart};
use crate::model::BlobId;

impl Row {
    /// Whether a repository was not there or had failed when this was taken, while others were.
    pub(crate) fn is_without(&self, repository_id: &str) -> bool {
        let has_files = |number: usize| self.index_files.get(number).is_some_and(Option::is_some);
        let is_served = match self.repositories.iter().position(|id| id == repository_id) {
            Some(number) => has_files(number),
            None => false,
        };
        !is_served && (0..self.repositories.len()).any(has_files)
    }

    /// The same for these repositories, in this order; nothing if it was not taken of all of them.
    pub(crate) fn only(mut self, repository_ids: &[&str]) -> Option<Self> {
        let number_of = |id: &&str| self.repositories.iter().position(|known| known == id);
        let lanes: Vec<usize> = repository_ids.iter().map(number_of).collect::<Option<_>>()?;
        let lanes_before = self.repositories.len();
        let groups_before = pick(&self.groups, &lanes)?;
        let mut groups = groups_before.clone();
        groups.sort_by_key(|group| groups_before.iter().position(|other| other == group));
        groups.dedup();
        let group_of = |before: &usize| groups.iter().position(|group| group == before);
        self.groups = groups_before.iter().map(group_of).collect::<Option<_>>()?;
        self.repositories = pick(&self.repositories, &lanes)?;
        self.index_files = pick(&self.index_files, &lanes)?;
        let directories = self.directories.iter_mut().flat_map(|directory| &mut directory.parts);
        for ids in directories.chain(&mut self.root) {
            pick_ids(ids, &lanes, lanes_before)?;
        }
        for SavedPart { groups: contents, .. } in
            self.unfinished.iter_mut().flat_map(|entry| &mut entry.parts)
        {
            *contents = pick(contents, &groups)?;
        }
        Some(self)
    }
}

/// Of one id for all lanes, or one a lane, those of these lanes.
fn pick_ids(ids: &mut Vec<BlobId>, lanes: &[usize], lanes_before: usize) -> Option<()> {
    if ids.len() != 1 {
        *ids =
            Some(&*ids).filter(|ids| ids.len() == lanes_before).and_then(|ids| pick(ids, lanes))?;
    }
    Some(())
}

fn pick<T: Clone>(all: &[T], numbers: &[usize]) -> Option<Vec<T>> {
    numbers.iter().map(|number| all.get(*number).cloned()).collect()
}
