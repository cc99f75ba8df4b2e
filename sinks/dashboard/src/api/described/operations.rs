//! What the description says of each operation: parameters, body and answers. The schemas come from the Rust types.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};
use watchfold_replay::explain::Explanation;
use watchfold_schemas::EventBody;
use watchfold_schemas::event::{self, Severity};
use watchfold_schemas::rules::RuleState;
use watchfold_web::ErrorAnswer;

use super::super::acts::{Accepted, AckBody, MaintenanceBody, MuteBody};
use super::super::alerts::{Detection, OneAlert};
use super::super::filter;
use super::super::health::Health;
use super::super::params::{LIMIT_DEFAULT, LIMIT_MAX, Page};
use super::super::read::{POINTS_MAX, RecordedEvent};
use crate::live::State;
use crate::projection::shapes::{
    AlertShown, AttackShown, HistoryPoint, Incident, Maintenance, Occupancy, Target,
};

pub const ABOUT: &str = "Times are RFC 3339 in UTC, durations carry their unit in the name, every list has a limit and a cursor. \
     Everything but /livez and /readyz takes the access token. A request with a foreign name in Host gets 421, one without Host or \
     with two 400, and one whose head is longer than 32 KiB or has more than 64 header lines 431. A body is at most 64 KiB long. \
     Unknown parameters and fields are refused.";
pub const COOKIE: &str =
    "Set by opening /?token=… once; requests that change something must come from the page's own origin.";

const DONE: &str = "As asked.";
const CATCHING_UP: &str =
    "Not possible at the moment; `catching_up` until all that the log held at the start is read.";
const NOT_NOW: &str = "Not possible at the moment.";
const NOTHING: &str = "There is no such thing.";
const NOT_DERIVED: &str = "There is no such thing, or the log no longer gives it: `not_derived`.";
/// Ids of the alert and the attack that the tests of the server show.
const ALERT: &str = "0000000000000000000000000000a1e7";
const ATTACK: &str = "scan-open";
/// A place in a list that is ordered by time and id.
const CURSOR: &str = "^-?[0-9]{1,19}~";

/// One method of one path.
pub struct Operation {
    pub method: &'static str,
    pub path: &'static str,
    pub summary: &'static str,
    /// Whether nobody has to show a credential.
    pub is_open: bool,
    pub parameters: Vec<Value>,
    pub body: Option<Value>,
    pub answers: Map<String, Value>,
}

impl Operation {
    fn get(path: &'static str, summary: &'static str) -> Operation {
        Operation::of("get", path, summary)
    }

    /// What every operation has that takes a credential.
    fn of(method: &'static str, path: &'static str, summary: &'static str) -> Operation {
        let operation = Operation {
            method,
            path,
            summary,
            is_open: false,
            parameters: Vec::new(),
            body: None,
            answers: Map::new(),
        };
        operation.fails(401, "The access token is missing or wrong.")
    }

    fn open(path: &'static str, summary: &'static str) -> Operation {
        let mut operation = Operation::get(path, summary);
        operation.is_open = true;
        operation.answers.clear();
        operation
    }

    fn fails(mut self, status: u16, why: &str) -> Operation {
        let error = json!({ "$ref": format!("#{}/{}", super::SCHEMAS, ErrorAnswer::schema_name()) });
        self.answers.insert(
            status.to_string(),
            json!({ "description": why, "content": { "application/json": { "schema": error } } }),
        );
        self
    }

    fn checks(self) -> Operation {
        self.fails(400, "A parameter is not what it should be; the message names it.")
    }

    /// It shows what is folded, which is there once all that the log holds is read.
    fn reads(self) -> Operation {
        self.checks().fails(503, CATCHING_UP)
    }

    fn gives<T: JsonSchema>(self, generator: &mut SchemaGenerator) -> Operation {
        let schema = generator.subschema_for::<T>().to_value();
        self.answers(200, DONE, "application/json", schema)
    }

    fn answers(mut self, status: u16, what: &str, content_type: &str, schema: Value) -> Operation {
        let answer = json!({ "description": what, "content": { content_type: { "schema": schema } } });
        self.answers.insert(status.to_string(), answer);
        self
    }

    fn text(self, what: &str, content_type: &str) -> Operation {
        self.answers(200, what, content_type, json!({ "type": "string" }))
    }

    fn with(mut self, name: &str, description: &str, schema: Value) -> Operation {
        self.parameters.push(json!({
            "name": name, "in": "query", "required": false, "description": description, "schema": schema,
        }));
        self
    }

    fn in_path(mut self, name: &str, description: &str, schema: Value, example: &str) -> Operation {
        self.parameters.push(json!({
            "name": name, "in": "path", "required": true, "description": description, "schema": schema, "example": example,
        }));
        self
    }

