//! Pages and proxies: who may speak from where, in every mode, before any credential is looked at.

use clawgate_testkit::{Connect, Device, Hello, Refusal, TOKEN, TestGateway, gateway};
use serde_json::{Value, json};

const READ: &[&str] = &["operator.read"];
const MESSAGE: &str = "origin not allowed (open the Control UI from the gateway host or allow it \
                       in gateway.controlUi.allowedOrigins)";

fn from(
    gateway: &TestGateway,
    headers: &[(&str, &str)],
    connect: &Connect,
) -> Result<Hello, Refusal> {
    gateway.client_with(headers).connect(connect)
}

fn modes() -> [Value; 4] {
    [
        json!({"gateway": {"auth": {"mode": "token", "token": TOKEN}}}),
        json!({"gateway": {"auth": {"mode": "password", "password": TOKEN}}}),
        json!({"gateway": {"auth": {"mode": "none"}}}),
        json!({"gateway": {
            "auth": {"mode": "trusted-proxy",
                "trustedProxy": {"userHeader": "x-user", "allowLoopback": true}},
            "trustedProxies": ["127.0.0.1"],
        }}),
    ]
}

fn page(protocol: u32) -> Connect {
    Connect::new(protocol)
        .token(TOKEN)
        .auth("password", TOKEN)
        .device(&Device::new())
        .scopes(READ)
        .client("openclaw-control-ui", "ui")
}

#[test]
fn e36_a_foreign_page_is_refused_in_every_mode_with_the_right_secret() {
    for config in modes() {
        let gateway = gateway!(config);
        for protocol in [3, 4] {
            for origin in [
                "https://evil.example",
                "http://localhost.evil.example",
                "http://127.0.0.1.evil.example",
                "http://evil.example:18789",
                "https://127.0.0.1@evil.example",
            ] {
                let refusal = from(&gateway, &[("Origin", origin)], &page(protocol)).unwrap_err();
                let error = refusal.error.as_ref().unwrap();
                assert_eq!(error.code, "INVALID_REQUEST");
                assert_eq!(error.message, MESSAGE, "{origin}");
                assert_eq!(error.detail_code(), "CONTROL_UI_ORIGIN_NOT_ALLOWED");
                assert_eq!(refusal.close.code, 1008);
                assert_eq!(refusal.close.reason, MESSAGE[..MESSAGE.len().min(120)]);
            }
        }
    }
}

#[test]
fn e36_a_foreign_page_is_told_the_same_whatever_secret_it_brings_and_guesses_nothing() {
    let gateway = gateway!();
    for protocol in [3, 4] {
        for origin in ["https://evil.example", "http://localhost.evil.com", "null"] {
            let bare = || {
                Connect::new(protocol)
                    .scopes(READ)
                    .client("openclaw-control-ui", "ui")
            };
            let told = |connect: &Connect| {
                let refusal = from(&gateway, &[("Origin", origin)], connect).unwrap_err();
                (refusal.error.unwrap().raw, refusal.close)
            };
            let without = told(&bare());
            assert_eq!(told(&bare().token(TOKEN)), without, "{origin}");
            // More than are looked at of anybody who guesses.
            for n in 0..25 {
                let guess = bare()
                    .token(&format!("guess-{n}"))
                    .auth("password", "guess");
                assert_eq!(told(&guess), without, "{origin}");
            }
        }
    }
    // Nobody on this machine is locked out by that.
    gateway.welcome(&Connect::new(4).token(TOKEN));
    // Chosen: a page of this machine is welcome, whatever its port.
    from(&gateway, &[("Origin", "http://127.0.0.1:1")], &page(4)).unwrap();
}

#[test]
fn e36_an_origin_that_is_none_is_missing_or_invalid() {
    let gateway = gateway!();
    for origin in [
        "null",
        "",
        "http://",
        "127.0.0.1",
        "http://localhost/path",
        "http://a, http://b",
    ] {
        let refusal = from(&gateway, &[("Origin", origin)], &page(3)).unwrap_err();
        let error = refusal.error.unwrap();
        assert_eq!(
            error.detail("reason"),
            "origin missing or invalid",
            "{origin:?}"
        );
    }
    let refusal = from(&gateway, &[], &page(3)).unwrap_err();
    assert_eq!(
        refusal.error.unwrap().detail("reason"),
        "origin missing or invalid"
    );
}

