//! Device proofs and local proofs against the captured vectors, and against everything that can be
//! wrong with one, by one.
//!
//! The vectors come from the original's own client code; ids, keys, texts and signatures are its.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use clawgate_core::{
    Scope, ScopeSet,
    proof::{
        Claim, DeviceKey, ProofFault, device_token, fingerprint, hex, mac, same, verify,
        verify_local,
    },
};
use clawgate_protocol::proof::{PROOF_AGE_MS_MAX, ProofText, local_proof_text, pinned};
use ed25519_dalek::{Signer as _, SigningKey};

/// A captured proof.
#[derive(Clone, Debug, Default)]
struct Vector {
    seed_hex: String,
    public_key_hex: String,
    public_key: String,
    public_key_pem: String,
    private_key_pem: String,
    device_id: String,
    role: String,
    scopes: String,
    token: String,
    client_id: String,
    client_mode: String,
    platform: String,
    device_family: String,
    signed_at: u64,
    nonce: String,
    payload_v3: String,
    signature_v3: String,
    payload_v2: String,
    signature_v2: String,
}

/// The fixture has one `"key": value` per line, which is all of JSON that is read here: this crate
/// knows none.
fn vectors() -> Vec<Vector> {
    let mut vectors = Vec::new();
    let mut current = Vector::default();
    for line in include_str!("fixtures/device-signature-vectors.json").lines() {
        let line = line.trim().trim_end_matches(',');
        if line == "{" {
            current = Vector::default();
        }
        let Some((key, value)) = line.split_once(": ") else {
            if line.starts_with('"') {
                let separator = if current.scopes.is_empty() { "" } else { "," };
                current.scopes.push_str(separator);
                current.scopes.push_str(line.trim_matches('"'));
            }
            continue;
        };
        let text = value.trim_matches('"').replace("\\n", "\n");
        match key.trim_matches('"') {
            "seedHex" => current.seed_hex = text,
            "publicKeyHex" => current.public_key_hex = text,
            "publicKey" => current.public_key = text,
            "deviceId" => current.device_id = text,
            "role" => current.role = text,
            "token" if value != "null" => current.token = text,
            "clientId" => current.client_id = text,
            "clientMode" => current.client_mode = text,
            "platform" => current.platform = text,
            "deviceFamily" => current.device_family = text,
            "signedAt" => current.signed_at = text.parse().expect("a number"),
            "nonce" => current.nonce = text,
            "payloadV3" => current.payload_v3 = text,
            "signatureV3" => current.signature_v3 = text,
            "payloadV2" => current.payload_v2 = text,
            "signatureV2" => current.signature_v2 = text,
            "publicKeyPem" => current.public_key_pem = text,
            "privateKeyPem" => {
                current.private_key_pem = text;
                vectors.push(current.clone());
            }
            "input" | "scopes" | "token" => {}
            unknown => panic!("{unknown} is new in the vectors"),
        }
    }
    assert_eq!(vectors.len(), 4);
    vectors
}

impl Vector {
    fn text(&self) -> ProofText<'_> {
        ProofText {
            device_id: &self.device_id,
            client_id: &self.client_id,
            client_mode: &self.client_mode,
            role: &self.role,
            scopes: &self.scopes,
            signed_at_ms: self.signed_at,
            token: &self.token,
            nonce: &self.nonce,
            platform: &self.platform,
            device_family: &self.device_family,
        }
    }

    fn claim<'a>(&'a self, signature: &'a str) -> Claim<'a> {
        Claim {
            public_key: &self.public_key,
            signature,
            text: self.text(),
        }
    }

    fn now(&self) -> i64 {
        i64::try_from(self.signed_at).expect("a time of this century")
    }

    /// Judges a claim on the socket and at the moment for which the vector was signed.
    fn judge(&self, claim: &Claim<'_>) -> Result<DeviceKey, ProofFault> {
        verify(claim, &self.nonce, self.now())
    }

    fn signatures(&self) -> [&str; 2] {
        [&self.signature_v3, &self.signature_v2]
    }

    fn signing_key(&self) -> SigningKey {
        let seed = hex_bytes(&self.seed_hex).try_into();
        SigningKey::from_bytes(&seed.expect("32 bytes"))
    }
}

