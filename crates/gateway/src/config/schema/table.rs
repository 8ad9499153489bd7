//! The table: every place of a configuration that means something, with its words for a form.

use super::{Kind, Member};

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
                    member("enabled", Kind::Bool, "Served", "Off unless it says so."),
                    member(
                        "maxBodyBytes",
                        Kind::Int(1, 1_000_000_000),
                        "Body",
                        "Bytes that are read at most: 20000000.",
                    ),
                    member("maxImageParts", Kind::Any, "Images", ""),
                    member("maxTotalImageBytes", Kind::Any, "Image bytes", ""),
                    member("images", Kind::Any, "Images", ""),
                ]),
                "Chat completions",
                "POST /v1/chat/completions: agents for programs that speak OpenAI's HTTP.",
            ),
            member(
                "responses",
                Kind::Object(&[
                    member("enabled", Kind::Bool, "Served", "Off unless it says so."),
                    member(
                        "maxBodyBytes",
                        Kind::Int(1, 1_000_000_000),
                        "Body",
                        "Bytes that are read at most: 20000000.",
                    ),
                    member("maxUrlParts", Kind::Any, "URL parts", ""),
                    member("files", Kind::Any, "Files", ""),
                    member("images", Kind::Any, "Images", ""),
                ]),
                "Responses",
                "POST /v1/responses, the same in the newer shape.",
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
        "Tools that may be invoked over HTTP: what is denied besides, and what is opened for administrators.",
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
const MAPPING: &[Member] = &[
    member("id", Kind::Text, "Id", "Its name."),
    member(
        "match",
        Kind::Object(&[
            member("path", Kind::Text, "Path", "Path below that of hooks."),
            member(
                "source",
                Kind::Text,
                "Source",
                "What the body says as its source.",
            ),
        ]),
        "Match",
        "Which hooks it is for.",
    ),
    member(
        "action",
        Kind::OneOf(&["wake", "agent"]),
        "Action",
        "What a hook does.",
    ),
    member(
        "wakeMode",
        Kind::OneOf(&["now", "next-heartbeat"]),
        "Wake",
        "When.",
    ),
    member("name", Kind::Text, "Name", "Name of the turn."),
    member("agentId", Kind::Text, "Agent", "Which agent."),
    member("sessionKey", Kind::Text, "Session", "Which session."),
    member(
        "messageTemplate",
        Kind::Text,
        "Message",
        "Message for the agent, with {{places}}.",
    ),
    member(
        "textTemplate",
        Kind::Text,
        "Text",
        "Text of the event, with {{places}}.",
    ),
    member(
        "deliver",
        Kind::Bool,
        "Deliver",
        "Whether the answer is sent on.",
    ),
    member(
        "allowUnsafeExternalContent",
        Kind::Bool,
        "Unsafe content",
        "Pass what comes in on without saying that it is from outside.",
    ),
    member("channel", Kind::Text, "Channel", "Where the answer goes."),
    member("to", Kind::Text, "To", "Who gets the answer."),
    member("model", Kind::Text, "Model", "Model of the turn."),
    member("thinking", Kind::Text, "Thinking", "How much it thinks."),
    member(
        "timeoutSeconds",
        Kind::Int(1, EXACT_MAX),
        "Timeout",
        "Seconds that the turn may take.",
    ),
    member("transform", Kind::Any, "Transform", "Has no effect here."),
];
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
        "Session of hooks that name none.",
    ),
    member(
        "allowRequestSessionKey",
        Kind::Bool,
        "Named sessions",
        "Whether a hook may name its session.",
    ),
    member(
        "allowedSessionKeyPrefixes",
        TEXTS,
        "Sessions",
        "What the keys of named sessions begin with.",
    ),
    member(
        "allowedAgentIds",
        TEXTS,
        "Agents",
        "Agents that hooks may name.",
    ),
    member(
        "maxBodyBytes",
        Kind::Int(1, EXACT_MAX),
        "Size",
        "Greatest size of a hook's body.",
    ),
    member("presets", TEXTS, "Presets", "Mappings that come along."),
    member(
        "transformsDir",
        Kind::Text,
        "Transforms",
        "Has no effect here.",
    ),
    member(
        "mappings",
        Kind::List(&Kind::Object(MAPPING)),
        "Mappings",
        "What hooks do.",
    ),
    member("gmail", Kind::Any, "Gmail", "Has no effect here."),
    member("internal", Kind::Any, "Internal", "Has no effect here."),
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
