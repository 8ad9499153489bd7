//! Which gateway, and with which credential: every choice carries the name of what made it, and a
//! secret only ever goes with the endpoint that its source belongs to.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clawgate_client::Endpoint;
use secrecy::SecretString;

use crate::{
    app::ConnectArgs,
    config::{Config, Paths},
    env::{self, Env},
    error::{CommandError, CommandResult},
};

/// Where gateways listen by default.
pub(crate) const DEFAULT_PORT: u16 = 18789;

/// What named the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TargetKind {
    /// `--url` or the environment.
    Explicit,
    /// `gateway.remote.url`.
    ConfigRemote,
    /// The gateway of this machine.
    LocalLoopback,
}

impl TargetKind {
    /// The original's id for it.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Explicit => "explicit",
            Self::ConfigRemote => "configRemote",
            Self::LocalLoopback => "localLoopback",
        }
    }
}

/// A secret with the name of its source. The secret does not print, the name does.
#[derive(Clone, Debug)]
pub(crate) struct Sourced {
    /// The secret.
    pub(crate) secret: SecretString,
    /// Where it is from: `--token`, `config gateway.auth.token`, `env CLAWGATE_GATEWAY_TOKEN` …
    pub(crate) source: String,
}

/// A gateway and how to get in.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Where it is.
    pub(crate) endpoint: Endpoint,
    /// What named it.
    pub(crate) kind: TargetKind,
    /// The same in words.
    pub(crate) url_source: String,
    /// Shared token or API token.
    pub(crate) token: Option<Sourced>,
    /// The token to try when the first is refused (local gateway, environment and configuration
    /// name different ones).
    pub(crate) second_token: Option<Sourced>,
    /// Shared password.
    pub(crate) password: Option<Sourced>,
    /// Pinned certificate.
    pub(crate) tls_fingerprint: Option<String>,
    /// Whether plaintext may go to private addresses.
    pub(crate) allow_private_plaintext: bool,
    /// State directories whose local key may belong to this gateway, the likeliest first.
    pub(crate) gateway_state_dirs: Vec<PathBuf>,
    /// Where this client keeps its identity.
    pub(crate) client_state_dir: PathBuf,
    /// Port of the local gateway.
    pub(crate) local_port: u16,
}

impl Target {
    /// `--url`, then the environment's URL, then `gateway.remote.url` in remote mode, then this
    /// machine's gateway.
    pub(crate) fn resolve(args: &ConnectArgs, paths: &Paths, env: &Env) -> CommandResult<Self> {
        let config = Config::load(&paths.config)?;
        let (local_port, _) = local_port(&config, env)?;
        let local = Endpoint::local(local_port);
        let (endpoint, kind, url_source) = if let Some(url) = &args.url {
            (
                Endpoint::parse(url)?,
                TargetKind::Explicit,
                "cli --url".to_owned(),
            )
        } else if let Some((url, name)) = env.first(env::URL) {
            (
                Endpoint::parse(url)?,
                TargetKind::Explicit,
                format!("env {name}"),
            )
        } else if config.text("gateway.mode")?.as_deref() == Some("remote") {
            let url = config.text("gateway.remote.url")?.ok_or_else(|| {
                CommandError::config("gateway.mode is remote, and gateway.remote.url is missing")
                    .hint("set gateway.remote.url, or pass --url with --token")
            })?;
            let source = "config gateway.remote.url".to_owned();
            (Endpoint::parse(&url)?, TargetKind::ConfigRemote, source)
        } else {
            (
                local.clone(),
                TargetKind::LocalLoopback,
                "local loopback".to_owned(),
            )
        };
        let is_local = kind == TargetKind::LocalLoopback || endpoint.key() == local.key();
        let mut target = Self {
            endpoint,
            kind,
            url_source,
            token: args.token.clone().map(|secret| flag(secret, "--token")),
            second_token: None,
            password: args
                .password
                .clone()
                .map(|secret| flag(secret, "--password")),
            tls_fingerprint: None,
            allow_private_plaintext: env
                .first(env::ALLOW_PRIVATE)
                .is_some_and(|(on, _)| on == "1"),
            gateway_state_dirs: if is_local || paths.state_dir_by_flag {
                paths.of_local_gateway().map(Path::to_owned).collect()
            } else {
                Vec::new()
            },
            client_state_dir: paths.state_dir.clone(),
            local_port,
        };
        target
            .endpoint
            .check_plaintext(target.allow_private_plaintext)?;
        if target.token.is_some() || target.password.is_some() {
            if kind == TargetKind::ConfigRemote {
                target.tls_fingerprint = config.text("gateway.remote.tlsFingerprint")?;
            }
            return Ok(target);
        }
        match kind {
            TargetKind::Explicit if args.url.is_some() => Err(url_needs_credentials("--url")),
            TargetKind::Explicit => {
                target.token = from_env(env, env::TOKEN);
                target.password = from_env(env, env::PASSWORD);
                if target.token.is_none() && target.password.is_none() {
                    return Err(url_needs_credentials("a gateway URL in the environment")
                        .hint("or set CLAWGATE_GATEWAY_TOKEN beside CLAWGATE_GATEWAY_URL"));
                }
                Ok(target)
            }
            TargetKind::ConfigRemote => {
                target.tls_fingerprint = config.text("gateway.remote.tlsFingerprint")?;
                target.token = from_config(&config, "gateway.remote.token")?
                    .or_else(|| from_env(env, env::TOKEN));
                target.password = from_env(env, env::PASSWORD)
                    .or(from_config(&config, "gateway.remote.password")?);
                Ok(target)
            }
            TargetKind::LocalLoopback => {
                let in_config = from_config(&config, "gateway.auth.token")?;
                let in_env = from_env(env, env::TOKEN);
                target.password =
                    from_env(env, env::PASSWORD).or(from_config(&config, "gateway.auth.password")?);
                match in_env {
                    Some(token) => {
                        target.token = Some(token);
                        target.second_token = in_config;
                    }
                    None => target.token = in_config,
                }
                // A password is a decision for another mode; the generated token is for none.
                if target.token.is_none() && target.password.is_none() {
                    target.token = generated_token(paths)?;
                }
                Ok(target)
            }
        }
    }

