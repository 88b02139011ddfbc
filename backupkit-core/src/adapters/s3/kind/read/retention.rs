//! For how long a repository is retained, as settings say it.

use super::Reader;
use crate::adapters::s3::{S3Retention, S3RetentionMode};

const MODE: &str = "retention_mode";
const DAYS: &str = "retention_days";

impl Reader {
    pub(super) fn retention(&mut self) -> Option<S3Retention> {
        let mode_of =
            |word: &str| S3RetentionMode::ALL.into_iter().find(|mode| mode.as_str() == word);
        let mode = self.text(MODE, |word| {
            mode_of(word).is_none().then_some("is none of governance and compliance")
        });
        let days = self.number(DAYS).map(|days| {
            let most = u64::from(S3Retention::MOST_DAYS);
            u16::try_from(days).ok().filter(|_| (1..=most).contains(&days))
        });
        if days == Some(None) {
            self.errors.add(DAYS, format!("is not from 1 to {}", S3Retention::MOST_DAYS));
        }
        match (self.fields.contains_key(MODE), self.fields.contains_key(DAYS)) {
            (true, false) => self.errors.add(DAYS, "is missing: say for how many days"),
            (false, true) => self.errors.add(MODE, "is missing: say governance or compliance"),
            _ => {}
        }
        Some(S3Retention::new(mode.as_deref().and_then(mode_of)?, days.flatten()?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use crate::adapters::s3::kind::read::read;
    use crate::adapters::s3::{S3Retention, S3RetentionMode};

    fn parse(json: &str) -> Result<Option<S3Retention>, Vec<String>> {
        let json = format!(r#"{{"bucket":"b","auth":"anonymous"{json}}}"#);
        let read = read(&RawValue::from_string(json).unwrap());
        read.map(|fields| fields.settings.retention)
            .map_err(|errors| errors.iter().map(|error| error.field.clone()).collect())
    }

    #[test]
    fn a_retention_has_a_mode_and_days_or_there_is_none() {
        let retention = |mode, days| Ok(Some(S3Retention::new(mode, days)));
        for (json, expected) in [
            ("", Ok(None)),
            (
                r#","retention_mode":"governance","retention_days":1"#,
                retention(S3RetentionMode::Governance, 1),
            ),
            (
                r#","retention_mode":"compliance","retention_days":36500"#,
                retention(S3RetentionMode::Compliance, 36_500),
            ),
            (r#","retention_mode":"compliance""#, Err(vec!["retention_days".to_owned()])),
            (r#","retention_days":3"#, Err(vec!["retention_mode".to_owned()])),
            (
                r#","retention_mode":"COMPLIANCE","retention_days":0"#,
                Err(vec!["retention_mode".to_owned(), "retention_days".to_owned()]),
            ),
            (
                r#","retention_mode":"governance","retention_days":36501"#,
                Err(vec!["retention_days".to_owned()]),
            ),
            (
                r#","retention_mode":"governance","retention_days":"3""#,
                Err(vec!["retention_days".to_owned()]),
            ),
        ] {
            assert_eq!(parse(json), expected, "{json}");
        }
    }
}