#[test]
fn a_page_of_this_machine_is_welcome_on_this_machine() {
    let gateway = gateway!();
    for origin in [
        "http://127.0.0.1:5173",
        "http://localhost",
        "https://[::1]:8443",
    ] {
        for protocol in [3, 4] {
            let hello = from(&gateway, &[("Origin", origin)], &page(protocol)).unwrap();
            assert_eq!(hello.session_scopes(), READ);
        }
    }
    let far = [
        ("Origin", "http://127.0.0.1:5173"),
        ("X-Forwarded-For", "203.0.113.7"),
    ];
    let refusal = from(&gateway, &far, &page(4)).unwrap_err();
    assert_eq!(refusal.code(), "CONTROL_UI_ORIGIN_NOT_ALLOWED");
}

#[test]
fn e36_a_name_that_was_rebound_to_this_machine_is_foreign() {
    let gateway = gateway!();
    let rebound = [
        ("Host", "evil.example:18789"),
        ("Origin", "http://evil.example:18789"),
    ];
    let refusal = from(&gateway, &rebound, &page(4)).unwrap_err();
    assert_eq!(refusal.code(), "CONTROL_UI_ORIGIN_NOT_ALLOWED");
    // Without its origin it is a remote caller all the same.
    let bare = Connect::new(4).token(TOKEN);
    let refusal = from(&gateway, &[("Host", "evil.example:18789")], &bare).unwrap_err();
    assert_eq!(refusal.code(), "DEVICE_IDENTITY_REQUIRED");
}

#[test]
fn a_cross_site_request_is_foreign_even_without_an_origin() {
    let gateway = gateway!();
    let bare = Connect::new(4).token(TOKEN);
    for site in ["cross-site", "same-site"] {
        let refusal = from(&gateway, &[("Sec-Fetch-Site", site)], &bare).unwrap_err();
        assert_eq!(refusal.code(), "CONTROL_UI_ORIGIN_NOT_ALLOWED", "{site}");
    }
}

#[test]
fn listed_pages_are_welcome_and_the_star_lists_all() {
    let listed = |list: Value| {
        json!({"gateway": {
            "auth": {"mode": "token", "token": TOKEN}, "controlUi": {"allowedOrigins": list},
        }})
    };
    let gateway = gateway!(listed(json!(["https://ui.example"])));
    for origin in ["https://ui.example", "HTTPS://UI.example"] {
        from(&gateway, &[("Origin", origin)], &page(4)).unwrap();
    }
    for origin in [
        "http://ui.example",
        "https://ui.example:444",
        "https://x.ui.example",
    ] {
        from(&gateway, &[("Origin", origin)], &page(4)).unwrap_err();
    }
    let gateway = gateway!(listed(json!(["*"])));
    from(
        &gateway,
        &[("Origin", "https://anything.example")],
        &page(3),
    )
    .unwrap();
    from(&gateway, &[("Origin", "null")], &page(3)).unwrap_err();
}

#[test]
fn the_host_fallback_is_a_switch() {
    let config = json!({"gateway": {
        "auth": {"mode": "token", "token": TOKEN},
        "controlUi": {"dangerouslyAllowHostHeaderOriginFallback": true},
    }});
    let headers = [
        ("Host", "ui.example:18789"),
        ("Origin", "http://ui.example:18789"),
    ];
    let on = gateway!(config);
    let refusal = from(&on, &headers, &page(4)).unwrap_err();
    assert_eq!(
        refusal.code(),
        "PAIRING_REQUIRED",
        "allowed as a page, remote as a peer"
    );
    let refusal = from(&gateway!(), &headers, &page(4)).unwrap_err();
    assert_eq!(refusal.code(), "CONTROL_UI_ORIGIN_NOT_ALLOWED");
}

#[test]
fn a_page_without_a_device_gets_nothing_whatever_the_switches_say() {
    for switch in ["allowInsecureAuth", "dangerouslyDisableDeviceAuth"] {
        let gateway = gateway!(json!({"gateway": {
            "auth": {"mode": "token", "token": TOKEN}, "controlUi": {switch: true},
        }}));
        let origin = [("Origin", "http://127.0.0.1:5173")];
        let bare = || Connect::new(3).client("openclaw-control-ui", "ui");
        for connect in [bare(), bare().token(TOKEN), bare().token("wrong")] {
            let refusal = from(&gateway, &origin, &connect).unwrap_err();
            assert_eq!(
                refusal.code(),
                "CONTROL_UI_DEVICE_IDENTITY_REQUIRED",
                "{switch}"
            );
            assert_eq!(
                refusal.close.reason,
                "control ui requires device identity (use HTTPS or localhost secure context)"
            );
        }
        let spoiled = page(3).edit(|params| params["device"]["signature"] = "AAAA".into());
        let refusal = from(&gateway, &origin, &spoiled).unwrap_err();
        assert_eq!(refusal.code(), "DEVICE_AUTH_SIGNATURE_INVALID", "{switch}");
        gateway.says(&format!("gateway.controlUi.{switch}"));
    }
}

