//! Names of the original's methods that are not served here, by the scope that it asks for.
//!
//! A caller that lacks that scope is told so, one that holds it is told that the method is
//! unknown: a client then reads the truth about itself in either case. A name that is in no list
//! needs `operator.admin`. Where the original decides by params, the least scope stands here.

use crate::{error::Dialect, scope::Scope};

/// Wire 4, `operator.read`.
const V4_READ: &[&str] = &[
    "diagnostics.stability",
    "doctor.memory.dreamDiary",
    "tts.personas",
    "plugins.uiDescriptors",
    "talk.catalog",
    "commands.list",
    "models.authStatus",
    "tools.effective",
    "mcp.app.view",
    "mcp.app.listTools",
    "mcp.app.listResources",
    "mcp.app.listResourceTemplates",
    "mcp.app.readResource",
    "board.get",
    "board.widget.appView",
    "audit.list",
    "audit.activity.list",
    "users.list",
    "users.self",
    "users.listAuthLinks",
    "users.listModelAccounts",
    "tasks.list",
    "tasks.get",
    "taskSuggestions.list",
    "environments.status",
    "worktrees.list",
    "sessions.files.list",
    "sessions.files.get",
    "artifacts.list",
    "artifacts.get",
    "artifacts.download",
    "skills.library.list",
    "skills.library.read",
    "skills.search",
    "skills.detail",
    "skills.securityVerdicts",
    "skills.skillCard",
    "skills.curator.status",
    "skills.proposals.list",
    "skills.proposals.inspect",
    "skills.proposals.historyStatus",
    "voicewake.routing.get",
    "sessions.viewers.set",
    "sessions.branches.list",
    "sessions.groups.list",
    "gateway.restart.preflight",
    "chat.startup",
    "chat.metadata",
    "assistant.media.get",
    "push.web.preferences.get",
    "controlUi.githubPreview",
    "system.info",
    "agents.workspace.list",
    "agents.workspace.get",
    "plugins.list",
    "plugins.search",
    "controlUi.sessionPullRequests.subscribe",
    "controlUi.sessionPreview",
    "gateway.suspend.status",
    "sessions.diff",
    "sessions.catalog.list",
    "sessions.catalog.read",
    "plugin.surface.refresh",
    "session.discussion.info",
    "board.prompt.authorize",
    "board.data.read",
    "sessions.observer.visibility",
    "session.members.list",
    "session.suggestions.list",
    "sessions.companion.ask",
    "sessions.companion.state",
    "memory.search",
    "skills.proposals.events.list",
    "hooks.status",
    "audit.run.inspect",
    "projects.list",
    "users.prefs.get",
    "projects.searchRemote",
    "device.scopes.requestUpgrade",
    "device.scopes.waitUpgrade",
    "portal.list",
    "progressCard.get",
    "tools.github.status",
    "diagnostics.lanes",
    "session.members.listEvidence",
    "plugins.inspect",
    "users.github.status",
    "users.github.authorize.start",
    "users.github.authorize.poll",
    "users.github.authorize.cancel",
    "users.github.disconnect",
    "sessions.github.options",
    "sessions.github.status",
    "users.mentionable",
    "mentions.list",
    "mentions.dismiss",
    "transcripts.list",
    "transcripts.get",
    "canvas.document.view",
    "plugins.controlUi.list",
    "plugins.controlUi.report",
    "transcripts.export",
    "transcripts.status",
    "skills.workshop.read",
    "plugins.catalog.browse",
    "plugins.catalog.categories",
    "plugins.catalog.get",
    "tasks.history",
    "canvas.document.preview",
    "computer.status",
    "controlUi.sessionPullRequests.checks",
    "plugins.skills.read",
    "environments.session.status",
    "sessions.setInvolvement",
    "controlUi.linkPreview",
    "themes.list",
    "themes.get",
    "controlUi.githubDetail",
    "webSearch.status",
    "environments.list",
];

