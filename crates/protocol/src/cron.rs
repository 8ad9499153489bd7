//! Cron: the job as it travels, params, results and events. Facts of 2026.3.13 with the
//! later version's additions where clawgate serves them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::shape::{COUNT, Field, NON_EMPTY, Shape, optional, required, since_v4};

const AT: &[Field] = &[
    required("kind", Shape::Const("at")),
    required("at", NON_EMPTY),
];
const EVERY: &[Field] = &[
    required("kind", Shape::Const("every")),
    required(
        "everyMs",
        Shape::Int {
            min: 1,
            max: MS_MAX,
        },
    ),
    optional("anchorMs", COUNT),
];
const CRON: &[Field] = &[
    required("kind", Shape::Const("cron")),
    required("expr", NON_EMPTY),
    optional("tz", Shape::Text),
    optional(
        "staggerMs",
        Shape::Int {
            min: 0,
            max: MS_MAX,
        },
    ),
];
/// The schedule union.
pub const SCHEDULE: Shape =
    Shape::AnyOf(&[Shape::Object(AT), Shape::Object(EVERY), Shape::Object(CRON)]);
/// Times and spans in milliseconds stay within what JavaScript's dates can say.
const MS_MAX: i64 = 8_640_000_000_000_000;

/// Seconds, also parts of one. (2026.3.13 takes whole ones only.)
const SECONDS: Shape = Shape::Number { min: 0 };

macro_rules! command {
    ($argv:expr) => {
        &[
            required("kind", Shape::Const("command")),
            $argv,
            optional("cwd", NON_EMPTY),
            optional("env", Shape::MapOf(&Shape::Text)),
            optional("input", Shape::Text),
            optional("timeoutSeconds", SECONDS),
            optional("noOutputTimeoutSeconds", SECONDS),
            optional(
                "outputMaxBytes",
                Shape::Int {
                    min: 1,
                    max: OUTPUT_MAX_BYTES,
                },
            ),
        ]
    };
}
/// Bytes of a command's output that may be kept while it runs.
pub const OUTPUT_MAX_BYTES: i64 = 1_048_576;
const ARGV: Shape = Shape::List {
    of: &Shape::Text,
    min: 1,
    max: 1_024,
};
const COMMAND: &[Field] = command!(required("argv", ARGV));
const COMMAND_PATCH: &[Field] = command!(optional("argv", ARGV));

macro_rules! agent_turn {
    ($message:expr) => {
        &[
            required("kind", Shape::Const("agentTurn")),
            $message,
            optional("model", Shape::Text),
            optional(
                "fallbacks",
                Shape::List {
                    of: &Shape::Text,
                    min: 0,
                    max: 0,
                },
            ),
            optional("thinking", Shape::Text),
            optional("timeoutSeconds", SECONDS),
            optional("allowUnsafeExternalContent", Shape::Bool),
            optional("lightContext", Shape::Bool),
            optional("deliver", Shape::Bool),
            optional("channel", Shape::Text),
            optional("to", Shape::Text),
            optional("bestEffortDeliver", Shape::Bool),
        ]
    };
}
const SYSTEM_EVENT: &[Field] = &[
    required("kind", Shape::Const("systemEvent")),
    required("text", NON_EMPTY),
];
const SYSTEM_EVENT_PATCH: &[Field] = &[
    required("kind", Shape::Const("systemEvent")),
    optional("text", NON_EMPTY),
];
const AGENT_TURN: &[Field] = agent_turn!(required("message", NON_EMPTY));
const AGENT_TURN_PATCH: &[Field] = agent_turn!(optional("message", NON_EMPTY));
const PAYLOAD: Shape = Shape::AnyOf(&[Shape::Object(SYSTEM_EVENT), Shape::Object(AGENT_TURN)]);
const PAYLOAD_PATCH: Shape = Shape::AnyOf(&[
    Shape::Object(SYSTEM_EVENT_PATCH),
    Shape::Object(AGENT_TURN_PATCH),
]);

