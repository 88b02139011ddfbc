//! Writes what is set up as text.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use toml::Table;

use super::reference::{escape, variable_for};
use crate::error::{Error, ErrorKind, Result};
use crate::manage::set_up::PASSWORD;
use crate::manage::{ConnectionBody, PlanBody, RepositoryBody, Workspace};
use crate::state::RecordKind;

const HEADING: &str = "\
# What BackupKit has set up. Import it with `backupkit config import`.
# No secret stands here. Set the variables that secrets are taken from, or write file:/path or
# cmd:command instead, or leave a secret out to keep the one that is kept already.
";

impl Workspace {
    /// Writes connections, repositories and plans as a configuration. Where secrets were, it refers to
    /// variables that are named after their owners.
    ///
    /// # Errors
    /// `Unsupported` if settings of a connection cannot be written in TOML; those of the store.
    pub async fn export_config(&self) -> Result<String> {
        let mut names = BTreeMap::new();
        let mut variables = BTreeSet::new();
        let mut connections = Table::new();
        for record in self.list_all(RecordKind::Connection).await? {
            let ConnectionBody { kind, settings, max_runs } = record.decode()?;
            let name = record.content.name;
            let settings = serde_json::from_str(settings.get())
                .map_err(|error| Error::corrupt(format!("connection `{name}`"), error))?;
            let Some(toml::Value::Table(mut table)) = toml_of(settings) else {
                let message = format!("cannot write the settings of connection `{name}` in TOML");
                return Err(Error::new(ErrorKind::Unsupported, message));
            };
            table.insert("kind".into(), text(&kind));
            if let Some(most) = max_runs {
                table.insert("max_runs".into(), i64::from(most.get()).into());
            }
            for secret in record.content.secrets.keys() {
                let variable = free_variable(&variables, &name, secret);
                table.insert(secret.clone(), format!("${{{variable}}}").into());
                variables.insert(variable);
            }
            names.insert(record.itself.id.to_string(), name.clone());
            connections.insert(name, table.into());
        }
        let reference = |names: &BTreeMap<String, String>, id: &str| {
            text(names.get(id).map_or("", String::as_str))
        };
        let mut repositories = Table::new();
        for record in self.list_all(RecordKind::Repository).await? {
            let body: RepositoryBody = record.decode()?;
            let name = record.content.name;
            let variable = free_variable(&variables, &name, PASSWORD);
            let mut table = Table::new();
            table.insert("connection".into(), reference(&names, &body.connection));
            if !body.path.is_empty() {
                table.insert("path".into(), text(&body.path));
            }
            table.insert("password".into(), format!("${{{variable}}}").into());
            variables.insert(variable);
            names.insert(record.itself.id.to_string(), name.clone());
            repositories.insert(name, table.into());
        }
        let mut plans = Table::new();
        for record in self.list_all(RecordKind::Plan).await? {
            let body: PlanBody = record.decode()?;
            let to: Vec<_> = body.repositories.iter().map(|id| reference(&names, id)).collect();
            let mut table = Table::new();
            let mut from = body.sources.iter().map(|id| reference(&names, id));
            let from = match (from.next(), from.len()) {
                (Some(only), 0) => only,
                (first, _) => first.into_iter().chain(from).collect::<Vec<_>>().into(),
            };
            table.insert("from".into(), from);
            table.insert("to".into(), to.into());
            if !body.tags.is_empty() {
                let tags: Vec<_> = body.tags.iter().map(|tag| text(tag)).collect();
                table.insert("tags".into(), tags.into());
            }
            plans.insert(record.content.name, table.into());
        }
        let mut exported = HEADING.to_owned();
        for (heading, tables) in
            [("connections", connections), ("repositories", repositories), ("plans", plans)]
        {
            if !tables.is_empty() {
                let table = Table::from_iter([(heading.to_owned(), tables.into())]);
                let written = toml::to_string(&table).map_err(|error| {
                    Error::new(ErrorKind::Internal, "cannot write TOML").with_source(error)
                })?;
                exported.push('\n');
                exported.push_str(&written);
            }
        }
        Ok(exported)
    }
}

fn text(text: &str) -> toml::Value {
    escape(text).into()
}

/// Nothing if there is something that TOML has not.
fn toml_of(json: Value) -> Option<toml::Value> {
    Some(match json {
        Value::Null => return None,
        Value::Bool(is) => is.into(),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => integer.into(),
            None if number.is_f64() => number.as_f64()?.into(),
            None => return None,
        },
        Value::String(plain) => text(&plain),
        Value::Array(items) => items.into_iter().map(toml_of).collect::<Option<Vec<_>>>()?.into(),
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| Some((name, toml_of(value)?)));
            fields.collect::<Option<Table>>()?.into()
        }
    })
}

/// A variable that is not that of another secret.
fn free_variable(used: &BTreeSet<String>, owner: &str, secret: &str) -> String {
    let first = variable_for(owner, secret);
    let mut variable = first.clone();
    for number in 2_u32.. {
        if !used.contains(&variable) {
            break;
        }
        variable = format!("{first}_{number}");
    }
    variable
}
