//! The original's judgements, replayed: every connection that was recorded against it is made
//! again, and must end as it ended there, or in one of the chosen differences below.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::collections::{BTreeMap, HashMap};

use clawgate_testkit::{
    Client, Connect, Device, Hello, OPERATOR, Refusal, SignedForm, TOKEN, TestGateway, Upgrade,
    gateway,
};
use serde_json::{Value, json};

const FIXTURE: &str = include_str!("fixtures/grant_matrix.txt");

/// Where clawgate judges otherwise, on purpose (docs: authorization).
struct Difference {
    /// Why.
    name: &'static str,
    /// Which of the original's outcomes is left behind.
    theirs: fn(&Row) -> bool,
    /// What stands in its place: any of these outcomes.
    ours: &'static [&'static str],
}

const EVERYTHING: &str = "OK read,write,admin,pairing,approvals";
const NO_DEVICE: &str =
    "ERR NOT_PAIRED DEVICE_IDENTITY_REQUIRED - - - - | device identity required | 1008 =";
const ASK_3: &str = "ERR NOT_PAIRED PAIRING_REQUIRED not-paired - - - | pairing required | 1008 =";
const ASK_4: &str = "ERR NOT_PAIRED PAIRING_REQUIRED not-paired - - - | pairing required: device \
    is not approved yet | 1008 pairing required: device is not approved yet (requestId";
const MORE_3: &str =
    "ERR NOT_PAIRED PAIRING_REQUIRED scope-upgrade - - - | pairing required | 1008 =";
const MORE_4: &str = "ERR NOT_PAIRED PAIRING_REQUIRED scope-upgrade - - - | pairing required: \
    device is asking for more scopes than currently approved | 1008 pairing required: device is \
    asking for more scopes than currently approved (requestId";
const FOREIGN: &str = "ERR INVALID_REQUEST CONTROL_UI_ORIGIN_NOT_ALLOWED origin_not_allowed - - - \
    | origin not allowed (open the Control UI from the gateway host or allow it in \
    gateway.controlUi.allowedOrigins) | 1008 =";
const NO_CREDENTIAL: &str = "ERR INVALID_REQUEST AUTH_REQUIRED - unauthorized \
    review_auth_configuration - | unauthorized | 1008 =";

