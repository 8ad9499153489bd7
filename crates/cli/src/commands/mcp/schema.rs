//! The method table as JSON schemas.

use clawgate_protocol::{
    Dialect,
    shape::{Field, Shape},
};
use serde_json::{Map, Value, json};

/// What the params of a method may be: always an object, as tools have it.
pub(super) fn of_params(shape: Option<&Shape>, dialect: Dialect) -> Map<String, Value> {
    let schema = match shape {
        Some(shape) => of(shape, dialect),
        // The handler looks itself, and says what it misses.
        None => json!({"type": "object"}),
    };
    match schema {
        Value::Object(mut schema) => {
            schema.insert("type".to_owned(), json!("object"));
            schema
        }
        _ => Map::new(),
    }
}

fn of(shape: &Shape, dialect: Dialect) -> Value {
    match *shape {
        Shape::Any => json!({}),
        Shape::Text => json!({"type": "string"}),
        Shape::Str { min, max } => bounded(json!({"type": "string"}), "Length", min, max),
        Shape::FileSafe => json!({"type": "string", "pattern": r"^[^/\\]+$"}),
        Shape::Int { min, max } => {
            let mut schema = json!({"type": "integer"});
            if min != i64::MIN {
                schema["minimum"] = json!(min);
            }
            if max != i64::MAX {
                schema["maximum"] = json!(max);
            }
            schema
        }
        Shape::Number { min } if min == i64::MIN => json!({"type": "number"}),
        Shape::Number { min } => json!({"type": "number", "minimum": min}),
        Shape::Exactly(number) => json!({"const": number}),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::False => json!({"const": false}),
        Shape::Null => json!({"type": "null"}),
        Shape::Const(text) => json!({"const": text}),
        Shape::OneOf(texts) | Shape::Enum(texts) => json!({"type": "string", "enum": texts}),
        Shape::List { of: item, min, max } => {
            let list = json!({"type": "array", "items": of(item, dialect)});
            bounded(list, "Items", min, max)
        }
        Shape::MapOf(value) => {
            json!({"type": "object", "additionalProperties": of(value, dialect)})
        }
        Shape::Object(fields) => object(fields, dialect),
        Shape::AnyOf(shapes) => {
            let shapes: Vec<Value> = shapes.iter().map(|shape| of(shape, dialect)).collect();
            json!({"anyOf": shapes})
        }
    }
}

fn object(fields: &[Field], dialect: Dialect) -> Value {
    let known = |field: &&Field| field.in_v3 || dialect == Dialect::V4;
    let properties: Map<String, Value> = fields
        .iter()
        .filter(known)
        .map(|field| (field.name.to_owned(), of(&field.shape, dialect)))
        .collect();
    let required: Vec<&str> = fields
        .iter()
        .filter(known)
        .filter(|field| field.required)
        .map(|field| field.name)
        .collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// Bounds of a length, where there are any.
fn bounded(mut schema: Value, of: &str, min: usize, max: usize) -> Value {
    if min > 0 {
        schema[format!("min{of}")] = json!(min);
    }
    if max > 0 {
        schema[format!("max{of}")] = json!(max);
    }
    schema
}

#[cfg(test)]
mod tests {
    use clawgate_protocol::{
        Method,
        shape::{NON_EMPTY, optional, required, since_v4},
    };

    use super::*;

    const SHAPE: Shape = Shape::Object(&[
        required("id", NON_EMPTY),
        optional("mode", Shape::Enum(&["due", "force"])),
        since_v4("later", Shape::Int { min: 1, max: 9 }),
    ]);

    #[test]
    fn an_object_says_what_it_needs_and_takes_nothing_else() {
        assert_eq!(
            Value::Object(of_params(Some(&SHAPE), Dialect::V4)),
            json!({"type": "object", "required": ["id"], "additionalProperties": false, "properties": {
                "id": {"type": "string", "minLength": 1},
                "mode": {"type": "string", "enum": ["due", "force"]},
                "later": {"type": "integer", "minimum": 1, "maximum": 9},
            }})
        );
    }

    #[test]
    fn a_field_of_wire_4_is_not_offered_on_wire_3() {
        let schema = of_params(Some(&SHAPE), Dialect::V3);
        assert!(schema["properties"].get("later").is_none());
    }

    #[test]
    fn params_of_every_method_are_an_object() {
        for method in Method::ALL {
            let schema = of_params(method.spec().params.as_ref(), Dialect::V4);
            assert_eq!(schema["type"], "object", "{}", method.spec().name);
        }
    }
}