    /// Whether the credential was given by an option, for this command alone.
    pub(crate) fn credential_by_option(&self) -> bool {
        [&self.token, &self.password]
            .into_iter()
            .flatten()
            .any(|sourced| sourced.source.starts_with("--"))
    }

    /// Whether it is this machine's own gateway by default.
    pub(crate) fn is_local_default(&self) -> bool {
        self.kind == TargetKind::LocalLoopback
    }

    /// Whether it is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        self.endpoint.is_loopback()
    }

    /// Which credential is used, by source.
    pub(crate) fn credential_words(&self) -> String {
        let mut words = Vec::new();
        if let Some(token) = &self.token {
            words.push(format!("token from {}", token.source));
        }
        if let Some(token) = &self.second_token {
            words.push(format!("then token from {}", token.source));
        }
        if let Some(password) = &self.password {
            words.push(format!("password from {}", password.source));
        }
        if words.is_empty() {
            words.push("none configured; device identity only".to_owned());
        }
        words.join(", ")
    }

    /// What to do about a refused or missing token.
    pub(crate) fn token_hint(&self) -> String {
        match (&self.token, self.kind) {
            (Some(token), _) if token.source.starts_with("--") => {
                "this token is not the gateway's".to_owned()
            }
            (Some(token), _) => format!(
                "the token from {} is not the gateway's; correct it there",
                token.source
            ),
            (None, TargetKind::ConfigRemote) => {
                "set gateway.remote.token in the configuration, or pass --token".to_owned()
            }
            (None, TargetKind::Explicit) => "pass --token TOKEN".to_owned(),
            (None, TargetKind::LocalLoopback) => {
                "pass --token TOKEN, or set CLAWGATE_GATEWAY_TOKEN or gateway.auth.token".to_owned()
            }
        }
    }
}

/// Port of this machine's gateway and what named it.
pub(crate) fn local_port(config: &Config, env: &Env) -> CommandResult<(u16, &'static str)> {
    if let Some((text, name)) = env.first(env::PORT) {
        let port = text.parse().ok().filter(|port| *port != 0);
        let port = port.ok_or_else(|| CommandError::usage(format!("{name} is no port: {text}")))?;
        return Ok((port, "env"));
    }
    Ok(match config.port("gateway.port")? {
        Some(port) => (port, "config"),
        None => (DEFAULT_PORT, "default"),
    })
}