#[test]
fn every_vector_spells_the_captured_text_in_both_versions() {
    for vector in vectors() {
        assert_eq!(vector.text().v3(), vector.payload_v3);
        assert_eq!(vector.text().v2(), vector.payload_v2);
    }
}

#[test]
fn every_vector_verifies_in_both_versions() {
    for vector in vectors() {
        for signature in vector.signatures() {
            let key = vector.judge(&vector.claim(signature)).unwrap();
            assert_eq!(key.device_id(), vector.device_id);
            assert_eq!(key.to_base64url(), vector.public_key);
        }
    }
}

#[test]
fn our_own_signature_is_the_captured_one() {
    for vector in vectors() {
        let key = vector.signing_key();
        assert_eq!(hex(key.verifying_key().as_bytes()), vector.public_key_hex);
        let signed = |text: &str| URL_SAFE_NO_PAD.encode(key.sign(text.as_bytes()).to_bytes());
        assert_eq!(signed(&vector.payload_v3), vector.signature_v3);
        assert_eq!(signed(&vector.payload_v2), vector.signature_v2);
    }
}

#[test]
fn a_change_of_any_signed_field_is_noticed() {
    type Change = fn(&mut ProofText<'_>);
    let in_both: [(&str, Change); 6] = [
        ("client id", |text| text.client_id = "control-ui"),
        ("client mode", |text| text.client_mode = "ui"),
        ("role", |text| {
            text.role = if text.role == "node" {
                "operator"
            } else {
                "node"
            }
        }),
        ("scopes", |text| text.scopes = "operator.admin"),
        ("signed at", |text| text.signed_at_ms += 1),
        ("token", |text| text.token = "another"),
    ];
    let in_v3: [(&str, Change); 2] = [
        ("platform", |text| text.platform = "windows"),
        ("device family", |text| text.device_family = "watch"),
    ];
    for vector in vectors() {
        for (name, change) in in_both {
            for signature in vector.signatures() {
                let mut claim = vector.claim(signature);
                change(&mut claim.text);
                assert_eq!(
                    vector.judge(&claim),
                    Err(ProofFault::SignatureInvalid),
                    "{name}"
                );
            }
        }
        for (name, change) in in_v3 {
            let mut claim = vector.claim(&vector.signature_v3);
            change(&mut claim.text);
            assert_eq!(
                vector.judge(&claim),
                Err(ProofFault::SignatureInvalid),
                "{name}"
            );
            // The older text does not speak of it; that is why a record pins both.
            let mut claim = vector.claim(&vector.signature_v2);
            change(&mut claim.text);
            assert!(vector.judge(&claim).is_ok(), "{name}");
        }
    }
}

#[test]
fn a_signature_with_any_bit_flipped_is_noticed() {
    let vector = &vectors()[0];
    for signature in vector.signatures() {
        let good = URL_SAFE_NO_PAD.decode(signature).unwrap();
        for bit in 0..8 * good.len() {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let bad = URL_SAFE_NO_PAD.encode(bad);
            assert_eq!(
                vector.judge(&vector.claim(&bad)),
                Err(ProofFault::SignatureInvalid),
                "{bit}"
            );
        }
    }
}

#[test]
fn a_signature_that_is_none_is_noticed() {
    let vector = &vectors()[0];
    let good = URL_SAFE_NO_PAD.decode(&vector.signature_v3).unwrap();
    let short = URL_SAFE_NO_PAD.encode(&good[..63]);
    let long = URL_SAFE_NO_PAD.encode([good.as_slice(), &[0]].concat());
    let zeros = URL_SAFE_NO_PAD.encode([0; 64]);
    let in_hex = hex(&good);
    let spaced = format!(" {}", vector.signature_v3);
    let other = vectors()[1].signature_v3.clone();
    for signature in [
        "", "=", "junk", "ÅÄÖ", &short, &long, &zeros, &in_hex, &spaced, &other,
    ] {
        let judged = vector.judge(&vector.claim(signature));
        assert_eq!(judged, Err(ProofFault::SignatureInvalid), "{signature}");
    }
}

/// Adding the group's order to the second half gives another number that verifies under a careless
/// check: the same proof under two spellings.
#[test]
fn a_malleated_signature_is_refused() {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    for vector in vectors() {
        for signature in vector.signatures() {
            let mut raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
            let mut carry = 0;
            for (byte, add) in raw[32..].iter_mut().zip(ORDER) {
                let sum = u16::from(*byte) + u16::from(add) + carry;
                *byte = sum.to_le_bytes()[0];
                carry = sum >> 8;
            }
            let other = URL_SAFE_NO_PAD.encode(raw);
            assert_eq!(
                vector.judge(&vector.claim(&other)),
                Err(ProofFault::SignatureInvalid)
            );
        }
    }
}

#[test]
fn a_proof_counts_for_two_minutes_either_way_to_the_millisecond() {
    assert_eq!(PROOF_AGE_MS_MAX, 120_000);
    for vector in vectors() {
        for (skew, good) in [
            (0, true),
            (119_999, true),
            (120_000, true),
            (120_001, false),
            (-119_999, true),
            (-120_000, true),
            (-120_001, false),
            (86_400_000, false),
        ] {
            let claim = vector.claim(&vector.signature_v3);
            let judged = verify(&claim, &vector.nonce, vector.now() + skew);
            let expected = if good {
                None
            } else {
                Some(ProofFault::Expired)
            };
            assert_eq!(judged.err(), expected, "{skew}");
        }
    }
}

#[test]
fn no_clock_makes_the_check_panic() {
    let vector = &vectors()[0];
    for now in [i64::MIN, -1, 0, i64::MAX] {
        for signed_at_ms in [0, vector.signed_at, u64::MAX] {
            let mut claim = vector.claim(&vector.signature_v3);
            claim.text.signed_at_ms = signed_at_ms;
            let near = u64::try_from(now).unwrap_or_default() == signed_at_ms;
            let expected = if near {
                ProofFault::SignatureInvalid
            } else {
                ProofFault::Expired
            };
            assert_eq!(
                verify(&claim, &vector.nonce, now),
                Err(expected),
                "{now} {signed_at_ms}"
            );
        }
    }
}

#[test]
fn the_nonce_must_be_this_sockets() {
    let vector = &vectors()[0];
    let claim = vector.claim(&vector.signature_v3);
    let spaced = format!("{} ", vector.nonce);
    for other in [
        "another",
        "",
        &vectors()[1].nonce,
        &spaced,
        &vector.nonce[1..],
    ] {
        assert_eq!(
            verify(&claim, other, vector.now()),
            Err(ProofFault::NonceMismatch),
            "this proof was replayed on the socket of {other:?}"
        );
    }
    for blank in ["", " ", "\t\n", "\u{a0}"] {
        let mut claim = vector.claim(&vector.signature_v3);
        claim.text.nonce = blank;
        assert_eq!(
            vector.judge(&claim),
            Err(ProofFault::NonceMissing),
            "{blank:?}"
        );
        // Not even where the socket's own were blank.
        assert_eq!(
            verify(&claim, blank, vector.now()),
            Err(ProofFault::NonceMissing)
        );
    }
}

#[test]
fn the_id_must_be_the_keys_hash_in_lower_case() {
    let all = vectors();
    for (at, vector) in all.iter().enumerate() {
        let upper = vector.device_id.to_uppercase();
        let other = &all[(at + 1) % all.len()];
        let prefixed = format!("sha256:{}", vector.device_id);
        for id in [
            &upper,
            &other.device_id,
            "",
            &vector.device_id[..63],
            &prefixed,
        ] {
            let mut claim = vector.claim(&vector.signature_v3);
            claim.text.device_id = id;
            assert_eq!(
                vector.judge(&claim),
                Err(ProofFault::IdentityMismatch),
                "{id}"
            );
        }
        // The right signature under the right id with another's key.
        let claim = Claim {
            public_key: &other.public_key,
            ..vector.claim(&vector.signature_v3)
        };
        assert_eq!(vector.judge(&claim), Err(ProofFault::IdentityMismatch));
        // Another's key and id, so that only the signature can tell.
        let mut claim = Claim {
            public_key: &other.public_key,
            ..vector.claim(&vector.signature_v3)
        };
        claim.text.device_id = &other.device_id;
        assert_eq!(vector.judge(&claim), Err(ProofFault::SignatureInvalid));
    }
}

/// A proof that is wrong in every way is told the first, and the next once that is mended: the
/// order in which the original checks.
#[test]
fn the_first_fault_in_the_originals_order_is_told() {
    let vector = &vectors()[0];
    let mut claim = vector.claim("junk");
    claim.text.device_id = "another";
    claim.text.signed_at_ms = 0;
    claim.text.nonce = " ";
    let mut told = vec![vector.judge(&claim).unwrap_err()];
    claim.text.device_id = &vector.device_id;
    told.push(vector.judge(&claim).unwrap_err());
    claim.text.signed_at_ms = vector.signed_at;
    told.push(vector.judge(&claim).unwrap_err());
    claim.text.nonce = "another";
    told.push(vector.judge(&claim).unwrap_err());
    claim.text.nonce = &vector.nonce;
    told.push(vector.judge(&claim).unwrap_err());
    assert_eq!(told, ProofFault::ALL);
    claim.signature = &vector.signature_v2;
    assert!(vector.judge(&claim).is_ok());
}

#[test]
fn keys_come_as_base64url_standard_base64_or_pem() {
    for vector in vectors() {
        let raw = URL_SAFE_NO_PAD.decode(&vector.public_key).unwrap();
        let standard = STANDARD.encode(&raw);
        let bare = standard.trim_end_matches('=').to_owned();
        let padded = format!("{}=", vector.public_key);
        let windows = vector.public_key_pem.replace('\n', "\r\n");
        let chopped = vector.public_key_pem.trim_end().to_owned();
        for text in [
            &vector.public_key,
            &padded,
            &standard,
            &bare,
            &vector.public_key_pem,
            &windows,
            &chopped,
        ] {
            let key = DeviceKey::parse(text).unwrap_or_else(|| panic!("{text:?}"));
            assert_eq!(
                key.to_base64url(),
                vector.public_key,
                "however it comes, it is kept as one"
            );
            assert_eq!(key.device_id(), vector.device_id);
            let claim = Claim {
                public_key: text,
                ..vector.claim(&vector.signature_v3)
            };
            assert!(vector.judge(&claim).is_ok(), "{text:?}");
        }
    }
}

#[test]
fn signatures_come_as_base64url_or_standard_base64() {
    for vector in vectors() {
        for signature in vector.signatures() {
            let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
            let standard = STANDARD.encode(&raw);
            for text in [
                &standard,
                standard.trim_end_matches('='),
                &format!("{signature}=="),
            ] {
                assert!(vector.judge(&vector.claim(text)).is_ok(), "{text}");
            }
        }
    }
}

#[test]
fn what_is_no_ed25519_public_key_is_refused() {
    let vector = &vectors()[0];
    let raw = URL_SAFE_NO_PAD.decode(&vector.public_key).unwrap();
    // The same bytes under the name of X25519 (1.3.101.110 in place of 1.3.101.112).
    let x25519 = vector
        .public_key_pem
        .replace("MCowBQYDK2Vw", "MCowBQYDK2Vu");
    assert_ne!(x25519, vector.public_key_pem);
    let cut = vector.public_key_pem.replace("hzc=", "");
    let mislabelled = vector.public_key_pem.replace("PUBLIC", "PRIVATE");
    for text in [
        "",
        "BEGIN",
        "junk",
        &hex(&raw),
        &URL_SAFE_NO_PAD.encode(&raw[..31]),
        &URL_SAFE_NO_PAD.encode([raw.as_slice(), &[0]].concat()),
        &format!(" {}", vector.public_key),
        &vector.private_key_pem,
        &x25519,
        &cut,
        &mislabelled,
    ] {
        assert_eq!(DeviceKey::parse(text), None, "{text:?}");
        let claim = Claim {
            public_key: text,
            ..vector.claim(&vector.signature_v3)
        };
        assert_eq!(
            vector.judge(&claim),
            Err(ProofFault::IdentityMismatch),
            "{text:?}"
        );
    }
}

/// The eight points of small order, and the spellings of them that a careless decoder takes. Under
/// such a key one signature fits any text.
#[test]
fn keys_that_prove_nothing_are_refused() {
    let weak = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    ];
    for text in weak {
        let raw = hex_bytes(text);
        assert_eq!(
            DeviceKey::parse(&URL_SAFE_NO_PAD.encode(&raw)),
            None,
            "{text}"
        );
        // As a PEM it goes through another door.
        let der = [hex_bytes("302a300506032b6570032100").as_slice(), &raw].concat();
        let body = STANDARD.encode(der);
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
        assert_eq!(DeviceKey::parse(&pem), None, "{text}");
    }
}

