//! `usage`, and the original's `gateway usage-cost`: tokens and money by day or by session.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{Context, SLOW_MS, call_once};
use crate::{
    app::ConnectArgs,
    error::CommandResult,
    exit::Exit,
    output::{plain, table},
    words,
};

/// `usage`.
#[derive(Args, Debug)]
pub(crate) struct UsageArgs {
    /// So many days, today among them
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3660))]
    days: u32,
    /// What the rows are
    #[arg(long, value_enum, default_value_t = By::Day)]
    by: By,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// `gateway usage-cost`.
#[derive(Args, Debug)]
pub(crate) struct UsageCostArgs {
    /// So many days, today among them
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3660))]
    days: u32,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// What the rows of a report are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    Day,
    Session,
    Model,
}

pub(crate) async fn run(context: &Context, args: &UsageArgs) -> CommandResult {
    match args.by {
        By::Day => by_day(context, args.days, &args.connect).await,
        By::Session | By::Model => by_session(context, args).await,
    }
}

pub(crate) async fn cost(context: &Context, args: &UsageCostArgs) -> CommandResult {
    by_day(context, args.days, &args.connect).await
}

fn dollars(value: &Value) -> String {
    format!("${:.4}", value.as_f64().unwrap_or(0.0))
}

fn number(value: &Value) -> String {
    value.as_i64().unwrap_or(0).to_string()
}

async fn by_day(context: &Context, days: u32, connect: &ConnectArgs) -> CommandResult {
    let (method, params) = ("usage.cost", json!({"days": days}));
    let answer = call_once(context, connect, SLOW_MS, method, Some(&params)).await?;
    let output = context.output;
    if connect.json {
        output.json(&answer)?;
        return Ok(Exit::Ok);
    }
    let totals = &answer["totals"];
    let title = words::count(usize::try_from(days).unwrap_or_default(), "day", "days");
    let mut facts = vec![
        ("Usage cost", title),
        (
            "Total",
            format!(
                "{}, {} tokens",
                dollars(&totals["totalCost"]),
                number(&totals["totalTokens"])
            ),
        ),
    ];
    if totals["missingCostEntries"].as_i64() > Some(0) {
        facts.push(("Missing entries", number(&totals["missingCostEntries"])));
    }
    output.line(table::pairs(&facts))?;
    let rows: Vec<Vec<String>> = answer["daily"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|day| {
            vec![
                day["date"].as_str().unwrap_or_default().to_owned(),
                dollars(&day["totalCost"]),
                number(&day["totalTokens"]),
                number(&day["input"]),
                number(&day["output"]),
                number(&day["cacheRead"]),
                number(&day["cacheWrite"]),
            ]
        })
        .collect();
    if !rows.is_empty() {
        let header = [
            "day",
            "cost",
            "tokens",
            "input",
            "output",
            "cache read",
            "cache write",
        ];
        output.line(format!("\n{}", table::table(&header, &["day"], rows)))?;
    }
    Ok(Exit::Ok)
}

async fn by_session(context: &Context, args: &UsageArgs) -> CommandResult {
    let (first, last) = days_of_utc(args.days);
    let params = json!({"startDate": first, "endDate": last, "limit": 1_000});
    let method = "sessions.usage";
    let answer = call_once(context, &args.connect, SLOW_MS, method, Some(&params)).await?;
    let output = context.output;
    if args.connect.json {
        output.json(&answer)?;
        return Ok(Exit::Ok);
    }
    let (header, list, name): (_, &Value, _) = match args.by {
        By::Model => ("model", &answer["aggregates"]["byModel"], "model"),
        By::Session | By::Day => ("session", &answer["sessions"], "key"),
    };
    let rows: Vec<Vec<String>> = list
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| {
            let usage = if row["usage"].is_object() {
                &row["usage"]
            } else {
                &row["totals"]
            };
            let named = match row["provider"].as_str() {
                Some(provider) => format!("{provider}/{}", row[name].as_str().unwrap_or_default()),
                None => row[name].as_str().unwrap_or_default().to_owned(),
            };
            vec![
                named,
                dollars(&usage["totalCost"]),
                number(&usage["totalTokens"]),
                number(&usage["input"]),
                number(&usage["output"]),
            ]
        })
        .collect();
    if rows.is_empty() {
        output.line(plain("nothing was used"))?;
        return Ok(Exit::Ok);
    }
    let header = [header, "cost", "tokens", "input", "output"];
    output.line(table::table(&header, &[header[0]], rows))?;
    Ok(Exit::Ok)
}

/// The first and the last of so many days of UTC.
fn days_of_utc(days: u32) -> (String, String) {
    let today = jiff::Timestamp::now()
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date();
    let first = today
        .checked_sub(jiff::Span::new().days(i64::from(days) - 1))
        .unwrap_or(today);
    (first.to_string(), today.to_string())
}
