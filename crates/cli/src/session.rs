//! From a command's arguments to an open session that may do what the command needs.

use std::{io, time::Duration};

use clawgate_client::{
    Attempt, ClientError, ConnectOptions, CredentialKind, Granted, Identity, LocalKey, Mode,
    Opened, Plan, StoredToken, TokenStore, open,
};
use clawgate_protocol::{connect::MissingScope, cron::CronEvent};
use serde_json::Value;

use crate::{
    app::{ConnectArgs, Globals},
    commands::Context,
    error::{CommandError, CommandResult, approve_hint, attempts_words},
    exit::Exit,
    target::Target,
    words,
};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const ROLE: &str = "operator";

/// Everything that a connect needs, resolved and read.
#[derive(Debug)]
pub(crate) struct Approach {
    /// Which gateway, with which credential.
    pub(crate) target: Target,
    identity: Identity,
    tokens: TokenStore,
    stored: Option<StoredToken>,
    local_key: Option<LocalKey>,
    mode: Mode,
    within: Duration,
    caps: &'static [&'static str],
    globals: Globals,
}

impl Approach {
    /// Resolves the target and reads this machine's identity and what is stored for that endpoint.
    pub(crate) fn new(
        context: &Context,
        args: &ConnectArgs,
        mode: Mode,
        default_timeout_ms: u64,
    ) -> CommandResult<Self> {
        let target = Target::resolve(args, &context.paths, &context.env)?;
        let identity = Identity::load_or_create(&target.client_state_dir)?;
        let tokens = TokenStore::new(&target.client_state_dir, identity.device_id());
        let stored = tokens
            .find(&target.endpoint, ROLE, target.is_local_default())
            .map_err(|error| unreadable(&error))?;
        // A key that this user may not read is no error: it is for the gateway's owner.
        let local_key = target
            .gateway_state_dirs
            .iter()
            .filter(|_| target.is_loopback())
            .find_map(|dir| LocalKey::load(dir).ok().flatten());
        let within = Duration::from_millis(args.timeout.unwrap_or(default_timeout_ms));
        Ok(Self {
            target,
            identity,
            tokens,
            stored,
            local_key,
            mode,
            within,
            caps: &[],
            globals: context.globals.clone(),
        })
    }

