//! Names of things, as they travel: opaque strings with a type each, so that a
//! job cannot be passed where a device is meant. Cheap to clone: many indexes hold the same one.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the text as it is; the gateway looks it up, it does not trust it.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The text of the id.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text of the id, by value.
            pub fn into_string(self) -> String {
                self.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }
    };
}

id! {
    /// Lower-case hex SHA-256 of a device's raw Ed25519 public key (64 characters).
    DeviceId
}
id! {
    /// Id of a pairing request (uuid v4).
    PairingRequestId
}
id! {
    /// Id of a cron job (uuid v4).
    JobId
}
id! {
    /// Id of one run of a job.
    RunId
}
id! {
    /// Id of one socket, told to the client in `hello-ok.server.connId` (uuid v4).
    ConnId
}