fn hex_bytes(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hex"))
        .collect()
}

#[test]
fn platform_and_family_are_trimmed_and_only_ascii_is_lowered() {
    for (text, is) in [
        ("Linux", "linux"),
        (" Linux ", "linux"),
        ("MacIntel", "macintel"),
        ("ÅLAND-Ünix", "Åland-Ünix"),
        ("", ""),
        (" \t", ""),
    ] {
        assert_eq!(pinned(text), is);
    }
}

#[test]
fn a_local_proof_is_bound_to_the_socket_the_role_and_the_scopes() {
    let key: Vec<u8> = (0..32).collect();
    let scopes: ScopeSet = [Scope::READ, Scope::WRITE].into_iter().collect();
    let text = local_proof_text("nonce-1", "operator", Some(&scopes));
    // Computed elsewhere (Python's hmac).
    let good = "6cacf4c9ed29a87d9c6fdddef36f4ecea766b189b1ab09b2c2722816ba95a7fb";
    assert!(verify_local(&key, &text, good));

    for other in [
        local_proof_text("nonce-2", "operator", Some(&scopes)),
        local_proof_text("nonce-1", "node", Some(&scopes)),
        local_proof_text("nonce-1", "operator", Some(&ScopeSet::owner())),
        local_proof_text("nonce-1", "operator", None),
    ] {
        assert!(!verify_local(&key, &other, good), "{other}");
    }
    assert!(!verify_local(&key[1..], &text, good));
    assert!(!verify_local(&[], &text, good));
    let upper = good.to_uppercase();
    let spaced = format!("{good} ");
    for bad in [
        "",
        &good[..63],
        &spaced,
        &upper,
        &good.replacen('e', "f", 1),
    ] {
        assert!(!verify_local(&key, &text, bad), "{bad:?}");
    }
}

