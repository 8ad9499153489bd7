//! `auth`: what this connection may do, and why.

use clap::{Args, Subcommand};
use clawgate_client::{Granted, needed_scopes};
use clawgate_protocol::{Access, Method, ScopeSet, system::AuthExplanation};
use serde_json::{Value, json};

use super::{Context, ORDINARY_MS, read};
use crate::{
    app::ConnectArgs,
    error::{CommandResult, attempts_words},
    exit::Exit,
    output::{Tone, plain, table},
    session::{Link, granted_json},
};

/// `auth`.
#[derive(Debug, Subcommand)]
pub(crate) enum AuthCommand {
    /// The decision: evidence, rule, granted, missing, next step
    #[command(
        after_help = "Examples:\n  clawgate auth explain\n  clawgate auth explain --url wss://gate.example --token TOKEN --json"
    )]
    Explain(ConnectArgs),
    /// Whether this connection may call a method; exits 0 for yes, 4 for no
    #[command(
        name = "can-i",
        after_help = "Examples:\n  clawgate auth can-i cron.add\n  clawgate auth can-i device.pair.approve && clawgate devices approve --latest"
    )]
    CanI(CanIArgs),
}

/// `auth can-i`.
#[derive(Args, Debug)]
pub(crate) struct CanIArgs {
    /// Method name
    method: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

impl AuthCommand {
    /// Its connection options.
    pub(crate) fn connect(&self) -> &ConnectArgs {
        match self {
            Self::Explain(connect) => connect,
            Self::CanI(args) => &args.connect,
        }
    }
}

pub(crate) async fn run(context: &Context, command: AuthCommand) -> CommandResult {
    match command {
        AuthCommand::Explain(connect) => explain(context, &connect).await,
        AuthCommand::CanI(args) => can_i(context, &args).await,
    }
}

async fn explain(context: &Context, connect: &ConnectArgs) -> CommandResult {
    let output = context.output;
    let link = Link::open(context, connect, ORDINARY_MS, &[]).await?;
    let method = "auth.explain";
    let answer = if link.opened().session.serves(method) {
        Some(link.call(method, Some(&json!({}))).await?)
    } else {
        None
    };
    if connect.json {
        output.json(&answer.unwrap_or_else(|| from_hello(&link)))?;
    } else if let Some(answer) = answer {
        let explanation: AuthExplanation = read(method, &answer)?;
        output.line(table::pairs(&explained(&link, &explanation)))?;
    } else {
        output.line(output.paint(
            Tone::Dim,
            "this gateway does not explain itself; its hello says:",
        ))?;
        output.line(table::pairs(&said(&link)))?;
    }
    link.close().await;
    Ok(Exit::Ok)
}

fn explained(link: &Link, explanation: &AuthExplanation) -> Vec<(&'static str, String)> {
    let seen = &explanation.evidence;
    let list = |scopes: &ScopeSet| {
        if scopes.is_empty() {
            "nothing".to_owned()
        } else {
            scopes.joined().replace(',', ", ")
        }
    };
    let credentials = if seen.credentials.is_empty() {
        "none".to_owned()
    } else {
        seen.credentials.join(", ")
    };
    let mut rows = vec![
        ("gateway", gateway_words(link)),
        ("sent", sent_words(link)),
        ("peer", seen.peer.clone()),
        ("browser", seen.browser.clone()),
        ("credential", credentials),
        (
            "device",
            format!("proof {}, record {}", seen.device_proof, seen.record),
        ),
        (
            "rule",
            format!("{}: {}", explanation.basis, explanation.rule),
        ),
        ("role", explanation.role.to_string()),
        (
            "requested",
            explanation
                .requested
                .as_ref()
                .map_or_else(|| "-".to_owned(), list),
        ),
        ("granted", list(&explanation.granted)),
    ];
    if explanation.missing.is_empty() {
        rows.push(("missing", "nothing".to_owned()));
    }
    for missing in &explanation.missing {
        rows.push(("missing", format!("{} ({})", missing.scope, missing.reason)));
    }
    if let Some(id) = &explanation.pending_request_id {
        rows.push(("pending", id.clone()));
    }
    if let Some(next) = &explanation.next_step {
        rows.push(("next", link.approach().typed(next)));
    }
    rows
}

fn said(link: &Link) -> Vec<(&'static str, String)> {
    let session = &link.opened().session;
    let granted = match session.granted() {
        Granted::Known(scopes) if scopes.is_empty() => "nothing".to_owned(),
        Granted::Known(scopes) => scopes.joined().replace(',', ", "),
        Granted::Unknown => "not said; a call shows it".to_owned(),
    };
    let auth = session.hello().auth.as_ref();
    let token = match auth {
        Some(auth) if auth.device_token.is_some() => "a device token was issued and is kept",
        Some(_) | None => "no device token was issued",
    };
    vec![
        ("gateway", gateway_words(link)),
        ("sent", sent_words(link)),
        ("granted", granted),
        ("device", token.to_owned()),
    ]
}

fn gateway_words(link: &Link) -> String {
    let hello = link.opened().session.hello();
    let target = &link.approach().target;
    format!(
        "{}, version {}, wire {}",
        target.endpoint, hello.server.version, hello.protocol
    )
}

fn sent_words(link: &Link) -> String {
    let opened = link.opened();
    let by = link.approach().used(opened.credential);
    let words = format!(
        "{by} and the proof of device {}",
        link.approach().device_id()
    );
    if opened.attempts.len() > 1 {
        format!("{words}; tried {}", attempts_words(&opened.attempts))
    } else {
        words
    }
}

fn from_hello(link: &Link) -> Value {
    let session = &link.opened().session;
    let hello = session.hello();
    json!({
        "source": "hello-ok",
        "protocol": hello.protocol,
        "serverVersion": hello.server.version,
        "role": hello.auth.as_ref().and_then(|auth| auth.role.clone()),
        "granted": granted_json(session.granted()),
        "credential": link.approach().source_of(link.opened().credential),
        "deviceId": link.approach().device_id(),
    })
}

async fn can_i(context: &Context, args: &CanIArgs) -> CommandResult {
    let output = context.output;
    let method = args.method.as_str();
    let link = Link::open(context, &args.connect, ORDINARY_MS, &[]).await?;
    let session = &link.opened().session;
    let needed = needed_scopes([method], session.dialect());
    let missing = session.granted().missing(&needed);
    let served = session.serves(method);
    let node_only = Method::parse(method)
        .is_some_and(|method| *method.spec().access(session.dialect()) == Access::Node);
    let (answer, why) = if node_only {
        ("no", "it belongs to the node role".to_owned())
    } else if !served {
        ("no", "not served here".to_owned())
    } else if !missing.is_empty() {
        ("no", format!("missing {}", missing.joined()))
    } else if let Granted::Unknown = session.granted() {
        (
            "unknown",
            "the gateway does not say what it granted".to_owned(),
        )
    } else if needed.is_empty() {
        ("yes", "it needs no scope that is known here".to_owned())
    } else {
        ("yes", format!("{} is granted", needed.joined()))
    };
    if args.connect.json {
        output.json(&json!({
            "method": method,
            "allowed": if answer == "unknown" { Value::Null } else { Value::from(answer == "yes") },
            "reason": why,
            "needed": needed,
            "missing": missing,
            "granted": granted_json(session.granted()),
            "served": served,
        }))?;
    } else {
        let tone = if answer == "no" {
            Tone::Bad
        } else {
            Tone::Good
        };
        output.line(format!("{}: {}", output.paint(tone, answer), plain(&why)))?;
    }
    link.close().await;
    Ok(match answer {
        "yes" => Exit::Ok,
        "no" => Exit::Unauthorized,
        _ => Exit::Failed,
    })
}
