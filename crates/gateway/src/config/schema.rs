//! What a configuration may hold: the one table from which a file is checked, a form is made
//! (`config.schema`), a place is looked up, and secrets are found.
//!
//! Sections that only the original has a use for stand here as open objects: they are accepted and
//! kept as they are.

use serde_json::{Map, Value, json};

use super::look::{Look, kind as kind_of};

/// What a value may be. Null is the same as not being there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Any,
    Text,
    /// A text, `${NAME}` in it, or a reference `{source, provider, id}`.
    Secret,
    Bool,
    /// A whole number with its bounds.
    Int(i64, i64),
    OneOf(&'static [&'static str]),
    List(&'static Self),
    /// Any keys, one kind of value.
    Map(&'static Self),
    /// These members; others are mistakes.
    Object(&'static [Member]),
    /// These members, and whatever else others keep here.
    Open(&'static [Member]),
}

/// A member of an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub key: &'static str,
    pub kind: Kind,
    label: &'static str,
    help: &'static str,
}

const fn member(key: &'static str, kind: Kind, label: &'static str, help: &'static str) -> Member {
    Member {
        key,
        kind,
        label,
        help,
    }
}

const TEXTS: Kind = Kind::List(&Kind::Text);
const OPEN: Kind = Kind::Open(&[]);
/// A day in milliseconds, the longest that most waits may be.
const DAY_MS: i64 = 86_400_000;
/// Integers that every reader of JSON keeps exact.
const EXACT_MAX: i64 = 9_007_199_254_740_991;

const RATE_LIMIT: &[Member] = &[
    member(
        "maxAttempts",
        Kind::Int(1, DAY_MS),
        "Attempts",
        "Failed attempts within the window that lock an address out.",
    ),
    member(
        "windowMs",
        Kind::Int(1_000, DAY_MS),
        "Window",
        "Length of the window in milliseconds.",
    ),
    member(
        "lockoutMs",
        Kind::Int(1_000, DAY_MS),
        "Lockout",
        "How long a lockout lasts, in milliseconds.",
    ),
    member(
        "exemptLoopback",
        Kind::Bool,
        "Exempt this machine",
        "Programs on this machine are slowed instead of locked out.",
    ),
];
const TRUSTED_PROXY: &[Member] = &[
    member(
        "userHeader",
        Kind::Text,
        "User header",
        "Header in which the proxy names the user.",
    ),
    member(
        "requiredHeaders",
        TEXTS,
        "Required headers",
        "Headers that the proxy always sends.",
    ),
    member(
        "allowUsers",
        TEXTS,
        "Users",
        "Users that may pass. Absent lets all pass, an empty list none.",
    ),
    member(
        "allowLoopback",
        Kind::Bool,
        "Proxy on this machine",
        "A proxy on this machine may name users, although any program on it could.",
    ),
    member(
        "deviceAutoApprove",
        Kind::Any,
        "Approve devices",
        "Has no effect here.",
    ),
];
const AUTH: &[Member] = &[
    member(
        "mode",
        Kind::OneOf(&["token", "password", "none", "trusted-proxy"]),
        "Mode",
        "How callers authenticate. \"none\" is for loopback alone.",
    ),
    member(
        "token",
        Kind::Secret,
        "Token",
        "The shared token of mode \"token\". Without one a token is made and kept in the state directory.",
    ),
    member(
        "password",
        Kind::Secret,
        "Password",
        "The shared password of mode \"password\".",
    ),
    member(
        "allowTailscale",
        Kind::Bool,
        "Tailscale identity",
        "Has no effect here.",
    ),
    member(
        "rateLimit",
        Kind::Object(RATE_LIMIT),
        "Attempts",
        "How failed attempts lock out.",
    ),
    member(
        "deviceless",
        Kind::Object(&[member(
            "loopback",
            TEXTS,
            "On this machine",
            "Scopes that the shared secret alone carries on this machine.",
        )]),
        "Without a device",
        "What callers may do that show no device.",
    ),
    member(
        "trustedProxy",
        Kind::Object(TRUSTED_PROXY),
        "Trusted proxy",
        "How a proxy names the user, in mode \"trusted-proxy\".",
    ),
    member(
        "identityScopes",
        Kind::Map(&TEXTS),
        "Scopes by user",
        "Scopes of users behind the proxy that show no device; * is anybody.",
    ),
];
const CONTROL_UI: &[Member] = &[
    member(
        "enabled",
        Kind::Bool,
        "Served",
        "Whether the Control UI is served.",
    ),
    member(
        "basePath",
        Kind::Text,
        "Base path",
        "Path under which it is served.",
    ),
    member("root", Kind::Text, "Files", "Directory of its files."),
    member(
        "allowedOrigins",
        TEXTS,
        "Origins",
        "Pages of other places that may connect.",
    ),
    member(
        "dangerouslyAllowHostHeaderOriginFallback",
        Kind::Bool,
        "Origin by Host",
        "Accept a page whose origin equals the Host header.",
    ),
    member(
        "allowInsecureAuth",
        Kind::Bool,
        "Insecure auth",
        "Has no effect here: a browser always shows a device identity.",
    ),
    member(
        "dangerouslyDisableDeviceAuth",
        Kind::Bool,
        "No device identity",
        "Has no effect here: a browser always shows a device identity.",
    ),
];
const REMOTE: &[Member] = &[
    member(
        "url",
        Kind::Text,
        "URL",
        "Gateway that this machine's commands use in mode \"remote\".",
    ),
    member("transport", Kind::Text, "Transport", "How it is reached."),
    member("token", Kind::Secret, "Token", "Its shared token."),
    member("password", Kind::Secret, "Password", "Its shared password."),
    member(
        "tlsFingerprint",
        Kind::Text,
        "TLS fingerprint",
        "Certificate that it must show.",
    ),
    member("sshTarget", Kind::Text, "SSH target", "Has no effect here."),
    member(
        "sshIdentity",
        Kind::Text,
        "SSH identity",
        "Has no effect here.",
    ),
];
const HTTP: &[Member] = &[
    member(
        "endpoints",
        Kind::Object(&[
            member(
                "chatCompletions",
                Kind::Object(&[
                    member("enabled", Kind::Bool, "Served", ""),
                    member("maxBodyBytes", Kind::Any, "Body", ""),
                    member("maxImageParts", Kind::Any, "Images", ""),
                    member("maxTotalImageBytes", Kind::Any, "Image bytes", ""),
                    member("images", Kind::Any, "Images", ""),
                ]),
                "Chat completions",
                "Has no effect yet.",
            ),
            member(
                "responses",
                Kind::Object(&[
                    member("enabled", Kind::Bool, "Served", ""),
                    member("maxBodyBytes", Kind::Any, "Body", ""),
                    member("maxUrlParts", Kind::Any, "URL parts", ""),
                    member("files", Kind::Any, "Files", ""),
                    member("images", Kind::Any, "Images", ""),
                ]),
                "Responses",
                "Has no effect yet.",
            ),
        ]),
        "Endpoints",
        "HTTP endpoints beside the WebSocket.",
    ),
    member(
        "securityHeaders",
        Kind::Object(&[member(
            "strictTransportSecurity",
            Kind::Any,
            "Strict-Transport-Security",
            "Value of that header, or false.",
        )]),
        "Security headers",
        "Headers of every answer.",
    ),
];
const GATEWAY: &[Member] = &[
    member(
        "mode",
        Kind::OneOf(&["local", "remote"]),
        "Mode",
        "\"remote\" is for machines that only use a gateway elsewhere.",
    ),
    member(
        "port",
        Kind::Int(0, 65_535),
        "Port",
        "Port to listen on; 0 lets the system choose. Holds after a restart.",
    ),
    member(
        "bind",
        Kind::OneOf(&["loopback", "auto", "lan", "custom"]),
        "Bind",
        "Addresses to listen on. Holds after a restart.",
    ),
    member(
        "customBindHost",
        Kind::Text,
        "Bind address",
        "Address to listen on when bind is \"custom\". Holds after a restart.",
    ),
    member(
        "auth",
        Kind::Object(AUTH),
        "Auth",
        "Who may connect. Sessions that it would not let in any more end.",
    ),
    member(
        "trustedProxies",
        TEXTS,
        "Trusted proxies",
        "Addresses or networks of proxies in front.",
    ),
    member(
        "allowRealIpFallback",
        Kind::Bool,
        "X-Real-IP",
        "Take the client's address from X-Real-IP where there is no X-Forwarded-For.",
    ),
    member(
        "controlUi",
        Kind::Object(CONTROL_UI),
        "Control UI",
        "Pages that may connect.",
    ),
    member(
        "proxy",
        Kind::Object(&[member(
            "unattributed",
            Kind::OneOf(&["remote", "refuse"]),
            "Unattributed",
            "Forwarded requests that no trusted proxy vouches for: count as remote, or are refused.",
        )]),
        "Proxy",
        "Requests that something forwards.",
    ),
    member(
        "handshakeTimeoutMs",
        Kind::Int(100, 60_000),
        "Handshake timeout",
        "Milliseconds in which a connect must come.",
    ),
    member(
        "remote",
        Kind::Object(REMOTE),
        "Remote",
        "The gateway that commands on this machine use in mode \"remote\".",
    ),
    member(
        "reload",
        Kind::Object(&[
            member(
                "mode",
                Kind::OneOf(&["off", "restart", "hot", "hybrid"]),
                "Mode",
                "\"off\" leaves a changed file alone until a signal or a restart; everything else takes it at once.",
            ),
            member(
                "debounceMs",
                Kind::Int(0, 60_000),
                "Debounce",
                "Milliseconds that a changed file must have been the same before it is taken.",
            ),
        ]),
        "Reload",
        "How a changed file is taken.",
    ),
    member(
        "http",
        Kind::Object(HTTP),
        "HTTP",
        "HTTP beside the WebSocket.",
    ),
    member(
        "nodes",
        Kind::Object(&[
            member(
                "browser",
                Kind::Object(&[
                    member("mode", Kind::Text, "Mode", ""),
                    member("node", Kind::Text, "Node", ""),
                ]),
                "Browser",
                "Which node's browser is used.",
            ),
            member(
                "allowCommands",
                TEXTS,
                "Allowed commands",
                "Commands of nodes that may be invoked beyond the usual ones.",
            ),
            member(
                "denyCommands",
                TEXTS,
                "Denied commands",
                "Commands of nodes that may not be invoked.",
            ),
        ]),
        "Nodes",
        "What may be invoked on nodes.",
    ),
    member(
        "tailscale",
        Kind::Object(&[
            member("mode", Kind::Text, "Mode", "Has no effect here."),
            member(
                "resetOnExit",
                Kind::Bool,
                "Reset on exit",
                "Has no effect here.",
            ),
        ]),
        "Tailscale",
        "Has no effect here.",
    ),
    member(
        "tls",
        Kind::Object(&[
            member(
                "enabled",
                Kind::Bool,
                "Enabled",
                "Is not served yet: put a proxy with TLS in front.",
            ),
            member("autoGenerate", Kind::Bool, "Generate", ""),
            member("certPath", Kind::Text, "Certificate", ""),
            member("keyPath", Kind::Text, "Key", ""),
            member("caPath", Kind::Text, "Authority", ""),
        ]),
        "TLS",
        "Is not served yet.",
    ),
    member(
        "tools",
        Kind::Object(&[
            member("deny", TEXTS, "Denied", ""),
            member("allow", TEXTS, "Allowed", ""),
        ]),
        "Tools",
        "Tools that may be invoked over HTTP. Has no effect yet.",
    ),
    member(
        "channelHealthCheckMinutes",
        Kind::Any,
        "Channel checks",
        "Has no effect here.",
    ),
    member(
        "push",
        Kind::Object(&[member("apns", Kind::Any, "APNs", "")]),
        "Push",
        "Has no effect here.",
    ),
];
const PLACE: &[Member] = &[
    member(
        "mode",
        Kind::OneOf(&["webhook", "announce"]),
        "Mode",
        "\"announce\" needs a chat channel, and there is none.",
    ),
    member("to", Kind::Text, "To", "Web address that is told."),
    member("channel", Kind::Text, "Channel", "Has no effect here."),
    member("accountId", Kind::Text, "Account", "Has no effect here."),
];
const FAILURE_ALERT: &[Member] = &[
    member(
        "enabled",
        Kind::Bool,
        "Enabled",
        "Whether failures in a row are told.",
    ),
    member(
        "after",
        Kind::Int(1, 1_000_000),
        "After",
        "Failures in a row before it is told.",
    ),
    member(
        "cooldownMs",
        Kind::Int(0, EXACT_MAX),
        "Cooldown",
        "Milliseconds between two alerts of a job.",
    ),
    PLACE[0],
    PLACE[1],
    PLACE[2],
    PLACE[3],
];
const CRON: &[Member] = &[
    member(
        "enabled",
        Kind::Bool,
        "Enabled",
        "Whether jobs fire. By hand they run all the same.",
    ),
    member(
        "maxConcurrentRuns",
        Kind::Int(1, 1_024),
        "Runs at a time",
        "How many runs go on at the same time.",
    ),
    member(
        "retry",
        Kind::Object(&[
            member(
                "maxAttempts",
                Kind::Int(0, 100),
                "Attempts",
                "How often a one-shot is tried again.",
            ),
            member(
                "backoffMs",
                Kind::List(&Kind::Int(0, DAY_MS)),
                "Pauses",
                "Milliseconds before each attempt; the last one repeats.",
            ),
            member(
                "retryOn",
                Kind::Any,
                "Retry on",
                "Has no effect here: the class of a failure says whether trying again can help.",
            ),
        ]),
        "Retry",
        "Retries of one-shots.",
    ),
    member(
        "webhookToken",
        Kind::Secret,
        "Webhook token",
        "Sent as bearer token with every webhook.",
    ),
    member(
        "webhookSsrfPolicy",
        Kind::Object(&[
            member(
                "allowedHostnames",
                TEXTS,
                "Hosts",
                "Hosts that may be posted to although they are not on the public internet.",
            ),
            member(
                "dangerouslyAllowPrivateNetwork",
                Kind::Bool,
                "Private networks",
                "Every address may be posted to.",
            ),
        ]),
        "Webhook targets",
        "Where webhooks may go beyond the public internet.",
    ),
    member(
        "failureAlert",
        Kind::Object(FAILURE_ALERT),
        "Failure alert",
        "Who is told of failures in a row.",
    ),
    member(
        "failureDestination",
        Kind::Object(PLACE),
        "Failures",
        "Who is told of each failure.",
    ),
    member("store", Kind::Any, "Store", "Has no effect here."),
    member("webhook", Kind::Any, "Webhook", "Has no effect here."),
    member(
        "sessionRetention",
        Kind::Any,
        "Session retention",
        "Has no effect here.",
    ),
    member("runLog", Kind::Any, "Run log", "Has no effect here."),
];
const PROVIDER: &[Member] = &[
    member(
        "source",
        Kind::OneOf(&["env", "file", "exec"]),
        "Source",
        "Where its secrets are.",
    ),
    member(
        "allowlist",
        TEXTS,
        "Variables",
        "Variables that may be read; absent allows all. For \"env\".",
    ),
    member(
        "path",
        Kind::Text,
        "File",
        "The file, absolute. For \"file\".",
    ),
    member(
        "mode",
        Kind::OneOf(&["singleValue", "json"]),
        "Format",
        "\"json\" finds a secret by a pointer such as /a/b; \"singleValue\" is the whole file. For \"file\".",
    ),
    member(
        "maxBytes",
        Kind::Int(1, 20_971_520),
        "Size",
        "Greatest size of the file. For \"file\".",
    ),
    member(
        "command",
        Kind::Text,
        "Program",
        "The program, absolute. For \"exec\".",
    ),
    member("args", TEXTS, "Arguments", "Its arguments. For \"exec\"."),
    member(
        "env",
        Kind::Map(&Kind::Text),
        "Environment",
        "Further variables of it. For \"exec\".",
    ),
    member(
        "passEnv",
        TEXTS,
        "Passed on",
        "Variables of the gateway's that it gets. For \"exec\".",
    ),
    member(
        "timeoutMs",
        Kind::Int(1, 120_000),
        "Timeout",
        "Milliseconds that it may take. For \"exec\" and \"file\".",
    ),
    member(
        "noOutputTimeoutMs",
        Kind::Int(1, 120_000),
        "Silence",
        "Has no effect here: timeoutMs bounds it.",
    ),
    member(
        "maxOutputBytes",
        Kind::Int(1, 20_971_520),
        "Output",
        "Greatest size of what it says. For \"exec\".",
    ),
    member(
        "jsonOnly",
        Kind::Bool,
        "JSON alone",
        "Whether an answer that is no JSON is an error instead of the secret itself. For \"exec\".",
    ),
    member(
        "trustedDirs",
        TEXTS,
        "Directories",
        "Directories in which the program may lie. For \"exec\".",
    ),
    member(
        "allowInsecurePath",
        Kind::Bool,
        "Insecure path",
        "Accept a file or program that others may change.",
    ),
    member(
        "allowSymlinkCommand",
        Kind::Bool,
        "Link",
        "Accept a program that is a link. For \"exec\".",
    ),
];
const SECRETS: &[Member] = &[
    member(
        "providers",
        Kind::Map(&Kind::Object(PROVIDER)),
        "Providers",
        "Where references find their secrets, by name.",
    ),
    member(
        "defaults",
        Kind::Object(&[
            member(
                "env",
                Kind::Text,
                "Variables",
                "Provider of references with source \"env\" that name none.",
            ),
            member("file", Kind::Text, "Files", "The same for \"file\"."),
            member("exec", Kind::Text, "Programs", "The same for \"exec\"."),
        ]),
        "Defaults",
        "Providers of references that name none.",
    ),
    member(
        "resolution",
        OPEN,
        "Resolution",
        "Has no effect here: a reference is resolved on its own.",
    ),
];
const AGENT: &[Member] = &[
    member("id", Kind::Text, "Id", "Its name in keys and paths."),
    member("name", Kind::Text, "Name", "Its name for people."),
    member(
        "default",
        Kind::Bool,
        "Default",
        "Whether it is the default agent.",
    ),
    member(
        "workspace",
        Kind::Text,
        "Workspace",
        "Directory that it works in.",
    ),
    member("model", Kind::Any, "Model", "Its model, as provider/model."),
];
const MODEL: &[Member] = &[
    member("id", Kind::Text, "Id", "The provider's name for it."),
    member("name", Kind::Text, "Name", "Its name for people."),
    member(
        "contextWindow",
        Kind::Int(1, EXACT_MAX),
        "Context",
        "Tokens that it can see.",
    ),
    member(
        "maxTokens",
        Kind::Int(1, EXACT_MAX),
        "Answer",
        "Tokens of an answer at most.",
    ),
    member("reasoning", Kind::Bool, "Reasoning", "Whether it reasons."),
    member("input", TEXTS, "Input", "What it takes."),
];
const MODEL_PROVIDER: &[Member] = &[
    member("baseUrl", Kind::Text, "URL", "Where it is reached."),
    member("apiKey", Kind::Secret, "API key", "Its key."),
    member("api", Kind::Text, "API", "Which API it speaks."),
    member(
        "models",
        Kind::List(&Kind::Open(MODEL)),
        "Models",
        "Its models.",
    ),
];
/// The whole.
pub(super) const ROOT: &[Member] = &[
    member(
        "$schema",
        Kind::Text,
        "Schema",
        "Schema of the file, for editors.",
    ),
    member(
        "gateway",
        Kind::Object(GATEWAY),
        "Gateway",
        "Where the gateway listens and who may connect.",
    ),
    member("cron", Kind::Object(CRON), "Cron", "Scheduled jobs."),
    member(
        "secrets",
        Kind::Object(SECRETS),
        "Secrets",
        "Where secret references are resolved.",
    ),
    member(
        "agents",
        Kind::Open(&[
            member("defaults", OPEN, "Defaults", "What holds for every agent."),
            member(
                "list",
                Kind::List(&Kind::Open(AGENT)),
                "Agents",
                "The agents; the first is the default.",
            ),
        ]),
        "Agents",
        "The agents.",
    ),
    member(
        "models",
        Kind::Open(&[
            member(
                "mode",
                Kind::Text,
                "Mode",
                "Whether providers are added to built-in ones.",
            ),
            member(
                "providers",
                Kind::Map(&Kind::Open(MODEL_PROVIDER)),
                "Providers",
                "Model providers by name.",
            ),
        ]),
        "Models",
        "Model providers.",
    ),
    member(
        "skills",
        Kind::Open(&[member(
            "entries",
            Kind::Map(&Kind::Open(&[
                member(
                    "enabled",
                    Kind::Bool,
                    "Enabled",
                    "Whether the skill is used.",
                ),
                member("apiKey", Kind::Secret, "API key", "Its key."),
                member(
                    "env",
                    Kind::Map(&Kind::Text),
                    "Environment",
                    "Variables for it.",
                ),
            ])),
            "Skills",
            "Skills by name.",
        )]),
        "Skills",
        "What agents can do.",
    ),
    member(
        "hooks",
        Kind::Object(HOOKS),
        "Hooks",
        "Events that other programs post.",
    ),
    member("channels", OPEN, "Channels", "Chat channels."),
    member(
        "talk",
        Kind::Open(&[member("apiKey", Kind::Secret, "API key", "Its key.")]),
        "Talk",
        "Voice.",
    ),
    member("env", OPEN, "Environment", "Variables for programs."),
    member("acp", OPEN, "ACP", ""),
    member("approvals", OPEN, "Approvals", ""),
    member("audio", OPEN, "Audio", ""),
    member("auth", OPEN, "Auth", ""),
    member("bindings", Kind::Any, "Bindings", ""),
    member("broadcast", OPEN, "Broadcast", ""),
    member("browser", OPEN, "Browser", ""),
    member("canvasHost", OPEN, "Canvas host", ""),
    member("cli", OPEN, "CLI", ""),
    member("commands", OPEN, "Commands", ""),
    member("diagnostics", OPEN, "Diagnostics", ""),
    member("discovery", OPEN, "Discovery", ""),
    member("logging", OPEN, "Logging", ""),
    member("mcp", OPEN, "MCP", ""),
    member("media", OPEN, "Media", ""),
    member("memory", OPEN, "Memory", ""),
    member("messages", OPEN, "Messages", ""),
    member("meta", OPEN, "Metadata", ""),
    member("nodeHost", OPEN, "Node host", ""),
    member("plugins", OPEN, "Plugins", ""),
    member("session", OPEN, "Session", ""),
    member("tools", OPEN, "Tools", ""),
    member("tts", OPEN, "Speech", ""),
    member("ui", OPEN, "UI", ""),
    member("update", OPEN, "Updates", ""),
    member("web", OPEN, "Web channel", ""),
    member("wizard", OPEN, "Wizard", ""),
];
const HOOK_MAPPING: Kind = Kind::Object(&[
    member("id", Kind::Text, "Id", "Its name in the log."),
    member(
        "match",
        Kind::Object(&[
            member("path", Kind::Text, "Path", "Path below the one of hooks."),
            member("source", Kind::Text, "Source", "The payload's `source`."),
        ]),
        "Match",
        "Which posts it is for; the first mapping that matches takes a post.",
    ),
    member(
        "action",
        Kind::OneOf(&["wake", "agent"]),
        "Action",
        "What follows.",
    ),
    member(
        "wakeMode",
        Kind::OneOf(&["now", "next-heartbeat"]),
        "Wake",
        "When a text is looked at.",
    ),
    member("name", Kind::Text, "Name", "What the sender is called."),
    member("agentId", Kind::Text, "Agent", "Which agent is meant."),
    member(
        "sessionKey",
        Kind::Text,
        "Session",
        "Which session is meant.",
    ),
    member(
        "messageTemplate",
        Kind::Text,
        "Message",
        "A turn's message, with {{payload.member}} in it.",
    ),
    member(
        "textTemplate",
        Kind::Text,
        "Text",
        "A wake's text, with {{payload.member}} in it.",
    ),
    member(
        "deliver",
        Kind::Bool,
        "Deliver",
        "Whether the answer is delivered.",
    ),
    member(
        "allowUnsafeExternalContent",
        Kind::Bool,
        "Unsafe content",
        "Takes the post as it is, without the words that warn of it.",
    ),
    member("channel", Kind::Text, "Channel", "Where the answer goes."),
    member("to", Kind::Text, "To", "To whom."),
    member("model", Kind::Text, "Model", "Which model answers."),
    member("thinking", Kind::Text, "Thinking", "How much it thinks."),
    member(
        "timeoutSeconds",
        Kind::Any,
        "Timeout",
        "How long a turn may take, in seconds.",
    ),
    member(
        "transform",
        Kind::Any,
        "Transform",
        "Not served: no code is loaded into the gateway.",
    ),
]);
const HOOKS: &[Member] = &[
    member("enabled", Kind::Bool, "Enabled", "Whether hooks are taken."),
    member(
        "path",
        Kind::Text,
        "Path",
        "Path under which they are taken.",
    ),
    member(
        "token",
        Kind::Secret,
        "Token",
        "Bearer token that a hook must show.",
    ),
    member(
        "defaultSessionKey",
        Kind::Text,
        "Session",
        "Session of a post that names none.",
    ),
    member(
        "allowRequestSessionKey",
        Kind::Bool,
        "Posts name sessions",
        "Whether a post may name its session.",
    ),
    member(
        "allowedSessionKeyPrefixes",
        TEXTS,
        "Sessions",
        "How the sessions begin that a post may name.",
    ),
    member(
        "allowedAgentIds",
        TEXTS,
        "Agents",
        "Agents that a post may name; `*` is all.",
    ),
    member(
        "maxBodyBytes",
        Kind::Any,
        "Largest post",
        "Bytes of a post at most.",
    ),
    member(
        "presets",
        TEXTS,
        "Presets",
        "Mappings that are there already.",
    ),
    member(
        "transformsDir",
        Kind::Text,
        "Transforms",
        "Not served: no code is loaded into the gateway.",
    ),
    member(
        "mappings",
        Kind::List(&HOOK_MAPPING),
        "Mappings",
        "What follows from which post.",
    ),
    member("gmail", OPEN, "Gmail", ""),
    member("internal", OPEN, "Internal", ""),
];
/// Sections in which a wrong kind of value stops a start; elsewhere it is said.
const STRICT: &[&str] = &["gateway", "cron", "secrets"];

/// Says what in a file is unknown or of a wrong kind.
pub(super) fn check(look: &mut Look, root: &Map<String, Value>) {
    unknown(look, "", root, ROOT);
    for member in ROOT {
        if let Some(value) = root.get(member.key) {
            let mut found = Look::default();
            below(&mut found, member.key, value, &member.kind);
            look.warnings.append(&mut found.warnings);
            if STRICT.contains(&member.key) {
                look.refusals.append(&mut found.refusals);
            } else {
                look.warnings.append(&mut found.refusals);
            }
        }
    }
}

fn unknown(look: &mut Look, path: &str, map: &Map<String, Value>, known: &[Member]) {
    for key in map.keys() {
        if !known.iter().any(|member| member.key == key) {
            look.warn(&join(path, key), "unknown key, ignored".to_owned());
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn below(look: &mut Look, path: &str, value: &Value, kind: &Kind) {
    let mut expected = |what: &str| {
        look.refuse(path, format!("expected {what}, found {}", kind_of(value)));
    };
    match (kind, value) {
        (_, Value::Null)
        | (Kind::Any, _)
        | (Kind::Text | Kind::Secret, Value::String(_))
        | (Kind::Bool, Value::Bool(_)) => {}
        (Kind::Secret, Value::Object(_)) => {
            if super::secret::Reference::read(value).is_none() {
                look.refuse(
                    path,
                    "expected a string, or a reference {source: \"env\" | \"file\" | \"exec\", provider, id}"
                        .to_owned(),
                );
            }
        }
        (Kind::Text | Kind::Secret, _) => expected("a string"),
        (Kind::Bool, _) => expected("true or false"),
        (Kind::Int(min, max), value) => match value.as_i64() {
            Some(number) if (*min..=*max).contains(&number) => {}
            _ => {
                let found = match value {
                    Value::Number(number) => number.to_string(),
                    other => kind_of(other).to_owned(),
                };
                look.refuse(
                    path,
                    format!("expected a whole number from {min} to {max}, found {found}"),
                );
            }
        },
        (Kind::OneOf(words), Value::String(text)) => {
            if !words.contains(&text.as_str()) {
                look.refuse(path, format!("expected {}, found {text:?}", one_of(words)));
            }
        }
        (Kind::OneOf(_), _) => expected("a string"),
        (Kind::List(of), Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                below(look, &format!("{path}[{index}]"), item, of);
            }
        }
        (Kind::List(Kind::Text), _) => expected("a list of strings"),
        (Kind::List(_), _) => expected("a list"),
        (Kind::Map(of), Value::Object(map)) => {
            for (key, value) in map {
                below(look, &join(path, key), value, of);
            }
        }
        (Kind::Object(members) | Kind::Open(members), Value::Object(map)) => {
            if matches!(kind, Kind::Object(_)) {
                unknown(look, path, map, members);
            }
            for member in *members {
                if let Some(value) = map.get(member.key) {
                    below(look, &join(path, member.key), value, &member.kind);
                }
            }
        }
        (Kind::Map(_) | Kind::Object(_) | Kind::Open(_), _) => expected("an object"),
    }
}

/// `"a", "b" or "c"`.
fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// JSON Schema (draft 07) of the whole.
pub(crate) fn json_schema() -> Value {
    let mut schema =
        json!({"$schema": "http://json-schema.org/draft-07/schema#", "title": "clawgate"});
    merge(&mut schema, schema_of(&Kind::Object(ROOT)));
    schema
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

fn schema_of(kind: &Kind) -> Value {
    let mut node = own(kind);
    match kind {
        Kind::List(of) => node["items"] = schema_of(of),
        Kind::Map(of) => node["additionalProperties"] = schema_of(of),
        Kind::Object(members) | Kind::Open(members) => {
            let properties: Map<String, Value> = members
                .iter()
                .map(|member| (member.key.to_owned(), schema_of(&member.kind)))
                .collect();
            node["properties"] = Value::Object(properties);
        }
        Kind::Any | Kind::Text | Kind::Secret | Kind::Bool | Kind::Int(..) | Kind::OneOf(_) => {}
    }
    node
}

/// A node without what is below it.
fn own(kind: &Kind) -> Value {
    match kind {
        Kind::Any => json!({}),
        Kind::Text => json!({"type": "string"}),
        Kind::Secret => json!({"anyOf": [{"type": "string"}, {
            "type": "object",
            "properties": {
                "source": {"type": "string", "enum": ["env", "file", "exec"]},
                "provider": {"type": "string"},
                "id": {"type": "string"},
            },
            "required": ["source", "id"],
            "additionalProperties": false,
        }]}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Int(min, max) => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::OneOf(words) => json!({"type": "string", "enum": words}),
        Kind::List(_) => json!({"type": "array"}),
        Kind::Map(_) => json!({"type": "object"}),
        Kind::Object(_) => json!({"type": "object", "additionalProperties": false}),
        Kind::Open(_) => json!({"type": "object", "additionalProperties": true}),
    }
}

/// Words for a form, by dotted path.
pub(crate) fn hints() -> Map<String, Value> {
    let mut hints = Map::new();
    walk(&mut |path, member| {
        let mut hint = hint(member);
        if !path.contains('.') {
            let order = ROOT.iter().position(|other| other.key == member.key);
            hint["group"] = member.label.into();
            hint["order"] = ((order.unwrap_or_default() + 1) * 10).into();
        }
        hints.insert(path.to_owned(), hint);
    });
    hints
}

fn hint(member: &Member) -> Value {
    let mut hint = json!({"label": member.label});
    if !member.help.is_empty() {
        hint["help"] = member.help.into();
    }
    if matches!(member.kind, Kind::Secret) {
        hint["sensitive"] = true.into();
        hint["tags"] = json!(["security"]);
    }
    hint
}

/// Visits every member with its path; items of lists and maps are `*`.
fn walk(visit: &mut dyn FnMut(&str, &Member)) {
    fn below(path: &str, kind: &Kind, visit: &mut dyn FnMut(&str, &Member)) {
        match kind {
            Kind::Object(members) | Kind::Open(members) => {
                for member in *members {
                    let path = join(path, member.key);
                    visit(&path, member);
                    below(&path, &member.kind, visit);
                }
            }
            Kind::List(of) | Kind::Map(of) => below(&join(path, "*"), of, visit),
            Kind::Any | Kind::Text | Kind::Secret | Kind::Bool | Kind::Int(..) | Kind::OneOf(_) => {
            }
        }
    }
    below("", &Kind::Object(ROOT), visit);
}

/// Paths at which a secret may stand; items of lists and maps are `*`.
pub(crate) fn secret_paths() -> Vec<String> {
    let mut paths = Vec::new();
    walk(&mut |path, member| {
        if matches!(member.kind, Kind::Secret) {
            paths.push(path.to_owned());
        }
    });
    paths
}

/// Segments of a path that is looked up at most.
const SEGMENTS_MAX: usize = 32;

/// What is known of a place, with its members, for `config.schema.lookup`. `None` when nothing is.
pub(crate) fn lookup(path: &str) -> Option<Value> {
    let segments = segments(path)?;
    let mut kind = Kind::Object(ROOT);
    let mut at: Option<Member> = None;
    let mut place = String::new();
    for segment in &segments {
        let (key, next) = match kind {
            Kind::Object(members) | Kind::Open(members) => {
                let member = members
                    .iter()
                    .find(|member| member.key == segment.as_str())?;
                at = Some(*member);
                (member.key, member.kind)
            }
            Kind::Map(of) => {
                at = None;
                (segment.as_str(), *of)
            }
            Kind::List(of) if segment == "*" || segment.bytes().all(|b| b.is_ascii_digit()) => {
                at = None;
                (segment.as_str(), *of)
            }
            _ => return None,
        };
        place = join(&place, key);
        kind = next;
    }
    let mut found =
        json!({"path": place, "schema": own(&kind), "children": children(&place, &kind)});
    if let Some(member) = at {
        found["hint"] = hint(&member);
        found["hintPath"] = pattern_of(&segments).into();
    }
    Some(found)
}

/// The path with `*` in place of every item.
fn pattern_of(segments: &[String]) -> String {
    let mut kind = Kind::Object(ROOT);
    let mut pattern = String::new();
    for segment in segments {
        let (key, next) = match kind {
            Kind::Object(members) | Kind::Open(members) => (
                segment.as_str(),
                members
                    .iter()
                    .find(|member| member.key == segment.as_str())
                    .map_or(Kind::Any, |member| member.kind),
            ),
            Kind::Map(of) | Kind::List(of) => ("*", *of),
            _ => (segment.as_str(), Kind::Any),
        };
        pattern = join(&pattern, key);
        kind = next;
    }
    pattern
}

fn children(path: &str, kind: &Kind) -> Vec<Value> {
    let row = |key: &str, kind: &Kind, member: Option<&Member>| {
        let has_children = match kind {
            Kind::Object(members) | Kind::Open(members) => !members.is_empty(),
            Kind::List(_) | Kind::Map(_) => true,
            _ => false,
        };
        let place = join(path, key);
        let mut row = json!({"key": key, "path": place});
        if let Some(name) = own(kind).get("type") {
            row["type"] = name.clone();
        }
        row["required"] = false.into();
        row["hasChildren"] = has_children.into();
        if let Some(member) = member {
            row["hint"] = hint(member);
            row["hintPath"] = place.into();
        }
        row
    };
    match kind {
        Kind::Object(members) | Kind::Open(members) => members
            .iter()
            .map(|member| row(member.key, &member.kind, Some(member)))
            .collect(),
        Kind::List(of) | Kind::Map(of) => vec![row("*", of, None)],
        _ => Vec::new(),
    }
}

/// `a.b[0].c`, `a/b/*`, `a[].b` in parts; items are `*` or a number.
fn segments(path: &str) -> Option<Vec<String>> {
    let spread = path.replace("[]", ".*").replace('[', ".").replace(']', "");
    let segments: Vec<String> = spread
        .split(['.', '/'])
        .filter(|segment| !segment.is_empty())
        .map(str::to_owned)
        .collect();
    let fits = !segments.is_empty() && segments.len() <= SEGMENTS_MAX;
    fits.then_some(segments)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use secrecy::SecretString;

    use super::*;
    use crate::config::{Config, Environment, Issue, Overrides};

    fn load(root: &Value) -> Result<Vec<Issue>, Vec<Issue>> {
        Config::of(
            Path::new("clawgate.json"),
            Some(root.to_string()),
            &Overrides::default(),
            &Environment::default(),
            || Ok(SecretString::from("made")),
        )
        .map(|config| config.snapshot.warnings)
        .map_err(|error| error.issues)
    }

    /// A configuration that holds one value, at a path whose items are `*`.
    fn with(path: &str, value: Value) -> (Value, String) {
        let (mut root, mut shown) = (value, String::new());
        let parts: Vec<&str> = path.split('.').collect();
        for (index, part) in parts.iter().enumerate().rev() {
            let outer = kind_at(&parts[..index]);
            root = match outer {
                Kind::List(_) => json!([root]),
                Kind::Map(_) => json!({"x": root}),
                _ => json!({*part: root}),
            };
        }
        for (index, part) in parts.iter().enumerate() {
            match kind_at(&parts[..index]) {
                Kind::List(_) => shown.push_str("[0]"),
                Kind::Map(_) => shown = join(&shown, "x"),
                _ => shown = join(&shown, part),
            }
        }
        (root, shown)
    }

    fn kind_at(parts: &[&str]) -> Kind {
        let mut kind = Kind::Object(ROOT);
        for part in parts {
            kind = match kind {
                Kind::Object(members) | Kind::Open(members) => {
                    members.iter().find(|m| m.key == *part).unwrap().kind
                }
                Kind::List(of) | Kind::Map(of) => *of,
                other => panic!("{other:?} has no members"),
            };
        }
        kind
    }

    fn wrong(kind: &Kind) -> Vec<Value> {
        match kind {
            Kind::Any => Vec::new(),
            Kind::Text => vec![json!(5), json!([]), json!({})],
            Kind::Secret => vec![
                json!(5),
                json!({"source": "pigeon", "id": "x"}),
                json!({"id": "x"}),
            ],
            Kind::Bool => vec![json!("yes"), json!(1)],
            Kind::Int(min, max) => {
                vec![
                    json!("1"),
                    json!(1.5),
                    json!(min - 1),
                    json!(max.saturating_add(1)),
                ]
            }
            Kind::OneOf(_) => vec![json!("something else"), json!(5)],
            Kind::List(_) => vec![json!("x"), json!({})],
            Kind::Map(_) | Kind::Object(_) | Kind::Open(_) => vec![json!("x"), json!([])],
        }
    }

    #[test]
    fn whatever_the_schema_says_is_what_a_start_holds_a_file_to() {
        let mut paths = Vec::new();
        walk(&mut |path, member| paths.push((path.to_owned(), member.kind)));
        assert!(paths.len() > 150, "{}", paths.len());
        for (path, kind) in paths {
            let strict = STRICT.contains(&path.split('.').next().unwrap());
            for value in wrong(&kind) {
                let (root, place) = with(&path, value);
                let told = load(&root);
                let issues = match &told {
                    Err(issues) if strict => issues,
                    Ok(warnings) if !strict => warnings,
                    other => panic!("{root}: {other:?}"),
                };
                assert!(
                    issues.iter().any(|issue| issue.path == place),
                    "{root}: {issues:?}"
                );
            }
            if let Kind::Object(_) = kind {
                let (root, place) = with(&path, json!({"tpyo": 1}));
                let told = load(&root).unwrap_or_else(|issues| issues);
                let place = format!("{place}.tpyo");
                // Where more is needed than that it is no mistake, the mistake is what is seen.
                assert!(
                    told.iter().any(|issue| issue.path == place) || load(&root).is_err(),
                    "{root}"
                );
            }
        }
    }

    #[test]
    fn numbers_are_taken_up_to_the_bounds_that_the_schema_says() {
        let mut paths = Vec::new();
        walk(&mut |path, member| {
            if let Kind::Int(min, max) = member.kind {
                paths.push((path.to_owned(), [min, max]));
            }
        });
        for (path, bounds) in paths {
            for bound in bounds {
                let (root, _) = with(&path, json!(bound));
                assert!(load(&root).is_ok(), "{root}: {:?}", load(&root));
            }
        }
    }

    #[test]
    fn sections_of_others_are_taken_as_they_are() {
        let root = json!({"agents": {"defaults": {"model": {"primary": "a/b"}, "x": 1}, "list": [{"id": "a", "y": {}}]},
            "models": {"providers": {"p": {"models": [{"id": "m", "cost": {}}], "z": 1}}},
            "channels": {"telegram": {"botToken": "t"}}, "plugins": {"entries": {}}, "bindings": []});
        assert_eq!(load(&root), Ok(Vec::new()));
    }

    #[test]
    fn a_place_is_found_by_each_spelling_of_its_path() {
        for path in [
            "agents.list[].name",
            "agents.list[0].name",
            "agents/list/*/name",
        ] {
            let found = lookup(path).unwrap();
            assert_eq!(found["schema"], json!({"type": "string"}), "{path}");
            assert_eq!(found["hintPath"], "agents.list.*.name");
        }
        assert_eq!(
            lookup("agents.list[].name").unwrap()["path"],
            "agents.list.*.name"
        );
        let gateway = lookup("gateway").unwrap();
        let port = &gateway["children"][1];
        assert_eq!(
            (&port["key"], &port["type"]),
            (&json!("port"), &json!("integer"))
        );
        for path in ["nope", "gateway.port.x", "", "...", "gateway.__proto__"] {
            assert_eq!(lookup(path), None, "{path}");
        }
        let deep = "a.".repeat(40);
        assert_eq!(lookup(&deep), None);
    }
}