#[test]
fn the_mac_and_the_fingerprint_are_the_standard_ones() {
    // RFC 4231, test case 2, and FIPS 180-2, "abc".
    assert_eq!(
        hex(&mac(b"Jefe", "what do ya want for nothing?")),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
    assert_eq!(
        fingerprint("abc"),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}

#[test]
fn a_device_token_is_derived_again_from_the_same_and_differs_with_each_input() {
    let key: Vec<u8> = (0..32).collect();
    let (device, other_device) = ("ab".repeat(32), "cd".repeat(32));
    let token = device_token(&key, &device, "operator", "serial-1");
    assert_eq!(token, device_token(&key, &device, "operator", "serial-1"));
    let elsewhere = "XfsdxirzqnSKKpUCmPtRMhOkds1wf4x0klDX-Q7OT88";
    assert_eq!(
        token, elsewhere,
        "tokens outlive the program that made them"
    );
    let others = [
        device_token(&key[1..], &device, "operator", "serial-1"),
        device_token(&key, &other_device, "operator", "serial-1"),
        device_token(&key, &device, "node", "serial-1"),
        device_token(&key, &device, "operator", "serial-2"),
    ];
    for (at, other) in others.iter().enumerate() {
        assert_ne!(*other, token, "{at}");
        assert!(!others[..at].contains(other), "{at}");
        assert_eq!(other.len(), 43);
        assert!(
            other
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        );
    }
}

#[test]
fn secrets_are_the_same_only_if_every_byte_is() {
    assert!(same("", "") && same("secret", "secret"));
    for (a, b) in [
        ("secret", "secre"),
        ("secret", "Secret"),
        ("secret", "secret\0"),
        ("", " "),
    ] {
        assert!(!same(a, b) && !same(b, a), "{a:?} {b:?}");
    }
}
