//! The onboarding wizard: which question comes after which, and what the answers add up to.
//!
//! Nothing is decided before the last question: the answers become one [`Choice`], which is
//! written as a whole or not at all.

use std::fmt;

/// What the wizard is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The gateway of this machine.
    Local,
    /// Clients of this machine, for a gateway elsewhere.
    Remote,
}

/// Where the gateway listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bind {
    /// On this machine alone.
    Loopback,
    /// On every address.
    Lan,
}

impl Bind {
    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Lan => "lan",
        }
    }
}

/// A text that does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// How callers authenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// A shared token, as it is or made at the next start.
    Token,
    /// A shared password.
    Password(Hidden),
}

/// One question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// A greeting.
    Welcome,
    /// What an operator must know.
    Security,
    /// Whether that was understood.
    Consent,
    /// `quickstart` or `advanced`.
    Flow,
    /// That there is a configuration already.
    Existing,
    /// Where the agents work.
    Workspace,
    /// The port.
    Port,
    /// `loopback` or `lan`.
    Bind,
    /// `token` or `password`.
    Login,
    /// The password.
    Password,
    /// Address of the gateway elsewhere.
    RemoteUrl,
    /// Its token, empty for none.
    RemoteToken,
    /// Whether to write it.
    Confirm,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer<'a> {
    /// Nothing: a note was read.
    Read,
    /// Yes or no.
    Bool(bool),
    /// A text or a choice.
    Text(&'a str),
    /// Something else.
    Other,
}

/// What holds before a question is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// What the wizard is for.
    pub mode: Mode,
    /// Whether there is a configuration already.
    pub existing: bool,
    /// The port that holds.
    pub port: u16,
    /// The workspace that holds, or that the caller proposes.
    pub workspace: String,
}

/// What the answers add up to. What is `None` stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What the wizard was for.
    pub mode: Mode,
    /// Where the agents work.
    pub workspace: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// Where to listen.
    pub bind: Option<Bind>,
    /// How callers authenticate.
    pub login: Option<Login>,
    /// Address of the gateway elsewhere.
    pub remote_url: Option<String>,
    /// Its token.
    pub remote_token: Option<Hidden>,
}

/// What comes after an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another question.
    Ask,
    /// Nothing more: this is to be written.
    Write(Choice),
    /// The operator does not want it.
    Declined,
}

/// The wizard.
#[derive(Clone, Debug)]
pub struct Wizard {
    known: Known,
    question: Question,
    advanced: bool,
    choice: Choice,
}

impl Wizard {
    /// A wizard before its first question.
    pub fn new(known: Known) -> Self {
        let mode = known.mode;
        Self {
            known,
            question: Question::Welcome,
            advanced: false,
            choice: Choice {
                mode,
                workspace: None,
                port: None,
                bind: None,
                login: None,
                remote_url: None,
                remote_token: None,
            },
        }
    }

    /// The question that waits.
    pub fn question(&self) -> Question {
        self.question
    }

