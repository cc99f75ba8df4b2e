//! TypeScript types of JSON Schemas, as far as schemars makes these of our types.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value};

use crate::projection::{STATE_ALERTS, STATE_INCIDENTS_CLOSED, STATE_SESSIONS_ENDED};

/// How the name of a page of a list ends.
const PAGE: &str = "Page";

/// The module with all `definitions`, by name.
pub fn module(definitions: &Map<String, Value>) -> String {
    let mut text = String::from(
        "// The shapes of the HTTP API and of the live stream. Generated from the Rust types by a test: change those, then run\n\
         // `WATCHFOLD_BLESS=1 cargo test -p watchfold-dashboard described`.\n",
    );
    for (name, what, value) in [
        ("STATE_ALERTS_MAX", "Alerts", STATE_ALERTS),
        ("STATE_CLOSED_MAX", "Closed incidents", STATE_INCIDENTS_CLOSED),
        ("STATE_ENDED_MAX", "Ended sessions", STATE_SESSIONS_ENDED),
    ] {
        // Writing into a String cannot fail.
        let _ = write!(
            text,
            "\n/** {what} in a whole state at most; where it has fewer, the server has no others. */\n\
             export const {name} = {value};\n"
        );
    }
    let mut has_page = false;
    for (name, schema) in sorted(definitions) {
        match name.strip_suffix(PAGE) {
            Some(_) if has_page => continue,
            Some(item) => {
                has_page = true;
                let generic = definition("Page<T>", schema).replace(&format!(" {item}[];"), " T[];");
                text += &generic;
            }
            None => text += &definition(name, schema),
        }
    }
    text
}

fn definition(name: &str, schema: &Value) -> String {
    let mut text = format!("\n{}", doc(schema, ""));
    match schema["properties"].as_object() {
        Some(properties) => {
            let _ = writeln!(text, "export interface {name} {{");
            for (property, schema_of) in sorted(properties) {
                let mark = optional(schema, property);
                let _ = writeln!(
                    text,
                    "{}  {property}{mark}: {};",
                    doc(schema_of, "  "),
                    of(schema_of)
                );
            }
            text += "}\n";
        }
        None => {
            let _ = writeln!(text, "export type {name} = {};", of(schema));
        }
    }
    text
}

/// By name: the order of keys depends on what else is built into the same binary.
fn sorted(object: &Map<String, Value>) -> BTreeMap<&String, &Value> {
    object.iter().collect()
}

fn doc(schema: &Value, indent: &str) -> String {
    match schema["description"].as_str() {
        Some(words) => format!("{indent}/** {} */\n", words.replace("*/", "")),
        None => String::new(),
    }
}

fn optional(schema: &Value, property: &str) -> &'static str {
    let required = schema["required"].as_array();
    let is_required = required.is_some_and(|names| names.iter().any(|name| name == property));
    if is_required { "" } else { "?" }
}

/// The type of a schema, in one line.
fn of(schema: &Value) -> String {
    if let Some(path) = schema["$ref"].as_str() {
        return path.rsplit('/').next().unwrap_or_default().to_owned();
    }
    if let Some(several) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
        return union(several.iter().map(of));
    }
    if let Some(values) = schema["enum"].as_array() {
        return union(values.iter().map(Value::to_string));
    }
    if let Some(value) = schema.get("const") {
        return value.to_string();
    }
    match &schema["type"] {
        Value::String(name) => of_type(name, schema),
        Value::Array(names) => union(
            names
                .iter()
                .filter_map(Value::as_str)
                .map(|name| of_type(name, schema)),
        ),
        _ => "unknown".to_owned(),
    }
}

fn of_type(name: &str, schema: &Value) -> String {
    match name {
        "integer" | "number" => "number".to_owned(),
        "array" => array(schema),
        "object" => object(schema),
        // `string`, `boolean` and `null` have the same names.
        name => name.to_owned(),
    }
}

fn array(schema: &Value) -> String {
    if let Some(items) = schema["prefixItems"].as_array() {
        let items: Vec<String> = items.iter().map(of).collect();
        return format!("[{}]", items.join(", "));
    }
    let item = of(&schema["items"]);
    match (schema["minItems"].as_u64(), schema["maxItems"].as_u64()) {
        (Some(least), Some(most)) if least == most => {
            format!(
                "[{}]",
                vec![item; usize::try_from(most).unwrap_or_default()].join(", ")
            )
        }
        _ if item.contains(" | ") => format!("({item})[]"),
        _ => format!("{item}[]"),
    }
}

fn object(schema: &Value) -> String {
    let Some(properties) = schema["properties"].as_object() else {
        let value = schema
            .get("additionalProperties")
            .filter(|value| value.is_object());
        return format!(
            "Record<string, {}>",
            value.map_or_else(|| "unknown".to_owned(), of)
        );
    };
    let fields: Vec<String> = sorted(properties)
        .into_iter()
        .map(|(property, schema_of)| format!("{property}{}: {}", optional(schema, property), of(schema_of)))
        .collect();
    format!("{{ {} }}", fields.join("; "))
}

fn union(types: impl Iterator<Item = String>) -> String {
    let mut all: Vec<String> = types.collect();
    all.dedup();
    all.join(" | ")
}

#[test]
fn every_form_of_schema_has_its_type() {
    let schema = serde_json::json!({
        "description": "A thing.", "type": "object", "required": ["name", "either"],
        "properties": {
            "name": { "type": "string", "description": "Its name." },
            "either": { "anyOf": [{ "$ref": "#/components/schemas/Other" }, { "type": "null" }] },
            "pairs": { "type": "array", "items": { "type": "array", "prefixItems": [{ "type": "string" }, { "type": "integer" }] } },
            "five": { "type": "array", "items": { "type": "number" }, "minItems": 2, "maxItems": 2 },
            "state": { "oneOf": [{ "const": "up" }, { "type": "string", "enum": ["down", "held"] }] },
            "some": { "type": "array", "items": { "type": ["integer", "null"] } },
            "free": { "type": "object" },
        },
    });
    let text = definition("Thing", &schema);
    for part in [
        "  /** Its name. */\n  name: string;\n",
        "  either: Other | null;\n",
        "  pairs?: [string, number][];\n",
        "  five?: [number, number];\n",
        "  state?: \"up\" | \"down\" | \"held\";\n",
        "  some?: (number | null)[];\n",
        "  free?: Record<string, unknown>;\n",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(
        text.starts_with("\n/** A thing. */\nexport interface Thing {\n"),
        "{text}"
    );
}
