//! The four facts for people.

use super::{Facts, facts::HelloSeen};
use crate::{
    commands::Context,
    error::CommandResult,
    output::{Tone, one_line},
    session::Approach,
    words,
};

/// One line a fact, then what to do.
pub(crate) fn print(context: &Context, approach: &Approach, facts: &Facts) -> CommandResult<()> {
    let output = context.output;
    let target = &approach.target;
    let title = format!("{} ({})", target.endpoint, target.url_source);
    output.line(output.paint(Tone::Bold, title))?;
    for (name, ok, evidence) in [
        ("reachable", facts.reachable(), facts.reachable_words()),
        ("handshake", facts.hello.is_some(), facts.handshake_words()),
        (
            "authorized",
            facts.authorized(),
            facts.authorized_words(approach),
        ),
        ("rpc", facts.rpc_ok(), facts.rpc_words()),
    ] {
        let mark = if ok {
            output.paint(Tone::Good, "yes")
        } else {
            output.paint(Tone::Bad, "no ")
        };
        output.line(format!("  {name:<10}  {mark}  {}", one_line(&evidence)))?;
    }
    if facts.attempts.len() > 1 {
        let tried = crate::error::attempts_words(&facts.attempts);
        output.line(output.paint(Tone::Dim, format!("  tried: {}", one_line(&tried))))?;
    }
    if let Some(HelloSeen { hello, .. }) = &facts.hello {
        let missing = facts.missing();
        for why in hello.auth.iter().flat_map(|auth| &auth.missing) {
            if !missing.contains(&why.scope) {
                continue;
            }
            output.line(format!("  missing {}", one_line(&words::why_missing(why))))?;
        }
    }
    for hint in facts.hints(approach) {
        output.line(format!("  next: {}", one_line(&hint)))?;
    }
    Ok(())
}
