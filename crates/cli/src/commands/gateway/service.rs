//! The gateway as a service of systemd: of a user, or of the machine.
//!
//! The unit is ours from its first to its last line and says so; one that somebody changed is not
//! written over without `--force`. A gateway that runs without a unit is found by the lock on its
//! state directory.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use crate::{
    app::secret,
    commands::Context,
    config::Paths,
    env,
    error::{CommandError, CommandResult},
    exit::Exit,
    output::plain,
};

/// `gateway install`.
#[derive(Args, Debug)]
pub(crate) struct InstallArgs {
    /// Port to listen on, instead of the configured one
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Shared token; kept in a file that only you can read, not in the unit
    #[arg(long, value_name = "TOKEN", value_parser = secret, allow_hyphen_values = true)]
    token: Option<SecretString>,
    /// The original's choice between runtimes; there is one here
    #[arg(long, hide = true, value_name = "RUNTIME")]
    runtime: Option<String>,
    /// Write over a unit that is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    pub(crate) common: ServiceArgs,
}

/// What every command about the service takes.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct ServiceArgs {
    /// A service of the machine, with a user of its own, instead of one of yours
    #[arg(long)]
    system: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Install,
    Uninstall,
    Start,
    Stop,
    Restart,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Uninstall => "uninstall",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }
}

/// How an action ended.
struct Outcome {
    result: &'static str,
    message: String,
    hints: Vec<String>,
}

impl Outcome {
    fn new(result: &'static str, message: impl Into<String>) -> Self {
        Self {
            result,
            message: message.into(),
            hints: Vec::new(),
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

/// Marks a unit that this program wrote.
const MARK: &str = "# Written by clawgate gateway install";

/// A unit: whose, which, and where.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    system: bool,
    name: String,
    path: PathBuf,
}

/// What systemd says of a unit.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// Why nothing is known.
    pub(crate) unavailable: Option<String>,
    /// Whether the unit's file is there.
    pub(crate) installed: bool,
    /// Whether it starts by itself.
    pub(crate) enabled: bool,
    /// `active`, `inactive`, `failed` …
    pub(crate) active: String,
    /// Its process.
    pub(crate) pid: Option<u32>,
    /// What the unit starts.
    pub(crate) command: Vec<String>,
}

impl Unit {
    /// The unit of a profile.
    pub(crate) fn of(context: &Context, system: bool) -> Self {
        let name = match &context.globals.profile {
            Some(profile) => format!("clawgate-gateway-{profile}.service"),
            None => "clawgate-gateway.service".to_owned(),
        };
        let directory = if system {
            PathBuf::from("/etc/systemd/system")
        } else {
            let config = context.env.first(env::CONFIG_HOME).map_or_else(
                || {
                    let home = context.env.first(env::HOME).map_or(".", |(home, _)| home);
                    PathBuf::from(home).join(".config")
                },
                |(path, _)| PathBuf::from(path),
            );
            config.join("systemd/user")
        };
        Self {
            system,
            path: directory.join(&name),
            name,
        }
    }