const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "the shared secret on this machine gets what it asks for, device or not",
        theirs: |row| {
            row.outcome == "OK -"
                && (row.is_plain("nodev") && row.mode != "ttp" || row.has("hdr Host localhost"))
        },
        ours: &[EVERYTHING, "OK read"],
    },
    Difference {
        name: "a page without a device is refused, not welcomed with nothing",
        theirs: |row| row.outcome == "OK -" && row.has("loopOrigin"),
        ours: &[NO_DEVICE],
    },
    Difference {
        name: "a remote caller without a device is refused, not welcomed with nothing",
        theirs: |row| row.outcome == "OK -" && (row.is_header() || row.mode == "ttp"),
        ours: &[NO_DEVICE],
    },
    Difference {
        name: "any forwarding header and any foreign Host make a caller remote",
        theirs: |row| row.is_header() && row.outcome.starts_with("OK read,"),
        ours: &[NO_DEVICE, ASK_3, ASK_4, NO_CREDENTIAL],
    },
    Difference {
        name: "a caller through an unnamed proxy is judged as a remote one, not turned away by 403",
        theirs: |row| row.outcome == "HTTP 403",
        ours: &[
            NO_DEVICE,
            ASK_4,
            NO_CREDENTIAL,
            FOREIGN,
            "ERR INVALID_REQUEST AUTH_TOKEN_MISMATCH - token_mismatch update_auth_credentials - \
             | unauthorized: gateway token mismatch (set gateway.remote.token to match \
             gateway.auth.token) | 1008 =",
        ],
    },
    Difference {
        name: "mode none opens this machine, device or not",
        theirs: |row| {
            row.mode == "none"
                && row.outcome == NO_DEVICE
                && (row.is_plain("nodev") || row.has("hdr Host localhost"))
        },
        ours: &[EVERYTHING, "OK read"],
    },
    Difference {
        name: "mode none opens this machine alone: a remote caller has no credential to be paired by",
        theirs: |row| row.mode == "none" && row.is_header() && row.outcome == ASK_3,
        ours: &[NO_CREDENTIAL],
    },
    Difference {
        name: "a backend on this machine gets no record in mode none, as in wire 4",
        theirs: |row| {
            row.mode == "none" && row.protocol == 3 && row.has("newdev|gateway-client/backend|")
        },
        ours: &[EVERYTHING],
    },
    Difference {
        name: "the Control UI is paired in mode none, as in wire 3",
        theirs: |row| {
            row.mode == "none" && row.protocol == 4 && row.has("newdev|control-ui+loopOrigin|")
        },
        ours: &["OK read,write,admin,pairing,approvals +token"],
    },
    Difference {
        name: "the Control UI's build is not looked at",
        theirs: |row| row.outcome.starts_with("ERR UNAVAILABLE PROTOCOL_MISMATCH"),
        ours: &["OK read,write,admin,pairing,approvals +token"],
    },
    Difference {
        name: "a wire 3 hello hands the device token to nodes and to empty sessions, as in wire 4",
        theirs: |row| row.protocol == 3 && (row.has("node ") || row.has("scopes=[]")),
        ours: &[
            "OK !read,!write,!admin,!pairing,!approvals +token",
            "OK - +token",
        ],
    },
    Difference {
        name: "a scope of no family that exists here is refused, not carried or asked for",
        theirs: |row| row.has("scopes=nonoperator"),
        ours: &[
            "ERR INVALID_REQUEST MISSING_SCOPE no_presented_credential_carries_none_of_the_requested_scopes - - - | missing scope: foo.bar | 1008 =",
            "ERR FORBIDDEN MISSING_SCOPE no_presented_credential_carries_none_of_the_requested_scopes - - - | missing scope: foo.bar | 1008 =",
        ],
    },
    Difference {
        name: "another platform is taken silently from the shared secret on this machine",
        theirs: |row| row.has("paired|12 metadata platform change"),
        ours: &["OK read +token"],
    },
    Difference {
        name: "an approval leaves the device's token in place instead of issuing another",
        theirs: |row| row.mode != "none" && row.has("paired|16 devicetoken from control-ui loop"),
        ours: &["OK read +token"],
    },
    Difference {
        name: "a device token that asks for more files the upgrade instead of looking wrong",
        theirs: |row| row.has("wider scopes admin"),
        ours: &[MORE_3, MORE_4],
    },
    Difference {
        name: "a node's device that comes as an operator gets what it would get without its device",
        theirs: |row| row.has("node paired|as operator shared") && row.mode != "ttp",
        ours: &[EVERYTHING],
    },
    Difference {
        name: "operator scopes of a node mean nothing and stop nothing",
        theirs: |row| row.protocol == 4 && row.has("node w/ operator scopes"),
        ours: &["OK !read,!write,!admin,!pairing,!approvals +token"],
    },
    Difference {
        name: "hints name no program of the original",
        theirs: |row| row.outcome.contains("openclaw doctor"),
        ours: &["ERR INVALID_REQUEST AUTH_TOKEN_MISSING - token_missing \
                 update_auth_configuration - | unauthorized: gateway token missing (paste in \
                 Control UI settings) | 1008 ="],
    },
    Difference {
        name: "an address in gateway.trustedProxies is never direct, as in wire 3",
        theirs: |row| row.mode == "ttp" && (row.protocol == 4 || row.has("control-ui origin=host")),
        ours: &[
            NO_DEVICE,
            ASK_4,
            FOREIGN,
            "ERR INVALID_REQUEST AUTH_DEVICE_TOKEN_MISMATCH - device_token_mismatch \
             update_auth_credentials - | unauthorized: device token mismatch (rotate/reissue \
             device token) | 1008 =",
            "ERR INVALID_REQUEST AUTH_TOKEN_MISMATCH - token_mismatch update_auth_credentials - \
             | unauthorized: gateway token mismatch (set gateway.remote.token to match \
             gateway.auth.token) | 1008 =",
            "ERR INVALID_REQUEST AUTH_TOKEN_MISMATCH - token_mismatch retry_with_device_token retry \
             | unauthorized: gateway token mismatch (set gateway.remote.token to match \
             gateway.auth.token) | 1008 =",
            "ERR INVALID_REQUEST AUTH_TOKEN_MISSING - token_missing update_auth_configuration - \
             | unauthorized: gateway token missing (set gateway.remote.token to match \
             gateway.auth.token) | 1008 =",
        ],
    },
];

