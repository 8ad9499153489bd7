//! The method table against what others say of the same methods: the published schemas of wire 4,
//! and what was observed of wire 3. What is left of the difference stands in `docs/methods.md`,
//! so that every change of it is read by somebody.
//!
//! After a method was added: `cargo test -p clawgate-protocol --test published -- --ignored`
//! writes that page anew.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
};

use clawgate_protocol::{
    error::Dialect,
    method::{Access, Method, access_by_name},
    shape::{Field, Shape},
};

const WIRE_3: &str = include_str!("fixtures/wire3-methods.tsv");
const WIRE_4: &str = include_str!("fixtures/wire4-methods.tsv");

/// Scopes that are meant to be other than published, and why.
const OTHER_SCOPE: &[(&str, Dialect, &str)] = &[
    (
        "health",
        Dialect::V4,
        "the gateway of wire 4 itself answers it to everybody",
    ),
    (
        "connect",
        Dialect::V4,
        "listed under a scope there; after the first frame it is refused to everybody",
    ),
    (
        "sessions.compaction.list",
        Dialect::V4,
        "gone in 2026.9.6, and unknown means admin",
    ),
    (
        "sessions.compaction.branch",
        Dialect::V4,
        "gone in 2026.9.6, and unknown means admin",
    ),
    (
        "sessions.github.publish",
        Dialect::V4,
        "2026.9.6 asks for operator.sessions.write",
    ),
    ("users.self", Dialect::V4, "2026.9.6 asks for operator.read"),
];

/// What others say of a method.
struct Published {
    scope: String,
    /// Names of its params with whether they must be there; `None` where nothing is said.
    params: Option<BTreeMap<String, bool>>,
}

fn published(dialect: Dialect) -> BTreeMap<String, Published> {
    let text = match dialect {
        Dialect::V3 => WIRE_3,
        Dialect::V4 => WIRE_4,
    };
    let mut methods = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let [name, scope, params] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("three columns were expected: {line}");
        };
        let open = params == "-" || params.split(' ').any(|one| one == "*");
        let params = (!open).then(|| {
            params
                .split(' ')
                .filter(|one| *one != "{}")
                .map(|one| (one.trim_end_matches('!').to_owned(), one.ends_with('!')))
                .collect()
        });
        let scope = scope.to_owned();
        methods.insert(name.to_owned(), Published { scope, params });
    }
    methods
}

fn named(access: &Access) -> String {
    match access {
        Access::AnySession => "any".to_owned(),
        Access::Node => "node".to_owned(),
        Access::Handshake => "handshake".to_owned(),
        Access::Scope(scope) => scope.to_string().trim_start_matches("operator.").to_owned(),
    }
}

/// The params that a shape takes in a dialect, with whether they must be there; `None` where the
/// table does not look.
fn taken(shape: Option<&Shape>, dialect: Dialect) -> Option<BTreeMap<String, bool>> {
    let known = |field: &&Field| field.in_v3 || dialect == Dialect::V4;
    match shape? {
        Shape::Object(fields) => Some(
            fields
                .iter()
                .filter(known)
                .map(|field| (field.name.to_owned(), field.required))
                .collect(),
        ),
        Shape::AnyOf(branches) => {
            let branches: Vec<BTreeMap<String, bool>> = branches
                .iter()
                .map(|branch| taken(Some(branch), dialect))
                .collect::<Option<_>>()?;
            let names: BTreeSet<&String> = branches.iter().flat_map(BTreeMap::keys).collect();
            Some(
                names
                    .into_iter()
                    .map(|name| {
                        let always = |one: &BTreeMap<String, bool>| one.get(name) == Some(&true);
                        (name.clone(), branches.iter().all(always))
                    })
                    .collect(),
            )
        }
        _ => None,
    }
}