    /// What holds.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// What was chosen so far.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// Takes the answer to the question that waits.
    ///
    /// # Errors
    /// What is wrong with it, in words; the question waits still.
    pub fn answer(&mut self, answer: &Answer<'_>) -> Result<Next, &'static str> {
        let next = match self.question {
            Question::Welcome => Question::Security,
            Question::Security => Question::Consent,
            Question::Consent => {
                if !yes_or_no(answer)? {
                    return Ok(Next::Declined);
                }
                match self.known.mode {
                    Mode::Local => Question::Flow,
                    Mode::Remote => Question::RemoteUrl,
                }
            }
            Question::Flow => {
                self.advanced = match text(answer)? {
                    "quickstart" => false,
                    "advanced" => true,
                    _ => return Err("expected quickstart or advanced"),
                };
                if self.known.existing {
                    Question::Existing
                } else {
                    Question::Workspace
                }
            }
            Question::Existing => Question::Workspace,
            Question::Workspace => {
                let workspace = text(answer)?.trim();
                if workspace.contains('\0')
                    || !(workspace.starts_with('/') || workspace.starts_with("~/"))
                {
                    return Err("expected an absolute path, or one that begins with ~/");
                }
                if workspace != self.known.workspace {
                    self.choice.workspace = Some(workspace.to_owned());
                }
                if self.advanced {
                    Question::Port
                } else {
                    Question::Confirm
                }
            }
            Question::Port => {
                let port = text(answer)?.trim().parse::<u16>().ok();
                let port = port
                    .filter(|port| *port != 0)
                    .ok_or("expected a port from 1 to 65535")?;
                self.choice.port = Some(port).filter(|port| *port != self.known.port);
                Question::Bind
            }
            Question::Bind => {
                self.choice.bind = Some(match text(answer)? {
                    "loopback" => Bind::Loopback,
                    "lan" => Bind::Lan,
                    _ => return Err("expected loopback or lan"),
                });
                Question::Login
            }
            Question::Login => match text(answer)? {
                "token" => {
                    self.choice.login = Some(Login::Token);
                    Question::Confirm
                }
                "password" => Question::Password,
                _ => return Err("expected token or password"),
            },
            Question::Password => {
                let password = text(answer)?.trim();
                if password.chars().count() < 8 {
                    return Err("expected a password of 8 characters or more");
                }
                self.choice.login = Some(Login::Password(Hidden(password.to_owned())));
                Question::Confirm
            }
            Question::RemoteUrl => {
                let url = text(answer)?.trim();
                if !(url.starts_with("ws://") || url.starts_with("wss://"))
                    || url.contains(char::is_whitespace)
                {
                    return Err("expected an address that begins with ws:// or wss://");
                }
                self.choice.remote_url = Some(url.to_owned());
                Question::RemoteToken
            }
            Question::RemoteToken => {
                let token = text(answer)?.trim();
                self.choice.remote_token = (!token.is_empty()).then(|| Hidden(token.to_owned()));
                Question::Confirm
            }
            Question::Confirm => {
                return Ok(if yes_or_no(answer)? {
                    Next::Write(self.choice.clone())
                } else {
                    Next::Declined
                });
            }
        };
        self.question = next;
        Ok(Next::Ask)
    }
}

fn yes_or_no(answer: &Answer<'_>) -> Result<bool, &'static str> {
    match answer {
        Answer::Bool(answer) => Ok(*answer),
        Answer::Read | Answer::Text(_) | Answer::Other => Err("expected true or false"),
    }
}

fn text<'a>(answer: &Answer<'a>) -> Result<&'a str, &'static str> {
    match answer {
        Answer::Text(text) => Ok(text),
        Answer::Read | Answer::Bool(_) | Answer::Other => Err("expected a text"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wizard(mode: Mode, existing: bool) -> Wizard {
        Wizard::new(Known {
            mode,
            existing,
            port: 18_789,
            workspace: "/w".to_owned(),
        })
    }

    fn walk(wizard: &mut Wizard, answers: &[Answer<'_>]) -> Next {
        let mut next = Next::Ask;
        for answer in answers {
            assert_eq!(next, Next::Ask);
            next = wizard.answer(answer).unwrap();
        }
        next
    }

    const BEGUN: [Answer<'_>; 3] = [Answer::Read, Answer::Read, Answer::Bool(true)];

    #[test]
    fn quickstart_changes_nothing_that_was_not_asked() {
        let mut wizard = wizard(Mode::Local, true);
        walk(&mut wizard, &BEGUN);
        let rest = [
            Answer::Text("quickstart"),
            Answer::Read,
            Answer::Text("/w"),
            Answer::Bool(true),
        ];
        let Next::Write(choice) = walk(&mut wizard, &rest) else {
            panic!("it ends with a choice");
        };
        assert_eq!(
            (choice.workspace, choice.port, choice.bind, choice.login),
            (None, None, None, None)
        );
    }

    #[test]
    fn the_long_way_asks_for_port_bind_and_login() {
        let mut wizard = wizard(Mode::Local, false);
        walk(&mut wizard, &BEGUN);
        let rest = [
            Answer::Text("advanced"),
            Answer::Text("~/work"),
            Answer::Text("19001"),
            Answer::Text("lan"),
            Answer::Text("password"),
            Answer::Text("correct horse"),
            Answer::Bool(true),
        ];
        let Next::Write(choice) = walk(&mut wizard, &rest) else {
            panic!("it ends with a choice");
        };
        assert_eq!(choice.workspace.as_deref(), Some("~/work"));
        assert_eq!((choice.port, choice.bind), (Some(19_001), Some(Bind::Lan)));
        assert!(matches!(&choice.login, Some(Login::Password(p)) if p.expose() == "correct horse"));
        assert!(!format!("{choice:?}").contains("horse"));
    }

    #[test]
    fn a_wrong_answer_leaves_the_question() {
        let mut wizard = wizard(Mode::Remote, false);
        assert_eq!(walk(&mut wizard, &BEGUN), Next::Ask);
        for wrong in [Answer::Read, Answer::Text("http://x"), Answer::Other] {
            assert!(wizard.answer(&wrong).is_err(), "{wrong:?}");
            assert_eq!(wizard.question(), Question::RemoteUrl);
        }
        assert_eq!(wizard.answer(&Answer::Text("wss://h/x")), Ok(Next::Ask));
    }

    #[test]
    fn no_ends_it() {
        for at in [2, 5] {
            let mut wizard = wizard(Mode::Remote, false);
            let all = [
                Answer::Read,
                Answer::Read,
                Answer::Bool(at != 2),
                Answer::Text("ws://h"),
                Answer::Text(""),
                Answer::Bool(false),
            ];
            assert_eq!(walk(&mut wizard, &all[..=at]), Next::Declined);
        }
    }
}
