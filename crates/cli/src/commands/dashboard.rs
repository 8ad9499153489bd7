//! `dashboard`: the address of the Control UI, with the token behind its `#`.

use clap::Args;
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::Context;
use crate::{app::ConnectArgs, config::Config, error::CommandResult, exit::Exit, target::Target};

/// `dashboard`.
#[derive(Args, Debug)]
pub(crate) struct DashboardArgs {
    /// Nothing is opened here, with or without it
    #[arg(long, hide = true)]
    no_open: bool,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// Prints the address. Opening it is left to whoever reads it: a browser that is started with it
/// would show the token to everybody who lists this machine's processes.
pub(crate) fn run(context: &Context, args: &DashboardArgs) -> CommandResult {
    let config = Config::load(&context.paths.config)?;
    let target = Target::resolve(&args.connect, &context.paths, &context.env)?;
    let base = config
        .text("gateway.controlUi.basePath")?
        .unwrap_or_default();
    let base = base.trim().trim_matches('/');
    let scheme = if target.endpoint.is_secure() {
        "https"
    } else {
        "http"
    };
    let host = match target.endpoint.host() {
        host if host.contains(':') => format!("[{host}]"),
        host => host.to_owned(),
    };
    let slash = if base.is_empty() { "" } else { "/" };
    let page = format!("{scheme}://{host}:{}/{base}{slash}", target.endpoint.port());
    // What is behind the # is not sent to anybody; the page takes it out of the address.
    let url = match &target.token {
        Some(token) => format!("{page}#token={}", encoded(token.secret.expose_secret())),
        None => page,
    };
    if args.connect.json {
        let with_token = target.token.is_some();
        context
            .output
            .json(&json!({"url": url, "tokenIncluded": with_token}))?;
        return Ok(Exit::Ok);
    }
    context.output.line(format!("Dashboard URL: {url}"))?;
    if target.token.is_some() {
        context
            .output
            .note("Whoever has this address has the gateway's token.");
    } else if target.password.is_some() {
        context.output.note("The page asks for the password.");
    }
    if target.is_local_default() && config.text("gateway.controlUi.root")?.is_none() {
        context.output.note(
            "gateway.controlUi.root names no directory of a built UI yet, so there is none to open.",
        );
    }
    Ok(Exit::Ok)
}

/// Everything but letters, digits and `-._~` as percent signs.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