#[test]
fn e37_no_header_makes_a_remote_caller_local() {
    let gateway = gateway!();
    for extra in [
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Real-IP", "127.0.0.1"),
        ("Forwarded", "for=127.0.0.1;host=localhost"),
        ("X-Forwarded-Host", "localhost"),
        ("Tailscale-User-Login", "owner@example.com"),
        ("Via", "1.1 nginx"),
        ("Host", "localhost.evil.example"),
        ("Host", "127.0.0.1.nip.io"),
    ] {
        for protocol in [3, 4] {
            let connect = Connect::new(protocol).token(TOKEN);
            let refusal = from(&gateway, &[extra], &connect).unwrap_err();
            assert_eq!(refusal.code(), "DEVICE_IDENTITY_REQUIRED", "{extra:?}");
            let connect = Connect::new(protocol).token(TOKEN).device(&Device::new());
            let refusal = from(&gateway, &[extra], &connect).unwrap_err();
            assert_eq!(refusal.code(), "PAIRING_REQUIRED", "{extra:?}");
        }
    }
}

#[test]
fn e24_deviceless_scopes_are_bounded_by_policy_and_say_so() {
    let gateway = gateway!(json!({"gateway": {"auth": {
        "mode": "token", "token": TOKEN, "deviceless": {"loopback": ["operator.read"]},
    }}}));
    for protocol in [3, 4] {
        let (mut client, hello) = gateway.welcome(&Connect::new(protocol).token(TOKEN));
        assert_eq!(hello.session_scopes(), READ);
        assert_eq!(hello.missing().len(), 4);
        client.refused("cron.add", &json!({}));
        let admin = Connect::new(protocol)
            .token(TOKEN)
            .scopes(&["operator.admin"]);
        let refusal = gateway.refusal(&admin);
        assert_eq!(refusal.error.unwrap().detail_code(), "MISSING_SCOPE");
    }
}

/// A gateway behind a proxy that names its users.
fn proxied() -> TestGateway {
    gateway!(json!({"gateway": {
        "auth": {
            "mode": "trusted-proxy",
            "trustedProxy": {
                "userHeader": "x-user", "requiredHeaders": ["x-team"], "allowUsers": ["ann", "bob"],
                "allowLoopback": true,
            },
            "identityScopes": {"ann": ["operator.read"]},
        },
        "trustedProxies": ["127.0.0.1"],
    }}))
}

#[test]
fn a_user_behind_a_trusted_proxy_gets_what_is_configured_for_that_user() {
    let gateway = proxied();
    for protocol in [3, 4] {
        let ann = [
            ("X-User", "ann"),
            ("X-Team", "core"),
            ("X-Forwarded-For", "203.0.113.7"),
        ];
        let hello = from(&gateway, &ann, &Connect::new(protocol)).unwrap();
        assert_eq!(hello.session_scopes(), READ);
        assert_eq!(hello.raw["auth"]["basis"], "proxy-identity");
        if protocol == 4 {
            assert_eq!(hello.raw["auth"]["method"], "trusted-proxy");
        }
        // A user without scopes of its own needs a device that somebody approved.
        let bob = [
            ("X-User", "bob"),
            ("X-Team", "core"),
            ("X-Forwarded-For", "203.0.113.7"),
        ];
        let refusal = from(&gateway, &bob, &Connect::new(protocol)).unwrap_err();
        assert_eq!(refusal.code(), "DEVICE_IDENTITY_REQUIRED");
        let device = Connect::new(protocol).device(&Device::new());
        assert_eq!(
            from(&gateway, &bob, &device).unwrap_err().code(),
            "PAIRING_REQUIRED"
        );
    }
}