#[derive(Debug)]
struct Row {
    protocol: u32,
    mode: &'static str,
    what: &'static str,
    outcome: &'static str,
}

impl Row {
    /// The fields of what connected.
    fn fields(&self) -> Vec<&'static str> {
        self.what.split('|').collect()
    }

    fn has(&self, text: &str) -> bool {
        self.what.contains(text)
    }

    fn is_header(&self) -> bool {
        self.what.starts_with("hdr ")
    }

    /// On this machine, without a page.
    fn is_plain(&self, group: &str) -> bool {
        self.what.starts_with(group) && !self.has("Origin")
    }

    fn key(&self) -> String {
        format!("{}|{}|{}", self.protocol, self.mode, self.what)
    }
}

fn rows() -> Vec<Row> {
    let mut outcomes = HashMap::new();
    let mut rows = Vec::new();
    for line in FIXTURE.lines().filter(|line| !line.starts_with('#')) {
        let (key, value) = line.split_once('\t').unwrap();
        if key.starts_with('@') {
            outcomes.insert(key, value);
            continue;
        }
        let mut parts = key.splitn(3, '|');
        rows.push(Row {
            protocol: parts.next().unwrap().parse().unwrap(),
            mode: parts.next().unwrap(),
            what: parts.next().unwrap(),
            outcome: outcomes[value],
        });
    }
    rows
}

/// The configuration that the rows of a mode were recorded with. The lockout is widened: a matrix
/// is full of wrong secrets.
fn config(mode: &str) -> Value {
    let auth = match mode {
        "token" | "ttp" => json!({"mode": "token", "token": TOKEN}),
        "password" => json!({"mode": "password", "password": TOKEN}),
        "none" => json!({"mode": "none"}),
        other => panic!("{other}"),
    };
    let mut config = json!({"gateway": {"auth": auth}});
    config["gateway"]["auth"]["rateLimit"] =
        json!({"maxAttempts": 100_000, "exemptLoopback": false});
    if mode == "ttp" {
        config["gateway"]["trustedProxies"] = json!(["127.0.0.1"]);
    }
    config
}

/// What is remembered between rows of one sequence.
struct Replay<'a> {
    gateway: &'a TestGateway,
    mode: &'static str,
    protocol: u32,
    paired: Device,
    paired_token: String,
    node: Device,
    node_token: String,
}

impl<'a> Replay<'a> {
    fn new(gateway: &'a TestGateway, mode: &'static str, protocol: u32) -> Self {
        Self {
            gateway,
            mode,
            protocol,
            paired: Device::new(),
            paired_token: String::new(),
            node: Device::new(),
            node_token: String::new(),
        }
    }