    /// The same for a client that understands more than the least.
    pub(crate) fn with_caps(mut self, caps: &'static [&'static str]) -> Self {
        self.caps = caps;
        self
    }

    /// This machine's device id.
    pub(crate) fn device_id(&self) -> &str {
        self.identity.device_id()
    }

    /// A hint as it must be typed for the same state and configuration.
    pub(crate) fn typed(&self, hint: &str) -> String {
        self.globals.typed(hint)
    }

    /// The time limit.
    pub(crate) fn within(&self) -> Duration {
        self.within
    }

    /// The source of a rung's credential, for people.
    pub(crate) fn source_of(&self, credential: CredentialKind) -> String {
        let target = &self.target;
        match credential {
            CredentialKind::Shared => {
                let sources: Vec<&str> = [&target.token, &target.password]
                    .into_iter()
                    .flatten()
                    .map(|sourced| sourced.source.as_str())
                    .collect();
                sources.join(" and ")
            }
            CredentialKind::SecondShared => target
                .second_token
                .as_ref()
                .map(|sourced| sourced.source.clone())
                .unwrap_or_default(),
            CredentialKind::StoredDeviceToken => self
                .stored
                .as_ref()
                .map(|stored| stored.source.display().to_string())
                .unwrap_or_default(),
            CredentialKind::LocalProof => "identity/local.key of the gateway".to_owned(),
            CredentialKind::DeviceOnly => "this device's key".to_owned(),
        }
    }

    /// A rung's credential with its source, for people.
    pub(crate) fn used(&self, credential: CredentialKind) -> String {
        let source = self.source_of(credential);
        match credential {
            CredentialKind::Shared | CredentialKind::SecondShared => source,
            CredentialKind::StoredDeviceToken
            | CredentialKind::LocalProof
            | CredentialKind::DeviceOnly => format!("{credential} ({source})"),
        }
    }

    fn plan(&self, methods: &[&str]) -> Plan<'_> {
        let mut options = ConnectOptions::new(&self.target.endpoint, &self.identity, VERSION);
        options.mode = self.mode;
        options.tls_fingerprint = self.target.tls_fingerprint.as_deref();
        options.allow_private_plaintext = self.target.allow_private_plaintext;
        options.handshake_within = self.within;
        options.answer_within = self.within;
        options.caps = self.caps;
        let secret = |sourced: &Option<crate::target::Sourced>| {
            sourced.as_ref().map(|sourced| sourced.secret.clone())
        };
        Plan {
            options,
            methods: methods.iter().map(|&method| method.to_owned()).collect(),
            token: secret(&self.target.token),
            second_token: secret(&self.target.second_token),
            password: secret(&self.target.password),
            asks_about_credential: self.target.credential_by_option(),
            stored: self.stored.clone(),
            local_key: self.local_key.clone(),
        }
    }

    /// What a further connect with the same credential says, for the text of its challenge.
    pub(crate) fn connect_text(
        &self,
        credential: CredentialKind,
        challenge: &str,
    ) -> Result<String, ClientError> {
        let plan = self.plan(&[]);
        clawgate_client::connect_text(&plan.options, &plan.offer(credential), challenge)
    }

    /// Climbs the ladder for some methods and keeps the device token that comes with it.
    pub(crate) async fn open(
        &self,
        methods: &[&str],
    ) -> Result<Opened, (ClientError, Vec<Attempt>)> {
        let plan = self.plan(methods);
        let opened = open(&plan).await?;
        // Losing it costs a pairing later, not this command.
        drop(opened.keep_token(&self.tokens, &plan.options));
        Ok(opened)
    }

    /// Keeps a token that a call returned for this very device.
    pub(crate) fn keep_token(
        &self,
        token: &str,
        scopes: &clawgate_protocol::ScopeSet,
    ) -> io::Result<()> {
        self.tokens
            .keep(&self.target.endpoint, ROLE, &token.into(), scopes)
    }
}

/// An open session that may do what the command needs.
#[derive(Debug)]
pub(crate) struct Link {
    approach: Approach,
    opened: Opened,
    expect_final: bool,
}

impl Link {
    /// Connects for these methods; falls short of nothing that is known to be needed.
    pub(crate) async fn open(
        context: &Context,
        args: &ConnectArgs,
        default_timeout_ms: u64,
        methods: &[&str],
    ) -> CommandResult<Self> {
        let approach = Approach::new(context, args, Mode::Cli, default_timeout_ms)?;
        Self::by(context, approach, args.expect_final, methods).await
    }

    /// The same by an approach that is known.
    pub(crate) async fn by(
        context: &Context,
        approach: Approach,
        expect_final: bool,
        methods: &[&str],
    ) -> CommandResult<Self> {
        let opened = approach.open(methods).await.map_err(|(error, attempts)| {
            CommandError::connect(&error, &attempts, &approach.target)
        })?;
        if let Some(first) = opened
            .attempts
            .first()
            .filter(|_| opened.attempts.len() > 1)
        {
            context.output.note(format!(
                "note: {} was not enough ({}); {} was used",
                approach.used(first.credential),
                attempts_words(std::slice::from_ref(first)),
                approach.used(opened.credential),
            ));
        }
        let link = Self {
            approach,
            opened,
            expect_final,
        };
        if link.opened.missing.is_empty() {
            return Ok(link);
        }
        let error = link.short_of(methods);
        link.close().await;
        Err(error)
    }

    /// Calls a method.
    pub(crate) async fn call(&self, method: &str, params: Option<&Value>) -> CommandResult<Value> {
        self.try_call(method, params)
            .await
            .map_err(|error| self.failed(method, &error))
    }

    /// A failed call of this session, told.
    pub(crate) fn failed(&self, method: &str, error: &ClientError) -> CommandError {
        let served = self.opened.session.serves(method);
        let error = CommandError::call(error, &self.approach.target);
        if served {
            error
        } else {
            error
                .hint(format!("this gateway does not list {method}"))
                .hint("clawgate gateway call health")
        }
    }

