//! `gateway status`: what is configured, what listens, and whether one call goes through.

use std::time::Duration;

use clap::Args;
use clawgate_gateway::Issue;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};

use super::{
    listeners::{Listener, hints, on_port},
    service::{State, Unit},
};
use crate::{
    app::ConnectArgs,
    commands::{Context, ORDINARY_MS, call_once},
    config::{Config, judged},
    error::{CommandError, CommandResult},
    exit::Exit,
    output::{Tone, plain, table},
    target::{Target, local_port},
};

/// `gateway status`.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// Do not call the gateway
    #[arg(long, conflicts_with = "require_rpc")]
    no_probe: bool,
    /// Exit 1 when the call does not go through
    #[arg(long)]
    require_rpc: bool,
    /// Accepted for scripts; this gateway has no further services
    #[arg(long, hide = true)]
    deep: bool,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// How long a knock may take.
const KNOCK_WITHIN: Duration = Duration::from_secs(3);

/// Whether somebody listens where the gateway is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PortState {
    Busy,
    Free,
}

impl PortState {
    /// Knocks. Whoever opens is somebody, whatever they speak.
    async fn of(target: &Target) -> Self {
        let (host, port) = (target.endpoint.host(), target.endpoint.port());
        let knock = TcpStream::connect((host.trim_matches(['[', ']']), port));
        match timeout(KNOCK_WITHIN, knock).await {
            Ok(Ok(_)) => Self::Busy,
            Ok(Err(_)) | Err(_) => Self::Free,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Free => "free",
        }
    }
}

pub(crate) async fn run(context: &Context, args: &StatusArgs) -> CommandResult {
    let config = Config::load(&context.paths.config)?;
    let target = Target::resolve(&args.connect, &context.paths, &context.env)?;
    let (port, port_source) = if target.is_local_default() {
        local_port(&config, &context.env)?
    } else {
        (target.endpoint.port(), "url")
    };
    let state = PortState::of(&target).await;
    let listeners = if target.is_loopback() {
        on_port(target.endpoint.port())
    } else {
        Vec::new()
    };
    let unit = Unit::of(context, false);
    let service = unit.state();
    let rpc = if args.no_probe {
        None
    } else {
        Some(
            call_once(
                context,
                &args.connect,
                ORDINARY_MS,
                "status",
                Some(&json!({})),
            )
            .await,
        )
    };
    let failed = rpc.as_ref().is_some_and(Result::is_err);
    let issues = judged(&config.path, &context.env)
        .err()
        .map(|error| error.issues)
        .unwrap_or_default();
    let report = Report {
        config: &config,
        issues,
        port,
        port_source,
        state,
        listeners,
        unit,
        service,
        target: &target,
        rpc,
    };
    if args.connect.json {
        context.output.json(&report.to_json())?;
    } else {
        report.print(context)?;
    }
    Ok(if args.require_rpc && failed {
        Exit::Failed
    } else {
        Exit::Ok
    })
}

struct Report<'a> {
    config: &'a Config,
    issues: Vec<Issue>,
    port: u16,
    port_source: &'static str,
    state: PortState,
    listeners: Vec<Listener>,
    unit: Unit,
    service: State,
    target: &'a Target,
    rpc: Option<Result<Value, CommandError>>,
}

impl Report<'_> {
    fn bind(&self) -> &str {
        self.config
            .get("gateway.bind")
            .and_then(Value::as_str)
            .unwrap_or("loopback")
    }

    fn to_json(&self) -> Value {
        let path = self.config.path.display().to_string();
        let file = json!({
            "path": path,
            "exists": self.config.exists,
            "valid": self.issues.is_empty(),
        });
        let bind_host = if self.bind() == "loopback" {
            "127.0.0.1"
        } else {
            "0.0.0.0"
        };
        let mut report = json!({
            "service": self.unit.status_json(&self.service),
            "config": {"cli": file, "daemon": file},
            "gateway": {
                "bindMode": self.bind(),
                "bindHost": bind_host,
                "port": self.port,
                "portSource": match self.port_source {
                    "env" | "config" => "env/config",
                    other => other,
                },
                "probeUrl": self.target.endpoint.to_string(),
            },
            "port": {
                "port": self.port,
                "status": self.state.as_str(),
                "listeners": self.listeners.iter().map(Listener::to_json).collect::<Vec<_>>(),
                "hints": hints(&self.listeners),
            },
        });
        if self.bind() == "loopback" {
            let note = "only clients on this machine can connect";
            report["gateway"]["probeNote"] = note.into();
        }
        if let Some(rpc) = &self.rpc {
            report["rpc"] = match rpc {
                Ok(_) => json!({"ok": true}),
                Err(error) => json!({"ok": false, "error": error.lines().join("\n")}),
            };
            report["rpc"]["url"] = self.target.endpoint.to_string().into();
        }
        report["extraServices"] = json!([]);
        report
    }

    fn print(&self, context: &Context) -> CommandResult<()> {
        let output = context.output;
        let exists = if self.config.exists {
            ""
        } else {
            " (not there; defaults are in use)"
        };
        let rpc = match &self.rpc {
            None => output.paint(Tone::Dim, "not tried"),
            Some(Ok(_)) => output.paint(Tone::Good, "ok"),
            Some(Err(error)) => output.paint(Tone::Bad, plain(error.message())),
        };
        let port = format!(
            "{} from {} · {}",
            self.port,
            self.port_source,
            match (self.listeners.first(), self.state) {
                (Some(listener), _) => listener.words(),
                (None, PortState::Busy) => "somebody listens".to_owned(),
                (None, PortState::Free) => "nobody listens".to_owned(),
            },
        );
        let service = match (self.service.installed, &self.service.problem()) {
            (_, Some(problem)) => problem.clone(),
            (true, None) => format!("installed, {}", self.service.running()),
            (false, None) => "not installed".to_owned(),
        };
        output.line(table::pairs(&[
            ("config", format!("{}{exists}", self.config.path.display())),
            ("bind", self.bind().to_owned()),
            ("port", port),
            (
                "gateway",
                format!("{} ({})", self.target.endpoint, self.target.url_source),
            ),
            ("credential", self.target.credential_words()),
            ("service", service),
        ]))?;
        // Painted words are not cells.
        output.line(format!("rpc         {rpc}"))?;
        for issue in &self.issues {
            let words = format!("config: {}: {}", issue.path, issue.message);
            output.line(output.paint(Tone::Warn, plain(&words)))?;
        }
        if let Some(Err(error)) = &self.rpc {
            for hint in error.hints() {
                output.line(format!("next: {}", plain(&context.globals.typed(hint))))?;
            }
        }
        Ok(())
    }
}