const FAILURE_DESTINATION: Shape = Shape::Object(&[
    optional("channel", NON_EMPTY),
    optional("to", Shape::Text),
    optional("accountId", NON_EMPTY),
    optional("mode", Shape::OneOf(&["announce", "webhook"])),
]);
macro_rules! delivery {
    ($mode:expr, $to:expr) => {
        &[
            $mode,
            optional("channel", NON_EMPTY),
            optional("accountId", NON_EMPTY),
            optional("bestEffort", Shape::Bool),
            optional("failureDestination", FAILURE_DESTINATION),
            $to,
        ]
    };
}
const DELIVERY: Shape = Shape::AnyOf(&[
    Shape::Object(delivery!(
        required("mode", Shape::Const("none")),
        optional("to", Shape::Text)
    )),
    Shape::Object(delivery!(
        required("mode", Shape::Const("announce")),
        optional("to", Shape::Text)
    )),
    Shape::Object(delivery!(
        required("mode", Shape::Const("webhook")),
        required("to", NON_EMPTY)
    )),
]);
const DELIVERY_PATCH: Shape = Shape::Object(delivery!(
    optional("mode", Shape::OneOf(&["none", "announce", "webhook"])),
    optional("to", Shape::Text)
));
const FAILURE_ALERT: Shape = Shape::AnyOf(&[
    Shape::False,
    Shape::Object(&[
        optional(
            "after",
            Shape::Int {
                min: 1,
                max: 1_000_000,
            },
        ),
        optional("channel", NON_EMPTY),
        optional("to", Shape::Text),
        optional(
            "cooldownMs",
            Shape::Int {
                min: 0,
                max: MS_MAX,
            },
        ),
        optional("mode", Shape::OneOf(&["announce", "webhook"])),
        optional("accountId", NON_EMPTY),
    ]),
]);
const NULLABLE: Shape = Shape::AnyOf(&[NON_EMPTY, Shape::Null]);
const WAKE_MODE: Shape = Shape::OneOf(&["next-heartbeat", "now"]);

/// What happens to slots that passed unseen: `{mode, max?, maxAgeMs?}`.
const CATCH_UP: Shape = Shape::Object(&[
    required("mode", Shape::OneOf(&["none", "latest", "all"])),
    optional("max", Shape::Int { min: 1, max: 1_000 }),
    optional(
        "maxAgeMs",
        Shape::Int {
            min: 0,
            max: MS_MAX,
        },
    ),
]);
/// What happens to a slot that is due during a run of the same job.
const OVERLAP: Shape = Shape::OneOf(&["skip", "queue"]);
/// Failures in a row that disable a recurring job, or false for never.
const DISABLE_AFTER: Shape = Shape::AnyOf(&[
    Shape::Int {
        min: 1,
        max: 1_000_000,
    },
    Shape::False,
]);

