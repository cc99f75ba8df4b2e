//! The description is true: every path in it is asked, and the answers are what it says.

use std::collections::BTreeSet;

use serde_json::Value;
use watchfold_schemas::EventBody;

use super::harness::Served;

#[tokio::test]
async fn every_documented_path_answers_as_documented() {
    let served = Served::alarmed().await;
    let (_, description) = served.get("/api/v1/openapi.json").await;
    let mut asked = 0;
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let response = served
                .request(method, &filled(path, operation), body(operation).as_deref())
                .await;
            let status = response.status().as_u16().to_string();
            let content_type = response.headers().get("content-type").cloned();
            let text = response.text().await.unwrap();
            let documented = &operation["responses"][&status];
            assert!(
                documented.is_object(),
                "{method} {path}: {status} is not documented: {text}"
            );
            let success = operation["responses"].as_object().unwrap().keys().next().unwrap();
            // A WebSocket cannot be opened this way, and the window to be cancelled does not exist.
            let refused =
                path == "/api/v1/stream" || (method == "delete" && path.starts_with("/api/v1/maintenance"));
            assert!(refused || *success == status, "{method} {path}: {status} {text}");
            for (kind, content) in documented["content"].as_object().unwrap() {
                let content_type = content_type.as_ref().unwrap().to_str().unwrap();
                assert!(
                    content_type.starts_with(kind.as_str()),
                    "{method} {path}: {content_type}"
                );
                if kind == "application/json" {
                    let answer = serde_json::from_str(&text).unwrap();
                    check(
                        &description,
                        &content["schema"],
                        &answer,
                        &format!("{method} {path}"),
                    );
                }
            }
            asked += 1;
        }
    }
    assert_eq!(asked, 34);
    served.stop().await;
}

#[tokio::test]
async fn the_check_sees_what_is_missing_and_what_is_more() {
    let served = Served::furnished().await;
    let (_, description) = served.get("/api/v1/openapi.json").await;
    let (_, state) = served.get("/api/v1/state").await;
    let schema = serde_json::json!({ "$ref": "#/components/schemas/State" });
    check(&description, &schema, &state, "state");
    let damages: [fn(&mut Value); 4] = [
        |state| drop(state["targets"][0].as_object_mut().unwrap().remove("rtt_us")),
        |state| state["targets"][0]["state"] = "sideways".into(),
        |state| state["occupancy"]["more"] = 1.into(),
        |state| state["incidents"][0]["started_at"] = 5.into(),
    ];
    for damage in damages {
        let mut damaged = state.clone();
        damage(&mut damaged);
        let seen = std::panic::catch_unwind(|| check(&description, &schema, &damaged, "state"));
        assert!(seen.is_err(), "{damaged}");
    }
    served.stop().await;
}

fn filled(path: &str, operation: &Value) -> String {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    parameters
        .filter(|parameter| parameter["in"] == "path")
        .fold(path.to_owned(), |path, parameter| {
            let name = format!("{{{}}}", parameter["name"].as_str().unwrap());
            path.replace(&name, parameter["example"].as_str().unwrap())
        })
}

fn body(operation: &Value) -> Option<String> {
    let example = &operation["requestBody"]["content"]["application/json"]["example"];
    (!example.is_null()).then(|| example.to_string())
}

/// Panics where `value` is not what `schema` allows.
fn check(description: &Value, schema: &Value, value: &Value, place: &str) {
    if let Err(why) = holds(description, schema, value, place) {
        panic!("{why}");
    }
}

/// As much of JSON Schema as the description uses.
fn holds(description: &Value, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        let schema = description
            .pointer(&name[1..])
            .ok_or_else(|| format!("{place}: no {name}"))?;
        return holds(description, schema, value, place);
    }
    if let Some(either) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
        let tried: Vec<String> = either
            .iter()
            .filter_map(|schema| holds(description, schema, value, place).err())
            .collect();
        if tried.len() == either.len() {
            return Err(format!("{place}: {value} is none of several: {tried:?}"));
        }
        return Ok(());
    }
    let constant = schema.get("const").map(|one| vec![one.clone()]);
    if let Some(allowed) = schema["enum"].as_array().or(constant.as_ref())
        && !allowed.contains(value)
    {
        return Err(format!("{place}: {value} is not one of {allowed:?}"));
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !types.is_empty() && !types.contains(&is) {
        return Err(format!("{place}: {is} instead of {types:?}: {value}"));
    }
    if schema["format"] == "date-time"
        && let Some(text) = value.as_str()
        && !(text.ends_with('Z') && text.parse::<watchfold_schemas::Time>().is_ok())
    {
        return Err(format!("{place}: {text} is no time in UTC"));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        let of_item = schema["prefixItems"].get(index).unwrap_or(&schema["items"]);
        holds(description, of_item, item, &format!("{place}[]"))?;
    }
    let Some(object) = value.as_object() else {
        return Ok(());
    };
    for name in schema["required"].as_array().into_iter().flatten() {
        if !object.contains_key(name.as_str().unwrap()) {
            return Err(format!("{place}: {name} is missing"));
        }
    }
    for (name, value) in object {
        match schema["properties"].get(name) {
            Some(schema) => holds(description, schema, value, &format!("{place}.{name}"))?,
            None if schema["additionalProperties"] == false => {
                return Err(format!("{place}: {name} is not documented"));
            }
            None => {}
        }
    }
    Ok(())
}

