//! `gateway usage-cost`: what agents' models cost.

use clap::Args;
use serde_json::{Value, json};

use crate::{
    app::ConnectArgs,
    commands::{Context, ORDINARY_MS, call_once},
    error::CommandResult,
    exit::Exit,
    output::table,
};

/// `gateway usage-cost`.
#[derive(Args, Debug)]
pub(crate) struct UsageCostArgs {
    /// Days, today among them
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

pub(crate) async fn run(context: &Context, args: &UsageCostArgs) -> CommandResult {
    let params = json!({"days": args.days});
    let method = "usage.cost";
    let usage = call_once(context, &args.connect, ORDINARY_MS, method, Some(&params)).await?;
    if args.connect.json {
        context.output.json(&usage)?;
        return Ok(Exit::Ok);
    }
    let totals = &usage["totals"];
    let dollars = |of: &Value| format!("${:.4}", of["totalCost"].as_f64().unwrap_or(0.0));
    let count = |of: &Value, member: &str| of[member].as_u64().unwrap_or(0).to_string();
    let mut rows = vec![
        ("days", args.days.to_string()),
        ("cost", dollars(totals)),
        ("tokens", count(totals, "totalTokens")),
        ("without a price", count(totals, "missingCostEntries")),
    ];
    if let Some(day) = usage["daily"].as_array().and_then(|days| days.last()) {
        let date = day["date"].as_str().unwrap_or("?");
        let tokens = count(day, "totalTokens");
        rows.push((
            "latest day",
            format!("{date}: {}, {tokens} tokens", dollars(day)),
        ));
    }
    context.output.line(table::pairs(&rows))?;
    Ok(Exit::Ok)
}