macro_rules! job_fields {
    ($payload:expr) => {
        &[
            required("name", NON_EMPTY),
            optional("agentId", NULLABLE),
            optional("sessionKey", NULLABLE),
            optional("description", Shape::Text),
            optional("enabled", Shape::Bool),
            optional("deleteAfterRun", Shape::Bool),
            required("schedule", SCHEDULE),
            required("sessionTarget", NON_EMPTY),
            optional("wakeMode", WAKE_MODE),
            required("payload", $payload),
            optional("delivery", DELIVERY),
            optional("failureAlert", FAILURE_ALERT),
            optional("displayName", NON_EMPTY),
            optional("declarationKey", Shape::Str { min: 1, max: 256 }),
            optional("catchUp", CATCH_UP),
            optional("overlap", OVERLAP),
            optional("disableAfter", DISABLE_AFTER),
        ]
    };
}
macro_rules! patch_fields {
    ($payload:expr) => {
        Shape::Object(&[
            optional("name", NON_EMPTY),
            optional("agentId", NULLABLE),
            optional("sessionKey", NULLABLE),
            optional("description", Shape::Text),
            optional("enabled", Shape::Bool),
            optional("deleteAfterRun", Shape::Bool),
            optional("schedule", SCHEDULE),
            optional("sessionTarget", NON_EMPTY),
            optional("wakeMode", WAKE_MODE),
            optional("payload", $payload),
            optional("delivery", DELIVERY_PATCH),
            optional("failureAlert", FAILURE_ALERT),
            optional("displayName", NULLABLE),
            optional("catchUp", CATCH_UP),
            optional("overlap", OVERLAP),
            optional("disableAfter", DISABLE_AFTER),
            optional("state", Shape::MapOf(&Shape::Any)),
        ])
    };
}
macro_rules! update_shape {
    ($patch:expr) => {
        Shape::AnyOf(&[
            Shape::Object(&[
                required("id", NON_EMPTY),
                required("patch", $patch),
                optional("expectedConfigRevision", NON_EMPTY),
            ]),
            Shape::Object(&[
                required("jobId", NON_EMPTY),
                required("patch", $patch),
                optional("expectedConfigRevision", NON_EMPTY),
            ]),
        ])
    };
}
const ADD: Shape = Shape::Object(job_fields!(PAYLOAD));
const ADD_COMMAND: Shape = Shape::Object(job_fields!(Shape::Object(COMMAND)));
const PATCH: Shape = patch_fields!(PAYLOAD_PATCH);
const PATCH_COMMAND: Shape = patch_fields!(Shape::Object(COMMAND_PATCH));
const UPDATE: Shape = update_shape!(PATCH);
const UPDATE_COMMAND: Shape = update_shape!(PATCH_COMMAND);

fn is_command(job: Option<&Value>) -> bool {
    job.and_then(|job| job.get("payload")?.get("kind"))
        .is_some_and(|kind| kind == "command")
}

/// The shape of the params of `cron.add`, after normalisation. A command has one of its own, so
/// that what is said about the original's payloads stays as it is there.
pub fn add_shape(params: &Value) -> &'static Shape {
    if is_command(Some(params)) {
        &ADD_COMMAND
    } else {
        &ADD
    }
}

/// The shape of the params of `cron.update`, after normalisation.
pub fn update_shape(params: &Value) -> &'static Shape {
    if is_command(params.get("patch")) {
        &UPDATE_COMMAND
    } else {
        &UPDATE
    }
}

/// `{id}` or `{jobId}`.
pub const ID_OR_JOB_ID: Shape = Shape::AnyOf(&[
    Shape::Object(&[required("id", NON_EMPTY)]),
    Shape::Object(&[required("jobId", NON_EMPTY)]),
]);
const MODE: Shape = Shape::OneOf(&["due", "force"]);
/// Params of `cron.run`.
pub const RUN: Shape = Shape::AnyOf(&[
    Shape::Object(&[required("id", NON_EMPTY), optional("mode", MODE)]),
    Shape::Object(&[required("jobId", NON_EMPTY), optional("mode", MODE)]),
]);
/// Params of `cron.cancel`.
pub const CANCEL: Shape = Shape::AnyOf(&[
    Shape::Object(&[required("id", NON_EMPTY), optional("runId", NON_EMPTY)]),
    Shape::Object(&[required("jobId", NON_EMPTY), optional("runId", NON_EMPTY)]),
]);
/// Params of `cron.list`.
pub const LIST: &[Field] = &[
    optional("includeDisabled", Shape::Bool),
    optional("limit", Shape::Int { min: 1, max: 200 }),
    optional("offset", COUNT),
    optional("query", Shape::Text),
    optional("enabled", Shape::OneOf(&["all", "enabled", "disabled"])),
    optional(
        "sortBy",
        Shape::OneOf(&["nextRunAtMs", "updatedAtMs", "name"]),
    ),
    optional("sortDir", Shape::OneOf(&["asc", "desc"])),
    since_v4(
        "scheduleKind",
        Shape::OneOf(&["all", "at", "every", "cron", "on-exit", "stream"]),
    ),
    since_v4(
        "lastRunStatus",
        Shape::OneOf(&["all", "ok", "error", "skipped", "unknown"]),
    ),
    since_v4(
        "trigger",
        Shape::OneOf(&["all", "conditional", "unconditional"]),
    ),
    since_v4("agentId", NON_EMPTY),
    since_v4("sessionKey", NON_EMPTY),
    since_v4("compact", Shape::Bool),
    since_v4("includeDeliveryPreviews", Shape::Bool),
];
const STATUS: Shape = Shape::OneOf(&["ok", "error", "skipped"]);
const DELIVERY_STATUSES: &[&str] = &["delivered", "not-delivered", "unknown", "not-requested"];
const DELIVERY_STATUS: Shape = Shape::OneOf(DELIVERY_STATUSES);
/// Params of `cron.runs`.
pub const RUNS: &[Field] = &[
    optional("scope", Shape::OneOf(&["job", "all"])),
    optional("id", Shape::FileSafe),
    optional("jobId", Shape::FileSafe),
    optional("runId", NON_EMPTY),
    optional("limit", Shape::Int { min: 1, max: 200 }),
    optional("offset", COUNT),
    optional(
        "statuses",
        Shape::List {
            of: &STATUS,
            min: 1,
            max: 3,
        },
    ),
    optional("status", Shape::OneOf(&["all", "ok", "error", "skipped"])),
    optional(
        "deliveryStatuses",
        Shape::List {
            of: &DELIVERY_STATUS,
            min: 1,
            max: 4,
        },
    ),
    optional("deliveryStatus", DELIVERY_STATUS),
    optional("query", Shape::Text),
    optional("sortDir", Shape::OneOf(&["asc", "desc"])),
];