    /// Part of a list whose items are ordered by time and id.
    fn paged(self) -> Operation {
        self.limited().with(
            "after",
            "The `next` of an earlier answer.",
            json!({ "type": "string", "pattern": CURSOR }),
        )
    }

    fn limited(self) -> Operation {
        let description = format!("Items at most; {LIMIT_DEFAULT} when absent.");
        let schema = json!({ "type": "integer", "minimum": 1, "maximum": LIMIT_MAX });
        self.with("limit", &description, schema)
    }

    /// An operator's act, answered once the log has synced it.
    fn acts(self, generator: &mut SchemaGenerator) -> Operation {
        let accepted = generator.subschema_for::<Accepted>().to_value();
        let done = "The log has synced it; what it changes arrives as events.";
        self.answers(202, done, "application/json", accepted)
            .fails(404, NOTHING)
            .fails(409, "Not possible as things stand.")
            .fails(503, NOT_NOW)
    }

    fn takes<T: JsonSchema>(mut self, is_required: bool, example: Value) -> Operation {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        });
        let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
        if let Some(schema) = schema.as_object_mut() {
            schema.remove("title");
        }
        let content = json!({ "application/json": { "schema": schema, "example": example } });
        self.body = Some(json!({ "required": is_required, "content": content }));
        self.checks().fails(413, "The body is too large.")
    }

    fn explains(self, generator: &mut SchemaGenerator) -> Operation {
        self.checks()
            .gives::<Explanation>(generator)
            .fails(404, NOT_DERIVED)
            .fails(409, "Not possible as things stand.")
            .fails(503, NOT_NOW)
    }

    /// Which alerts are wanted.
    fn filtered(self, generator: &mut SchemaGenerator) -> Operation {
        let severity = generator.subschema_for::<Severity>().to_value();
        let state = generator.subschema_for::<RuleState>().to_value();
        let text = || json!({ "type": "string" });
        let network = || json!({ "type": "string", "pattern": "^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$" });
        let found = json!({ "type": "string", "maxLength": filter::TEXT_CHARS_MAX });
        self.with("severity", "At least this.", severity)
            .with("category", "Only this one.", text())
            .with("rule", "Only of the rule with this name or id.", text())
            .with(
                "source",
                "Only from this address or network (10.0.0.0/8).",
                network(),
            )
            .with("destination", "Only to this address or network.", network())
            .with("state", "Both when absent.", state)
            .with("from", "Not before this time.", time())
            .with("to", "Before this time.", time())
            .with(
                "text",
                "Anywhere in what people read of it, in upper or lower case.",
                found,
            )
            .with("attack", "Only of this attack.", text())
    }
}

fn time() -> Value {
    json!({ "type": "string", "format": "date-time" })
}

fn one_of(values: &[&str]) -> Value {
    json!({ "type": "string", "enum": values })
}

/// Every operation of the API.
pub fn operations(generator: &mut SchemaGenerator) -> Vec<Operation> {
    let mut all = of_the_server(generator);
    all.extend(of_targets(generator));
    all.extend(of_incidents(generator));
    all.extend(of_people(generator));
    all.extend(of_alerts(generator));
    all.extend(of_attacks(generator));
    all
}

fn of_the_server(generator: &mut SchemaGenerator) -> Vec<Operation> {
    let kinds: Vec<&str> = ["*"].into_iter().chain(EventBody::KINDS).collect();
    vec![
        Operation::open("/livez", "Whether the process answers.").text("`ok`", "text/plain"),
        Operation::open(
            "/readyz",
            "Whether what is shown is the present: caught up with a log that answers and gets records, and every collector and chain runs.",
        )
        .text("`ok`", "text/plain")
        .answers(
            503,
            "Why not: it starts, the log does not answer, the newest record is too old, or a part is not well.",
            "text/plain",
            json!({ "type": "string" }),
        ),
        Operation::get("/metrics", "Figures for Prometheus.")
            .checks()
            .text("Prometheus text format", "text/plain"),
        Operation::get("/api/v1/state", "Everything that the page shows at once.")
            .reads()
            .gives::<State<'_>>(generator),
        Operation::get("/api/v1/health", "How every stage advances.")
            .checks()
            .gives::<Health>(generator),
        stream(),
        Operation::get("/api/v1/events", "Events as recorded, oldest first, from the log itself.")
            .checks()
            .gives::<Page<RecordedEvent>>(generator)
            .with(
                "after",
                "Only after this sequence.",
                json!({ "type": "integer", "minimum": 0, "maximum": u64::MAX }),
            )
            .with("kind", "Only of this kind.", one_of(&kinds))
            .limited(),
        Operation::get("/api/v1/openapi.json", "This description.").answers(
            200,
            "OpenAPI 3.1",
            "application/json",
            json!({ "type": "object", "required": ["openapi", "paths"] }),
        ),
    ]
}

