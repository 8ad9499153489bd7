//! What an approval may be used for: the run that was shown, once.

use std::path::PathBuf;

use clawgate_core::{
    DeviceId, Dialect, Role, Scope, ScopeSet,
    authz::{
        self, Browser, Check, Credentials, Declared, Evidence, Outcome, Peer, Policy, Proof, Record,
    },
};
use serde_json::json;

use super::*;

struct Place {
    directory: PathBuf,
    hub: Hub,
    approvals: Approvals,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Place {
    fn new() -> Self {
        let name = format!("clawgate-approvals-{}", uuid::Uuid::new_v4());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let store = Store::open(&directory.join("clawgate.sqlite")).unwrap();
        let hub = Hub::default();
        let approvals = Approvals::new(&store, &hub, PolicyFile::of(&directory));
        Self {
            directory,
            hub,
            approvals,
        }
    }

    fn session(&self, device: Option<&str>) -> Arc<Link> {
        let evidence = Evidence {
            peer: Peer::LoopbackDirect,
            browser: Browser::No,
            declared: Declared::Other,
            role: Role::Operator,
            credentials: Credentials {
                shared: Check::Valid,
                ..Credentials::NONE
            },
            proof: Proof::Absent,
            record: Record::Unknown,
        };
        let wanted = ScopeSet::from_iter([Scope::APPROVALS]);
        let Outcome::Granted(grant) = authz::grant(&evidence, Some(&wanted), &Policy::default())
        else {
            panic!("the secret on this machine is granted");
        };
        let principal = Principal {
            conn_id: uuid::Uuid::new_v4().to_string(),
            dialect: Dialect::V3,
            grant,
            device_id: device.map(DeviceId::new),
            api_token: None,
            expires_at_ms: None,
            pending_request: None,
            peer: Peer::LoopbackDirect,
            address: "127.0.0.1".to_owned(),
            client_id: "cli".to_owned(),
            client_mode: "cli".to_owned(),
            caps: crate::hub::Caps::default(),
            standing: None,
        };
        self.hub.join(principal, self.hub.revocations()).unwrap().0
    }

    async fn decided(&self, link: &Arc<Link>, decision: Decision) -> String {
        let request = json!({
            "host": "node", "nodeId": "n", "command": "ls -l", "cwd": "/", "agentId": "main",
            "systemRunPlan": {
                "argv": ["ls", "-l"], "cwd": "/", "commandText": "ls -l", "agentId": "main",
                "sessionKey": null,
            },
        });
        let wanted = Wanted {
            id: None,
            digest: digest(&request, &run()),
            request,
            timeout_ms: 60_000,
        };
        let approval = self.approvals.request(link, wanted).await.unwrap();
        let id = approval.id;
        self.approvals
            .resolve(link, id.clone(), decision)
            .await
            .unwrap();
        id
    }
}

fn run() -> Run {
    Run {
        argv: vec!["ls".to_owned(), "-l".to_owned()],
        cwd: Some("/".to_owned()),
        env: BTreeMap::from([("A".to_owned(), "1".to_owned())]),
        agent_id: Some("main".to_owned()),
        session_key: None,
    }
}

fn code(outcome: Result<spend::Spent, ApprovalError>) -> &'static str {
    match outcome {
        Ok(spent) => {
            assert_eq!(spent.plan.argv, run().argv, "what goes to the node");
            spent.decision.as_str()
        }
        Err(ApprovalError::Unfit { code, .. }) => code,
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_approval_is_good_for_the_run_that_was_shown_and_once() {
    let place = Place::new();
    let link = place.session(Some("device"));
    let id = place.decided(&link, Decision::AllowOnce).await;
    let spend = async |node: &str, run: Run| {
        code(place.approvals.spend(&link, id.clone(), node, run).await)
    };
    let other = |change: fn(&mut Run)| {
        let mut other = run();
        change(&mut other);
        other
    };
    for changed in [
        other(|run| run.argv.push("x".to_owned())),
        other(|run| run.argv[0] = "rm".to_owned()),
        other(|run| run.cwd = Some("/tmp".to_owned())),
        other(|run| run.env.clear()),
        other(|run| drop(run.env.insert("PATH".to_owned(), "/tmp".to_owned()))),
        other(|run| run.agent_id = Some("other".to_owned())),
        other(|run| run.session_key = Some("s".to_owned())),
    ] {
        let shown = format!("{changed:?}");
        assert_eq!(
            spend("n", changed).await,
            "APPROVAL_REQUEST_MISMATCH",
            "{shown}"
        );
    }
    assert_eq!(spend("m", run()).await, "APPROVAL_NODE_MISMATCH");
    assert_eq!(spend("n", run()).await, "allow-once");
    assert_eq!(
        spend("n", run()).await,
        "APPROVAL_REQUIRED",
        "a second time"
    );
}

#[tokio::test]
async fn an_approval_is_good_for_who_asked_and_only_if_it_allows() {
    let place = Place::new();
    let (link, other) = (place.session(Some("device")), place.session(Some("other")));
    let nobody = place.session(None);
    let spend = async |link: &Arc<Link>, id: &str| {
        code(place.approvals.spend(link, id.to_owned(), "n", run()).await)
    };
    let id = place.decided(&link, Decision::AllowOnce).await;
    assert_eq!(spend(&other, &id).await, "APPROVAL_DEVICE_MISMATCH");
    assert_eq!(spend(&nobody, &id).await, "APPROVAL_DEVICE_MISMATCH");
    let again = place.session(Some("device"));
    assert_eq!(spend(&again, &id).await, "allow-once", "another connection");
    let id = place.decided(&nobody, Decision::AllowOnce).await;
    assert_eq!(
        spend(&place.session(None), &id).await,
        "APPROVAL_CLIENT_MISMATCH"
    );
    let id = place.decided(&link, Decision::Deny).await;
    assert_eq!(spend(&link, &id).await, "APPROVAL_REQUIRED");
    assert_eq!(spend(&link, "nothing").await, "UNKNOWN_APPROVAL_ID");
}

#[tokio::test]
async fn what_goes_to_the_node_is_what_was_shown_and_not_what_the_caller_says() {
    let place = Place::new();
    let link = place.session(Some("device"));
    let id = place.decided(&link, Decision::AllowOnce).await;
    let given = |id: &str| {
        json!({
            "command": ["ls", "-l"], "rawCommand": "rm", "env": {"A": "1"}, "approved": true,
            "approvalDecision": "allow-always", "runId": id, "systemRunPlan": {"argv": ["rm"]},
        })
    };
    assert!(spend::claims_approval(&given("")));
    assert!(!spend::claims_approval(
        &json!({"approved": false, "approvalDecision": "deny"})
    ));
    let none = place.approvals.approved_run(&link, "n", &given(" ")).await;
    assert_eq!(none.unwrap_err().detail_code(), Some("MISSING_RUN_ID"));
    let members = place.approvals.approved_run(&link, "n", &given(&id)).await;
    assert_eq!(
        Value::Object(members.unwrap()),
        json!({
            "command": ["ls", "-l"], "rawCommand": "ls -l", "cwd": "/", "agentId": "main",
            "runId": id, "approved": true, "approvalDecision": "allow-once",
            "systemRunPlan": {
                "argv": ["ls", "-l"], "cwd": "/", "commandText": "ls -l", "commandPreview": null,
                "agentId": "main", "sessionKey": null,
            },
        })
    );
    let again = place.approvals.approved_run(&link, "n", &given(&id)).await;
    let error = again.unwrap_err();
    assert_eq!(error.detail_code(), Some("APPROVAL_REQUIRED"));
    assert_eq!(error.details.unwrap()["runId"], id);
}