/// A job as it travels. Key order is the wire's; absent members are left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// uuid v4.
    pub id: String,
    /// Agent, when named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// Whose job it is, named or not. Only in lists of wire 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_agent_id: Option<String>,
    /// Session hint, when named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_key: Option<String>,
    /// Never blank.
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether it is scheduled.
    pub enabled: bool,
    /// Whether a good run of a one-shot removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_after_run: Option<bool>,
    /// Milliseconds.
    pub created_at_ms: i64,
    /// Milliseconds; moves with each run's end, too.
    pub updated_at_ms: i64,
    /// When.
    pub schedule: Schedule,
    /// `main`, `isolated` or `session:<key>`.
    pub session_target: String,
    /// `now` or `next-heartbeat`.
    pub wake_mode: String,
    /// What.
    pub payload: Payload,
    /// Where the result goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Value>,
    /// When failures are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_alert: Option<Value>,
    /// Name for people, beside the one for scripts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Under which key it is declared: adding the same key again changes this job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declaration_key: Option<String>,
    /// What happens to slots that passed unseen, when not the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catch_up: Option<CatchUp>,
    /// `skip` or `queue`, when not the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<String>,
    /// Failures in a row that disable it, or false, when not the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_after: Option<Value>,
    /// `sha256:…` of everything that an operator set; changes with it and with nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_revision: Option<String>,
    /// What happened.
    #[serde(default)]
    pub state: JobState,
    /// Members that came with an import and mean nothing here. They are kept as they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<Value>,
}

/// What happens to slots that passed unseen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CatchUp {
    /// `none`, `latest` or `all`.
    pub mode: String,
    /// Runs at most with `all`; 10 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// Slots older than this are missed, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_ms: Option<i64>,
}

/// When a job runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Schedule {
    /// Once.
    At {
        /// `YYYY-MM-DDTHH:MM:SS.mmmZ`.
        at: String,
    },
    /// At a fixed interval from an anchor.
    #[serde(rename_all = "camelCase")]
    Every {
        /// Interval, milliseconds.
        every_ms: i64,
        /// Anchor, milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        anchor_ms: Option<i64>,
    },
    /// By a cron expression.
    #[serde(rename_all = "camelCase")]
    Cron {
        /// 5, 6 or 7 fields, or a nickname.
        expr: String,
        /// Zone as given; the resolved one is in `state.timeZone`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tz: Option<String>,
        /// Window over which jobs of the same minute are spread, milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stagger_ms: Option<i64>,
    },
}

