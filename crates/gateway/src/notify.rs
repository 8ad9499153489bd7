//! What the gateway tells the manager that started it: systemd's notifications, a datagram each.
//!
//! Without `NOTIFY_SOCKET` in the environment everything here does nothing.

use std::{
    io,
    os::unix::{
        ffi::OsStrExt as _,
        net::{SocketAddr, UnixDatagram},
    },
    sync::Arc,
    time::Duration,
};

use clawgate_store::StoreError;

use crate::Gateway;

/// Where the manager listens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manager(Option<Arc<(UnixDatagram, SocketAddr)>>);

impl Manager {
    /// As the environment names it: a path, or a name in the abstract namespace behind an `@`.
    pub(crate) fn of_environment() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET") else {
            return Self::default();
        };
        let address = match name.as_bytes() {
            [b'@', rest @ ..] => abstract_name(rest),
            [b'/', ..] => SocketAddr::from_pathname(&name),
            _ => return Self::default(),
        };
        let opened = address.and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            // A manager that does not read must not hold the gateway up.
            socket.set_nonblocking(true)?;
            Ok((socket, address))
        });
        match opened {
            Ok(opened) => Self(Some(Arc::new(opened))),
            Err(error) => {
                tracing::warn!(%error, "the manager named in NOTIFY_SOCKET cannot be told anything");
                Self::default()
            }
        }
    }

    /// Takes connections.
    pub(crate) fn ready(&self, address: &str) {
        self.tell(&format!("READY=1\nSTATUS=listening on {address}"));
    }

    /// Takes none any more.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping");
    }

    fn tell(&self, text: &str) {
        if let Some(manager) = &self.0
            && let Err(error) = manager.0.send_to_addr(text.as_bytes(), &manager.1)
        {
            tracing::debug!(%error, "the manager was not told");
        }
    }

    /// Shows the manager's watchdog that the gateway works, twice as often as it wants: that the
    /// runtime runs, and that the database takes a write (one of nothing costs no sync). Where either does not, nothing is shown, and the
    /// manager starts the gateway anew.
    pub(crate) async fn watch(self, gateway: Arc<Gateway>) {
        let Some(period) = self.0.as_ref().and_then(|_| watchdog_period()) else {
            return;
        };
        let mut beats = tokio::time::interval(period / 2);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = gateway.stopping.cancelled() => return,
                _ = beats.tick() => {}
            }
            let nothing = |_: &clawgate_store::Tx<'_>| Ok::<(), StoreError>(());
            if gateway.store.write("showing life", nothing).await.is_ok() {
                self.tell("WATCHDOG=1");
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn abstract_name(name: &[u8]) -> io::Result<SocketAddr> {
    <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_name(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

/// How long the manager waits for a sign, if it waits for one of this very process.
fn watchdog_period() -> Option<Duration> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    if number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id())) {
        return None;
    }
    number("WATCHDOG_USEC")
        .filter(|period| *period > 0)
        .map(Duration::from_micros)
}
