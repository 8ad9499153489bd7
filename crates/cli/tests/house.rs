//! The edges between the rooms are those of ARCHITECTURE.md and no others, and every attack has its test.

use std::{collections::BTreeSet, path::Path, process::Command};

use serde_json::Value;

/// Room, and the rooms that it may import.
const EDGES: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("core", &["protocol"]),
    ("store", &["core"]),
    ("agent", &["core"]),
    ("gateway", &["protocol", "core", "store", "agent"]),
    ("client", &["protocol"]),
    ("bench", &["protocol", "store"]),
    ("cli", &["gateway", "client", "bench", "protocol"]),
];
/// Crates that no room may import: they exist for tests and measurements.
const OUTSIDE: &[&str] = &["testkit", "fuzz", "paths"];

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

/// What comes in comes from one place, as the checksum says that was looked at, and none of it is what deny.toml
/// keeps out. `make deny` asks for known holes and licences as well.
#[test]
fn what_comes_in_has_one_source_and_a_checksum_and_is_allowed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let lock = std::fs::read_to_string(root.join("Cargo.lock")).unwrap();
    let deny = std::fs::read_to_string(root.join("deny.toml")).unwrap();
    let of = |package: &str, key: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(key));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    let kept_out: Vec<&str> = deny
        .split("{ crate = \"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert!(kept_out.contains(&"openssl"), "{kept_out:?}");
    let mut sources = BTreeSet::new();
    for package in lock.split("[[package]]").skip(1) {
        let name = of(package, "name = ").unwrap();
        assert!(!kept_out.contains(&name.as_str()), "{name} is kept out");
        let Some(source) = of(package, "source = ") else {
            assert!(name.starts_with("clawgate-"), "{name} is a folder");
            continue;
        };
        let checksum = of(package, "checksum = ").unwrap_or_default();
        assert_eq!(checksum.len(), 64, "{name} has no checksum");
        sources.insert(source);
    }
    assert!(
        sources.len() == 1 && sources.iter().all(|source| source.starts_with("registry+")),
        "{sources:?}"
    );
}

/// Every test of a file here, by its name.
fn tests_of(text: &str) -> BTreeSet<&str> {
    let after = |start: &'static str| text.split(start).skip(1);
    after("#[test]\n")
        .filter_map(|rest| rest.split_once("fn ")?.1.split_once('('))
        .map(|(name, _)| name)
        .collect()
}

/// `e07` for the seventh item.
fn prefix(item: usize) -> String {
    format!("e{item:02}_")
}

#[test]
fn every_attack_of_the_checklist_has_its_test() {
    const ITEMS: usize = 82;
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(here.join("../../docs/attacks.md")).unwrap();
    let mut named: BTreeSet<(String, String)> = BTreeSet::new();
    let mut next = 1;
    for row in table.lines().filter(|line| line.starts_with("| E")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let [item, _, _, tests] = cells[..] else {
            panic!("a row has four cells: {row}");
        };
        assert_eq!(
            item.trim(),
            format!("E{next:02}"),
            "each item once, in order"
        );
        let tests: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{item} has no test");
        for test in tests {
            let (file, name) = test.split_once("::").expect("file::test");
            assert!(name.starts_with(&prefix(next)), "{test} is not of {item}");
            named.insert((file.to_owned(), name.to_owned()));
        }
        next += 1;
    }
    assert_eq!(next - 1, ITEMS);
    let mut there = BTreeSet::new();
    for entry in std::fs::read_dir(here.join("tests")).unwrap() {
        let path = entry.unwrap().path();
        let Some(file) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if path.extension().is_none_or(|it| it != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let of_attacks = tests_of(&text)
            .into_iter()
            .filter(|name| (1..=ITEMS).any(|item| name.starts_with(&prefix(item))))
            .map(|name| (file.to_owned(), name.to_owned()));
        there.extend(of_attacks);
    }
    let missing: Vec<_> = named.difference(&there).collect();
    let untold: Vec<_> = there.difference(&named).collect();
    assert!(missing.is_empty(), "no such test: {missing:?}");
    assert!(untold.is_empty(), "not in docs/attacks.md: {untold:?}");
}
