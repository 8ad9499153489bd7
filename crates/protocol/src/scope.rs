//! Scopes and roles: the vocabulary of authority.
//!
//! A scope is a name. Which name covers which is decided by [`Scope::covers`],
//! the only place that knows; a set of scopes keeps the order in which it was
//! asked for, because wire version 4 prints it that way.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

/// One scope name. Unknown names are carried and match only themselves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scope(Cow<'static, str>);

impl Scope {
    /// Covers every name that starts with `operator.`.
    pub const ADMIN: Self = Self::known("operator.admin");
    /// Read calls.
    pub const READ: Self = Self::known("operator.read");
    /// Write calls; covers read.
    pub const WRITE: Self = Self::known("operator.write");
    /// Deciding exec approvals.
    pub const APPROVALS: Self = Self::known("operator.approvals");
    /// Deciding who is paired.
    pub const PAIRING: Self = Self::known("operator.pairing");
    /// Secrets of the talk configuration.
    pub const TALK_SECRETS: Self = Self::known("operator.talk.secrets");
    /// Wire 4: answering questions.
    pub const QUESTIONS: Self = Self::known("operator.questions");
    /// Wire 4: voice; covered by write.
    pub const TALK: Self = Self::known("operator.talk");
    /// Wire 4: reading sessions; covered by write.
    pub const SESSIONS_READ: Self = Self::known("operator.sessions.read");
    /// Wire 4: changing sessions; covered by write.
    pub const SESSIONS_WRITE: Self = Self::known("operator.sessions.write");

    /// Every scope that either wire version names.
    pub const ALL: [Self; 10] = [
        Self::ADMIN,
        Self::READ,
        Self::WRITE,
        Self::APPROVALS,
        Self::PAIRING,
        Self::TALK_SECRETS,
        Self::QUESTIONS,
        Self::TALK,
        Self::SESSIONS_READ,
        Self::SESSIONS_WRITE,
    ];

    /// What an ordinary operator asks for, in the order in which the original's CLI asks.
    pub const OPERATOR_BUNDLE: [Self; 5] = [
        Self::ADMIN,
        Self::READ,
        Self::WRITE,
        Self::APPROVALS,
        Self::PAIRING,
    ];

    const fn known(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// A scope by name. Names are compared literally: surrounding blanks make another scope.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        for known in &Self::ALL {
            if known.0 == name {
                return known.clone();
            }
        }
        Self(Cow::Owned(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is in the operator's family, known or not.
    pub fn is_operator(&self) -> bool {
        self.0.starts_with("operator.")
    }

    /// Whether one of the two wire versions knows the name.
    pub fn is_known(&self) -> bool {
        Self::ALL.contains(self)
    }

    /// Whether holding `self` is enough where `wanted` is asked for: admin covers the
    /// operator family, write covers read, talk and sessions, everything else itself.
    pub fn covers(&self, wanted: &Self) -> bool {
        if self == wanted {
            return true;
        }
        if *self == Self::ADMIN {
            return wanted.is_operator();
        }
        *self == Self::WRITE
            && (*wanted == Self::READ
                || *wanted == Self::TALK
                || *wanted == Self::SESSIONS_READ
                || *wanted == Self::SESSIONS_WRITE)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Scope {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

/// Scopes in the order in which they were given, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct ScopeSet(Vec<Scope>);

impl ScopeSet {
    /// Nothing.
    pub const EMPTY: Self = Self(Vec::new());

    /// Every operator scope (through admin) in the order of the ordinary bundle.
    pub fn owner() -> Self {
        Scope::OPERATOR_BUNDLE.into_iter().collect()
    }

    /// Adds a scope unless it is there.
    pub fn insert(&mut self, scope: Scope) {
        if !self.0.contains(&scope) {
            self.0.push(scope);
        }
    }

    /// Whether the very name is in it.
    pub fn contains(&self, scope: &Scope) -> bool {
        self.0.contains(scope)
    }

    /// Whether some member is enough for `wanted`.
    pub fn covers(&self, wanted: &Scope) -> bool {
        self.0.iter().any(|held| held.covers(wanted))
    }

    /// Whether every member of `wanted` is covered. Nothing wanted is always covered.
    pub fn covers_all(&self, wanted: &Self) -> bool {
        wanted.0.iter().all(|scope| self.covers(scope))
    }

    /// The members of `self` that `held` covers, in the order of `self`.
    pub fn covered_by(&self, held: &Self) -> Self {
        self.0.iter().filter(|s| held.covers(s)).cloned().collect()
    }

    /// The members of `self` that `held` does not cover, in the order of `self`.
    pub fn not_covered_by(&self, held: &Self) -> Self {
        self.0.iter().filter(|s| !held.covers(s)).cloned().collect()
    }

    /// Both, `self` first.
    pub fn union(&self, other: &Self) -> Self {
        self.0.iter().chain(&other.0).cloned().collect()
    }

    /// Alphabetically, as wire version 3 prints a token's scopes.
    #[must_use]
    pub fn sorted(&self) -> Self {
        let mut scopes = self.0.clone();
        scopes.sort();
        Self(scopes)
    }

    /// The members in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Scope> {
        self.0.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Joined with a comma, as the device proof signs them.
    pub fn joined(&self) -> String {
        let mut text = String::new();
        for scope in &self.0 {
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(scope.as_str());
        }
        text
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        let mut set = Self::EMPTY;
        for scope in scopes {
            set.insert(scope);
        }
        set
    }
}

impl<'a> IntoIterator for &'a ScopeSet {
    type Item = &'a Scope;
    type IntoIter = std::slice::Iter<'a, Scope>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<'de> Deserialize<'de> for ScopeSet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<String>::deserialize(deserializer)?
            .into_iter()
            .map(Scope::new)
            .collect())
    }
}

/// What a connection is: an operator with scopes, or a node with commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Drives the gateway.
    Operator,
    /// Is driven by the gateway.
    Node,
}

impl Role {
    /// Both, operator first.
    pub const ALL: [Self; 2] = [Self::Operator, Self::Node];

    /// The wire's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Node => "node",
        }
    }

    /// The role of that name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "operator" => Some(Self::Operator),
            "node" => Some(Self::Node),
            _ => None,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_covers_the_operator_family_and_nothing_else() {
        for scope in &Scope::ALL {
            assert!(Scope::ADMIN.covers(scope), "{scope}");
        }
        assert!(Scope::ADMIN.covers(&Scope::new("operator.frobnicate")));
        assert!(!Scope::ADMIN.covers(&Scope::new("foo.bar")));
        assert!(!Scope::ADMIN.covers(&Scope::new(" operator.read")));
    }

    #[test]
    fn write_covers_read_and_not_the_reverse() {
        assert!(Scope::WRITE.covers(&Scope::READ));
        assert!(!Scope::READ.covers(&Scope::WRITE));
        assert!(!Scope::WRITE.covers(&Scope::PAIRING));
        assert!(!Scope::WRITE.covers(&Scope::ADMIN));
    }

    #[test]
    fn a_set_keeps_order_and_drops_repeats() {
        let set: ScopeSet = ["operator.write", "operator.admin", "operator.write"]
            .into_iter()
            .map(Scope::from)
            .collect();
        assert_eq!(set.joined(), "operator.write,operator.admin");
        assert_eq!(set.sorted().joined(), "operator.admin,operator.write");
    }
}
