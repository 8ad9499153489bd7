//! Skills: whether what one needs is there.

use clawgate_protocol::skill::{ConfigCheck, Requirements};

/// What the machine and the configuration have, as far as a skill may ask.
pub trait Surroundings {
    /// Whether a program of that name can be started.
    fn has_bin(&self, name: &str) -> bool;
    /// Whether a variable is set, in the environment or for the skill.
    fn has_env(&self, name: &str) -> bool;
    /// Whether a dotted path of the configuration holds something.
    fn has_config(&self, path: &str) -> bool;
    /// `linux`, `darwin` or `win32`.
    fn os(&self) -> &str;
}

/// What of the requirements is not there, and the paths of the configuration one by one. A skill
/// that is taken always lacks nothing.
pub fn missing(
    required: &Requirements,
    always: bool,
    surroundings: &impl Surroundings,
) -> (Requirements, Vec<ConfigCheck>) {
    let checks: Vec<ConfigCheck> = required
        .config
        .iter()
        .map(|path| ConfigCheck {
            path: path.clone(),
            satisfied: surroundings.has_config(path),
        })
        .collect();
    if always {
        return (Requirements::default(), checks);
    }
    let absent = |names: &[String], there: &dyn Fn(&str) -> bool| -> Vec<String> {
        names.iter().filter(|name| !there(name)).cloned().collect()
    };
    let bins = absent(&required.bins, &|name| surroundings.has_bin(name));
    let any_bins = absent(&required.any_bins, &|name| surroundings.has_bin(name));
    let os = absent(&required.os, &|name| name == surroundings.os());
    let missing = Requirements {
        bins,
        // One is enough, of either.
        any_bins: if any_bins.len() < required.any_bins.len() {
            Vec::new()
        } else {
            any_bins
        },
        env: absent(&required.env, &|name| surroundings.has_env(name)),
        config: checks
            .iter()
            .filter(|check| !check.satisfied)
            .map(|check| check.path.clone())
            .collect(),
        os: if os.len() < required.os.len() {
            Vec::new()
        } else {
            os
        },
    };
    (missing, checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine;

    impl Surroundings for Machine {
        fn has_bin(&self, name: &str) -> bool {
            name == "sh"
        }
        fn has_env(&self, name: &str) -> bool {
            name == "KEY"
        }
        fn has_config(&self, path: &str) -> bool {
            path == "a.b"
        }
        fn os(&self) -> &'static str {
            "linux"
        }
    }

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn all_bins_are_needed_and_one_of_any_bins_and_one_system() {
        let required = Requirements {
            bins: list(&["sh", "nope"]),
            any_bins: list(&["nope", "sh"]),
            env: list(&["KEY", "OTHER"]),
            config: list(&["a.b", "a.c"]),
            os: list(&["darwin", "linux"]),
        };
        let (missing, checks) = missing(&required, false, &Machine);
        assert_eq!(missing.bins, ["nope"]);
        assert_eq!(missing.any_bins, Vec::<String>::new());
        assert_eq!(missing.env, ["OTHER"]);
        assert_eq!(missing.config, ["a.c"]);
        assert_eq!(missing.os, Vec::<String>::new());
        let satisfied: Vec<bool> = checks.iter().map(|check| check.satisfied).collect();
        assert_eq!(satisfied, [true, false]);
    }

    #[test]
    fn none_of_any_bins_are_all_missing() {
        let required = Requirements {
            any_bins: list(&["x", "y"]),
            os: list(&["darwin"]),
            ..Requirements::default()
        };
        let (lacks, _) = missing(&required, false, &Machine);
        assert_eq!(lacks.any_bins, ["x", "y"]);
        assert_eq!(lacks.os, ["darwin"]);
        assert!(missing(&required, true, &Machine).0.is_empty());
    }
}
