use clawgate_protocol::connect::parse_connect;
use serde_json::Value;

use crate::shape::is_told_well;

const CANARY: &str = "canary-9f1c";

/// Params of `connect`: what is refused is refused in the wire's words, what wire 3 takes wire 4 takes
/// as well, and what is read prints no credential.
///
/// # Panics
/// When one of these does not hold.
pub fn connect(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let read = match parse_connect(Some(text)) {
        Ok(read) => read,
        Err(problems) => return is_told_well(&problems),
    };
    assert!(read.min_protocol >= 1.0 && read.max_protocol >= 1.0);
    let Ok(mut value) = serde_json::from_str::<Value>(text) else {
        panic!("params that are no JSON were read");
    };
    if read.max_protocol < 4.0 {
        value["maxProtocol"] = 4.into();
        let newer = parse_connect(Some(&value.to_string())).expect("wire 4 knows more");
        assert_eq!(newer.signed_scopes, read.signed_scopes);
        assert_eq!(newer.scopes, read.scopes);
    }
    for name in [
        "token",
        "password",
        "deviceToken",
        "bootstrapToken",
        "localProof",
    ] {
        value["auth"] = serde_json::json!({name: CANARY});
        let planted = parse_connect(Some(&value.to_string())).expect("credentials are texts");
        let shown = format!("{planted:?}");
        assert!(!shown.contains(CANARY), "{name} is printed");
    }
}