    fn field(&self) -> &'static str {
        if self.mode == "password" {
            "password"
        } else {
            "token"
        }
    }

    fn connect(&self) -> Connect {
        Connect::new(self.protocol)
    }

    fn good(&self, connect: Connect) -> Connect {
        connect.auth(self.field(), TOKEN)
    }

    fn with_auth(&self, connect: Connect, auth: &str) -> Connect {
        match auth {
            "good" => self.good(connect),
            "none" => connect,
            "bad" => connect.auth(self.field(), "wrong-secret"),
            "otherfield" if self.mode == "password" => connect.auth("token", TOKEN),
            "otherfield" => connect.auth("password", TOKEN),
            "good padded" => connect.auth(self.field(), &format!("  {TOKEN}  ")),
            "deviceToken only" => connect.auth("deviceToken", "no-such-token"),
            "bootstrap only" => connect.auth("bootstrapToken", "no-such-code"),
            "both good token+bad pw" if self.mode == "password" => connect
                .auth("token", "wrong-secret")
                .auth("password", TOKEN),
            "both good token+bad pw" => connect
                .auth("token", TOKEN)
                .auth("password", "wrong-secret"),
            other => panic!("auth {other}"),
        }
    }

    fn run(&mut self, row: &Row) -> String {
        let fields = row.fields();
        match fields.as_slice() {
            ["nodev", "role=bogus"] => self.end(self.good(self.connect()).role("bogus"), &[]),
            ["nodev", client, auth] => self.plain(client, auth, "read", None),
            ["nodev", client, auth, scopes] => self.plain(client, auth, scopes, None),
            ["newdev", client, auth, scopes] => {
                self.plain(client, auth, scopes, Some(&Device::new()))
            }
            ["newdev", what] => self.proof(what),
            ["paired", step] => self.paired(step),
            ["node nodev", auth] => {
                let connect = self.with_auth(self.as_node(), auth.trim_start_matches("auth="));
                self.end(connect, &[])
            }
            ["node newdev", auth] => {
                let connect = self.with_auth(self.as_node(), auth.trim_start_matches("auth="));
                self.end(connect.device(&Device::new()), &[])
            }
            ["node paired", step] => self.node(step),
            ["node w/ operator scopes"] => {
                let connect = self.good(self.as_node()).scopes(&OPERATOR);
                self.end(connect.device(&Device::new()), &[])
            }
            ["node role w/ cli client"] => {
                let connect = self.good(self.as_node()).client("cli", "cli");
                self.end(connect.device(&Device::new()), &[])
            }
            [header, what] if header.starts_with("hdr ") => self.header(&header[4..], what),
            other => panic!("{other:?}"),
        }
    }

    fn as_node(&self) -> Connect {
        self.connect()
            .client("node-host", "node")
            .role("node")
            .scopes(&[])
    }

    fn plain(&self, client: &str, auth: &str, scopes: &str, device: Option<&Device>) -> String {
        let port = self.gateway.address().port();
        let own = format!("http://127.0.0.1:{port}");
        let (client, origin) = if let Some(client) = client.strip_suffix("+loopOrigin") {
            (client, Some(own.as_str()))
        } else if let Some(client) = client.strip_suffix(" foreignOrigin") {
            (client, Some("https://evil.example"))
        } else {
            (client.trim_end_matches(" noOrigin"), None)
        };
        let (id, mode) = match client {
            "control-ui" => ("openclaw-control-ui", "webchat"),
            "webchat-ui" => ("webchat-ui", "webchat"),
            "cli" => ("cli", "cli"),
            other => other.split_once('/').unwrap(),
        };
        let connect = self.with_auth(self.connect(), auth.trim_start_matches("auth="));
        let connect = match scopes.trim_start_matches("scopes=") {
            "ALL" => connect,
            "read" => connect.scopes(&["operator.read"]),
            "absent" => connect.without_scopes(),
            "[]" => connect.scopes(&[]),
            "custom" => connect.scopes(&["operator.frobnicate"]),
            "nonoperator" => connect.scopes(&["foo.bar"]),
            other => panic!("scopes {other}"),
        };
        let connect = connect.client(id, mode);
        let connect = match device {
            Some(device) => connect.device(device),
            None => connect,
        };
        match origin {
            Some(origin) => self.end(connect, &[("Origin", origin)]),
            None => self.end(connect, &[]),
        }
    }

    /// A new device with a proof of one kind or another.
    fn proof(&self, what: &str) -> String {
        let other = Device::new();
        let base = || {
            self.connect()
                .scopes(&["operator.read"])
                .device(&Device::new())
        };
        let spoiled = |connect: Connect| {
            connect.edit(|params| {
                let text = params["device"]["signature"].as_str().unwrap();
                let first = if text.starts_with('A') { "B" } else { "A" };
                params["device"]["signature"] = format!("{first}{}", &text[1..]).into();
            })
        };
        let good = |connect| self.good(connect);
        let connect = match what {
            "v2sig" => good(base()).form(SignedForm::V2),
            "badsig" => spoiled(good(base())),
            "badid" => good(base()).edit(move |params| params["device"]["id"] = other.id().into()),
            "badid uppercase" => good(base()).edit(|params| {
                let id = params["device"]["id"].as_str().unwrap().to_uppercase();
                params["device"]["id"] = id.into();
            }),
            "stale -121s" => good(base()).clock_off_by(-121_500),
            "ok -115s" => good(base()).clock_off_by(-115_000),
            "future +121s" => good(base()).clock_off_by(125_000),
            "bad nonce" => good(base()).nonce("00000000-0000-4000-8000-000000000000"),
            "blank nonce" => good(base()).nonce("  "),
            "badpub" => good(base()).edit(|params| params["device"]["publicKey"] = "junk".into()),
            "wrong sig+bad token order" => spoiled(base().auth(self.field(), "wrong-secret")),
            "deviceToken only unknown" => base().auth("deviceToken", "no-such-token"),
            "bootstrap bad" => base().auth("bootstrapToken", "no-such-code"),
            other => panic!("{other}"),
        };
        self.end(connect, &[])
    }

    /// One step in the life of a paired device.
    fn paired(&mut self, step: &str) -> String {
        let own = format!("http://127.0.0.1:{}", self.gateway.address().port());
        let read = || {
            self.connect()
                .scopes(&["operator.read"])
                .device(&self.paired)
        };
        let admin = || {
            self.connect()
                .scopes(&["operator.admin"])
                .device(&self.paired)
        };
        let token = self.paired_token.as_str();
        let good = |connect| self.good(connect);
        let connect = match step.split(' ').next().unwrap() {
            "1" | "2" | "11" => good(read()),
            "3" => read().auth("token", token),
            "4" => read().auth("deviceToken", token),
            "4b" => read().auth("token", token).auth("deviceToken", token),
            "5" => read().auth("token", token).scopes(&[]),
            "6" => admin().auth("token", token),
            "6b" => admin().auth("deviceToken", token),
            "7" => read().auth("deviceToken", "no-such-token"),
            "8" => read().auth("token", "no-such-token"),
            "8b" => read()
                .auth(self.field(), "wrong-secret")
                .auth("deviceToken", token),
            "8c" => good(read()).auth("deviceToken", "no-such-token"),
            "9" => read(),
            "10" => good(admin()),
            "12" => good(read()).with_client("platform", "darwin"),
            "12b" => good(read()).with_client("deviceFamily", "Linux"),
            "12c" => good(read()).with_client("platform", "LINUX"),
            "13" => good(read()).client("cli", "backend"),
            "14" => good(self.as_node()).device(&self.paired),
            "15" => self.as_node().device(&self.paired).auth("token", token),
            "16" => {
                let connect = read()
                    .auth("token", token)
                    .client("openclaw-control-ui", "webchat");
                return self.end(connect, &[("Origin", &own)]);
            }
            other => panic!("{other}"),
        };
        let (outcome, hello) = self.end_with(&connect, &[]);
        if step == "1 pair read" {
            let token = hello
                .as_ref()
                .and_then(Hello::device_token)
                .unwrap_or("none");
            token.clone_into(&mut self.paired_token);
        }
        outcome
    }

    fn node(&mut self, step: &str) -> String {
        let node = self.as_node().device(&self.node);
        let connect = match step {
            "pair" => self.good(node),
            "devtoken" => node.auth("deviceToken", &self.node_token),
            "proto3 only" => node.range(3, 3).auth("deviceToken", &self.node_token),
            "as operator shared" => self.good(self.connect()).device(&self.node),
            other => panic!("{other}"),
        };
        let (outcome, hello) = self.end_with(&connect, &[]);
        if step == "pair" {
            let token = hello
                .as_ref()
                .and_then(Hello::device_token)
                .unwrap_or("none");
            token.clone_into(&mut self.node_token);
        }
        outcome
    }

    /// Through something that forwards, or under another name.
    fn header(&self, header: &str, what: &str) -> String {
        let headers: &[(&str, &str)] = match header {
            "XFF untrusted/trusted" | "XFF" => &[("X-Forwarded-For", "203.0.113.7")],
            "X-Real-IP" => &[("X-Real-IP", "203.0.113.7")],
            "XFHost" => &[("X-Forwarded-Host", "gw.example.com")],
            "Forwarded" => &[("Forwarded", "for=203.0.113.7")],
            "Host example.com" => &[("Host", "example.com")],
            "Host private ip" => &[("Host", "192.168.1.5:18789")],
            "Host ts.net" => &[("Host", "box.tail1234.ts.net")],
            "Host localhost" => &[("Host", "localhost:18789")],
            "XFF loopback" => &[("X-Forwarded-For", "127.0.0.1")],
            "XFF chain" => &[("X-Forwarded-For", "203.0.113.7, 127.0.0.1")],
            "XFProto" => &[("X-Forwarded-Proto", "https")],
            "ts login hdr" => &[("Tailscale-User-Login", "someone@example.com")],
            other => panic!("{other}"),
        };
        let good = |connect| self.good(connect);
        let device = Device::new();
        let connect = match what {
            "nodev cli good" => good(self.connect()),
            "nodev backend good" => good(self.connect()).client("gateway-client", "backend"),
            "newdev cli good" => good(self.connect()).device(&device),
            "newdev node good" => good(self.as_node()).device(&device),
            "backend dev" => good(self.connect())
                .client("gateway-client", "backend")
                .device(&device),
            "nodev noauth" => self.connect(),
            "nodev badauth" => self.with_auth(self.connect(), "bad"),
            "control-ui origin=host" => {
                let ui = good(self.connect()).client("openclaw-control-ui", "webchat");
                let headers = [
                    headers,
                    &[("Host", "example.com"), ("Origin", "http://example.com")],
                ];
                return self.end(ui, &headers.concat());
            }
            other => panic!("{other}"),
        };
        self.end(connect, headers)
    }

    #[expect(clippy::needless_pass_by_value, reason = "built for this one use")]
    fn end(&self, connect: Connect, headers: &[(&str, &str)]) -> String {
        self.end_with(&connect, headers).0
    }

    fn end_with(&self, connect: &Connect, headers: &[(&str, &str)]) -> (String, Option<Hello>) {
        let upgrade = headers
            .iter()
            .fold(Upgrade::new(), |upgrade, (name, value)| {
                upgrade.header(name, value)
            });
        let mut client = match Client::open_with(self.gateway.address(), &upgrade) {
            Ok(client) => client,
            Err(answer) => return (format!("HTTP {}", answer.status), None),
        };
        match client.connect(connect) {
            Ok(hello) => (granted(&hello), Some(hello)),
            Err(refusal) => (refused(&refusal), None),
        }
    }
}

