//! Shapes: what params may look like, as data, and the words in which the wire
//! says that they do not.
//!
//! The texts are wire literals, observed on both versions of the original. Version 3
//! lists every problem, version 4 names only the first missing and the first unknown
//! property of an object; they also spell `must NOT have fewer …` differently.

use std::fmt;

use serde_json::{Map, Value};

use crate::error::{Dialect, cut};

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Anything.
    Any,
    /// A string of any length.
    Text,
    /// A string with a least and a greatest number of characters (0 = no bound above).
    Str {
        /// Least number of characters.
        min: usize,
        /// Greatest number of characters, 0 for none.
        max: usize,
    },
    /// A non-empty string without a slash or backslash.
    FileSafe,
    /// An integer with bounds.
    Int {
        /// Smallest allowed.
        min: i64,
        /// Greatest allowed.
        max: i64,
    },
    /// A number with a least value.
    Number {
        /// Smallest allowed.
        min: i64,
    },
    /// Exactly this number.
    Exactly(i64),
    /// true or false.
    Bool,
    /// Exactly false.
    False,
    /// null.
    Null,
    /// Exactly this string.
    Const(&'static str),
    /// One of these strings, where wire 3 lists the constants one by one.
    OneOf(&'static [&'static str]),
    /// One of these strings, where both wires say so in the same words.
    Enum(&'static [&'static str]),
    /// A list of values of one shape with a least and a greatest length (0 = no bound above).
    List {
        /// What each item is.
        of: &'static Self,
        /// Least number of items.
        min: usize,
        /// Greatest number of items, 0 for none.
        max: usize,
    },
    /// An object with any keys and values of one shape.
    MapOf(&'static Self),
    /// An object with these fields and no others.
    Object(&'static [Field]),
    /// One of these shapes.
    AnyOf(&'static [Self]),
}

/// A string of at least one character.
pub const NON_EMPTY: Shape = Shape::Str { min: 1, max: 0 };
/// An integer of zero or more.
pub const COUNT: Shape = Shape::Int {
    min: 0,
    max: i64::MAX,
};

/// One field of an object.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Property name.
    pub name: &'static str,
    /// Whether it must be there.
    pub required: bool,
    /// What it may be.
    pub shape: Shape,
    /// Whether wire version 3 knows it.
    pub in_v3: bool,
}

/// A field that must be there.
pub const fn required(name: &'static str, shape: Shape) -> Field {
    Field {
        name,
        required: true,
        shape,
        in_v3: true,
    }
}

/// A field that may be there.
pub const fn optional(name: &'static str, shape: Shape) -> Field {
    Field {
        name,
        required: false,
        shape,
        in_v3: true,
    }
}

/// A field that may be there in wire version 4 only.
pub const fn since_v4(name: &'static str, shape: Shape) -> Field {
    Field {
        name,
        required: false,
        shape,
        in_v3: false,
    }
}

/// The problems of a value, joined as the wire joins them. `Ok` when there are none.
pub fn check(value: &Value, shape: &Shape, dialect: Dialect) -> Result<(), String> {
    // Nearly everything fits, and then there is nothing to put into words.
    let mut look = Checker::new(dialect, false);
    look.value(Path::ROOT, value, shape);
    if !look.found {
        return Ok(());
    }
    let mut checker = Checker::new(dialect, true);
    checker.value(Path::ROOT, value, shape);
    Err(checker.parts.join("; "))
}

/// Problems listed at most: a hostile value does not buy a long answer.
const PARTS_MAX: usize = 64;

/// Where a value is, as a JSON pointer that is written when somebody wants to read it.
#[derive(Clone, Copy)]
enum Path<'a> {
    Root,
    Key(&'a Self, &'a str),
    Index(&'a Self, usize),
}

impl Path<'_> {
    const ROOT: &'static Path<'static> = &Path::Root;
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Root => Ok(()),
            Self::Key(above, key) => {
                let key = clip(key).replace('~', "~0").replace('/', "~1");
                write!(f, "{above}/{key}")
            }
            Self::Index(above, index) => write!(f, "{above}/{index}"),
        }
    }
}

struct Checker {
    dialect: Dialect,
    /// Whether problems are put into words.
    tells: bool,
    found: bool,
    parts: Vec<String>,
}

impl Checker {
    fn new(dialect: Dialect, tells: bool) -> Self {
        Self {
            dialect,
            tells,
            found: false,
            parts: Vec::new(),
        }
    }

    fn say(&mut self, path: &Path<'_>, message: impl fmt::Display) {
        self.found = true;
        if self.tells {
            self.note(match path {
                Path::Root => message.to_string(),
                _ => format!("at {path}: {message}"),
            });
        }
    }

    fn note(&mut self, part: String) {
        if self.parts.len() < PARTS_MAX && !self.parts.contains(&part) {
            self.parts.push(part);
        }
    }

