//! Generates the description of the API (`openapi.json`) and the page's types (`page/src/lib/api.ts`) from the Rust types that
//! are sent, and fails when either file differs from them. `WATCHFOLD_BLESS=1` writes both files.

mod operations;
mod typescript;

use std::borrow::Cow;
use std::path::Path;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};
use watchfold_schemas::EventBody;
use watchfold_web::ErrorAnswer;

use crate::live::Message;
use operations::{Operation, operations};

/// Where the description keeps the schemas of the types.
const SCHEMAS: &str = "/components/schemas";

/// A kind of event, as [`EventBody::kind`] spells it.
pub struct EventKind;

impl JsonSchema for EventKind {
    fn schema_name() -> Cow<'static, str> {
        "EventKind".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": EventBody::KINDS })
    }
}

#[test]
fn the_description_is_generated_from_the_types_and_operations() {
    let (description, _) = generated();
    let path = "openapi.json";
    let text = serde_json::to_string_pretty(&description).unwrap() + "\n";
    // Compared as values: the order of keys depends on what else is built into the same binary.
    let found = serde_json::from_str::<Value>(&read(path)).unwrap_or_default();
    hold(path, found == description, &text);
}

#[test]
fn the_page_has_the_types_that_are_sent() {
    let (_, definitions) = generated();
    let path = "page/src/lib/api.ts";
    let text = typescript::module(&definitions);
    hold(path, read(path) == text, &text);
}

/// The description, and the schemas of all types that viewers and clients get, by name.
fn generated() -> (Value, Map<String, Value>) {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.definitions_path = format!("#{SCHEMAS}").into();
    let mut generator = settings.into_generator();
    let operations = operations(&mut generator);
    generator.subschema_for::<ErrorAnswer<'_>>();
    generator.subschema_for::<Message<'_>>();
    let mut definitions = generator.take_definitions(true);
    definitions.values_mut().for_each(close);
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let (path, method) = (operation.path, operation.method);
        paths.entry(path).or_insert_with(|| json!({}))[method] = described(operation);
    }
    let description = json!({
        "openapi": "3.1.0",
        "info": { "title": "Watchfold", "version": "1", "description": operations::ABOUT },
        "servers": [{ "url": "../../", "description": "Relative to this document, so that it holds behind a proxy with a path prefix." }],
        "security": [{ "bearer": [] }, { "cookie": [] }],
        "paths": paths,
        "components": { "schemas": definitions, "securitySchemes": {
            "bearer": { "type": "http", "scheme": "bearer" },
            "cookie": { "type": "apiKey", "in": "cookie", "name": "watchfold_<port>", "description": operations::COOKIE },
        } },
    });
    (description, definitions)
}

fn described(operation: Operation) -> Value {
    let mut item = json!({ "summary": operation.summary, "responses": operation.answers });
    if operation.is_open {
        item["security"] = json!([]);
    }
    if !operation.parameters.is_empty() {
        item["parameters"] = operation.parameters.into();
    }
    if let Some(body) = operation.body {
        item["requestBody"] = body;
    }
    item
}

/// Answers have no fields but those of their types.
fn close(schema: &mut Value) {
    match schema {
        Value::Array(several) => several.iter_mut().for_each(close),
        Value::Object(object) => {
            object.values_mut().for_each(close);
            if object.contains_key("properties") && object.get("type") == Some(&"object".into()) {
                object.entry("additionalProperties").or_insert(Value::Bool(false));
            }
            if let Some(Value::String(text)) = object.get_mut("description") {
                *text = text.replace("[`", "`").replace("`]", "`").replace('\n', " ");
            }
        }
        _ => {}
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_default()
}

fn hold(path: &str, is_same: bool, text: &str) {
    if is_same {
        return;
    }
    if std::env::var_os("WATCHFOLD_BLESS").is_some() {
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(path), text).unwrap();
        return;
    }
    panic!(
        "{path} differs from the Rust types: run WATCHFOLD_BLESS=1 cargo test -p watchfold-dashboard described, and commit what it writes"
    );
}