    fn systemctl(&self, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new("systemctl");
        if !self.system {
            command.arg("--user");
        }
        let output = command
            .args(args)
            .output()
            .map_err(|error| format!("systemctl cannot be run: {error}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        let said = [text(&output.stderr), text(&output.stdout)];
        let said = said.into_iter().find(|text| !text.is_empty());
        Err(said.unwrap_or_else(|| format!("systemctl {} failed", args.join(" "))))
    }

    /// What there is to know, without changing anything.
    pub(crate) fn state(&self) -> State {
        let file = fs::read_to_string(&self.path).unwrap_or_default();
        let started = file
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart="));
        let mut state = State {
            installed: !file.is_empty(),
            command: started.map(words_of).unwrap_or_default(),
            ..State::default()
        };
        let properties = "ActiveState,MainPID,UnitFileState";
        match self.systemctl(&["show", &self.name, "--property", properties]) {
            Ok(text) => {
                let value = |name: &str| {
                    text.lines()
                        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                        .unwrap_or_default()
                        .to_owned()
                };
                state.enabled = value("UnitFileState") == "enabled";
                state.active = value("ActiveState");
                state.pid = value("MainPID").parse().ok().filter(|pid| *pid != 0);
            }
            Err(why) => state.unavailable = Some(why),
        }
        state
    }

    /// The original's members of `service`.
    pub(crate) fn to_json(&self, state: &State) -> Value {
        json!({
            "label": "systemd",
            "loaded": state.installed && state.enabled,
            "loadedText": "enabled",
            "notLoadedText": "disabled",
        })
    }

    /// The original's `service` of `gateway status`.
    pub(crate) fn status_json(&self, state: &State) -> Value {
        let mut service = self.to_json(state);
        service["command"] = if state.command.is_empty() {
            Value::Null
        } else {
            json!({"programArguments": state.command, "sourcePath": self.path.display().to_string()})
        };
        let mut runtime = json!({"status": state.running()});
        if let Some(pid) = state.pid {
            runtime["pid"] = pid.into();
        }
        if let Some(why) = &state.unavailable {
            runtime["detail"] = why.clone().into();
        }
        service["runtime"] = runtime;
        let issues: Vec<Value> = state
            .problem()
            .into_iter()
            .map(|message| json!({"code": "gateway-command-missing", "message": message, "level": "aggressive"}))
            .collect();
        service["configAudit"] = json!({"ok": issues.is_empty(), "issues": issues});
        service
    }
}

impl State {
    /// The original's word for whether it runs.
    pub(crate) fn running(&self) -> &'static str {
        match self.active.as_str() {
            "active" | "activating" | "reloading" => "running",
            "" => "unknown",
            _ => "stopped",
        }
    }

    /// The same in one line.
    pub(crate) fn short(&self) -> String {
        match (&self.unavailable, self.pid) {
            (Some(why), _) => format!("unknown ({why})"),
            (None, Some(pid)) => format!("{} (pid {pid}, state {})", self.running(), self.active),
            (None, None) => format!("{} (state {})", self.running(), self.active),
        }
    }

    /// What is wrong with the unit itself.
    pub(crate) fn problem(&self) -> Option<String> {
        let program = self.command.first()?;
        (!Path::new(program).exists())
            .then(|| format!("the unit starts {program}, which is not there"))
    }
}

/// Does one of them.
pub(crate) fn run(
    context: &Context,
    action: Action,
    args: ServiceArgs,
    install: Option<&InstallArgs>,
) -> CommandResult {
    let unit = Unit::of(context, args.system);
    let outcome = match (action, install) {
        (Action::Install, Some(own)) => self::install(context, &unit, own),
        (Action::Install | Action::Uninstall, _) => uninstall(&unit),
        (Action::Start, _) => start(&unit, "start", "started"),
        (Action::Restart, _) => start(&unit, "restart", "restarted"),
        (Action::Stop, _) => stop(context, &unit),
    };
    let output = context.output;
    match outcome {
        Ok(outcome) if args.json => {
            let mut report = json!({
                "action": action.word(),
                "ok": true,
                "result": outcome.result,
                "message": outcome.message,
            });
            if !outcome.hints.is_empty() {
                report["hints"] = typed(context, &outcome.hints).into();
            }
            report["service"] = unit.to_json(&unit.state());
            output.json(&report)?;
            Ok(Exit::Ok)
        }
        Ok(outcome) => {
            output.line(plain(&outcome.message))?;
            for hint in typed(context, &outcome.hints) {
                output.line(format!("next: {}", plain(&hint)))?;
            }
            Ok(Exit::Ok)
        }
        Err(error) if args.json => {
            let error = error.under(&context.globals);
            output.json(&json!({
                "action": action.word(),
                "ok": false,
                "error": error.message(),
                "hints": error.hints(),
                "service": unit.to_json(&unit.state()),
            }))?;
            Ok(error.exit())
        }
        Err(error) => Err(error),
    }
}

fn typed(context: &Context, hints: &[String]) -> Vec<String> {
    hints
        .iter()
        .map(|hint| context.globals.typed(hint))
        .collect()
}

fn failed(message: impl Into<String>) -> CommandError {
    CommandError::new(Exit::Failed, "SERVICE", message)
}

/// systemd refused or is not there.
fn unavailable(unit: &Unit, why: &str) -> CommandError {
    let error = failed(format!("systemd did not do it: {why}"));
    if unit.system {
        error.hint("run this as root: sudo clawgate gateway install --system")
    } else {
        error
            .hint("loginctl enable-linger, and log in anew, where there is no user manager")
            .hint("clawgate gateway run")
    }
}

fn install(context: &Context, unit: &Unit, args: &InstallArgs) -> CommandResult<Outcome> {
    let was_there = fs::read_to_string(&unit.path).ok();
    if was_there.is_some() && !args.force {
        return Ok(Outcome::new(
            "already-installed",
            format!("{} is there already", unit.path.display()),
        )
        .hint("clawgate gateway install --force")
        .hint("clawgate gateway start"));
    }
    let program = std::env::current_exe()
        .map_err(|error| failed(format!("where this program lies is not known: {error}")))?;
    let paths = Paths::of_gateway(&context.globals, &context.env);
    let state = absolute(&if unit.system && context.globals.state_dir.is_none() {
        PathBuf::from("/var/lib").join(unit.name.trim_end_matches("-gateway.service"))
    } else {
        paths.state_dir
    })?;
    let config = context
        .globals
        .config
        .as_deref()
        .map(absolute)
        .transpose()?;
    let secrets = state.join("service.env");
    let text = unit_text(
        unit,
        &program,
        &state,
        config.as_deref(),
        args.port,
        &secrets,
    );
    if let Some(token) = &args.token {
        keep_token(&state, &secrets, token)?;
    }
    let writing = |error: std::io::Error| {
        failed(format!(
            "{} cannot be written: {error}",
            unit.path.display()
        ))
    };
    if let Some(directory) = unit.path.parent() {
        fs::create_dir_all(directory).map_err(writing)?;
    }
    let draft = unit.path.with_extension("service.new");
    fs::write(&draft, &text)
        .and_then(|()| fs::rename(&draft, &unit.path))
        .map_err(writing)?;
    let began = unit
        .systemctl(&["daemon-reload"])
        .and_then(|_| unit.systemctl(&["enable", &unit.name]))
        .and_then(|_| unit.systemctl(&["restart", &unit.name]));
    if let Err(why) = began {
        // Nothing is left that systemd did not take; what was there before stays.
        let _ = match was_there {
            Some(before) => fs::write(&unit.path, before),
            None => fs::remove_file(&unit.path),
        };
        let _ = unit.systemctl(&["daemon-reload"]);
        return Err(unavailable(unit, &why));
    }
    let outcome = Outcome::new(
        "installed",
        format!("{} is installed, enabled and running", unit.name),
    )
    .hint("clawgate gateway status");
    Ok(if unit.system {
        outcome.hint(format!("journalctl -u {}", unit.name))
    } else {
        outcome.hint("loginctl enable-linger, so that it runs while you are not logged in")
    })
}

fn absolute(path: impl AsRef<Path>) -> CommandResult<PathBuf> {
    std::path::absolute(path.as_ref())
        .map_err(|error| failed(format!("{}: {error}", path.as_ref().display())))
}

/// The token goes into a file of the environment that nobody else can read.
fn keep_token(state: &Path, path: &Path, token: &SecretString) -> CommandResult<()> {
    let token = token.expose_secret().trim();
    let plain = |c: char| c.is_ascii_graphic() && !"\"'\\$`".contains(c);
    if !token.chars().all(plain) {
        return Err(CommandError::usage(
            "this token has characters that a file of the environment would change",
        )
        .hint("put it into gateway.auth.token of the configuration"));
    }
    let writing = |error: std::io::Error| failed(format!("{}: {error}", path.display()));
    std::os::unix::fs::DirBuilderExt::mode(fs::DirBuilder::new().recursive(true), 0o700)
        .create(state)
        .map_err(writing)?;
    let draft = path.with_extension("new");
    drop(fs::remove_file(&draft));
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| {
            writeln!(file, "CLAWGATE_GATEWAY_TOKEN={token}")?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&draft, path))
        .map_err(writing)
}

/// A word of an `ExecStart=` line.
fn quoted(word: &str) -> String {
    let mut text = "\"".to_owned();
    for c in word.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '%' => text.push_str("%%"),
            '$' => text.push_str("$$"),
            _ => text.push(c),
        }
    }
    text + "\""
}

