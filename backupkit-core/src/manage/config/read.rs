//! Reads the text, and says all that is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use serde_json::Value;
use serde_json::value::RawValue;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::reference::{SecretReference, expand};
use super::{
    ConfigErrors, Configuration, DeclaredConnection, DeclaredPlan, DeclaredRepository,
    MAX_CONFIG_BYTES, References,
};
use crate::error::{Error, ErrorKind, Result};
use crate::manage::ConnectionBody;
use crate::manage::set_up::fault_of_tag;
use crate::registry::Registry;
use crate::state::check_name;

/// What stands beside what the kind of a connection wants to know.
const CONNECTION_FIELDS: [&str; 2] = ["kind", "max_runs"];

impl Configuration {
    /// Reads a text. Variables are looked up but where they stand for secrets; nothing else is.
    ///
    /// # Errors
    /// `InvalidInput`; [`ConfigErrors::of`] finds all that is wrong in it.
    pub fn parse(text: &str, registry: &Registry, references: &dyn References) -> Result<Self> {
        if text.len() > MAX_CONFIG_BYTES {
            let message = format!("a configuration has at most {MAX_CONFIG_BYTES} bytes");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let mut reader = Reader {
            text,
            registry,
            references,
            errors: ConfigErrors::default(),
            declared: BTreeSet::new(),
            expanded: Vec::new(),
        };
        let (document, syntax) = DeTable::parse_recoverable(text);
        for error in &syntax {
            // Never the line itself, as the error would print it: it may hold a secret.
            let line = error.span().map(|span| reader.line(span.start));
            reader.errors.add(line, "", error.message());
        }
        // What is half understood would only be blamed for what is missing of it.
        if !syntax.is_empty() {
            reader.errors.into_result()?;
            return Err(Error::new(ErrorKind::Internal, "a refusal without a reason"));
        }
        let configuration = reader.configuration(document.get_ref());
        reader.check_names_in(&configuration);
        reader.errors.into_result().map(|()| configuration)
    }
}

struct Reader<'a> {
    text: &'a str,
    registry: &'a Registry,
    references: &'a dyn References,
    errors: ConfigErrors,
    /// The places of all named tables, also of those that are wrong.
    declared: BTreeSet<String>,
    expanded: Vec<Expanded>,
}

/// A text with the values of variables in it. They may be secret: whatever is told is told as it was
/// written.
struct Expanded {
    place: String,
    value: String,
    written: String,
}

/// A table whose fields are taken one after the other; what is left is not known.
struct Fields<'a, 'b> {
    place: String,
    line: u64,
    table: &'a DeTable<'b>,
    known: BTreeSet<&'static str>,
}

impl<'a, 'b> Fields<'a, 'b> {
    fn place_of(&self, field: &str) -> String {
        if self.place.is_empty() { field.to_owned() } else { format!("{}.{field}", self.place) }
    }

    fn get(&self, field: &str) -> Option<&'a Spanned<DeValue<'b>>> {
        self.table.iter().find(|(key, _)| key.get_ref() == field).map(|(_, value)| value)
    }

    /// As [`Self::get`], and the field is known.
    fn take(&mut self, field: &'static str) -> Option<&'a Spanned<DeValue<'b>>> {
        self.known.insert(field);
        self.get(field)
    }
}