fn stream() -> Operation {
    let mut stream = Operation::get(
        "/api/v1/stream",
        "The live stream, a WebSocket. Each message is a `StreamMessage` as JSON text. The first is `catching_up` while what the log \
         holds is still being read, and a `snapshot` follows once that is done; else `snapshot`, or `resumed` when the deltas after \
         `after` are still there; a viewer that falls behind gets a `snapshot` again. Something comes at least every 5 s.",
    )
    .checks()
    .fails(503, NOT_NOW)
    .with(
        "after",
        "The last position: events, observations.",
        json!({ "type": "string", "pattern": "^[0-9]{1,20},[0-9]{1,20}$" }),
    );
    let begun = json!({ "description": "The stream begins.", "content": {} });
    stream.answers.insert("101".to_owned(), begun);
    stream
}

fn of_targets(generator: &mut SchemaGenerator) -> Vec<Operation> {
    let of_target = |operation: Operation| {
        operation.in_path("name", "A target's name.", json!({ "type": "string" }), "router")
    };
    let history = Operation::get(
        "/api/v1/targets/{name}/history",
        "A target's past, oldest first. Days are in UTC.",
    );
    vec![
        Operation::get("/api/v1/targets", "Targets by name.")
            .reads()
            .gives::<Page<Target>>(generator)
            .limited()
            .with(
                "after",
                "The `next` of an earlier answer.",
                json!({ "type": "string" }),
            ),
        of_target(history)
            .reads()
            .fails(404, NOTHING)
            .gives::<Page<HistoryPoint>>(generator)
            .with(
                "resolution",
                "minute when absent; 48 hours of minutes, 400 days of hours and days.",
                one_of(&["minute", "hour", "day"]),
            )
            .with("from", "Not before this.", time())
            .with("to", "Before this.", time())
            .with(
                "limit",
                &format!("Points at most; {} when absent.", POINTS_MAX / 2),
                json!({ "type": "integer", "minimum": 1, "maximum": POINTS_MAX }),
            )
            .with("after", "The `next` of an earlier answer.", time()),
        of_target(Operation::of(
            "post",
            "/api/v1/targets/{name}/mute",
            "Mutes this target for a while: nobody is notified about it.",
        ))
        .acts(generator)
        .takes::<MuteBody>(true, json!({ "for_ms": 3_600_000 })),
        of_target(Operation::of(
            "delete",
            "/api/v1/targets/{name}/mute",
            "Takes a mute back.",
        ))
        .acts(generator),
    ]
}

fn of_incidents(generator: &mut SchemaGenerator) -> Vec<Operation> {
    let of_incident = |operation: Operation| {
        operation.in_path(
            "id",
            "The id of an incident.",
            json!({ "type": "string" }),
            "router-open",
        )
    };
    vec![
        Operation::get(
            "/api/v1/incidents",
            "Incidents, newest first: the open ones and the last 500 closed ones.",
        )
        .reads()
        .gives::<Page<Incident>>(generator)
        .with("state", "Both when absent.", one_of(&["open", "closed"]))
        .with("subject", "Only of this target.", json!({ "type": "string" }))
        .paged(),
        Operation::get(
            "/api/v1/incidents.csv",
            "The same as a table for spreadsheets, oldest first: Start Time, End Time, Duration, Cause, Notes, Id.",
        )
        .reads()
        .text("CSV with a header line", "text/csv"),
        of_incident(Operation::of(
            "post",
            "/api/v1/incidents/{id}/ack",
            "Acknowledges an open incident: no more reminders.",
        ))
        .acts(generator)
        .takes::<AckBody>(false, json!({ "note": "on it" })),
        of_incident(Operation::get(
            "/api/v1/incidents/{id}/explain",
            "What made an incident: derived once more from the log, with the settings that decided and the records that caused it.",
        ))
        .explains(generator),
    ]
}