    /// Calls a method; the caller judges the failure.
    pub(crate) async fn try_call(
        &self,
        method: &str,
        params: Option<&Value>,
    ) -> Result<Value, ClientError> {
        if self.expect_final {
            self.opened.session.request_final(method, params).await
        } else {
            self.opened.session.request(method, params).await
        }
    }

    /// The next event about cron; none once the gateway went away.
    pub(crate) async fn next_cron_event(&mut self) -> Option<CronEvent> {
        loop {
            let event = self.opened.session.next_event().await?;
            if event.event == "cron"
                && let Ok(event) = serde_json::from_value(event.payload)
            {
                return Some(event);
            }
        }
    }

    /// The next event; none once the gateway went away.
    pub(crate) async fn next_event(&mut self) -> Option<clawgate_client::Event> {
        self.opened.session.next_event().await
    }

    /// How it was come by.
    pub(crate) fn opened(&self) -> &Opened {
        &self.opened
    }

    /// With what.
    pub(crate) fn approach(&self) -> &Approach {
        &self.approach
    }

    /// The session alone, and the way to another one should it be lost.
    pub(crate) fn into_parts(self) -> (Approach, Opened) {
        (self.approach, self.opened)
    }

    /// Ends the connection in order.
    pub(crate) async fn close(self) {
        self.opened.session.close().await;
    }

    fn short_of(&self, methods: &[&str]) -> CommandError {
        let Opened {
            session,
            credential,
            missing,
            attempts,
        } = &self.opened;
        let target = &self.approach.target;
        let code = "MISSING_SCOPE";
        let message = format!(
            "connected, but not authorized: missing {}",
            missing.joined()
        );
        let granted = session
            .granted()
            .known()
            .map(|scopes| scopes.joined())
            .unwrap_or_default();
        let auth = session.hello().auth.as_ref();
        let mut error = CommandError::new(Exit::Unauthorized, code, message)
            .fact(
                "needs",
                format!("{} for {}", missing.joined(), methods.join(", ")),
            )
            .fact(
                "granted",
                if granted.is_empty() {
                    "nothing".to_owned()
                } else {
                    granted
                },
            )
            .fact(
                "gateway",
                format!("{} ({})", target.endpoint, target.url_source),
            )
            .fact("credential", self.approach.used(*credential));
        if let Some(basis) = auth.and_then(|auth| auth.basis.as_deref()) {
            error = error.fact("rule", basis);
        }
        let needed = |why: &&MissingScope| missing.iter().any(|scope| scope.as_str() == why.scope);
        for why in auth
            .into_iter()
            .flat_map(|auth| &auth.missing)
            .filter(needed)
        {
            error = error.fact("why", words::why_missing(why));
        }
        if attempts.len() > 1 {
            error = error.fact("tried", attempts_words(attempts));
        }
        if auth.is_some_and(|auth| auth.basis.as_deref().is_some_and(|b| b == "api-token")) {
            let scopes = missing.joined();
            error = error.hint(format!(
                "clawgate tokens create --name NAME --scopes {scopes}"
            ));
        } else if let Some(id) = auth.and_then(|auth| auth.pending_request_id.as_deref()) {
            error = error.hint(format!("on the gateway's machine: {}", approve_hint(id)));
        } else if target.is_loopback() && target.gateway_state_dirs.is_empty() {
            error = error
                .hint("as the gateway's owner: --state-dir with the gateway's state directory");
        }
        error.hint("clawgate auth explain")
    }
}

/// What a granted set looks like in JSON: the scopes, or null when the gateway did not say.
pub(crate) fn granted_json(granted: &Granted) -> Value {
    granted.known().map_or(Value::Null, |scopes| {
        scopes
            .iter()
            .map(|scope| Value::from(scope.as_str()))
            .collect()
    })
}

fn unreadable(error: &io::Error) -> CommandError {
    CommandError::config(format!("cannot use the stored device tokens: {error}"))
}
