//! The environment, read in one place and by name, ours first and the original's as a fallback.

use std::collections::HashMap;

use secrecy::SecretString;

/// A snapshot of the variables that matter.
#[derive(Clone, Default)]
pub(crate) struct Env(HashMap<&'static str, String>);

/// URL of a gateway.
pub(crate) const URL: &[&str] = &["CLAWGATE_GATEWAY_URL", "OPENCLAW_GATEWAY_URL"];
/// Shared token.
pub(crate) const TOKEN: &[&str] = &["CLAWGATE_GATEWAY_TOKEN", "OPENCLAW_GATEWAY_TOKEN"];
/// Shared password.
pub(crate) const PASSWORD: &[&str] = &["CLAWGATE_GATEWAY_PASSWORD", "OPENCLAW_GATEWAY_PASSWORD"];
/// Shared token of the gateway that is started.
pub(crate) const GATEWAY_TOKEN: &str = TOKEN[0];
/// Shared password of the gateway that is started.
pub(crate) const GATEWAY_PASSWORD: &str = PASSWORD[0];
/// Port of the local gateway.
pub(crate) const PORT: &[&str] = &["CLAWGATE_GATEWAY_PORT", "OPENCLAW_GATEWAY_PORT"];
/// State directory of the client.
pub(crate) const STATE_DIR: &[&str] = &["CLAWGATE_STATE_DIR", "OPENCLAW_STATE_DIR"];
/// Configuration file of the client.
pub(crate) const CONFIG_PATH: &[&str] = &["CLAWGATE_CONFIG_PATH", "OPENCLAW_CONFIG_PATH"];
/// Lifts the plaintext rule for private addresses.
pub(crate) const ALLOW_PRIVATE: &[&str] = &[
    "CLAWGATE_ALLOW_INSECURE_PRIVATE_WS",
    "OPENCLAW_ALLOW_INSECURE_PRIVATE_WS",
];
/// Where the default state directory lives.
pub(crate) const HOME: &[&str] = &["HOME", "USERPROFILE"];
/// Where a user's units lie.
pub(crate) const CONFIG_HOME: &[&str] = &["XDG_CONFIG_HOME"];

impl Env {
    /// Reads them.
    pub(crate) fn read() -> Self {
        let names = [
            URL,
            TOKEN,
            PASSWORD,
            PORT,
            STATE_DIR,
            CONFIG_PATH,
            ALLOW_PRIVATE,
            HOME,
            CONFIG_HOME,
        ];
        Self(
            names
                .iter()
                .flat_map(|names| names.iter())
                .filter_map(|name| Some((*name, std::env::var(name).ok()?)))
                .collect(),
        )
    }

    /// The first of these that is set to something, with its name. Blank is as good as absent.
    pub(crate) fn first(&self, names: &[&'static str]) -> Option<(&str, &'static str)> {
        names.iter().find_map(|name| {
            let value = self.0.get(name)?.trim();
            (!value.is_empty()).then_some((value, *name))
        })
    }

    /// A secret that `gateway run` takes from a variable of ours.
    pub(crate) fn of_gateway(&self, name: &'static str) -> Option<SecretString> {
        self.first(&[name])
            .map(|(value, _)| SecretString::from(value))
    }

    /// Only our own variables, and those of the system.
    pub(crate) fn without_the_originals(&self) -> Self {
        let ours = self
            .0
            .iter()
            .filter(|(name, _)| !name.starts_with("OPENCLAW_"));
        Self(ours.map(|(name, value)| (*name, value.clone())).collect())
    }

    /// Any variable, for `${NAME}` in the configuration.
    pub(crate) fn named(name: &str) -> Option<String> {
        std::env::var(name)
            .ok()
            .filter(|value| !value.trim().is_empty())
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&'static str, &str); N]> for Env {
    fn from(pairs: [(&'static str, &str); N]) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(name, value)| (name, value.to_owned()))
                .collect(),
        )
    }
}

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
