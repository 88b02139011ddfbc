//! Which objects are backed up, as settings say it.

use std::time::Duration;

use serde_json::Value;

use super::{Reader, is_class};
use crate::adapters::s3::S3Filter;

/// More patterns are rather a list of files.
const MOST_PATTERNS: usize = 1000;
const DAY: Duration = Duration::from_hours(24);

impl Reader {
    pub(super) fn filter(&mut self) -> S3Filter {
        let mut filter = S3Filter::default();
        let include = self.texts("include");
        match filter.clone().with_include(&include) {
            Ok(read) => filter = read,
            Err(error) => self.errors.add("include", error.report()),
        }
        let exclude = self.texts("exclude");
        match filter.clone().with_exclude(&exclude) {
            Ok(read) => filter = read,
            Err(error) => self.errors.add("exclude", error.report()),
        }
        let (min_bytes, max_bytes) = (self.number("min_bytes"), self.number("max_bytes"));
        if min_bytes.zip(max_bytes).is_some_and(|(least, most)| least > most) {
            self.errors.add("max_bytes", "is less than min_bytes: nothing would be backed up");
        }
        let mut days = |name| {
            let days = self.number(name)?;
            let age = u32::try_from(days).ok().and_then(|days| DAY.checked_mul(days));
            if age.is_none() {
                self.errors.add(name, "is too many days");
            }
            age
        };
        let (min_age, max_age) = (days("min_age_days"), days("max_age_days"));
        if min_age.zip(max_age).is_some_and(|(least, most)| least > most) {
            self.errors
                .add("max_age_days", "is less than min_age_days: nothing would be backed up");
        }
        let classes = self.texts("storage_classes");
        if !classes.iter().all(|class| is_class(class)) {
            self.errors
                .add("storage_classes", "holds what is no storage class, such as STANDARD_IA");
        }
        let (include_tags, exclude_tags) = (self.texts("include_tags"), self.texts("exclude_tags"));
        filter
            .with_tags(include_tags, exclude_tags)
            .with_size(min_bytes, max_bytes)
            .with_age(min_age, max_age)
            .with_storage_classes(classes)
    }

    /// One text, or several in a list.
    fn texts(&mut self, name: &str) -> Vec<String> {
        let texts = match self.fields.get(name) {
            None => return Vec::new(),
            Some(Value::String(text)) => Some(vec![text.clone()]),
            Some(Value::Array(texts)) => {
                texts.iter().map(|text| text.as_str().map(str::to_owned)).collect()
            }
            Some(_) => None,
        };
        let why = match texts {
            None => "is neither text nor a list of texts",
            Some(texts) if texts.iter().any(String::is_empty) => "holds an empty text",
            Some(texts) if texts.len() > MOST_PATTERNS => "holds more than 1000 texts",
            Some(texts) => return texts,
        };
        self.errors.add(name, why);
        Vec::new()
    }

    pub(super) fn number(&mut self, name: &str) -> Option<u64> {
        let number = self.fields.get(name)?.as_u64();
        if number.is_none() {
            self.errors.add(name, "is no whole number");
        }
        number
    }
}