/// Wire 4, `operator.write`.
const V4_WRITE: &[&str] = &[
    "doctor.memory.backfillDreamDiary",
    "doctor.memory.resetDreamDiary",
    "doctor.memory.resetGroundedShortTerm",
    "doctor.memory.repairDreamingArtifacts",
    "doctor.memory.dedupeDreamDiary",
    "tts.setPersona",
    "tools.invoke",
    "mcp.app.callTool",
    "mcp.app.updateModelContext",
    "board.update",
    "board.widget.put",
    "board.event",
    "users.setDisplayName",
    "users.setAvatar",
    "users.selectModelAccount",
    "users.unlinkAuthProfile",
    "users.authConnect.start",
    "users.authConnect.answer",
    "users.authConnect.status",
    "users.authConnect.cancel",
    "users.authConnect.catalog",
    "tasks.cancel",
    "taskSuggestions.create",
    "taskSuggestions.dismiss",
    "worktrees.branches",
    "worktrees.create",
    "skills.library.save",
    "skills.library.mutate",
    "skills.library.activate",
    "skills.library.import",
    "skills.library.upload",
    "sessions.fork",
    "sessions.recover",
    "sessions.send",
    "sessions.abort",
    "sessions.goal.update",
    "sessions.goal.clear",
    "sessions.groups.defaults",
    "sessions.groups.put",
    "sessions.groups.rename",
    "sessions.groups.update",
    "sessions.groups.delete",
    "message.action",
    "sessions.steer",
    "push.web.vapidPublicKey",
    "push.web.subscribe",
    "push.web.unsubscribe",
    "push.web.test",
    "push.web.preferences.set",
    "tts.speak",
    "chat.toolTitles",
    "sessions.catalog.continue",
    "sessions.catalog.archive",
    "sessions.reclaim",
    "ui.command",
    "session.discussion.open",
    "board.action",
    "session.visibility.set",
    "session.members.add",
    "session.members.remove",
    "session.suggestions.add",
    "session.suggestions.resolve",
    "session.typing",
    "sessions.companion.reset",
    "tasks.retry",
    "tasks.dismiss",
    "users.prefs.set",
    "projects.add",
    "portal.open",
    "portal.close",
    "sessions.assignOwner",
    "progressCard.put",
    "sessions.github.confirm",
    "sessions.title.prepare",
    "session.publicShare.set",
    "computer.invoke",
    "sessions.activitySummary.ensure",
    "transcripts.summarize",
    "themes.set",
    "themes.import",
    "progressCard.refresh",
    "sessions.providerReview.continue",
    "fs.listDir",
    "sessions.dispatch",
    "sessions.patchMany",
    "sessions.move",
    "plugins.sessionAction",
];

/// Wire 4, `operator.approvals`.
const V4_APPROVALS: &[&str] = &[
    "exec.approval.grants.list",
    "exec.approval.grants.revoke",
    "plugin.approval.list",
    "plugin.approval.request",
    "plugin.approval.waitDecision",
    "plugin.approval.resolve",
    "openclaw.approval.list",
    "board.widget.grant",
];

/// Wire 4, `operator.questions`.
const V4_QUESTIONS: &[&str] = &[
    "question.request",
    "question.waitAnswer",
    "question.resolve",
    "question.get",
    "question.list",
];

/// Wire 4, `operator.talk`.
const V4_TALK: &[&str] = &[
    "talk.client.create",
    "talk.client.transcript",
    "talk.client.close",
    "talk.client.toolCall",
    "talk.client.steer",
    "talk.session.create",
    "talk.session.appendAudio",
    "talk.session.cancelOutput",
    "talk.session.acknowledgeMark",
    "talk.session.submitToolResult",
    "talk.session.steer",
    "talk.session.close",
    "talk.speak",
    "talk.voice.get",
    "talk.voice.set",
    "talk.voice.complete",
];

/// Wire 4, `operator.pairing`.
const V4_PAIRING: &[&str] = &[
    "device.pair.rename",
    "channels.pairing.list",
    "channels.pairing.dismiss",
    "channels.pairing.approve",
];

/// Wire 4, `operator.sessions.write`.
const V4_SESSIONS_WRITE: &[&str] = &["sessions.github.publish"];

/// The scope that the original asks for a method that is not served here.
pub(crate) fn scope(name: &str, dialect: Dialect) -> Scope {
    let lists: &[(&[&str], Scope)] = match dialect {
        // All of wire 3 is served.
        Dialect::V3 => &[],
        Dialect::V4 => &[
            (V4_READ, Scope::READ),
            (V4_WRITE, Scope::WRITE),
            (V4_APPROVALS, Scope::APPROVALS),
            (V4_QUESTIONS, Scope::QUESTIONS),
            (V4_TALK, Scope::TALK),
            (V4_PAIRING, Scope::PAIRING),
            (V4_SESSIONS_WRITE, Scope::SESSIONS_WRITE),
        ],
    };
    lists
        .iter()
        .find(|(names, _)| names.contains(&name))
        .map_or(Scope::ADMIN, |(_, scope)| scope.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::{Method, NODE_ONLY_V3, NODE_ONLY_V4};

    #[test]
    fn no_name_stands_in_two_places() {
        for lists in [
            &[NODE_ONLY_V3][..],
            &[
                V4_READ,
                V4_WRITE,
                V4_APPROVALS,
                V4_QUESTIONS,
                V4_TALK,
                V4_PAIRING,
                V4_SESSIONS_WRITE,
                NODE_ONLY_V4,
            ][..],
        ] {
            let mut seen = std::collections::HashSet::new();
            for name in lists.iter().copied().flatten() {
                assert!(seen.insert(name), "{name} twice");
                let of_nodes = NODE_ONLY_V3.contains(name) || NODE_ONLY_V4.contains(name);
                if !of_nodes {
                    assert_eq!(Method::parse(name), None, "{name} is served");
                }
            }
        }
    }

    #[test]
    fn a_name_has_the_scope_of_its_dialect() {
        for (name, v3, v4) in [
            ("talk.speak", Scope::ADMIN, Scope::TALK),
            ("sessions.move", Scope::ADMIN, Scope::WRITE),
            ("question.list", Scope::ADMIN, Scope::QUESTIONS),
            ("config.set", Scope::ADMIN, Scope::ADMIN),
            ("no.such.method", Scope::ADMIN, Scope::ADMIN),
        ] {
            assert_eq!(scope(name, Dialect::V3), v3, "{name}");
            assert_eq!(scope(name, Dialect::V4), v4, "{name}");
        }
    }
}
