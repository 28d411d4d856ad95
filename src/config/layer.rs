//! One file as a layer: its form, and where in its text everything stands.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::config::error::ConfigError;
use crate::config::file::Form;
use crate::config::origin::{Origin, Sourced};
use crate::config::value::Setting;
use crate::model::text;

/// A parsed file.
pub(crate) struct Layer<'text> {
    /// The file as it was named; `None` for the shipped configuration.
    file: Option<&'text Path>,
    text: &'text str,
    table: DeTable<'text>,
    pub(crate) form: Form,
}

impl<'text> Layer<'text> {
    /// Parses a file; its values are checked one by one, not yet against each other.
    pub(crate) fn parse(file: Option<&'text Path>, text: &'text str) -> Result<Self, ConfigError> {
        let table = DeTable::parse(text).map_err(|error| {
            let span = error.span().unwrap_or(text.len()..text.len());
            let problem = match (error.message(), text.get(span.clone())) {
                // The key's name says more than where it stands, and is no secret.
                ("duplicate key", Some(key)) => format!("duplicate key `{key}`"),
                (message, _) => message
                    .trim_end_matches(", expected literal string")
                    .to_owned(),
            };
            wrong(file, text, span.start, problem)
        })?;
        match Form::deserialize(toml::Deserializer::from(table.clone())) {
            Ok(form) => Ok(Self {
                file,
                text,
                table: table.into_inner(),
                form,
            }),
            Err(error) => {
                let span = error.span().unwrap_or_default();
                let problem = problem(table.get_ref(), &span, error.message());
                Err(wrong(file, text, span.start, problem))
            }
        }
    }

    /// The value of a key with its origin.
    pub(crate) fn sourced<T: Clone>(&self, setting: &Setting<T>) -> Option<Sourced<T>> {
        let origin = self.origin(setting.span()?.start);
        Some(Sourced::new(setting.get()?.clone(), origin))
    }

    /// The origin of what stands at a place of this file.
    fn origin(&self, at: usize) -> Origin {
        self.file.map_or(Origin::Default, |file| Origin::File {
            path: file.to_owned(),
            line: place(self.text, at).0,
        })
    }

    /// An error at a place of this file.
    pub(crate) fn wrong(&self, at: Option<Range<usize>>, problem: String) -> ConfigError {
        wrong(self.file, self.text, at.map_or(0, |at| at.start), problem)
    }

    /// Every key whose value is not that of `default`, dotted, with its origin.
    pub(crate) fn set(&self, default: &Layer<'_>) -> impl Iterator<Item = (String, Origin)> {
        let defaults: BTreeMap<_, _> = default.keys_in_text().into_iter().collect();
        let text = |layer: &Layer<'_>, span: &Range<usize>| {
            layer.text.get(span.clone()).map(str::to_owned)
        };
        let mut keys = self.keys_in_text();
        keys.retain(|(key, span)| {
            let shipped = defaults.get(key).and_then(|shipped| text(default, shipped));
            shipped.is_none() || shipped != text(self, span)
        });
        keys.into_iter()
            .map(|(key, span)| (key, self.origin(span.start)))
    }

    /// Every key, dotted, with the place of its value.
    fn keys_in_text(&self) -> Vec<(String, Range<usize>)> {
        let mut keys = Vec::new();
        collect(&self.table, "", &mut keys);
        keys
    }

    /// Where the name in `[table.name]` stands.
    pub(crate) fn name(&self, table: &str, name: &str) -> Option<Range<usize>> {
        self.entry(table, name).map(|(key, _)| key.span())
    }

    /// The keys of `[table.name]`, each with its place.
    pub(crate) fn keys(
        &self,
        table: &str,
        name: &str,
    ) -> impl Iterator<Item = (&str, Range<usize>)> {
        self.entry(table, name)
            .into_iter()
            .flat_map(|(_, table)| table.keys())
            .map(|key| (key.get_ref().as_ref(), key.span()))
    }

    fn entry(
        &self,
        table: &str,
        name: &str,
    ) -> Option<(&Spanned<DeString<'text>>, &DeTable<'text>)> {
        let tables = self.table.get(table)?.get_ref().as_table()?;
        let (key, value) = tables.get_key_value(name)?;
        Some((key, value.get_ref().as_table()?))
    }
}

