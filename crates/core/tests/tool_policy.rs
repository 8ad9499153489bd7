//! Which tools a turn has: the table of what a configuration says, and what holds of all of them.

use clawgate_core::tool_policy::{GROUPS, KNOWN, Profile, Step, grants, may_permit, permits};
use proptest::{collection::vec, option, prelude::*, sample::select};

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

fn denying(list: &[&str]) -> Step {
    Step {
        deny: words(list),
        ..Step::default()
    }
}

fn of(profile: Profile) -> Step {
    Step {
        profile: Some(profile),
        ..Step::default()
    }
}

fn left(steps: &[Step]) -> Vec<&'static str> {
    let names = KNOWN.iter().map(|tool| tool.name);
    names.filter(|name| permits(steps, name)).collect()
}

#[test]
fn profiles_have_what_their_names_say() {
    assert_eq!(left(&[of(Profile::Minimal)]), ["session_status"]);
    assert_eq!(
        left(&[of(Profile::Messaging)]),
        [
            "sessions_list",
            "sessions_history",
            "sessions_send",
            "session_status",
            "message"
        ]
    );
    let coding = left(&[of(Profile::Coding)]);
    for name in ["read", "apply_patch", "exec", "web_fetch", "cron"] {
        assert!(coding.contains(&name), "{name}");
    }
    for name in ["message", "gateway", "agents_list"] {
        assert!(!coding.contains(&name), "{name}");
    }
    assert_eq!(left(&[of(Profile::Full)]).len(), KNOWN.len());
    assert_eq!(left(&[]).len(), KNOWN.len());
    for (profile, allow, there) in [
        (Profile::Full, None, true),
        (Profile::Coding, None, false),
        (Profile::Coding, Some("*"), false),
        (Profile::Coding, Some("mcp__files__*"), true),
        (Profile::Messaging, Some("group:mcp"), true),
        (Profile::Messaging, Some("mcp__other__*"), false),
        (Profile::Minimal, Some("group:mcp"), false),
    ] {
        let mut step = of(profile);
        step.allow = allow.map(|word| vec![word.to_owned()]);
        assert_eq!(
            permits(&[step], "mcp__files__list"),
            there,
            "{profile:?} {allow:?}"
        );
    }
    assert_eq!(Profile::parse(" CODING "), Profile::Coding);
    assert_eq!(Profile::parse("everything"), Profile::Minimal);
}

#[test]
fn lists_name_tools_groups_and_patterns_whatever_their_case() {
    for (list, name, named) in [
        (&["READ"][..], "read", true),
        (&["Group:FS"], "apply_patch", true),
        (&["group:fs"], "exec", false),
        (&["group:runtime"], "process", true),
        (&["group:openclaw"], "gateway", true),
        (&["group:openclaw"], "mcp__x__y", false),
        (&["group:mcp"], "mcp__x__y", true),
        (&["group:nothing"], "read", false),
        (&["sessions_*"], "sessions_list", true),
        (&["sessions_*"], "session_status", false),
        (&["*"], "mcp__x__y", true),
        (&["mcp__*__read*"], "mcp__files__read_file", true),
        (&["mcp__*__read*"], "mcp__files__write", false),
        (&["bash"], "exec", true),
        (&["apply-patch"], "apply_patch", true),
        (&[], "read", false),
        (&[""], "read", false),
    ] {
        let allow = Step::allowing(words(list));
        assert_eq!(permits(&[allow], name), named, "{list:?} allows {name}");
        assert_eq!(
            !permits(&[denying(list)], name),
            named,
            "{list:?} denies {name}"
        );
    }
}

#[test]
fn what_is_denied_anywhere_is_gone_whatever_is_allowed() {
    let allow = Step::allowing(words(&["*", "exec"]));
    assert!(!permits(&[denying(&["exec"]), allow.clone()], "exec"));
    assert!(!permits(&[allow.clone(), denying(&["exec"])], "exec"));
    let both = Step {
        allow: Some(words(&["exec"])),
        deny: words(&["group:runtime"]),
        ..Step::default()
    };
    assert!(!permits(&[both], "exec"));
    // A job cannot bring back what its agent does not have.
    assert!(!permits(&[of(Profile::Minimal), allow], "exec"));
}

#[test]
fn a_grant_names_the_tool_itself() {
    assert!(grants(&words(&["read", "EXEC"]), "exec"));
    assert!(grants(&words(&["bash"]), "exec"));
    assert!(!grants(&words(&["*", "group:runtime", "exec*"]), "exec"));
}

#[test]
fn every_tool_has_a_group_that_is_listed() {
    for tool in KNOWN {
        assert!(
            GROUPS.iter().any(|(id, _)| *id == tool.group),
            "{}",
            tool.name
        );
    }
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        select(KNOWN).prop_map(|tool| tool.name.to_owned()),
        select(GROUPS).prop_map(|(id, _)| format!("group:{id}")),
        "[a-z_*]{0,8}",
        "\\PC{0,12}",
    ]
}

fn step() -> impl Strategy<Value = Step> {
    (
        option::of(select(&Profile::ALL[..])),
        option::of(vec(word(), 0..4)),
        vec(word(), 0..3),
    )
        .prop_map(|(profile, allow, deny)| Step {
            profile,
            allow,
            deny,
        })
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        select(KNOWN).prop_map(|tool| tool.name.to_owned()),
        "mcp__[a-z]{1,4}__[a-z]{1,4}",
        "\\PC{0,12}",
    ]
}

proptest! {
    #[test]
    fn another_step_only_takes_away(steps in vec(step(), 0..4), more in step(), at in 0_usize..5, name in name()) {
        let mut longer = steps.clone();
        longer.insert(at.min(steps.len()), more);
        prop_assert!(!permits(&longer, &name) || permits(&steps, &name));
    }

    #[test]
    fn a_server_none_of_whose_tools_may_be_called_is_the_only_one_not_started(
        steps in vec(step(), 0..4), server in "[a-z]{1,4}", tool in "[a-z_]{0,6}",
    ) {
        let beginning = format!("mcp__{server}__");
        let name = format!("{beginning}{tool}");
        prop_assert!(may_permit(&steps, &beginning) || !permits(&steps, &name));
    }

    #[test]
    fn the_order_of_steps_does_not_matter(mut steps in vec(step(), 0..4), name in name()) {
        let before = permits(&steps, &name);
        steps.reverse();
        prop_assert_eq!(permits(&steps, &name), before);
    }

    #[test]
    fn a_denial_more_never_lets_more_pass(steps in vec(step(), 1..4), word in word(), name in name()) {
        let mut narrower = steps.clone();
        narrower[0].deny.push(word);
        prop_assert!(!permits(&narrower, &name) || permits(&steps, &name));
    }

    #[test]
    fn an_allowance_more_never_takes_away(steps in vec(step(), 1..4), word in word(), name in name()) {
        let mut wider = steps.clone();
        if let Some(allow) = &mut wider[0].allow {
            allow.push(word);
        }
        prop_assert!(permits(&wider, &name) || !permits(&steps, &name));
    }
}