/// What a job does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Payload {
    /// Queues a text for the main session.
    SystemEvent {
        /// The text.
        text: String,
    },
    /// Runs one agent turn.
    #[serde(rename_all = "camelCase")]
    AgentTurn {
        /// The prompt.
        message: String,
        /// provider/model.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// Further models.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fallbacks: Option<Vec<String>>,
        /// Thinking level.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thinking: Option<String>,
        /// 0 for none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_seconds: Option<Number>,
        /// Original's switch, kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        allow_unsafe_external_content: Option<bool>,
        /// No workspace files in the prompt.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        light_context: Option<bool>,
    },
    /// Runs a program on the gateway's machine.
    #[serde(rename_all = "camelCase")]
    Command {
        /// Program and arguments; no shell in between.
        argv: Vec<String>,
        /// Working directory; the user's home when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cwd: Option<String>,
        /// Variables beside the few that are passed on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        env: Option<BTreeMap<String, String>>,
        /// Its standard input.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<String>,
        /// 0 for none, 600 when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_seconds: Option<Number>,
        /// Ends it when it is silent for so long; none when absent or 0.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        no_output_timeout_seconds: Option<Number>,
        /// Bytes of output that are looked at; 65,536 when absent. More is read and dropped.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output_max_bytes: Option<u64>,
    },
}

/// What happened to a job. Key order is the original's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobState {
    /// Next due slot, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_run_at_ms: Option<i64>,
    /// Start of the run that is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_at_ms: Option<i64>,
    /// Start of the last run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run_at_ms: Option<i64>,
    /// `ok`, `error` or `skipped`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run_status: Option<String>,
    /// Alias of the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_status: Option<String>,
    /// Length of the last run, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_duration_ms: Option<i64>,
    /// Text of the last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Class of the last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error_reason: Option<String>,
    /// Failures in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consecutive_errors: Option<u32>,
    /// Whether the last result reached its target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_delivered: Option<bool>,
    /// Delivery of the last run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_delivery_status: Option<String>,
    /// Why it was not delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_delivery_error: Option<String>,
    /// When a failure alert was sent last, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure_alert_at_ms: Option<i64>,
    /// Why the job was disabled without being asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_disabled: Option<Value>,
    /// The zone in which a cron expression is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// Result of `cron.list`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobPage {
    /// The page.
    pub jobs: Vec<Job>,
    /// Jobs that match.
    pub total: u64,
    /// Where the page begins.
    pub offset: u64,
    /// Its greatest length.
    pub limit: u64,
    /// Whether there are more.
    pub has_more: bool,
    /// Where the next page begins.
    pub next_offset: Option<u64>,
    /// Wire 4: pages that say the same here belong together; a client that sees another one begins
    /// anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_revision: Option<String>,
}

/// One finished run in the history. Key order is the original's, `runId` and `queuedMs` are ours.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunEntry {
    /// When it ended, milliseconds.
    pub ts: i64,
    /// Which job.
    pub job_id: String,
    /// Always `finished`.
    pub action: String,
    /// `ok`, `error` or `skipped`.
    pub status: String,
    /// Why it failed or was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What it said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Whether the result reached its target; absent while that is open or nobody asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered: Option<bool>,
    /// Outcome of the delivery, apart from the run's.
    pub delivery_status: String,
    /// Why it was not delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_error: Option<String>,
    /// Start, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_at_ms: Option<i64>,
    /// Length, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<i64>,
    /// Next due slot after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_run_at_ms: Option<i64>,
    /// What the target answered, when it took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_receipt: Option<String>,
    /// Class of the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_reason: Option<String>,
    /// Id of the run, the one that `cron.run` returned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// The slot it was due at, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot_ms: Option<i64>,
    /// The last slot of a range that shares this entry, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_slot_ms: Option<i64>,
    /// How many slots such a range holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<i64>,
    /// `ran`, `skipped`, `missed` or `interrupted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// How long it waited for capacity, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_ms: Option<i64>,
    /// Name of the job, when the history of all jobs is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,
    /// Of a turn.
    #[serde(flatten)]
    pub about: TurnFacts,
}