fn of_people(generator: &mut SchemaGenerator) -> Vec<Operation> {
    let window = json!({
        "subjects": ["router"], "from": "2099-01-01T00:00:00Z", "until": "2099-01-01T02:00:00Z",
    });
    vec![
        Operation::get(
            "/api/v1/maintenance",
            "Maintenance windows that run or are to come, by when they begin: the first 200.",
        )
        .reads()
        .gives::<Page<Maintenance>>(generator)
        .paged(),
        Operation::of(
            "post",
            "/api/v1/maintenance",
            "Plans a maintenance window; without subjects it is for the whole site.",
        )
        .acts(generator)
        .takes::<MaintenanceBody>(true, window),
        Operation::of("delete", "/api/v1/maintenance/{id}", "Takes a maintenance window back.")
            .acts(generator)
            .in_path(
                "id",
                "The window's id.",
                json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]+$", "maxLength": 48 }),
                "window",
            ),
        Operation::get("/api/v1/occupancy", "Which PCs are present.")
            .reads()
            .gives::<Occupancy>(generator),
        Operation::get(
            "/api/v1/sessions",
            "Sessions that ran between `from` and `to`, newest first: the running ones and the last 2,000 ended ones.",
        )
        .reads()
        .gives::<Page<event::Session>>(generator)
        .with("pc", "Only of the PC with this key.", json!({ "type": "string" }))
        .with("from", "Not before this.", time())
        .with("to", "Before this.", time())
        .paged(),
        Operation::get(
            "/api/v1/sessions/{id}/explain",
            "What made a session: derived once more from the log, with the settings that decided and the records that caused it.",
        )
        .in_path("id", "The id of a session.", json!({ "type": "string" }), "s1")
        .explains(generator),
    ]
}

fn of_alerts(generator: &mut SchemaGenerator) -> Vec<Operation> {
    let of_alert = |operation: Operation| {
        operation.in_path("id", "The id of an alert.", json!({ "type": "string" }), ALERT)
    };
    let alerts = generator.subschema_for::<Vec<AlertShown>>().to_value();
    let lines = "application/x-ndjson";
    vec![
        Operation::get("/api/v1/alerts", "Alerts, newest first: the last 10,000.")
            .filtered(generator)
            .paged()
            .reads()
            .gives::<Page<AlertShown>>(generator),
        Operation::get(
            "/api/v1/detections",
            "The same alerts by the attack that they belong to, those with the newest alerts first.",
        )
        .filtered(generator)
        .paged()
        .reads()
        .gives::<Page<Detection>>(generator),
        Operation::get(
            "/api/v1/alerts.csv",
            "All that are kept as a table for spreadsheets, oldest first.",
        )
        .filtered(generator)
        .reads()
        .text("CSV with a header line", "text/csv"),
        Operation::get("/api/v1/alerts.json", "All that are kept as one array, oldest first.")
            .filtered(generator)
            .reads()
            .answers(200, DONE, "application/json", alerts),
        Operation::get(
            "/api/v1/alerts.jsonl",
            "All that are kept, one JSON object in each line, oldest first.",
        )
        .filtered(generator)
        .reads()
        .text("One JSON object in each line", lines),
        Operation::get(
            "/api/v1/alerts.eve",
            "All that are kept as lines of Suricata's EVE format, oldest first. `signature_id` follows from the rule's id; severities \
             critical and high are 1, medium 2, low 3, info 4; ours stand among `metadata`.",
        )
        .filtered(generator)
        .reads()
        .text("One EVE record in each line", lines),
        of_alert(Operation::get("/api/v1/alerts/{id}", "One alert."))
            .reads()
            .gives::<OneAlert>(generator)
            .fails(404, "No alert that is kept has this id."),
        of_alert(Operation::get(
            "/api/v1/alerts/{id}/explain",
            "What made an alert: derived once more from the log, with the rule that fired and the records that caused it.",
        ))
        .explains(generator),
        of_alert(Operation::get(
            "/api/v1/alerts/{id}/packets.pcapng",
            "The packets of an alert and those around it, as kept by its collector.",
        ))
        .reads()
        .answers(
            200,
            "A pcapng file of at most 32 MiB",
            "application/x-pcapng",
            json!({ "type": "string", "format": "binary" }),
        )
        .fails(
            404,
            "There is no such alert, it came of no packets, or none are kept: `packets_not_kept`.",
        )
        .fails(410, "They were kept, and newer ones took their place: `packets_gone`."),
    ]
}

fn of_attacks(generator: &mut SchemaGenerator) -> Vec<Operation> {
    let of_attack = |operation: Operation| {
        operation.in_path("id", "The id of an attack.", json!({ "type": "string" }), ATTACK)
    };
    vec![
        Operation::get(
            "/api/v1/attacks",
            "Attacks, newest first: the open ones and the last 1,000 that ended.",
        )
        .with("state", "Both when absent.", one_of(&["open", "ended"]))
        .with("category", "Only this one.", json!({ "type": "string" }))
        .paged()
        .reads()
        .gives::<Page<AttackShown>>(generator),
        of_attack(Operation::get("/api/v1/attacks/{id}", "One attack."))
            .reads()
            .gives::<AttackShown>(generator)
            .fails(404, "No attack that is kept has this id."),
        of_attack(Operation::get(
            "/api/v1/attacks/{id}/explain",
            "What made an attack: derived once more from the log, with the rule that fired and the records that caused it.",
        ))
        .explains(generator),
    ]
}