    fn value(&mut self, path: &Path<'_>, value: &Value, shape: &Shape) {
        match *shape {
            Shape::Any => {}
            Shape::Text => self.text(path, value, 0, 0),
            Shape::Str { min, max } => self.text(path, value, min, max),
            Shape::FileSafe => {
                self.text(path, value, 1, 0);
                if value.as_str().is_some_and(|t| t.contains(['/', '\\'])) {
                    self.say(path, r#"must match pattern "^[^/\\]+$""#);
                }
            }
            Shape::Int { min, max } => self.integer(path, value, min, max),
            Shape::Number { min } => match value.as_f64() {
                None => self.say(path, "must be number"),
                #[expect(clippy::cast_precision_loss, reason = "bounds are small numbers")]
                Some(number) if number < min as f64 => {
                    self.say(path, format_args!("must be >= {min}"));
                }
                Some(_) => {}
            },
            Shape::Exactly(want) => {
                if !value.is_number() {
                    self.say(path, "must be number");
                }
                #[expect(clippy::cast_precision_loss, reason = "such numbers are small")]
                if value.as_f64() != Some(want as f64) {
                    self.say(path, "must be equal to constant");
                }
            }
            Shape::Bool => {
                if !value.is_boolean() {
                    self.say(path, "must be boolean");
                }
            }
            Shape::False => {
                if !value.is_boolean() {
                    self.say(path, "must be boolean");
                }
                if value != &Value::Bool(false) {
                    self.say(path, "must be equal to constant");
                }
            }
            Shape::Null => {
                if !value.is_null() {
                    self.say(path, "must be null");
                }
            }
            Shape::Const(want) => {
                if !value.is_string() {
                    self.say(path, "must be string");
                }
                if value.as_str() != Some(want) {
                    self.say(path, "must be equal to constant");
                }
            }
            Shape::OneOf(allowed) => self.one_of(path, value, allowed, self.dialect),
            Shape::Enum(allowed) => self.one_of(path, value, allowed, Dialect::V4),
            Shape::List { of, min, max } => self.list(path, value, of, min, max),
            Shape::MapOf(of) => match value.as_object() {
                None => self.say(path, "must be object"),
                Some(map) => {
                    for (key, item) in map {
                        self.value(&Path::Key(path, key), item, of);
                    }
                }
            },
            Shape::Object(fields) => match value.as_object() {
                None => self.say(path, "must be object"),
                Some(map) => self.object(path, map, fields),
            },
            Shape::AnyOf(branches) => self.any_of(path, value, branches),
        }
    }

    fn text(&mut self, path: &Path<'_>, value: &Value, min: usize, max: usize) {
        let Some(text) = value.as_str() else {
            self.say(path, "must be string");
            return;
        };
        let not = match self.dialect {
            Dialect::V3 => "NOT",
            Dialect::V4 => "not",
        };
        // The bound is in characters; bytes decide most cases without counting.
        if text.len() < min || (min > 1 && text.chars().count() < min) {
            self.say(
                path,
                format_args!("must {not} have fewer than {min} characters"),
            );
        }
        if max > 0 && text.len() > max && text.chars().count() > max {
            self.say(
                path,
                format_args!("must {not} have more than {max} characters"),
            );
        }
    }

    fn integer(&mut self, path: &Path<'_>, value: &Value, min: i64, max: i64) {
        // JSON has one kind of number: 3.0 is an integer, as it is for the original.
        let whole = value.as_i64().or_else(|| {
            let number = value.as_f64()?;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "saturating is meant: the bounds decide"
            )]
            (number.fract() == 0.0).then_some(number as i64)
        });
        match whole {
            None => self.say(path, "must be integer"),
            Some(number) if number < min => self.say(path, format_args!("must be >= {min}")),
            Some(number) if number > max => self.say(path, format_args!("must be <= {max}")),
            Some(_) => {}
        }
    }

    fn one_of(&mut self, path: &Path<'_>, value: &Value, allowed: &[&str], words: Dialect) {
        if value.as_str().is_some_and(|text| allowed.contains(&text)) {
            return;
        }
        if !value.is_string() {
            self.say(path, "must be string");
        }
        match words {
            Dialect::V3 => {
                self.say(path, "must be equal to constant");
                self.say(path, "must match a schema in anyOf");
            }
            Dialect::V4 => self.say(path, "must be equal to one of the allowed values"),
        }
    }

    fn list(&mut self, path: &Path<'_>, value: &Value, of: &Shape, min: usize, max: usize) {
        let Some(items) = value.as_array() else {
            self.say(path, "must be array");
            return;
        };
        let not = match self.dialect {
            Dialect::V3 => "NOT",
            Dialect::V4 => "not",
        };
        if items.len() < min {
            self.say(path, format_args!("must {not} have fewer than {min} items"));
        }
        if max > 0 && items.len() > max {
            self.say(path, format_args!("must {not} have more than {max} items"));
        }
        for (index, item) in items.iter().enumerate() {
            self.value(&Path::Index(path, index), item, of);
        }
    }

    fn object(&mut self, path: &Path<'_>, map: &Map<String, Value>, fields: &[Field]) {
        let dialect = self.dialect;
        let known = |field: &&Field| field.in_v3 || dialect == Dialect::V4;
        let missing: Vec<&str> = fields
            .iter()
            .filter(known)
            .filter(|field| field.required && !map.contains_key(field.name))
            .map(|field| field.name)
            .collect();
        let unknown: Vec<&str> = map
            .keys()
            .filter(|key| !fields.iter().filter(known).any(|field| field.name == **key))
            .map(String::as_str)
            .collect();
        let shown = match self.dialect {
            Dialect::V3 => usize::MAX,
            Dialect::V4 => 1,
        };
        for name in missing.iter().take(shown) {
            self.say(path, format_args!("must have required property '{name}'"));
        }
        for name in unknown.iter().take(shown) {
            let name = clip(name);
            match path {
                Path::Root => self.say(path, format_args!("at root: unexpected property '{name}'")),
                _ => self.say(path, format_args!("unexpected property '{name}'")),
            }
        }
        for field in fields {
            if let Some(value) = map.get(field.name)
                && known(&field)
            {
                self.value(&Path::Key(path, field.name), value, &field.shape);
            }
        }
    }

    fn any_of(&mut self, path: &Path<'_>, value: &Value, branches: &[Shape]) {
        let fits = branches.iter().any(|branch| {
            let mut attempt = Self::new(self.dialect, false);
            attempt.value(path, value, branch);
            !attempt.found
        });
        if fits {
            return;
        }
        if self.tells {
            for branch in branches {
                let mut attempt = Self::new(self.dialect, true);
                attempt.value(path, value, branch);
                for part in attempt.parts {
                    self.note(part);
                }
            }
        }
        self.say(path, "must match a schema in anyOf");
    }
}