impl Reader<'_> {
    fn line(&self, at: usize) -> u64 {
        let before = self.text.as_bytes().get(..at).unwrap_or_default();
        before.split(|byte| *byte == b'\n').count() as u64
    }

    fn configuration(&mut self, document: &DeTable<'_>) -> Configuration {
        let mut top =
            Fields { place: String::new(), line: 1, table: document, known: BTreeSet::new() };
        let mut connections = BTreeMap::new();
        for (name, mut fields) in self.named_tables(&mut top, "connections") {
            connections.extend(self.connection(&mut fields).map(|declared| (name, declared)));
        }
        let mut repositories = BTreeMap::new();
        for (name, mut fields) in self.named_tables(&mut top, "repositories") {
            repositories.extend(self.repository(&mut fields).map(|declared| (name, declared)));
        }
        let mut plans = BTreeMap::new();
        for (name, mut fields) in self.named_tables(&mut top, "plans") {
            plans.extend(self.plan(&mut fields).map(|declared| (name, declared)));
        }
        self.refuse_unknown(&top);
        Configuration { connections, repositories, plans }
    }

    fn connection(&mut self, fields: &mut Fields<'_, '_>) -> Option<DeclaredConnection> {
        let line = fields.line;
        let kind = self.required_text(fields, "kind");
        let max_runs = self.max_runs(fields);
        let known = kind.as_ref().map(|kind| self.registry.get(kind));
        let secret_names = match &known {
            Some(Ok(known)) => known.secret_names(),
            _ => &[],
        };
        let mut settings = serde_json::Map::new();
        let mut secrets = BTreeMap::new();
        let mut unread = BTreeSet::new();
        for (key, value) in fields.table {
            let field = key.get_ref();
            if secret_names.contains(&field.as_ref()) {
                let reference = self.secret(fields, field, value);
                secrets.extend(reference.map(|reference| (field.to_string(), reference)));
            } else if !CONNECTION_FIELDS.contains(&field.as_ref()) {
                if let Some(json) = self.json(&fields.place_of(field), value) {
                    settings.insert(field.to_string(), json);
                } else {
                    unread.insert(field.to_string());
                }
            }
        }
        let kind = kind?;
        let known = match known? {
            Ok(known) => known,
            Err(error) => {
                self.add(line, &fields.place_of("kind"), &error.report());
                return None;
            }
        };
        let settings = RawValue::from_string(Value::Object(settings).to_string()).ok()?;
        let wrong = known.check_settings(&settings);
        // What could not be read is not missing.
        for wrong in wrong.iter().filter(|wrong| !unread.contains(&wrong.field)) {
            let at = fields.get(&wrong.field).map_or(line, |value| self.line(value.span().start));
            let place = match wrong.field.as_str() {
                "" => fields.place.clone(),
                field => fields.place_of(field),
            };
            self.add(at, &place, &wrong.message);
        }
        if !unread.is_empty() {
            return None;
        }
        let body = ConnectionBody {
            kind,
            settings: settings.into(),
            max_runs: NonZeroU32::new(max_runs?),
        };
        let used = known.used_secrets(&body.settings);
        for name in secrets.keys().filter(|name| !used.contains(&name.as_str())) {
            let at = fields.get(name).map_or(line, |value| self.line(value.span().start));
            self.add(at, &fields.place_of(name), "means nothing with these settings");
        }
        Some(DeclaredConnection { line, body, secrets })
    }

    /// 0 if nothing is said about it; nothing if it is wrong.
    fn max_runs(&mut self, fields: &mut Fields<'_, '_>) -> Option<u32> {
        let Some(value) = fields.take("max_runs") else { return Some(0) };
        let most = match value.get_ref() {
            DeValue::Integer(number) => u32::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        let most = most.filter(|most| *most > 0);
        if most.is_none() {
            self.wrong(fields, "max_runs", value, "is no number from 1 on");
        }
        most
    }

    fn repository(&mut self, fields: &mut Fields<'_, '_>) -> Option<DeclaredRepository> {
        let connection = self.required_text(fields, "connection");
        let path = self.text(fields, "path");
        let create = fields.take("create").map(|value| (value, value.get_ref().as_bool()));
        if let Some((value, None)) = create {
            self.wrong(fields, "create", value, "is neither true nor false");
        }
        let password =
            fields.take("password").and_then(|value| self.secret(fields, "password", value));
        self.refuse_unknown(fields);
        Some(DeclaredRepository {
            line: fields.line,
            connection: connection?,
            path: path.unwrap_or_default(),
            password,
            create: create.and_then(|(_, create)| create).unwrap_or_default(),
        })
    }

    fn secret(
        &mut self,
        fields: &Fields<'_, '_>,
        field: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<SecretReference> {
        let reference = match value.get_ref().as_str() {
            Some(text) => SecretReference::parse(text, self.references),
            None => Err("is not text".to_owned()),
        };
        reference.map_err(|why| self.wrong(fields, field, value, &why)).ok()
    }

    fn plan(&mut self, fields: &mut Fields<'_, '_>) -> Option<DeclaredPlan> {
        let from = self.text_or_texts(fields, "from");
        if from.as_ref().is_some_and(Vec::is_empty) {
            let place = fields.place_of("from");
            self.errors.add(Some(fields.line), place, "is missing: name a connection");
        }
        let to = self.texts(fields, "to");
        let tags = self.texts(fields, "tags").unwrap_or_default();
        let at = fields.get("tags").map_or(fields.line, |tags| self.line(tags.span().start));
        for fault in tags.iter().filter_map(|tag| fault_of_tag(tag)) {
            self.errors.add(Some(at), fields.place_of("tags"), format!("a tag {fault}"));
        }
        if to.as_ref().is_none_or(Vec::is_empty) {
            let place = fields.place_of("to");
            self.errors.add(Some(fields.line), place, "is missing: name a repository");
        }
        self.refuse_unknown(fields);
        let to = to.unwrap_or_default();
        let from = from?;
        for (field, names) in [("from", &from), ("to", &to)] {
            if names.iter().collect::<BTreeSet<_>>().len() < names.len() {
                let place = fields.place_of(field);
                self.errors.add(Some(fields.line), place, "has the same name twice");
            }
        }
        Some(DeclaredPlan { line: fields.line, from, to, tags })
    }

    /// Whether all that is named is there.
    fn check_names_in(&mut self, configuration: &Configuration) {
        let Configuration { repositories, plans, .. } = configuration;
        let mut missing = Vec::new();
        let mut places = BTreeMap::new();
        for (name, declared) in repositories {
            let place = (&declared.connection, &declared.path);
            if let Some(other) = places.insert(place, name) {
                let message = format!("lies at the same place as repository `{other}`");
                self.errors.add(Some(declared.line), format!("repositories.{name}"), message);
            }
            if !self.declares("connections", &declared.connection) {
                let place = format!("repositories.{name}.connection");
                missing.push((declared.line, place, "connection", &declared.connection));
            }
        }
        for (name, declared) in plans {
            for from in declared.from.iter().filter(|from| !self.declares("connections", from)) {
                missing.push((declared.line, format!("plans.{name}.from"), "connection", from));
            }
            for to in declared.to.iter().filter(|to| !self.declares("repositories", to)) {
                missing.push((declared.line, format!("plans.{name}.to"), "repository", to));
            }
        }
        for (line, place, kind, name) in missing {
            self.add(line, &place, &format!("there is no {kind} `{name}` in this file"));
        }
    }

    /// Whether there is a table of this name, right or wrong.
    fn declares(&self, field: &str, name: &str) -> bool {
        self.declared.contains(&format!("{field}.{name}"))
    }

    /// Says that something is wrong, with variables where their values would stand.
    fn add(&mut self, line: u64, place: &str, message: &str) {
        let mut message = message.to_owned();
        for Expanded { place: at, value, written } in &self.expanded {
            let is_there =
                at.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
            if !is_there || value.is_empty() {
                continue;
            }
            message = message.replace(&format!("{value:?}"), &format!("{written:?}"));
            message = message.replace(&format!("`{value}`"), &format!("`{written}`"));
            if message.contains(value) {
                "will not do with the values of its variables".clone_into(&mut message);
            }
        }
        self.errors.add(Some(line), place, message);
    }

    /// Puts the values of variables into a text.
    fn expand(&mut self, place: &str, written: &str) -> Result<String, String> {
        let value = expand(written, self.references)?;
        if value != written {
            let (place, written) = (place.to_owned(), written.to_owned());
            self.expanded.push(Expanded { place, value: value.clone(), written });
        }
        Ok(value)
    }

    /// The tables in a table, by name.
    fn named_tables<'t, 'b>(
        &mut self,
        top: &mut Fields<'t, 'b>,
        field: &'static str,
    ) -> Vec<(String, Fields<'t, 'b>)> {
        let Some(found) = top.take(field) else { return Vec::new() };
        let Some(tables) = found.get_ref().as_table() else {
            self.wrong(top, field, found, "is no table");
            return Vec::new();
        };
        let mut named = Vec::new();
        for (key, value) in tables {
            let (name, line) = (key.get_ref().to_string(), self.line(key.span().start));
            let place = format!("{field}.{name}");
            self.declared.insert(place.clone());
            if let Err(error) = check_name(&name) {
                self.errors.add(Some(line), &place, error.report());
            }
            match value.get_ref().as_table() {
                Some(table) => {
                    named.push((name, Fields { place, line, table, known: BTreeSet::new() }));
                }
                None => self.errors.add(Some(line), place, "is no table"),
            }
        }
        named
    }

    fn text(&mut self, fields: &mut Fields<'_, '_>, field: &'static str) -> Option<String> {
        let value = fields.take(field)?;
        let text = match value.get_ref().as_str() {
            Some(text) => self.expand(&fields.place_of(field), text),
            None => Err("is not text".to_owned()),
        };
        text.map_err(|why| self.wrong(fields, field, value, &why)).ok()
    }

    fn required_text(
        &mut self,
        fields: &mut Fields<'_, '_>,
        field: &'static str,
    ) -> Option<String> {
        if fields.take(field).is_none() {
            self.errors.add(Some(fields.line), fields.place_of(field), "is missing");
        }
        self.text(fields, field)
    }

    /// A list of texts, or one of them.
    fn text_or_texts(
        &mut self,
        fields: &mut Fields<'_, '_>,
        field: &'static str,
    ) -> Option<Vec<String>> {
        if fields.get(field).is_some_and(|value| value.get_ref().as_array().is_some()) {
            return self.texts(fields, field);
        }
        self.required_text(fields, field).map(|text| vec![text])
    }

    fn texts(&mut self, fields: &mut Fields<'_, '_>, field: &'static str) -> Option<Vec<String>> {
        let value = fields.take(field)?;
        let place = fields.place_of(field);
        let texts = value.get_ref().as_array().ok_or_else(|| "is no list of texts".to_owned());
        let texts = texts.and_then(|array| {
            let text = |value: &Spanned<DeValue<'_>>| match value.get_ref().as_str() {
                Some(text) => self.expand(&place, text),
                None => Err("is no list of texts".to_owned()),
            };
            array.iter().map(text).collect::<Result<Vec<_>, _>>()
        });
        texts.map_err(|why| self.wrong(fields, field, value, &why)).ok()
    }

    fn json(&mut self, place: &str, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        let line = self.line(value.span().start);
        let json = match value.get_ref() {
            DeValue::String(text) => self.expand(place, text).map(Value::String),
            DeValue::Boolean(is) => Ok(Value::Bool(*is)),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map(Value::from)
                .map_err(|_| "is too large a number".to_owned()),
            DeValue::Float(number) => {
                let parsed = number.as_str().parse::<f64>().ok();
                let json = parsed.and_then(serde_json::Number::from_f64);
                json.map(Value::Number).ok_or_else(|| "is no number".to_owned())
            }
            DeValue::Datetime(_) => Err("is a time; write it as text".to_owned()),
            DeValue::Array(values) => {
                let items = values.iter().map(|value| self.json(place, value));
                return items.collect::<Option<_>>().map(Value::Array);
            }
            DeValue::Table(table) => {
                let fields = table.iter().map(|(key, value)| {
                    let place = format!("{place}.{}", key.get_ref());
                    Some((key.get_ref().to_string(), self.json(&place, value)?))
                });
                return fields.collect::<Option<_>>().map(Value::Object);
            }
        };
        json.map_err(|why| self.errors.add(Some(line), place, why)).ok()
    }

    fn refuse_unknown(&mut self, fields: &Fields<'_, '_>) {
        for (key, _) in fields.table {
            if !fields.known.contains(key.get_ref().as_ref()) {
                let line = self.line(key.span().start);
                let known = fields.known.iter().copied().collect::<Vec<_>>().join(", ");
                let message = format!("is not known here; known are: {known}");
                self.errors.add(Some(line), fields.place_of(key.get_ref()), message);
            }
        }
    }

    fn wrong(
        &mut self,
        fields: &Fields<'_, '_>,
        field: &str,
        value: &Spanned<DeValue<'_>>,
        why: &str,
    ) {
        let line = self.line(value.span().start);
        self.errors.add(Some(line), fields.place_of(field), why);
    }
}