/// What a session may do, in the words of the fixture.
fn granted(hello: &Hello) -> String {
    let held = hello.session_scopes();
    let has = |scope: &str| {
        held.iter()
            .any(|held| held == scope || held == "operator.admin")
    };
    let can = [
        ("read", has("operator.read") || has("operator.write")),
        ("write", has("operator.write")),
        ("admin", has("operator.admin")),
        ("pairing", has("operator.pairing")),
        ("approvals", has("operator.approvals")),
    ];
    let words: Vec<String> = if hello.raw["auth"]["role"] == "node" {
        can.iter().map(|(word, _)| format!("!{word}")).collect()
    } else {
        can.iter()
            .filter(|(_, can)| *can)
            .map(|(word, _)| (*word).to_owned())
            .collect()
    };
    let words = if words.is_empty() {
        "-".to_owned()
    } else {
        words.join(",")
    };
    let token = if hello.device_token().is_some() {
        " +token"
    } else {
        ""
    };
    format!("OK {words}{token}")
}

fn refused(refusal: &Refusal) -> String {
    let close = &refusal.close;
    let Some(error) = &refusal.error else {
        return format!("ERR | | {} {}", close.code, close.reason);
    };
    let detail = |key: &str| match error.detail(key).as_str() {
        Some(text) => text.replace(' ', "_"),
        None => "-".to_owned(),
    };
    let retry = if error.detail("canRetryWithDeviceToken") == true {
        "retry"
    } else {
        "-"
    };
    let cut: String = error.message.chars().take(120).collect();
    let reason = if close.reason == cut {
        "=".to_owned()
    } else {
        match close.reason.split_once("(requestId: ") {
            Some((before, _)) => format!("{before}(requestId"),
            None => close.reason.clone(),
        }
    };
    format!(
        "ERR {} {} {} {} {} {retry} | {} | {} {reason}",
        error.code,
        detail("code"),
        detail("reason"),
        detail("authReason"),
        detail("recommendedNextStep"),
        error.message,
        close.code,
    )
}