/// A property name as the answer repeats it: a long one is cut.
fn clip(name: &str) -> &str {
    cut(name, 80)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CLIENT: Shape = Shape::Object(&[
        required("id", Shape::OneOf(&["cli", "test"])),
        required("version", NON_EMPTY),
    ]);
    const SHAPE: Shape = Shape::Object(&[
        required(
            "min",
            Shape::Int {
                min: 1,
                max: i64::MAX,
            },
        ),
        required("client", CLIENT),
        since_v4("later", NON_EMPTY),
    ]);

    fn v3(value: &Value) -> String {
        check(value, &SHAPE, Dialect::V3).err().unwrap_or_default()
    }

    fn v4(value: &Value) -> String {
        check(value, &SHAPE, Dialect::V4).err().unwrap_or_default()
    }

    #[test]
    fn every_missing_property_is_named_in_v3_and_the_first_in_v4() {
        assert_eq!(
            v3(&json!({})),
            "must have required property 'min'; must have required property 'client'"
        );
        assert_eq!(v4(&json!({})), "must have required property 'min'");
    }

    #[test]
    fn enums_and_lengths_are_spelled_by_dialect() {
        let value = json!({"min": 1, "client": {"id": "x", "version": ""}});
        assert_eq!(
            v3(&value),
            "at /client/id: must be equal to constant; at /client/id: must match a schema in anyOf; \
             at /client/version: must NOT have fewer than 1 characters"
        );
        assert_eq!(
            v4(&value),
            "at /client/id: must be equal to one of the allowed values; \
             at /client/version: must not have fewer than 1 characters"
        );
    }

    #[test]
    fn a_field_of_v4_is_unknown_in_v3() {
        let value = json!({"min": 3.0, "client": {"id": "cli", "version": "1"}, "later": "x"});
        assert_eq!(v3(&value), "at root: unexpected property 'later'");
        assert_eq!(v4(&value), "");
    }

    #[test]
    fn wrong_types_and_bounds() {
        assert_eq!(v3(&json!(null)), "must be object");
        let value = json!({"min": 0, "client": 5});
        assert_eq!(
            v3(&value),
            "at /min: must be >= 1; at /client: must be object"
        );
        let value = json!({"min": 1.5, "client": 5});
        assert_eq!(
            v3(&value),
            "at /min: must be integer; at /client: must be object"
        );
    }

    #[test]
    fn a_hostile_value_gets_a_short_answer() {
        let mut map = Map::new();
        for n in 0..10_000 {
            map.insert(format!("{n}{}", "x".repeat(1000)), Value::Null);
        }
        assert!(v3(&Value::Object(map)).len() < 10_000);
    }
}
