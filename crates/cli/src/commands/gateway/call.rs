//! `gateway call`: any method, as it is.

use clap::Args;
use serde_json::Value;

use crate::{
    app::ConnectArgs,
    commands::{Context, ORDINARY_MS, call_once},
    error::{CommandError, CommandResult},
    exit::Exit,
    output::Tone,
};

/// `gateway call METHOD`.
#[derive(Args, Debug)]
pub(crate) struct CallArgs {
    /// Method name
    method: String,
    /// Params as a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}")]
    params: String,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

pub(crate) async fn run(context: &Context, args: &CallArgs) -> CommandResult {
    let params: Value = serde_json::from_str(&args.params)
        .map_err(|error| CommandError::usage(format!("--params is no JSON: {error}")))?;
    let method = args.method.as_str();
    let answer = call_once(context, &args.connect, ORDINARY_MS, method, Some(&params)).await?;
    let output = context.output;
    if !args.connect.json {
        output.line(output.paint(Tone::Dim, format!("{method} answered:")))?;
    }
    output.json(&answer)?;
    Ok(Exit::Ok)
}
