//! Frames in and out.

use std::hint::black_box;

use clawgate_protocol::{
    Dialect, ErrorCode, ErrorShape,
    frame::{
        DecodeError, EventParts, StateVersion, decode_request, response_error, response_ok_pieces,
    },
};
use serde_json::{Value, json};

use crate::{Path, Round};

const ID: &str = "6f1c0a52-8d0b-4c55-9f3e-1f2b7a6d9e01";

pub(crate) const READ_A_CALL: Path = Path {
    name: "read-a-call",
    rounds: 2_000,
    prepare: || reads(json!({"type": "req", "id": ID, "method": "health"})),
};

pub(crate) const READ_A_CALL_WITH_PARAMS: Path = Path {
    name: "read-a-call-with-params",
    rounds: 1_000,
    prepare: || {
        reads(
            json!({"type": "req", "id": ID, "method": "chat.send", "params": {
                "sessionKey": "agent:main:main",
                "message": "What is on the calendar of next week, and who comes? ".repeat(10),
                "idempotencyKey": ID,
            }}),
        )
    },
};

#[expect(
    clippy::needless_pass_by_value,
    reason = "each is made for this call alone"
)]
fn reads(frame: Value) -> Round {
    let text = frame.to_string();
    Box::new(move || {
        let request = decode_request(black_box(&text), Dialect::V4).expect("it is a request");
        black_box(request);
    })
}

/// The slow way: a frame that the fast one refuses is looked at again, to say what is wrong with it.
pub(crate) const REFUSE_A_FRAME: Path = Path {
    name: "refuse-a-frame",
    rounds: 500,
    prepare: || {
        let text = json!({"type": "req", "id": ID, "method": "health", "extra": 1}).to_string();
        Box::new(move || {
            let refused = decode_request(black_box(&text), Dialect::V4);
            let Err(DecodeError::Shape { id, problems }) = refused else {
                panic!("one member too many");
            };
            black_box((id, problems));
        })
    },
};

/// Something of the size of a page of jobs.
fn payload() -> String {
    let job = json!({"id": ID, "name": "morning", "enabled": true, "schedule":
        {"kind": "cron", "expr": "0 7 * * 1-5", "tz": "Europe/Berlin"}});
    json!({"jobs": vec![job; 50], "total": 50}).to_string()
}

pub(crate) const WRITE_AN_ANSWER: Path = Path {
    name: "write-an-answer",
    rounds: 2_000,
    prepare: || {
        let payload = payload();
        let mut out = Vec::new();
        Box::new(move || {
            out.clear();
            for piece in response_ok_pieces(black_box(ID), black_box(&payload)) {
                out.extend_from_slice(piece.as_bytes());
            }
            black_box(&out);
        })
    },
};

pub(crate) const WRITE_AN_ERROR: Path = Path {
    name: "write-an-error",
    rounds: 1_000,
    prepare: || {
        let id = Value::from(ID);
        Box::new(move || {
            let error = ErrorShape::new(ErrorCode::Unavailable, "nothing was changed")
                .with_details(json!({"code": "DISK_FULL"}))
                .retry_after(2_000);
            black_box(response_error(black_box(&id), &error));
        })
    },
};

/// Encoded once, and completed for each of 100 receivers that count it differently.
pub(crate) const WRITE_AN_EVENT: Path = Path {
    name: "write-an-event-to-100",
    rounds: 100,
    prepare: || {
        let payload =
            json!({"jobId": ID, "action": "started", "runAtMs": 1_780_000_000_000_u64}).to_string();
        let version = StateVersion {
            presence: 17,
            health: 4,
        };
        let mut out = Vec::new();
        Box::new(move || {
            let event = EventParts::new("cron", black_box(&payload), Some(version));
            for seq in 1_000..1_100 {
                out.clear();
                for piece in event.pieces(Some(seq)) {
                    out.extend_from_slice(piece.as_bytes());
                }
                black_box(&out);
            }
        })
    },
};