/// How the params of a served method differ from the published ones, in words; empty where they do not.
fn difference(method: Method, dialect: Dialect, published: Option<&Published>) -> Vec<String> {
    let Some(theirs) = published.and_then(|one| one.params.as_ref()) else {
        return Vec::new();
    };
    let Some(ours) = taken(method.spec().params.as_ref(), dialect) else {
        return Vec::new();
    };
    let only = |some: &BTreeMap<String, bool>, others: &BTreeMap<String, bool>| {
        let names: Vec<String> = some
            .keys()
            .filter(|name| !others.contains_key(*name))
            .map(|name| format!("`{name}`"))
            .collect();
        names.join(" ")
    };
    let demanded: Vec<String> = ours
        .iter()
        .filter(|(name, required)| **required && theirs.get(*name) != Some(&true))
        .map(|(name, _)| format!("`{name}`"))
        .collect();
    [
        ("refused here", only(theirs, &ours)),
        ("only here", only(&ours, theirs)),
        ("must be there only here", demanded.join(" ")),
    ]
    .into_iter()
    .filter(|(_, names)| !names.is_empty())
    .map(|(what, names)| format!("{what}: {names}"))
    .collect()
}

/// Names by family, which is what stands before the first dot.
fn families(names: &[&str]) -> String {
    let mut families: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in names {
        let family = name.split('.').next().unwrap();
        families.entry(family).or_default().push(name);
    }
    families
        .into_iter()
        .fold(String::new(), |mut text, (family, names)| {
            writeln!(text, "- **{family}**: {}", names.join(", ")).unwrap();
            text
        })
}

fn page() -> String {
    let (v3, v4) = (published(Dialect::V3), published(Dialect::V4));
    let mut text = String::from(
        "# Methods\n\nWhat is served, and how that differs from what others say of the same methods: 2026.3.13 as it was\n\
         observed for wire 3, `@openclaw/gateway-protocol` for wire 4. Written by\n\
         `cargo test -p clawgate-protocol --test published -- --ignored`; a test fails when it is not current.\n\n",
    );
    writeln!(
        text,
        "## Served: {}\n\nA scope in parentheses: the original does not know the method on that wire.\n\n\
         | method | wire 3 | wire 4 | params that differ |\n|---|---|---|---|",
        Method::ALL.len()
    )
    .unwrap();
    let mut rows: Vec<Method> = Method::ALL.to_vec();
    rows.sort_by_key(|method| method.spec().name);
    for method in rows {
        let spec = method.spec();
        let cell = |dialect: Dialect, known: bool| {
            let scope = named(spec.access(dialect));
            if known { scope } else { format!("({scope})") }
        };
        let (three, four) = (v3.get(spec.name), v4.get(spec.name));
        let mut differs = Vec::new();
        for (wire, dialect, theirs) in [(3, Dialect::V3, three), (4, Dialect::V4, four)] {
            for one in difference(method, dialect, theirs) {
                differs.push(format!("wire {wire} {one}"));
            }
        }
        writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            spec.name,
            cell(Dialect::V3, three.is_some()),
            cell(Dialect::V4, four.is_some()),
            differs.join("; ")
        )
        .unwrap();
    }
    for (wire, all) in [(3, &v3), (4, &v4)] {
        let missing: Vec<&str> = all
            .keys()
            .map(String::as_str)
            .filter(|name| Method::parse(name).is_none())
            .collect();
        writeln!(
            text,
            "\n## Not served on wire {wire}: {} of {}\n\n{}",
            missing.len(),
            all.len(),
            families(&missing).trim_end()
        )
        .unwrap();
    }
    text
}

fn page_path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/methods.md")
}

#[test]
fn every_method_asks_for_the_scope_that_is_published_for_it() {
    let mut wrong = Vec::new();
    for dialect in [Dialect::V3, Dialect::V4] {
        for (name, theirs) in published(dialect) {
            // Where the params decide, the least scope stands in the table.
            if theirs.scope == "dynamic"
                || OTHER_SCOPE
                    .iter()
                    .any(|(other, wire, _)| *other == name && *wire == dialect)
            {
                continue;
            }
            let ours = named(&access_by_name(&name, dialect));
            if ours != theirs.scope {
                wrong.push(format!(
                    "{name} on {dialect:?}: {ours} here, {} published",
                    theirs.scope
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_not_served_and_what_differs_is_what_the_page_says() {
    let written = std::fs::read_to_string(page_path()).unwrap_or_default();
    assert!(
        written == page(),
        "docs/methods.md is not current; read the difference after \
         `cargo test -p clawgate-protocol --test published -- --ignored`"
    );
}

#[test]
#[ignore = "writes docs/methods.md"]
fn write_the_page() {
    std::fs::write(page_path(), page()).unwrap();
}
