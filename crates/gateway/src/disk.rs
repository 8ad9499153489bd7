//! The disk under the state directory: who is told when it fails, and how it is noticed that it
//! works again.
//!
//! A disk that is full or cannot be written for a while needs no restart: each write fails by itself,
//! with its caller told, and the first one that does not ends the trouble. Nobody may write for hours,
//! so this tries it. A sync that failed, and a database that is damaged, last until the next start
//! ([`Fault::ends_writing`]): reads, events and `health` go on, so that an operator sees what there is.

use std::{sync::Arc, time::Duration};

use clawgate_store::Fault;

use crate::{Gateway, clock::now_ms};

/// How often a disk that failed is tried again.
const TRY_EVERY: Duration = Duration::from_secs(2);

/// The code under which callers and `health` are told of a fault.
pub(crate) fn code(fault: Fault) -> &'static str {
    match fault {
        Fault::Full => "DISK_FULL",
        Fault::Refused => "DISK_FAILED",
        Fault::Unsynced => "DISK_NOT_SYNCED",
        Fault::Damaged => "DATABASE_DAMAGED",
    }
}

/// What it means, and what to do.
pub(crate) fn advice(fault: Fault) -> &'static str {
    match fault {
        Fault::Full => {
            "what cannot be written is refused, until there is room where the state directory lies (df -h)"
        }
        Fault::Refused => {
            "what cannot be written is refused, until the disk takes writes again: it is read only, or it fails (clawgate doctor, dmesg)"
        }
        Fault::Unsynced => {
            "nothing is written until the gateway is started anew and has read what is there (dmesg, clawgate doctor --deep, then restart it)"
        }
        Fault::Damaged => {
            "nothing is written to it any more: look at it with \"clawgate doctor --deep\", bring it back with \"clawgate backup restore\""
        }
    }
}

/// The fault behind an error of the file system, if it is the disk's.
pub(crate) fn fault_of(error: &std::io::Error) -> Option<Fault> {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some(Fault::Full),
        ErrorKind::ReadOnlyFilesystem => Some(Fault::Refused),
        _ if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
            Some(Fault::Refused)
        }
        _ => None,
    }
}

/// Follows what the store meets, for as long as the gateway runs.
pub(crate) async fn watch(gateway: Arc<Gateway>) {
    let mut faults = gateway.store.faults();
    let mut told = None;
    loop {
        let fault = *faults.borrow_and_update();
        if fault != told {
            match fault {
                Some(fault) => tracing::error!(code = code(fault), "{fault}: {}", advice(fault)),
                None => tracing::info!("the disk takes writes again"),
            }
            told = fault;
            gateway.health.note_disk(fault, now_ms());
            gateway.publish_health();
        }
        let tried_again = fault.is_some_and(|fault| !fault.ends_writing());
        tokio::select! {
            () = gateway.stopping.cancelled() => return,
            changed = faults.changed() => if changed.is_err() {
                return;
            },
            () = tokio::time::sleep(TRY_EVERY), if tried_again => {
                // What comes of it is in what is watched here.
                let _ = gateway.store.try_disk(now_ms()).await;
            }
        }
    }
}