/// What a replay found.
#[derive(Default)]
struct Found {
    same: usize,
    /// Rows that each difference explains.
    explained: BTreeMap<&'static str, usize>,
    wrong: Vec<String>,
}

fn replay(mode: &'static str, found: &mut Found) {
    let gateway = gateway!(config(mode));
    for protocol in [3, 4] {
        let mut replay = Replay::new(&gateway, mode, protocol);
        for row in rows()
            .iter()
            .filter(|row| row.mode == mode && row.protocol == protocol)
        {
            let outcome = replay.run(row);
            if outcome == row.outcome {
                found.same += 1;
                continue;
            }
            let chosen = DIFFERENCES.iter().find(|difference| {
                (difference.theirs)(row) && difference.ours.contains(&outcome.as_str())
            });
            match chosen {
                Some(difference) => {
                    *found.explained.entry(difference.name).or_default() += 1;
                }
                None => found.wrong.push(format!(
                    "{}\n    theirs {}\n    ours   {outcome}",
                    row.key(),
                    row.outcome
                )),
            }
        }
    }
}

#[test]
fn every_recorded_judgement_is_repeated_or_differs_on_purpose() {
    let mut found = Found::default();
    for mode in ["token", "password", "none", "ttp"] {
        replay(mode, &mut found);
    }
    let Found {
        same,
        explained,
        wrong,
    } = found;
    println!("{} rows: {same} as the original", rows().len());
    for difference in DIFFERENCES {
        let rows = explained.get(difference.name).copied().unwrap_or_default();
        println!("{rows:4} otherwise: {}", difference.name);
    }
    assert!(
        wrong.is_empty(),
        "{} rows:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    for difference in DIFFERENCES {
        let name = difference.name;
        assert!(
            explained.contains_key(name),
            "no row differs any more: {name}"
        );
    }
    assert!(rows().len() > 1_300, "the fixture lost rows");
}
