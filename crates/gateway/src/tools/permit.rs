//! Whether a command of a turn runs: in the sandbox, unless it is forbidden; outside it by the file of
//! what may, then by whoever is there to be asked.
//!
//! The answer is waited for inside the call, so that what the program says reaches the turn that
//! asked for it. Where nobody can answer, it is denied at once and says so, unless the job carries
//! a grant or the file lets it pass.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use clawgate_agent::{
    sandbox::Network,
    tools::{ExecCommand, Permit, Permitting, Refusal},
};
use clawgate_core::{
    approval::{Decision, Standing, told},
    exec_policy::{self, AskWhen, Executable, Request, Security, Verdict, Why},
    tool_policy::grants,
};
use serde_json::{Value, json};

use super::{Scene, exec_setting, own::Own};
use crate::{
    Gateway,
    approvals::{ApprovalError, Run, Wanted, digest, stands},
    clock::now_ms,
    node_host::sha256,
};

/// How long a request waits, milliseconds.
const TIMEOUT_MS: i64 = 120_000;

/// Asks the file, and then people.
pub(super) struct Asking {
    gateway: Arc<Gateway>,
    own: Own,
    agent: String,
    session_key: String,
    session_id: String,
    run_id: String,
    attended: bool,
    granted: bool,
    host: Option<String>,
    /// How the network is in the sandbox; `None` where it is switched off.
    sandbox: Option<Network>,
    /// What the configuration says; the file and the model can only be stricter.
    security: Option<Security>,
    ask: Option<AskWhen>,
}

impl Asking {
    pub(super) fn new(gateway: &Arc<Gateway>, scene: &Scene, config: &Value) -> Self {
        let word =
            |pointer: &str| exec_setting(config, &scene.agent.id, pointer).and_then(Value::as_str);
        Self {
            gateway: Arc::clone(gateway),
            own: Own::of(gateway, scene),
            agent: scene.agent.id.clone(),
            session_key: scene.session_key.clone(),
            session_id: scene.session_id.clone(),
            run_id: scene.run_id.clone(),
            attended: scene.attended,
            granted: scene
                .allow
                .as_ref()
                .is_some_and(|allow| grants(allow, "exec")),
            host: word("/host").map(str::to_owned),
            sandbox: (word("/sandbox/mode") != Some("off")).then(|| {
                let open = exec_setting(config, &scene.agent.id, "/sandbox/network");
                if open == Some(&json!(true)) {
                    Network::Open
                } else {
                    Network::None
                }
            }),
            security: word("/security").map(Security::parse),
            ask: word("/ask").map(AskWhen::parse),
        }
    }

    /// Whether programs run in the sandbox, files and network both: as configured, else wherever
    /// this machine can.
    async fn is_bounded(&self) -> bool {
        match self.host.as_deref() {
            Some("sandbox") => true,
            None | Some("auto") => {
                let ability = self.gateway.processes.ability().await;
                // What leaves one way open lets a secret out, so somebody is asked.
                let closes = ability.network == Network::None;
                let is_kept = |wanted| wanted == Network::Open || closes;
                ability.files && self.sandbox.is_some_and(is_kept)
            }
            Some(_) => false,
        }
    }

    async fn decide(&self, command: &ExecCommand) -> Result<(), Refusal> {
        match self.host.as_deref() {
            None | Some("gateway" | "sandbox" | "auto") => {}
            Some(other) => {
                return Err(refusal(
                    "host",
                    format!("not run: programs of agents do not run on \"{other}\" here"),
                ));
            }
        }
        let strictest = [
            self.security,
            command.security.as_deref().map(Security::parse),
        ];
        let security = strictest.into_iter().flatten().min();
        let ask = [self.ask, command.ask.as_deref().map(AskWhen::parse)];
        let ask = ask.into_iter().flatten().max();
        // In there it can do no harm that writing files could not do, so nobody is asked unless
        // somebody wants to be.
        if self.is_bounded().await
            && security != Some(Security::Deny)
            && ask != Some(AskWhen::Always)
        {
            return Ok(());
        }
        let program = Program::of(command).await;
        let verdict = self.verdict(command, &program, security, ask).await?;
        match verdict {
            Verdict::Allow { .. } => Ok(()),
            Verdict::Deny { why } => Err(refusal(
                "policy",
                format!(
                    "not run: what may be run here does not have it ({}); do without it",
                    why.as_str()
                ),
            )),
            Verdict::Ask { .. } if self.granted => Ok(()),
            Verdict::Ask { why } if !self.attended => Err(refusal(
                "unattended",
                format!(
                    "not run: it needs somebody's permission ({}) and nobody is here to give it. Do \
                     without it, and say in your answer that it was denied",
                    why.as_str()
                ),
            )),
            Verdict::Ask { why } => {
                self.ask(command, &program, &why).await?;
                if Program::of(command).await == program {
                    Ok(())
                } else {
                    Err(refusal(
                        "changed",
                        "not run: the program changed while it was waited for a decision"
                            .to_owned(),
                    ))
                }
            }
        }
    }

