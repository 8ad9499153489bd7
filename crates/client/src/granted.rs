//! What a session may do, as far as the gateway says it, and what a command needs.

use clawgate_protocol::{Access, Method, Scope, ScopeSet, connect::ReceivedHello, error::Dialect};

/// Scopes of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Granted {
    /// The gateway said them.
    Known(ScopeSet),
    /// The gateway did not say (the original's wire 3 without a device token): only a call shows.
    Unknown,
}

impl Granted {
    /// Reads them off a hello.
    pub(crate) fn of(hello: &ReceivedHello, requested: &ScopeSet) -> Self {
        let Some(auth) = &hello.auth else {
            return Self::Unknown;
        };
        if let Some(scopes) = &auth.session_scopes {
            return Self::Known(scopes.clone());
        }
        if hello.protocol >= 4 {
            return Self::Known(auth.scopes.clone());
        }
        // Wire 3 names the token's scopes, which may be wider than the session's.
        Self::Known(requested.covered_by(&auth.scopes))
    }

    /// What of `needed` is known to be missing.
    pub fn missing(&self, needed: &ScopeSet) -> ScopeSet {
        match self {
            Self::Known(scopes) => needed.not_covered_by(scopes),
            Self::Unknown => ScopeSet::EMPTY,
        }
    }

    /// The scopes, where they are known.
    pub fn known(&self) -> Option<&ScopeSet> {
        match self {
            Self::Known(scopes) => Some(scopes),
            Self::Unknown => None,
        }
    }
}

/// The scopes that a command's methods need in a dialect, from the table that the server uses.
/// Methods that are not in the table are left to the gateway's judgement: it may be another one.
pub fn needed_scopes<'a>(methods: impl IntoIterator<Item = &'a str>, dialect: Dialect) -> ScopeSet {
    methods
        .into_iter()
        .filter_map(Method::parse)
        .filter_map(|method| match method.spec().access(dialect) {
            Access::Scope(scope) => Some(Scope::clone(scope)),
            Access::AnySession | Access::Node | Access::Handshake => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hello(value: serde_json::Value) -> ReceivedHello {
        serde_json::from_value(value).unwrap()
    }

    fn set(names: &[&str]) -> ScopeSet {
        names.iter().copied().map(Scope::from).collect()
    }

    #[test]
    fn session_scopes_win_in_either_dialect() {
        let hello = hello(json!({"protocol": 3, "auth": {
            "scopes": ["operator.admin"], "sessionScopes": ["operator.read"],
        }}));
        let granted = Granted::of(&hello, &ScopeSet::owner());
        assert_eq!(granted, Granted::Known(set(&["operator.read"])));
        assert_eq!(
            granted.missing(&set(&["operator.admin"])),
            set(&["operator.admin"])
        );
    }

    #[test]
    fn wire_3_is_capped_by_what_was_asked_for() {
        let hello = hello(json!({"protocol": 3, "auth": {"scopes": ["operator.admin"]}}));
        let asked = set(&["operator.read"]);
        assert_eq!(Granted::of(&hello, &asked), Granted::Known(asked));
    }

    #[test]
    fn wire_4_says_it_and_silence_is_not_a_grant() {
        let v4 = hello(json!({"protocol": 4, "auth": {"scopes": []}}));
        let granted = Granted::of(&v4, &ScopeSet::owner());
        assert_eq!(granted, Granted::Known(ScopeSet::EMPTY));
        assert!(!granted.missing(&set(&["operator.read"])).is_empty());
        let silent = hello(json!({"protocol": 3}));
        assert_eq!(Granted::of(&silent, &ScopeSet::owner()), Granted::Unknown);
    }

    #[test]
    fn a_method_outside_the_table_is_left_to_the_gateway() {
        let needed = needed_scopes(
            ["health", "cron.add", "status", "sessions.usage"],
            Dialect::V3,
        );
        assert_eq!(needed, set(&["operator.admin", "operator.read"]));
    }
}
