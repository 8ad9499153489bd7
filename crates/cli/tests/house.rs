//! The edges between the rooms are those of ARCHITECTURE.md, and no others.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

/// Room, and the rooms that it may import.
const EDGES: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("core", &["protocol"]),
    ("store", &["core"]),
    ("agent", &["core"]),
    ("gateway", &["protocol", "core", "store", "agent"]),
    ("client", &["protocol"]),
    ("cli", &["gateway", "client", "protocol"]),
];
/// Crates that no room may import: they exist for tests and measurements.
const OUTSIDE: &[&str] = &["testkit", "bench"];

#[test]
fn rooms_import_what_the_architecture_says() {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut seen = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        let Some(room) = package["name"].as_str().unwrap().strip_prefix("clawgate-") else {
            panic!("{} is no room", package["name"]);
        };
        seen.insert(room.to_owned());
        let imports: BTreeSet<&str> = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|dependency| dependency["kind"].is_null())
            .filter_map(|dependency| dependency["name"].as_str()?.strip_prefix("clawgate-"))
            .collect();
        if OUTSIDE.contains(&room) {
            continue;
        }
        let (_, allowed) = EDGES
            .iter()
            .find(|(name, _)| *name == room)
            .unwrap_or_else(|| panic!("{room} is not in ARCHITECTURE.md"));
        let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
        assert_eq!(imports, allowed, "imports of {room}");
    }
    for (room, _) in EDGES {
        assert!(seen.contains(*room), "{room} is gone");
    }
}
