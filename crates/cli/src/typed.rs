//! The options of a command are described when its name is on the command line, and only then: there
//! are a hundred commands, and one of them is meant.

use std::{cell::RefCell, ffi::OsString, ops::Deref};

use clap::{ArgMatches, Args, Command, Error, FromArgMatches, Id, Subcommand};

thread_local! {
    /// What was typed, while that is read for the first time.
    static WORDS: RefCell<Option<Vec<OsString>>> = const { RefCell::new(None) };
}

/// Makes a command line's tree with nothing below the commands that are not named in it. Only good
/// for reading that line, and only if it reads: help, completion and failures speak of all commands.
pub(crate) fn tree_for(words: &[OsString], tree: impl Fn() -> Command) -> Command {
    WORDS.set(Some(words.to_vec()));
    let bare = tree();
    WORDS.set(None);
    // Other names of a command are not known before its options are described.
    let is_alias = |name: &str| words.iter().any(|word| word == name);
    if bare
        .get_subcommands()
        .any(|command| command.get_all_aliases().any(is_alias))
    {
        return tree();
    }
    bare
}

fn is_wanted(command: &Command) -> bool {
    WORDS.with_borrow(|words| {
        let Some(words) = words else { return true };
        words.iter().any(|word| word == command.get_name())
    })
}

/// What a command takes.
#[derive(Debug)]
pub(crate) struct WhenTyped<T>(pub(crate) T);

impl<T> Deref for WhenTyped<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: FromArgMatches> FromArgMatches for WhenTyped<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        T::from_arg_matches(matches).map(Self)
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, Error> {
        T::from_arg_matches_mut(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0.update_from_arg_matches(matches)
    }

    fn update_from_arg_matches_mut(&mut self, matches: &mut ArgMatches) -> Result<(), Error> {
        self.0.update_from_arg_matches_mut(matches)
    }
}

impl<T: Args> Args for WhenTyped<T> {
    fn group_id() -> Option<Id> {
        T::group_id()
    }

    fn augment_args(command: Command) -> Command {
        if is_wanted(&command) {
            T::augment_args(command)
        } else {
            command
        }
    }

    fn augment_args_for_update(command: Command) -> Command {
        T::augment_args_for_update(command)
    }
}

impl<T: Subcommand> Subcommand for WhenTyped<T> {
    fn augment_subcommands(command: Command) -> Command {
        if is_wanted(&command) {
            T::augment_subcommands(command)
        } else {
            command
        }
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        T::augment_subcommands_for_update(command)
    }

    fn has_subcommand(name: &str) -> bool {
        T::has_subcommand(name)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::app::App;

    fn size(command: &Command) -> usize {
        command.get_arguments().count() + command.get_subcommands().map(size).sum::<usize>()
    }

    #[test]
    fn a_command_is_whole_under_each_of_its_names_and_the_others_are_bare() {
        let all = App::command();
        for command in all.get_subcommands() {
            for name in std::iter::once(command.get_name()).chain(command.get_all_aliases()) {
                let words = ["clawgate".into(), name.into()];
                let tree = tree_for(&words, App::command);
                for other in tree.get_subcommands() {
                    let whole = size(all.find_subcommand(other.get_name()).unwrap());
                    if other.get_name() == command.get_name() {
                        assert_eq!(size(other), whole, "{name}");
                    } else if name == command.get_name() {
                        assert_eq!(size(other), 0, "{name}: {}", other.get_name());
                    }
                }
            }
        }
    }
}