fn flag(secret: SecretString, name: &str) -> Sourced {
    Sourced {
        secret,
        source: name.to_owned(),
    }
}

fn from_env(env: &Env, names: &[&'static str]) -> Option<Sourced> {
    let (value, name) = env.first(names)?;
    if value.starts_with("${") && value.ends_with('}') {
        return None;
    }
    Some(Sourced {
        secret: value.into(),
        source: format!("env {name}"),
    })
}

fn from_config(config: &Config, path: &str) -> CommandResult<Option<Sourced>> {
    Ok(config.text(path)?.map(|value| Sourced {
        secret: value.into(),
        source: format!("config {path}"),
    }))
}

/// The token that a gateway without a configured one made for itself.
fn generated_token(paths: &Paths) -> CommandResult<Option<Sourced>> {
    for dir in paths.of_local_gateway() {
        let path = dir.join("gateway-token");
        match fs::read_to_string(&path) {
            Ok(text) if text.trim().is_empty() => {}
            Ok(text) => {
                return Ok(Some(Sourced {
                    secret: text.trim().into(),
                    source: "state gateway-token".to_owned(),
                }));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(CommandError::config(format!(
                    "cannot read {}: {error}",
                    path.display()
                )));
            }
        }
    }
    Ok(None)
}

fn url_needs_credentials(what: &str) -> CommandError {
    CommandError::usage(format!(
        "{what} needs an explicit credential; a configured one stays with its own gateway"
    ))
    .hint("pass --token TOKEN or --password PASSWORD")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::app::Globals;

    fn paths(dir: &Path, config: &str) -> Paths {
        let path = dir.join("clawgate.json");
        fs::write(&path, config).unwrap();
        Paths {
            state_dir: dir.to_owned(),
            state_dir_by_flag: false,
            config: path,
            gateway_state_dir: dir.to_owned(),
        }
    }

    fn resolve(config: &str, args: &ConnectArgs, env: &Env) -> CommandResult<Target> {
        let dir = scratch();
        Target::resolve(args, &paths(dir.path(), config), env)
    }

    fn scratch() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn seen(sourced: Option<&Sourced>) -> Option<(String, String)> {
        sourced.map(|s| (s.secret.expose_secret().to_owned(), s.source.clone()))
    }

    fn pair(secret: &str, source: &str) -> Option<(String, String)> {
        Some((secret.to_owned(), source.to_owned()))
    }

    const BOTH: &str = r#"{"gateway":{"port":1234,"auth":{"token":"local"},
        "remote":{"url":"wss://r.example","token":"remote","tlsFingerprint":"aa"}}}"#;

    #[test]
    fn the_local_gateway_takes_the_environment_then_the_configuration() {
        let none = ConnectArgs::default();
        let target = resolve(BOTH, &none, &Env::default()).unwrap();
        assert_eq!(target.endpoint.key(), "ws://127.0.0.1:1234");
        assert_eq!(
            seen(target.token.as_ref()),
            pair("local", "config gateway.auth.token")
        );
        let env = Env::from([
            ("OPENCLAW_GATEWAY_TOKEN", "theirs"),
            ("CLAWGATE_GATEWAY_TOKEN", "ours"),
        ]);
        let target = resolve(BOTH, &none, &env).unwrap();
        assert_eq!(
            seen(target.token.as_ref()),
            pair("ours", "env CLAWGATE_GATEWAY_TOKEN")
        );
        assert_eq!(
            seen(target.second_token.as_ref()),
            pair("local", "config gateway.auth.token")
        );
        let env = Env::from([
            ("OPENCLAW_GATEWAY_PORT", "77"),
            ("CLAWGATE_GATEWAY_TOKEN", " "),
        ]);
        let target = resolve(BOTH, &none, &env).unwrap();
        assert_eq!(target.endpoint.port(), 77);
        assert_eq!(
            seen(target.token.as_ref()),
            pair("local", "config gateway.auth.token")
        );
    }

    #[test]
    fn a_generated_token_is_the_last_resort_of_the_local_gateway() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("gateway-token"), "made\n").unwrap();
        let paths = paths(dir.path(), "{}");
        let target = Target::resolve(&ConnectArgs::default(), &paths, &Env::default()).unwrap();
        assert_eq!(
            seen(target.token.as_ref()),
            pair("made", "state gateway-token")
        );
        assert!(!target.credential_words().contains("made"));
    }

    #[test]
    fn a_state_directory_of_the_original_does_not_hide_this_machines_gateway() {
        let (home, theirs) = (scratch(), scratch());
        let text = |dir: &Path| dir.display().to_string();
        let (home_text, theirs_text) = (text(home.path()), text(theirs.path()));
        let env = Env::from([
            ("HOME", home_text.as_str()),
            ("OPENCLAW_STATE_DIR", &theirs_text),
        ]);
        let own = home.path().join(".clawgate");
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("gateway-token"), "made").unwrap();
        let paths = Paths::find(&Globals::default(), &env);
        let target = Target::resolve(&ConnectArgs::default(), &paths, &env).unwrap();
        assert_eq!(target.client_state_dir, theirs.path());
        assert_eq!(
            seen(target.token.as_ref()),
            pair("made", "state gateway-token")
        );
        assert_eq!(target.gateway_state_dirs, [theirs.path(), own.as_path()]);
    }

    #[test]
    fn an_explicit_url_never_takes_what_is_configured() {
        let args = ConnectArgs {
            url: Some("ws://127.0.0.1:1234".to_owned()),
            ..ConnectArgs::default()
        };
        let env = Env::from([("CLAWGATE_GATEWAY_TOKEN", "ours")]);
        let error = resolve(BOTH, &args, &env).unwrap_err();
        assert_eq!(error.exit(), crate::exit::Exit::Usage);
        let args = ConnectArgs {
            token: Some("flag".into()),
            ..args
        };
        let target = resolve(BOTH, &args, &env).unwrap();
        assert_eq!(seen(target.token.as_ref()), pair("flag", "--token"));
        assert_eq!(target.second_token.map(|s| s.source), None);
    }

    #[test]
    fn a_url_in_the_environment_takes_the_environments_credential_alone() {
        let none = ConnectArgs::default();
        let env = Env::from([("CLAWGATE_GATEWAY_URL", "wss://e.example")]);
        assert!(resolve(BOTH, &none, &env).is_err());
        let env = Env::from([
            ("CLAWGATE_GATEWAY_URL", "wss://e.example"),
            ("OPENCLAW_GATEWAY_PASSWORD", "pw"),
        ]);
        let target = resolve(BOTH, &none, &env).unwrap();
        assert_eq!(
            seen(target.password.as_ref()),
            pair("pw", "env OPENCLAW_GATEWAY_PASSWORD")
        );
        assert_eq!(target.token.map(|s| s.source), None);
        assert!(target.gateway_state_dirs.is_empty());
    }

    #[test]
    fn remote_mode_never_sends_the_local_gateways_secret() {
        let none = ConnectArgs::default();
        let remote = BOTH.replacen("\"port\"", "\"mode\":\"remote\",\"port\"", 1);
        let target = resolve(&remote, &none, &Env::default()).unwrap();
        assert_eq!(target.kind, TargetKind::ConfigRemote);
        assert_eq!(
            seen(target.token.as_ref()),
            pair("remote", "config gateway.remote.token")
        );
        let without = remote.replace(r#""token":"remote","#, "");
        let target = resolve(&without, &none, &Env::default()).unwrap();
        assert_eq!(target.token.map(|s| s.source), None);
        let misconfigured = r#"{"gateway":{"mode":"remote"}}"#;
        let error = resolve(misconfigured, &none, &Env::default()).unwrap_err();
        assert_eq!(error.exit(), crate::exit::Exit::Config);
    }

    #[test]
    fn the_local_key_is_offered_to_its_own_gateway_only() {
        let to = |url: &str, by_flag: bool| {
            let dir = tempfile::tempdir().unwrap();
            let mut paths = paths(dir.path(), BOTH);
            paths.state_dir_by_flag = by_flag;
            let args = ConnectArgs {
                url: Some(url.to_owned()),
                token: Some("t".into()),
                ..ConnectArgs::default()
            };
            !Target::resolve(&args, &paths, &Env::default())
                .unwrap()
                .gateway_state_dirs
                .is_empty()
        };
        assert!(to("ws://127.0.0.1:1234", false));
        assert!(to("ws://localhost:1234/", false));
        assert!(!to("ws://127.0.0.1:9", false));
        assert!(to("ws://127.0.0.1:9", true));
    }
}
