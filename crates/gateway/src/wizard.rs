//! The onboarding wizard over the wire: one at a time, forgotten when nobody answers.
//!
//! Which question comes when is decided in `core::wizard`; here are the words, and the change of the
//! configuration that the answers add up to.

use std::sync::{Mutex, PoisonError};

use clawgate_core::wizard::{Answer, Choice, Known, Login, Mode, Next, Question, Wizard};
use clawgate_protocol::wizard::{Step, StepAnswer, StepOption};
use serde_json::{Value, json};

/// How long a question waits for its answer, milliseconds.
const PATIENCE_MS: i64 = 15 * 60_000;

/// The wizard that is under way.
#[derive(Debug, Default)]
pub(crate) struct Wizards {
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    id: String,
    step_id: String,
    wizard: Wizard,
    asked_at_ms: i64,
}

/// Why a wizard does not go on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WizardError {
    /// Another one is under way.
    Busy,
    /// There is none of that id.
    NotFound,
    /// Another question waits, or none.
    NoSuchStep,
    /// The answer cannot be.
    Wrong(String),
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Turn {
    /// A question.
    Ask(Box<Step>),
    /// The end: this is to be written.
    Write(Choice),
    /// The end: nothing is.
    Declined,
}

impl Wizards {
    /// The one of that id, if it is still under way.
    fn with<T>(
        &self,
        id: &str,
        now_ms: i64,
        act: impl FnOnce(&mut Option<Running>) -> Result<T, WizardError>,
    ) -> Result<T, WizardError> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        expire(&mut running, now_ms);
        match running.as_ref() {
            Some(running) if running.id == id => {}
            _ => return Err(WizardError::NotFound),
        }
        act(&mut running)
    }

    /// Begins one, and gives its id and first question.
    pub(crate) fn start(&self, known: Known, now_ms: i64) -> Result<(String, Step), WizardError> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        expire(&mut running, now_ms);
        if running.is_some() {
            return Err(WizardError::Busy);
        }
        let begun = Running {
            id: new_id(),
            step_id: new_id(),
            wizard: Wizard::new(known),
            asked_at_ms: now_ms,
        };
        let answer = (begun.id.clone(), begun.step());
        *running = Some(begun);
        Ok(answer)
    }

    /// The question that waits, after the answer to it if there is one. `judge` looks at a
    /// workspace before it is taken.
    pub(crate) fn next(
        &self,
        id: &str,
        answer: Option<&StepAnswer>,
        now_ms: i64,
        judge: impl FnOnce(&str) -> Result<(), String>,
    ) -> Result<Turn, WizardError> {
        self.with(id, now_ms, |place| {
            let running = place.as_mut().ok_or(WizardError::NotFound)?;
            running.asked_at_ms = now_ms;
            let Some(answer) = answer else {
                return Ok(Turn::Ask(Box::new(running.step())));
            };
            if answer.step_id != running.step_id {
                return Err(WizardError::NoSuchStep);
            }
            let typed = match &answer.value {
                Value::Null => Answer::Read,
                Value::Bool(flag) => Answer::Bool(*flag),
                Value::String(text) => Answer::Text(text),
                Value::Number(_) | Value::Array(_) | Value::Object(_) => Answer::Other,
            };
            if let (Question::Workspace, Answer::Text(path)) = (running.wizard.question(), &typed) {
                judge(path).map_err(WizardError::Wrong)?;
            }
            let next = running
                .wizard
                .answer(&typed)
                .map_err(|problem| WizardError::Wrong(problem.to_owned()))?;
            match next {
                Next::Ask => {
                    running.step_id = new_id();
                    Ok(Turn::Ask(Box::new(running.step())))
                }
                Next::Write(choice) => {
                    *place = None;
                    Ok(Turn::Write(choice))
                }
                Next::Declined => {
                    *place = None;
                    Ok(Turn::Declined)
                }
            }
        })
    }

    /// Whether it is under way.
    pub(crate) fn is_running(&self, id: &str, now_ms: i64) -> bool {
        self.with(id, now_ms, |_| Ok(())).is_ok()
    }

    /// Ends it.
    pub(crate) fn cancel(&self, id: &str, now_ms: i64) -> Result<(), WizardError> {
        self.with(id, now_ms, |place| {
            *place = None;
            Ok(())
        })
    }
}

fn expire(running: &mut Option<Running>, now_ms: i64) {
    let is_old = |running: &mut Running| now_ms - running.asked_at_ms > PATIENCE_MS;
    drop(running.take_if(is_old));
}

fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