/// The words of an `ExecStart=` line of ours.
fn words_of(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line;
    while let Some((_, from)) = rest.split_once('"') {
        let mut word = String::new();
        let mut chars = from.char_indices();
        let mut end = from.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => word.extend(chars.next().map(|(_, c)| c)),
                _ => word.push(c),
            }
        }
        words.push(word.replace("%%", "%").replace("$$", "$"));
        rest = &from[end..];
    }
    words
}

/// What both kinds of unit may not do. Programs of jobs run under the gateway, so what they may
/// reach is bounded by the user that it runs as.
const HARDENING: &str = "\
UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
";
/// What only the machine's manager can take away.
const SYSTEM_HARDENING: &str = "\
DynamicUser=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
CapabilityBoundingSet=
AmbientCapabilities=
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
";

fn unit_text(
    unit: &Unit,
    program: &Path,
    state: &Path,
    config: Option<&Path>,
    port: Option<u16>,
    secrets: &Path,
) -> String {
    let text = |path: &Path| path.display().to_string();
    let mut command = vec![
        text(program),
        "gateway".to_owned(),
        "run".to_owned(),
        "--state-dir".to_owned(),
        text(state),
    ];
    if let Some(config) = config {
        command.extend(["--config".to_owned(), text(config)]);
    }
    if let Some(port) = port {
        command.extend(["--port".to_owned(), port.to_string()]);
    }
    let command: Vec<String> = command.iter().map(|word| quoted(word)).collect();
    let system = if unit.system {
        let own = state.strip_prefix("/var/lib").map_or_else(
            |_| format!("ReadWritePaths={}\n", quoted(&text(state))),
            |name| {
                format!(
                    "StateDirectory={}\nStateDirectoryMode=0700\n",
                    name.display()
                )
            },
        );
        format!("{SYSTEM_HARDENING}{own}")
    } else {
        String::new()
    };
    let (after, wanted) = if unit.system {
        (
            "After=network-online.target\nWants=network-online.target\n",
            "multi-user.target",
        )
    } else {
        ("", "default.target")
    };
    format!(
        "{MARK}; clawgate gateway install --force writes it anew.
[Unit]
Description=clawgate gateway
{after}StartLimitIntervalSec=300
StartLimitBurst=10

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
EnvironmentFile=-{secrets}
Restart=always
RestartSec=2
# The configuration or the command line is wrong: starting again does not mend it.
RestartPreventExitStatus=2 78
WatchdogSec=60
TimeoutStartSec=120
TimeoutStopSec=30
KillMode=mixed
{HARDENING}{system}
[Install]
WantedBy={wanted}
",
        command = command.join(" "),
        secrets = text(secrets).replace('%', "%%"),
    )
}

