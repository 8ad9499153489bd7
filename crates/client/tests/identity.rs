//! The device identity and the tokens beside it, on disk.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::{fs, path::Path};

use clawgate_client::{Endpoint, Identity, IdentityError, TokenStore};
use clawgate_protocol::{Scope, ScopeSet, proof::ProofText};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

fn write_identity(dir: &Path, vector: &Value) {
    let path = Identity::path(dir);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = json!({
        "version": 1,
        "deviceId": vector["deviceId"],
        "publicKeyPem": vector["publicKeyPem"],
        "privateKeyPem": vector["privateKeyPem"],
        "createdAtMs": 1,
    });
    fs::write(path, file.to_string()).unwrap();
}

#[test]
fn the_originals_keys_are_read_and_its_signatures_are_made() {
    let vectors = include_str!("fixtures/device-signature-vectors.json");
    let vectors: Vec<Value> = serde_json::from_str(vectors).unwrap();
    assert!(!vectors.is_empty());
    for vector in &vectors {
        let dir = tempfile::tempdir().unwrap();
        write_identity(dir.path(), vector);
        let identity = Identity::load(dir.path()).unwrap().unwrap();
        assert_eq!(identity.device_id(), vector["deviceId"]);
        assert_eq!(identity.public_key(), vector["publicKey"]);
        let input = &vector["input"];
        let text = |name: &str| input[name].as_str().unwrap_or_default();
        let scopes: ScopeSet = input["scopes"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|scope| Scope::from(scope.as_str().unwrap()))
            .collect();
        let proof = ProofText {
            device_id: identity.device_id(),
            client_id: text("clientId"),
            client_mode: text("clientMode"),
            role: text("role"),
            scopes: &scopes.joined(),
            signed_at_ms: vector["signedAt"].as_u64().unwrap(),
            token: text("token"),
            nonce: vector["nonce"].as_str().unwrap(),
            platform: text("platform"),
            device_family: text("deviceFamily"),
        };
        assert_eq!(proof.v3(), vector["payloadV3"]);
        assert_eq!(identity.sign(&proof), vector["signatureV3"]);
    }
}

#[test]
fn a_new_identity_is_private_kept_and_in_the_originals_format() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("new").join("state");
    let identity = Identity::load_or_create(&state).unwrap();
    let again = Identity::load_or_create(&state).unwrap();
    assert_eq!(identity.device_id(), again.device_id());
    let path = Identity::path(&state);
    let file: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let names: Vec<&String> = file.as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        [
            "version",
            "deviceId",
            "publicKeyPem",
            "privateKeyPem",
            "createdAtMs"
        ]
    );
    // PKCS#8 version 1: the only one that the original reads.
    assert!(
        file["privateKeyPem"]
            .as_str()
            .unwrap()
            .contains("\nMC4CAQAwBQYDK2VwBCIEI")
    );
    assert!(
        file["publicKeyPem"]
            .as_str()
            .unwrap()
            .starts_with("-----BEGIN PUBLIC KEY-----\nMCow")
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(mode(&state), 0o700);
    }
    let left = fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(left, 1, "no temporary file stays");
}

#[test]
fn two_processes_that_start_together_become_one_device() {
    let dir = tempfile::tempdir().unwrap();
    let ids: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    Identity::load_or_create(dir.path())
                        .unwrap()
                        .device_id()
                        .to_owned()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn a_damaged_identity_is_an_error_with_a_fix_and_stays_as_it_is() {
    let vectors: Vec<Value> =
        serde_json::from_str(include_str!("fixtures/device-signature-vectors.json")).unwrap();
    let mut wrong_id = vectors[0].clone();
    wrong_id["deviceId"] = "0".repeat(64).into();
    let mut wrong_key = vectors[0].clone();
    wrong_key["privateKeyPem"] = "canary".into();
    let dir = tempfile::tempdir().unwrap();
    for vector in [wrong_id, wrong_key] {
        write_identity(dir.path(), &vector);
        let before = fs::read(Identity::path(dir.path())).unwrap();
        let error = Identity::load_or_create(dir.path()).unwrap_err();
        assert!(matches!(error, IdentityError::Invalid { .. }));
        assert!(error.fix().contains("mv "), "{}", error.fix());
        assert!(!format!("{error} {error:?}").contains("canary"));
        assert_eq!(fs::read(Identity::path(dir.path())).unwrap(), before);
    }
    fs::write(Identity::path(dir.path()), "{\"version\":1, canary").unwrap();
    let error = Identity::load_or_create(dir.path()).unwrap_err();
    assert!(!error.to_string().contains("canary"), "{error}");
}

#[test]
fn a_token_is_found_for_its_own_endpoint_device_and_role_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = TokenStore::new(dir.path(), "device-a");
    let here = Endpoint::parse("ws://127.0.0.1:18789").unwrap();
    let secret = "canary-token".into();
    store
        .keep(&here, "operator", &secret, &ScopeSet::owner())
        .unwrap();
    let found = |store: &TokenStore, url: &str, role: &str| {
        let endpoint = Endpoint::parse(url).unwrap();
        let stored = store.find(&endpoint, role, true).unwrap();
        stored.map(|stored| stored.token.expose_secret().to_owned())
    };
    let canary = Some("canary-token".to_owned());
    assert_eq!(found(&store, "ws://localhost:18789/", "operator"), canary);
    for (url, role) in [
        ("ws://127.0.0.1:18790", "operator"),
        ("wss://127.0.0.1:18789", "operator"),
        ("wss://gate.example:18789", "operator"),
        ("ws://127.0.0.1:18789/other", "operator"),
        ("ws://127.0.0.1:18789", "node"),
    ] {
        assert_eq!(found(&store, url, role), None, "{url} {role}");
    }
    let other = TokenStore::new(dir.path(), "device-b");
    assert_eq!(found(&other, "ws://127.0.0.1:18789", "operator"), None);
    let stored = store.find(&here, "operator", false).unwrap().unwrap();
    assert!(!format!("{stored:?}").contains("canary"));
    // The same again writes nothing.
    let path = dir.path().join("identity").join("gateways.json");
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    store
        .keep(&here, "operator", &secret, &ScopeSet::owner())
        .unwrap();
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
}

#[test]
fn the_originals_token_file_counts_for_the_local_gateway_alone() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("identity");
    fs::create_dir_all(&folder).unwrap();
    let file = json!({"version": 1, "deviceId": "device-a", "tokens": {
        "operator": {"token": "theirs", "role": "operator", "scopes": ["operator.admin"], "updatedAtMs": 1},
    }});
    fs::write(folder.join("device-auth.json"), file.to_string()).unwrap();
    let store = TokenStore::new(dir.path(), "device-a");
    let local = Endpoint::local(18789);
    let remote = Endpoint::parse("wss://gate.example").unwrap();
    assert!(store.find(&local, "operator", true).unwrap().is_some());
    assert!(store.find(&local, "operator", false).unwrap().is_none());
    assert!(store.find(&remote, "operator", true).unwrap().is_none());
    let other = TokenStore::new(dir.path(), "device-b");
    assert!(other.find(&local, "operator", true).unwrap().is_none());
}