impl Running {
    fn step(&self) -> Step {
        let known = self.wizard.known();
        let step = |kind: &str, message: String| Step {
            kind: kind.to_owned(),
            title: None,
            message,
            options: None,
            initial_value: None,
            placeholder: None,
            sensitive: None,
            executor: "client".to_owned(),
            id: self.step_id.clone(),
        };
        let note = |title: &str, message: &str| Step {
            title: Some(title.to_owned()),
            ..step("note", message.to_owned())
        };
        let select = |message: &str, options: &[(&str, &str, &str)]| Step {
            initial_value: options.first().map(|(value, ..)| (*value).into()),
            options: Some(
                options
                    .iter()
                    .map(|(value, label, hint)| StepOption {
                        value: (*value).to_owned(),
                        label: (*label).to_owned(),
                        hint: Some((*hint).to_owned()),
                    })
                    .collect(),
            ),
            ..step("select", message.to_owned())
        };
        let text = |message: &str, initial: Option<String>, placeholder: &str| Step {
            initial_value: initial.map(Value::from),
            placeholder: (!placeholder.is_empty()).then(|| placeholder.to_owned()),
            ..step("text", message.to_owned())
        };
        let confirm = |message: String, initial: bool| Step {
            initial_value: Some(initial.into()),
            ..step("confirm", message)
        };
        match self.wizard.question() {
            Question::Welcome => note("clawgate onboarding", ""),
            Question::Security => note(
                "Security",
                "Whoever reaches this gateway with its token or password commands what it commands. \
                 Keep it on this machine unless others need it, put TLS in front of it where they do, \
                 and give programs API tokens of their own instead of the shared secret.",
            ),
            Question::Consent => confirm(
                "I know this and am the operator of this machine. Go on?".to_owned(),
                false,
            ),
            Question::Flow => select(
                "Onboarding mode",
                &[
                    (
                        "quickstart",
                        "QuickStart",
                        "This machine alone; details later.",
                    ),
                    ("advanced", "Manual", "Port, network and authentication."),
                ],
            ),
            Question::Existing => note(
                "Existing config detected",
                "What is not asked for here stays as it is.",
            ),
            Question::Workspace => text(
                "Workspace directory",
                Some(known.workspace.clone()),
                "~/workspace",
            ),
            Question::Port => text("Gateway port", Some(known.port.to_string()), "18789"),
            Question::Bind => select(
                "Gateway bind",
                &[
                    ("loopback", "Loopback", "This machine alone."),
                    ("lan", "LAN", "Every address of this machine."),
                ],
            ),
            Question::Login => select(
                "Gateway auth",
                &[
                    (
                        "token",
                        "Token",
                        "The configured one, or one that is made at the next start.",
                    ),
                    ("password", "Password", "One that you choose."),
                ],
            ),
            Question::Password => Step {
                sensitive: Some(true),
                ..text("Gateway password", None, "")
            },
            Question::RemoteUrl => text("Gateway URL", None, "wss://gateway.example"),
            Question::RemoteToken => Step {
                sensitive: Some(true),
                ..text("Gateway token (empty for none)", None, "")
            },
            Question::Confirm => confirm(format!("Write this? {}", self.summary()), true),
        }
    }

    /// What would be written, without secrets.
    fn summary(&self) -> String {
        let choice = self.wizard.choice();
        let mut parts = vec![format!("mode {}", mode_word(choice.mode))];
        if let Some(url) = &choice.remote_url {
            parts.push(format!(
                "gateway at {}",
                url.split(['?', '#']).next().unwrap_or(url)
            ));
        }
        if choice.mode == Mode::Local {
            let workspace = choice
                .workspace
                .as_ref()
                .unwrap_or(&self.wizard.known().workspace);
            parts.push(format!("workspace {workspace}"));
        }
        if let Some(port) = choice.port {
            parts.push(format!("port {port}"));
        }
        if let Some(bind) = choice.bind {
            parts.push(format!("bind {}", bind.as_str()));
        }
        match &choice.login {
            Some(Login::Token) => parts.push("auth by token".to_owned()),
            Some(Login::Password(_)) => parts.push("auth by password".to_owned()),
            None => {}
        }
        parts.join(", ")
    }
}

fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Local => "local",
        Mode::Remote => "remote",
    }
}

/// The choice as a merge patch of the configuration.
pub(crate) fn patch(choice: &Choice) -> Value {
    let mut patch = json!({"gateway": {"mode": mode_word(choice.mode)}});
    let gateway = &mut patch["gateway"];
    if let Some(port) = choice.port {
        gateway["port"] = port.into();
    }
    if let Some(bind) = choice.bind {
        gateway["bind"] = bind.as_str().into();
    }
    match &choice.login {
        Some(Login::Token) => gateway["auth"] = json!({"mode": "token"}),
        Some(Login::Password(password)) => {
            gateway["auth"] = json!({"mode": "password", "password": password.expose()});
        }
        None => {}
    }
    if let Some(url) = &choice.remote_url {
        gateway["remote"] = json!({"url": url});
        if let Some(token) = &choice.remote_token {
            gateway["remote"]["token"] = token.expose().into();
        }
    }
    if let Some(workspace) = &choice.workspace {
        patch["agents"] = json!({"defaults": {"workspace": workspace}});
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        Known {
            mode: Mode::Local,
            existing: false,
            port: 1,
            workspace: "/w".to_owned(),
        }
    }

    fn fine(_: &str) -> Result<(), String> {
        Ok(())
    }

    #[test]
    fn there_is_one_wizard_and_it_is_forgotten_when_nobody_answers() {
        let wizards = Wizards::default();
        let (id, step) = wizards.start(known(), 0).unwrap();
        assert_eq!(wizards.start(known(), 1).unwrap_err(), WizardError::Busy);
        let wrong = StepAnswer {
            step_id: "bad".to_owned(),
            value: Value::Null,
        };
        assert_eq!(
            wizards.next(&id, Some(&wrong), 1, fine).unwrap_err(),
            WizardError::NoSuchStep
        );
        let Turn::Ask(again) = wizards.next(&id, None, 2, fine).unwrap() else {
            panic!("it asks still");
        };
        assert_eq!(again.id, step.id);
        assert!(!wizards.is_running(&id, 3 + PATIENCE_MS));
        assert!(wizards.start(known(), 3 + PATIENCE_MS).is_ok());
    }

    #[test]
    fn a_patch_says_what_was_chosen_and_nothing_else() {
        let mut wizard = Wizard::new(known());
        for answer in [
            Answer::Read,
            Answer::Read,
            Answer::Bool(true),
            Answer::Text("advanced"),
            Answer::Text("/w"),
            Answer::Text("1"),
            Answer::Text("lan"),
            Answer::Text("token"),
        ] {
            wizard.answer(&answer).unwrap();
        }
        assert_eq!(
            patch(wizard.choice()),
            json!({"gateway": {"mode": "local", "bind": "lan", "auth": {"mode": "token"}}})
        );
    }
}