fn uninstall(unit: &Unit) -> CommandResult<Outcome> {
    if !unit.path.exists() {
        return Ok(Outcome::new(
            "not-loaded",
            format!("{} is not installed", unit.name),
        ));
    }
    // A manager that is not there has nothing to stop.
    let stopped = unit.systemctl(&["disable", "--now", &unit.name]);
    fs::remove_file(&unit.path)
        .map_err(|error| failed(format!("{}: {error}", unit.path.display())))?;
    let _ = unit.systemctl(&["daemon-reload"]);
    let outcome = Outcome::new(
        "uninstalled",
        format!("{} is gone; the state is kept", unit.name),
    );
    Ok(match stopped {
        Ok(_) => outcome,
        Err(why) => outcome.hint(format!("systemd was not told: {why}")),
    })
}

fn start(unit: &Unit, verb: &str, result: &'static str) -> CommandResult<Outcome> {
    if !unit.path.exists() {
        return Ok(
            Outcome::new("not-loaded", format!("{} is not installed", unit.name))
                .hint("clawgate gateway install")
                .hint("clawgate gateway run"),
        );
    }
    // A unit that gave up is not started again until that is forgotten.
    let _ = unit.systemctl(&["reset-failed", &unit.name]);
    unit.systemctl(&[verb, &unit.name])
        .map_err(|why| unavailable(unit, &why))?;
    Ok(Outcome::new(result, format!("{} is {result}", unit.name)))
}

fn stop(context: &Context, unit: &Unit) -> CommandResult<Outcome> {
    if unit.path.exists() && unit.state().running() == "running" {
        unit.systemctl(&["stop", &unit.name])
            .map_err(|why| unavailable(unit, &why))?;
        return Ok(Outcome::new("stopped", format!("{} is stopped", unit.name)));
    }
    let paths = Paths::of_gateway(&context.globals, &context.env);
    match clawgate_gateway::stop(&paths.state_dir) {
        Ok(Some(pid)) => Ok(Outcome::new(
            "stopped",
            format!("the gateway that ran without a unit (process {pid}) is stopped"),
        )),
        Ok(None) => Ok(Outcome::new("not-loaded", "no gateway runs".to_owned())),
        Err(error) => Err(failed(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_a_unit_is_read_as_it_was_written() {
        for word in [
            "/usr/bin/claw gate",
            "a\"b",
            "100%",
            "$HOME",
            "back\\slash",
            "",
        ] {
            assert_eq!(words_of(&quoted(word)), [word]);
        }
        let line = format!("{} {}", quoted("one \"two\""), quoted("%h"));
        assert_eq!(words_of(&line), ["one \"two\"", "%h"]);
    }
}