/// What a run of a turn says besides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TurnFacts {
    /// Its conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Its session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_key: Option<String>,
    /// The model that answered, or failed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Its provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// `{input_tokens, output_tokens, total_tokens}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Value>,
    /// Requests that failed on the way: `provider/model: kind`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<String>,
    /// What was refused because nobody was there to allow it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<String>,
}

/// Payload of the event `cron`. Key order is the original's; from `runId` on the members are ours.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CronEvent {
    /// Which job.
    pub job_id: String,
    /// `added`, `updated`, `removed`, `started`, `finished`, or `delivery` when the outcome of a
    /// delivery is known.
    pub action: String,
    /// `ok`, `error` or `skipped`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Why it failed or was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What it said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Whether the result reached its target; absent while that is open or nobody asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered: Option<bool>,
    /// Outcome of the delivery, apart from the run's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_status: Option<String>,
    /// Why it was not delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_error: Option<String>,
    /// Start, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_at_ms: Option<i64>,
    /// Length, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<i64>,
    /// Next due slot after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_run_at_ms: Option<i64>,
    /// Id of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// The slot, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot_ms: Option<i64>,
    /// `ran`, `skipped`, `missed` or `interrupted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// Of a turn.
    #[serde(flatten)]
    pub about: TurnFacts,
}

/// Result of `cron.runs`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunPage {
    /// The page.
    pub entries: Vec<RunEntry>,
    /// Entries that match.
    pub total: u64,
    /// Where the page begins.
    pub offset: u64,
    /// Its greatest length.
    pub limit: u64,
    /// Whether there are more.
    pub has_more: bool,
    /// Where the next page begins.
    pub next_offset: Option<u64>,
}

/// Result of `cron.status`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// Whether the scheduler runs jobs.
    pub enabled: bool,
    /// Where the jobs are kept.
    pub store_path: String,
    /// How many jobs there are.
    pub jobs: u64,
    /// When the next one is due, milliseconds.
    pub next_wake_at_ms: Option<i64>,
}

/// Params of `cron.list`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListParams {
    /// Disabled ones too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_disabled: Option<bool>,
    /// 1 to 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Where to begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Matches name, description and agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// `all`, `enabled`, `disabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<String>,
    /// `nextRunAtMs`, `updatedAtMs`, `name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sort_by: Option<String>,
    /// `asc`, `desc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sort_dir: Option<String>,
    /// `all` or a kind of schedule. Wire 4, like those that follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule_kind: Option<String>,
    /// `all`, how the last run ended, or `unknown` for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run_status: Option<String>,
    /// `all`, `conditional`, `unconditional`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    /// Jobs of this agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// Jobs of this session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_key: Option<String>,
    /// Only what a list shows of each job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compact: Option<bool>,
}

/// Params of `cron.run`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunParams {
    /// The job.
    #[serde(alias = "jobId")]
    pub id: String,
    /// `due` or `force` (default).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

/// Params of `cron.cancel`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CancelParams {
    /// The job.
    #[serde(alias = "jobId")]
    pub id: String,
    /// Only if this is the run under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
}

/// Result of `cron.cancel`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cancelled {
    /// Always true.
    pub ok: bool,
    /// Whether there was a run to end.
    pub cancelled: bool,
    /// Which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
}

/// Params of `cron.remove` and `cron.get`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct IdParams {
    /// The job.
    #[serde(alias = "jobId")]
    pub id: String,
}

/// Params of `cron.runs`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunsParams {
    /// `job` or `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Alias of `id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// One run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// 1 to 200, 50 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Where to begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Any of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statuses: Option<Vec<String>>,
    /// This one, or `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Any of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_statuses: Option<Vec<String>>,
    /// This one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_status: Option<String>,
    /// Matches summary, error and job name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// `desc` (default) or `asc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sort_dir: Option<String>,
}