#[test]
fn e38_a_proxied_request_without_a_good_user_is_refused() {
    let gateway = proxied();
    let with_token = || Connect::new(3).token("anything");
    for headers in [
        vec![("X-Team", "core"), ("X-Forwarded-For", "203.0.113.7")],
        vec![
            ("X-User", ""),
            ("X-Team", "core"),
            ("X-Forwarded-For", "203.0.113.7"),
        ],
        vec![("X-User", "ann"), ("X-Forwarded-For", "203.0.113.7")],
        vec![
            ("X-User", "ann"),
            ("X-Team", ""),
            ("X-Forwarded-For", "203.0.113.7"),
        ],
        vec![
            ("X-User", "eve"),
            ("X-Team", "core"),
            ("X-Forwarded-For", "203.0.113.7"),
        ],
        vec![
            ("X-User", "ANN"),
            ("X-Team", "core"),
            ("X-Forwarded-For", "203.0.113.7"),
        ],
        vec![],
    ] {
        let refusal = from(&gateway, &headers, &with_token()).unwrap_err();
        let error = refusal.error.as_ref().unwrap();
        assert_eq!(error.detail_code(), "AUTH_UNAUTHORIZED", "{headers:?}");
        assert_eq!(error.message, "unauthorized");
    }
}

#[test]
fn a_proxy_on_this_machine_names_nobody_unless_it_may() {
    let behind = |proxy: Value| {
        gateway!(json!({"gateway": {
            "auth": {"mode": "trusted-proxy", "trustedProxy": proxy,
                "identityScopes": {"*": ["operator.admin"]}},
            "trustedProxies": ["127.0.0.1"],
        }}))
    };
    let ann = [("X-User", "ann"), ("X-Forwarded-For", "203.0.113.7")];
    let gateway = behind(json!({"userHeader": "x-user"}));
    gateway.says("allowLoopback");
    for protocol in [3, 4] {
        let refusal = from(&gateway, &ann, &Connect::new(protocol)).unwrap_err();
        assert_eq!(
            refusal.error.unwrap().detail("authReason"),
            "trusted_proxy_untrusted_source"
        );
    }
    let gateway = behind(json!({"userHeader": "x-user", "allowLoopback": true}));
    from(&gateway, &ann, &Connect::new(4)).unwrap();
    // A list of users that is empty lets nobody pass.
    let gateway = behind(json!({"userHeader": "x-user", "allowLoopback": true, "allowUsers": []}));
    let refusal = from(&gateway, &ann, &Connect::new(4)).unwrap_err();
    assert_eq!(
        refusal.error.unwrap().detail("authReason"),
        "trusted_proxy_user_not_allowed"
    );
}

#[test]
fn e38_two_users_at_once_are_nobody() {
    let gateway = proxied();
    let headers = [("X-User", "ann"), ("X-User", "bob"), ("X-Team", "core")];
    from(&gateway, &headers, &Connect::new(3).token("anything")).unwrap_err();
}

#[test]
fn a_user_header_from_an_address_that_is_no_proxy_is_nothing() {
    let gateway = gateway!(json!({"gateway": {
        "auth": {"mode": "trusted-proxy", "trustedProxy": {"userHeader": "x-user"},
            "identityScopes": {"ann": ["operator.admin"]}},
        "trustedProxies": ["192.0.2.1"],
    }}));
    for headers in [
        vec![("X-User", "ann")],
        vec![("X-User", "ann"), ("X-Forwarded-For", "192.0.2.1")],
    ] {
        let refusal = from(&gateway, &headers, &Connect::new(4)).unwrap_err();
        let error = refusal.error.unwrap();
        assert_eq!(
            error.detail("authReason"),
            "trusted_proxy_untrusted_source",
            "{headers:?}"
        );
    }
}

#[test]
fn explain_names_the_evidence_and_the_rule() {
    let gateway = gateway!();
    for protocol in [3, 4] {
        let (mut client, _) = gateway.welcome(&Connect::new(protocol).token(TOKEN).scopes(READ));
        let told = client.call("auth.explain", &json!({}));
        assert_eq!(told["evidence"]["peer"], "loopback-direct");
        assert_eq!(told["evidence"]["browser"], "no");
        assert_eq!(told["evidence"]["credentials"], json!(["shared-secret"]));
        assert_eq!(told["evidence"]["deviceProof"], "absent");
        assert_eq!(told["basis"], "shared-secret-loopback");
        assert_eq!(told["granted"], json!(READ));
        assert_eq!(told["missing"], json!([]));
        assert!(told["rule"].is_string());
    }
}
