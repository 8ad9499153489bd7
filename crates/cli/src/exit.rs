//! Exit codes: part of the command's contract, listed in every `--help` and in the README.

use std::process::ExitCode;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It worked.
    Ok,
    /// The gateway answered the call with an error, or the answer is "no".
    Failed,
    /// The command line is wrong.
    Usage,
    /// Nobody answers at the gateway's address.
    Unreachable,
    /// Connected, and not allowed to do this.
    Unauthorized,
    /// The gateway refused the connection: credential, origin or pairing.
    Refused,
    /// The peer or this program did something unexpected.
    Internal,
    /// The configuration cannot be used.
    Config,
}

impl Exit {
    /// The number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Unauthorized => 4,
            Self::Refused => 5,
            Self::Internal => 6,
            Self::Config => 78,
        }
    }

    /// The word in JSON errors.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Unreachable => "unreachable",
            Self::Unauthorized => "unauthorized",
            Self::Refused => "refused",
            Self::Internal => "internal",
            Self::Config => "config",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The list that stands under the top-level help.
pub(crate) const HELP: &str = "\
Exit codes:
  0   it worked
  1   the call failed, or the answer is no
  2   wrong usage
  3   the gateway is not reachable
  4   connected, but not authorized for this
  5   the gateway refused the connection (credential, origin, pairing)
  6   unexpected answer or internal error
  78  the configuration cannot be used

Start with:
  clawgate gateway run                          a gateway on this machine
  clawgate gateway probe                        is it there, and may I use it?
  clawgate auth explain                         why do I have the rights that I have?";