/// A refusal of an unknown parameter names the known ones.
#[tokio::test]
async fn every_read_takes_the_parameters_that_are_described_and_no_others() {
    let served = Served::alarmed().await;
    let (_, description) = served.get("/api/v1/openapi.json").await;
    let mut asked = 0;
    for (path, item) in description["paths"].as_object().unwrap() {
        let operation = &item["get"];
        if operation["responses"]["400"].is_null() || path == "/metrics" {
            continue;
        }
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let described: BTreeSet<&str> = parameters
            .filter(|parameter| parameter["in"] == "query")
            .filter_map(|parameter| parameter["name"].as_str())
            .collect();
        let (status, answer) = served
            .get(&format!("{}?unknown=1", filled(path, operation)))
            .await;
        let message = answer["error"]["message"].as_str().unwrap().to_owned();
        assert_eq!(
            (status, &answer["error"]["code"]),
            (400, &"unknown_parameter".into()),
            "{path}"
        );
        let (_, known) = message.rsplit_once("known: ").unwrap();
        let known: BTreeSet<&str> = known.split(", ").filter(|name| *name != "none is").collect();
        assert_eq!(known, described, "{path}");
        asked += 1;
    }
    assert!(asked > 20, "only {asked} paths were asked");
    served.stop().await;
}

#[tokio::test]
async fn every_kind_of_event_can_be_asked_for() {
    let served = Served::furnished().await;
    for kind in EventBody::KINDS {
        let (status, answer) = served.get(&format!("/api/v1/events?kind={kind}")).await;
        assert_eq!(status, 200, "{kind}: {answer}");
    }
    served.stop().await;
}

/// Each value is just beyond what the description allows; the server refuses it, too.
#[tokio::test]
async fn values_beyond_the_description_are_refused_by_the_server() {
    let served = Served::furnished().await;
    let names: Vec<&str> = vec!["router"; 1_001];
    let window = serde_json::json!({
        "subjects": names, "from": "2099-01-01T00:00:00Z", "until": "2099-01-01T02:00:00Z",
    });
    assert_eq!(
        served.post("/api/v1/maintenance", &window.to_string()).await.0,
        400
    );
    let note = "x".repeat(1_001);
    for body in [
        serde_json::json!({ "for_ms": 7_776_000_001_u64 }),
        serde_json::json!({ "for_ms": 0 }),
        serde_json::json!({ "for_ms": 1_000, "note": note }),
        serde_json::json!({ "for_ms": 1_000, "other": 1 }),
    ] {
        let (status, answer) = served
            .post("/api/v1/targets/router/mute", &body.to_string())
            .await;
        assert_eq!(status, 400, "{answer}");
    }
    let long = "x".repeat(201);
    for path in [
        "/api/v1/events?after=18446744073709551616".to_owned(),
        "/api/v1/events?kind=a.b".to_owned(),
        format!("/api/v1/events?kind={}", &long[..49]),
        format!("/api/v1/alerts?text={long}"),
        "/api/v1/alerts?source=example.org".to_owned(),
        "/api/v1/alerts?destination=10.0.0.0/8/8".to_owned(),
        "/api/v1/incidents?after=1".to_owned(),
        "/api/v1/sessions?after=x~y".to_owned(),
        "/api/v1/alerts?after=1".to_owned(),
        "/api/v1/attacks?after=1".to_owned(),
        "/api/v1/maintenance?after=1".to_owned(),
        "/api/v1/targets?limit=1001".to_owned(),
    ] {
        assert_eq!(served.get(&path).await.0, 400, "{path}");
    }
    served.stop().await;
}