/// Collects the keys below a table. What agents and tasks have in tables of their own is one value.
fn collect(table: &DeTable<'_>, path: &str, keys: &mut Vec<(String, Range<usize>)>) {
    for (key, value) in table {
        let name = format!("{path}{}", key.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) if name.matches('.').count() < 2 => {
                collect(inner, &format!("{name}."), keys);
            }
            _ => keys.push((name, value.span())),
        }
    }
}

fn wrong(file: Option<&Path>, text: &str, at: usize, problem: String) -> ConfigError {
    let file = file.map_or("the built-in configuration".into(), |file| {
        file.to_string_lossy()
    });
    let (line, column) = place(text, at);
    ConfigError::Wrong {
        place: format!("{file}:{line}:{column}"),
        problem,
    }
}

/// Line and column, both from 1, the column in characters.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (
        before.matches('\n').count() + 1,
        before[line_start..].chars().count() + 1,
    )
}

/// Says serde's message in the words of the file. What was found is told by its kind alone: the
/// value may be a secret.
fn problem(root: &DeTable<'_>, span: &Range<usize>, message: &str) -> String {
    let (path, value) = find(root, span).unwrap_or_default();
    if message.starts_with("unknown field ") {
        let mut words = message.split('`').skip(1).step_by(2);
        let name = words.next().unwrap_or_default();
        let noun = match value {
            Some(DeValue::Table(_)) => "table",
            Some(_) | None => "key",
        };
        return format!("unknown {noun} `{path}`; {}", text::suggest(name, words));
    }
    let found = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "));
    match found.and_then(|found| found.rsplit_once(", expected ")) {
        Some((_, "a string")) => format!("`{path}` must be text, not {}", kind(value)),
        Some((_, "a boolean")) => {
            format!("`{path}` must be `true` or `false`, not {}", kind(value))
        }
        Some((_, "a sequence")) => format!("`{path}` must be a list, not {}", kind(value)),
        Some((_, "a map")) => format!("`{path}` must be a table, not {}", kind(value)),
        Some((_, "u64")) => format!("`{path}` must be a whole number"),
        Some((_, "f64")) => format!("`{path}` must be a number, not {}", kind(value)),
        Some((_, "a nonzero u64")) => format!("`{path}` must be a whole number from 1"),
        Some((_, expected)) => format!("`{path}` must be {expected}, not {}", kind(value)),
        None => format!("`{path}`: {message}"),
    }
}

fn kind(value: Option<&DeValue<'_>>) -> &'static str {
    match value {
        Some(DeValue::String(_)) => "text",
        Some(DeValue::Integer(_)) => "a number",
        Some(DeValue::Float(_)) => "a fraction",
        Some(DeValue::Boolean(_)) => "a boolean",
        Some(DeValue::Datetime(_)) => "a date",
        Some(DeValue::Array(_)) => "a list",
        Some(DeValue::Table(_)) | None => "a table",
    }
}

/// The dotted path of the key or value at a place, and the value.
fn find<'a, 'text>(
    table: &'a DeTable<'text>,
    span: &Range<usize>,
) -> Option<(String, Option<&'a DeValue<'text>>)> {
    table.iter().find_map(|(key, value)| {
        let name = key.get_ref();
        let inner = match value.get_ref() {
            found if key.span() == *span || value.span() == *span => (String::new(), Some(found)),
            DeValue::Table(table) => find(table, span)?,
            DeValue::Array(array) => {
                let element = array.iter().find(|element| element.span() == *span)?;
                (String::new(), Some(element.get_ref()))
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => return None,
        };
        let (rest, value) = inner;
        let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let name = if name.chars().all(bare) {
            name.to_string()
        } else {
            format!("{name:?}")
        };
        let path = if rest.is_empty() {
            name
        } else {
            format!("{name}.{rest}")
        };
        Some((path, value))
    })
}