    /// What the file says, with the stricter of it and what else is said.
    async fn verdict(
        &self,
        command: &ExecCommand,
        program: &Program,
        security: Option<Security>,
        ask: Option<AskWhen>,
    ) -> Result<Verdict, Refusal> {
        let file = self.gateway.approvals.file().clone();
        let read = tokio::task::spawn_blocking(move || file.read()).await;
        let unreadable = |why: String| {
            tracing::warn!(%why, "no command of an agent runs");
            refusal(
                "policy",
                "not run: the file of what may be run cannot be read".to_owned(),
            )
        };
        let mut file = match read {
            Ok(Ok(policy)) => policy.file,
            Ok(Err(error)) => return Err(unreadable(error.to_string())),
            Err(died) => return Err(unreadable(died.to_string())),
        };
        let rules = exec_policy::policy(&file, &self.agent);
        let security = security.map_or(rules.security, |said| said.min(rules.security));
        let ask = ask.map_or(rules.ask, |said| said.max(rules.ask));
        let own = &mut file.agents.entry(self.agent.clone()).or_default().rules;
        own.security = Some(security.as_str().to_owned());
        own.ask = Some(ask.as_str().to_owned());
        own.ask_fallback = Some(rules.fallback.min(security).as_str().to_owned());
        let names: Vec<String> = command.env.iter().map(|(name, _)| name.clone()).collect();
        let home = std::env::var("HOME").ok();
        let found = command.found.display().to_string();
        let cwd = command.cwd.display().to_string();
        let request = Request {
            argv: &command.argv,
            cwd: Some(&cwd),
            env: &names,
            executable: program.real.as_deref().map(|real| Executable {
                found: &found,
                real,
                sha256: program.sha256.as_deref(),
            }),
            operand_sha256: program.operand_sha256.as_deref(),
            skill: false,
            home: home.as_deref(),
        };
        Ok(if self.attended || self.granted {
            exec_policy::evaluate(&file, &self.agent, &request)
        } else {
            // A fallback that the operator chose for when nobody answers holds here.
            match exec_policy::unanswered(&file, &self.agent, &request) {
                Verdict::Deny {
                    why: Why::Unanswered,
                } => exec_policy::evaluate(&file, &self.agent, &request),
                other => other,
            }
        })
    }

    async fn ask(
        &self,
        command: &ExecCommand,
        program: &Program,
        why: &Why,
    ) -> Result<(), Refusal> {
        let cwd = command.cwd.display().to_string();
        let env: BTreeMap<String, String> = command.env.iter().cloned().collect();
        let mut request = json!({
            "command": told(Some(&command.text), &command.argv),
            "commandArgv": command.argv,
            "systemRunBinding": null, "systemRunPlan": null, "nodeId": null,
            "cwd": cwd,
            "host": "gateway",
            "security": self.security.map(Security::as_str),
            "ask": why.as_str(),
            "agentId": self.agent,
            "resolvedPath": program.real,
            "sessionKey": self.session_key,
            "sessionId": self.session_id,
            "runId": self.run_id,
        });
        if !env.is_empty() {
            request["envKeys"] = json!(env.keys().collect::<Vec<_>>());
        }
        if let Some(sha256) = &program.sha256 {
            request["resolvedSha256"] = json!(sha256);
        }
        let run = Run {
            argv: command.argv.clone(),
            cwd: Some(cwd),
            env,
            agent_id: Some(self.agent.clone()),
            session_key: Some(self.session_key.clone()),
        };
        let wanted = Wanted {
            id: None,
            digest: digest(&request, &run),
            request,
            timeout_ms: TIMEOUT_MS,
        };
        let approvals = &self.gateway.approvals;
        let failed = |error: ApprovalError| match error {
            ApprovalError::TooMany { .. } => refusal(
                "busy",
                "not run: too many commands wait for a decision".to_owned(),
            ),
            other => {
                tracing::warn!(error = ?other, "an approval could not be asked for");
                refusal("failed", "not run: nobody could be asked".to_owned())
            }
        };
        let asked = approvals.request(self.own.link(), wanted).await;
        let id = asked.map_err(failed)?.id;
        let approval = approvals.wait(&id).await.map_err(failed)?;
        let because = |reason, text: &str| Err(refusal(reason, format!("not run: {text}")));
        match stands(&approval, now_ms()) {
            Standing::Decided(Decision::AllowOnce | Decision::AllowAlways) => Ok(()),
            Standing::Decided(Decision::Deny) => {
                because("denied", "somebody looked at it and said no")
            }
            Standing::Waits | Standing::Expired => because("expired", "nobody answered in time"),
        }
    }
}

impl Permit for Asking {
    fn permit<'a>(&'a self, command: &'a ExecCommand) -> Permitting<'a> {
        Box::pin(self.decide(command))
    }
}

fn refusal(reason: &str, text: String) -> Refusal {
    Refusal {
        reason: reason.to_owned(),
        text,
    }
}

/// What would really run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Program {
    real: Option<String>,
    sha256: Option<String>,
    operand_sha256: Option<String>,
}

impl Program {
    async fn of(command: &ExecCommand) -> Self {
        let found = command.found.clone();
        let operands: Vec<PathBuf> = command.argv[1..]
            .iter()
            .filter(|part| !part.starts_with('-'))
            .map(|part| command.cwd.join(part))
            .collect();
        let looked = tokio::task::spawn_blocking(move || {
            let real = std::fs::canonicalize(found).ok();
            let operand = operands.into_iter().find(|path| path.is_file());
            Self {
                sha256: real.as_deref().and_then(sha256),
                real: real.map(|real| real.display().to_string()),
                operand_sha256: operand.as_deref().and_then(sha256),
            }
        });
        looked.await.unwrap_or_default()
    }
}
