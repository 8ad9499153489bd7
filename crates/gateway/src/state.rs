//! The state directory: who holds it, and the keys that lie in it.
//!
//! One gateway per directory: an operating-system lock on the directory itself says so, which no
//! removed file takes away, and `clawgate.lock` says who holds it. Keys are made at first start,
//! 0600, written beside their place and moved.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clawgate_core::proof::{self, DeviceKey};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

/// The state directory, held by this process.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    /// The directory, opened: the lock is on it.
    _lock: File,
    /// Who holds it, for the one who comes second.
    holder: File,
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another gateway has it.
    #[error("{path} is held by another gateway ({holder})")]
    Held {
        /// The directory.
        path: PathBuf,
        /// Process id and address of the holder, as far as it said.
        holder: String,
    },
    /// Keys are there, and what was known about the devices is not.
    #[error(
        "{database} is gone, and {identity} beside it is not: restore the database, or move both \
         identity and what is left of it away to begin anew (devices and tokens are then unknown)"
    )]
    DatabaseGone {
        /// Where the database was.
        database: PathBuf,
        /// Where the keys are.
        identity: PathBuf,
    },
    /// A file or directory refuses.
    #[error("{doing} {path}: {source}")]
    Io {
        /// The act.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A key file holds something else.
    #[error("{path} does not hold a key; move it away to have a new one made")]
    BadKey {
        /// The file.
        path: PathBuf,
    },
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    move |source| StateError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// How long a lock may outlive the process that held it: a child between its making and its first
/// instruction still has every file of its parent open.
const OUTLIVES_MAX: Duration = Duration::from_secs(1);

/// Takes the lock, or finds that a living process has it.
fn take(lock: &File, holder: &mut File) -> Result<(), fs::TryLockError> {
    let began = Instant::now();
    loop {
        match lock.try_lock() {
            Err(fs::TryLockError::WouldBlock) if began.elapsed() < OUTLIVES_MAX => {
                if names_living(&words_of(holder)) {
                    return Err(fs::TryLockError::WouldBlock);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            other => return other,
        }
    }
}

/// What the holder of the lock said about itself.
fn words_of(holder: &mut File) -> String {
    let mut words = String::new();
    let _ = holder.rewind();
    let _ = holder.take(256).read_to_string(&mut words);
    words
}

/// Whether the holder that is named lives. Who is not named could be anybody, and lives.
fn names_living(words: &str) -> bool {
    process_in(words).is_none_or(|pid| rustix::process::test_kill_process(pid).is_ok())
}

/// The process that a holder named.
fn process_in(words: &str) -> Option<rustix::process::Pid> {
    words
        .split_once("process ")
        .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next())
        .and_then(|digits| digits.parse().ok())
        .and_then(rustix::process::Pid::from_raw)
}

/// Who holds a directory, as far as the lock file says.
fn held_by(holder: &mut File, path: &Path) -> StateError {
    let who = words_of(holder);
    let who = who.trim();
    StateError::Held {
        path: path.to_owned(),
        holder: if who.is_empty() {
            "it did not say which"
        } else {
            who
        }
        .to_owned(),
    }
}

impl StateDir {
    /// Takes the directory, making it (0700) if it is not there.
    pub(crate) fn hold(path: &Path) -> Result<Self, StateError> {
        if !path.is_dir() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(io_error("making", path))?;
        }
        let lock = File::open(path).map_err(io_error("opening", path))?;
        let file = path.join("clawgate.lock");
        let mut holder = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(nofollow())
            .open(&file)
            .map_err(io_error("opening", &file))?;
        match take(&lock, &mut holder) {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(held_by(&mut holder, path));
            }
            Err(fs::TryLockError::Error(source)) => return Err(io_error("locking", path)(source)),
        }
        let held = Self {
            path: path.to_owned(),
            _lock: lock,
            holder,
        };
        held.announce("starting");
        Ok(held)
    }

    /// Refuses to make a new database beside old keys: they would give no device its token back,
    /// and whoever looks would find nothing missing. Otherwise a first start is marked as begun,
    /// before keys are made, so that one that is cut short is not taken for a loss.
    pub(crate) fn expect_database(&self) -> Result<(), StateError> {
        let database = self.database();
        let draft = clawgate_store::draft(&database);
        if database.symlink_metadata().is_ok() || draft.symlink_metadata().is_ok() {
            return Ok(());
        }
        // A client's own key may lie there before any gateway ran, and says nothing.
        if has_keys(&self.path) {
            let identity = self.path.join("identity");
            return Err(StateError::DatabaseGone { database, identity });
        }
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)
            .map(drop)
            .map_err(io_error("making", &draft))
    }

    /// Refuses a directory that another process holds, and leaves no trace in it.
    pub(crate) fn refuse_if_held(path: &Path) -> Result<(), StateError> {
        let lock = match File::open(path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io_error("opening", path)(error)),
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(()),
            Err(fs::TryLockError::WouldBlock) => {
                let file = path.join("clawgate.lock");
                let mut holder = File::open(&file).map_err(io_error("opening", &file))?;
                Err(held_by(&mut holder, path))
            }
            Err(fs::TryLockError::Error(source)) => Err(io_error("locking", path)(source)),
        }
    }

    /// Makes a directory (0700) if it is not there.
    pub(crate) fn make_private_dir(path: &Path) -> Result<(), StateError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(io_error("making", path))
    }

    /// Where the database of a state directory is.
    pub(crate) fn database_in(path: &Path) -> PathBuf {
        path.join("clawgate.sqlite")
    }

    /// Writes into `clawgate.lock` who holds the directory.
    pub(crate) fn announce(&self, address: &str) {
        let mut lock = &self.holder;
        let text = format!("process {}, {address}\n", std::process::id());
        let _ = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| lock.write_all(text.as_bytes()));
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn database(&self) -> PathBuf {
        Self::database_in(&self.path)
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }
}

pub(crate) fn nofollow() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default()
}

/// Files of a gateway's own keys, in `identity`.
pub(crate) const KEY_FILES: [&str; 3] = ["local.key", "device-tokens.key", "gateway.key"];

/// Whether a gateway made keys in a state directory.
pub(crate) fn has_keys(state: &Path) -> bool {
    let identity = state.join("identity");
    KEY_FILES
        .iter()
        .any(|name| identity.join(name).symlink_metadata().is_ok())
}

/// The gateway's own keys.
pub(crate) struct Keys {
    /// Behind local proofs: whoever reads this file is the owner.
    local: Zeroizing<Vec<u8>>,
    /// Behind device tokens.
    device_tokens: Zeroizing<Vec<u8>>,
    /// The gateway's device identity, public half.
    pub identity: Identity,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// Public half of the gateway's device identity.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub device_id: String,
    pub public_key: String,
}

impl Keys {
    /// Reads the keys, making those that are not there.
    pub(crate) fn open(state: &StateDir) -> Result<Self, StateError> {
        let dir = state.path().join("identity");
        if !dir.is_dir() {
            fs::DirBuilder::new()
                .mode(0o700)
                .create(&dir)
                .map_err(io_error("making", &dir))?;
        }
        let path = |name: &str| dir.join(name);
        let is_new = !KEY_FILES.iter().all(|name| path(name).exists());
        let [local, device_tokens, seed] = if !is_new {
            KEY_FILES.map(|name| key_file(&path(name)))
        } else {
            // Each new file waits for the disk; side by side they wait once.
            std::thread::scope(|scope| {
                KEY_FILES
                    .map(|name| scope.spawn(move || key_file(&path(name))))
                    .map(|thread| thread.join().expect("reading a key file does not panic"))
            })
        };
        let (local, device_tokens, seed) = (local?, device_tokens?, seed?);
        if is_new {
            // A key that the power takes away takes every token with it that was made by it.
            File::open(&dir)
                .and_then(|dir| dir.sync_all())
                .map_err(io_error("writing", &dir))?;
        }
        let seed: Zeroizing<[u8; 32]> =
            Zeroizing::new(seed.as_slice().try_into().expect("key_file gives 32 bytes"));
        let public = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key();
        let public_key = URL_SAFE_NO_PAD.encode(public.as_bytes());
        let device_id = DeviceKey::parse(&public_key)
            .map(|key| key.device_id())
            .unwrap_or_default();
        Ok(Self {
            local,
            device_tokens,
            identity: Identity {
                device_id,
                public_key,
            },
        })
    }

    /// Whether a local proof verifies over a text.
    pub(crate) fn verifies_local(&self, text: &str, presented: &str) -> bool {
        proof::verify_local(&self.local, text, presented)
    }

    /// The device token of a serial.
    pub(crate) fn device_token(&self, device_id: &str, role: &str, serial: &str) -> String {
        proof::device_token(&self.device_tokens, device_id, role, serial)
    }
}

/// Reads 32 bytes as hex, or makes them.
fn key_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, StateError> {
    if let Some(text) = read_private(path)? {
        let bytes = unhex(text.trim()).filter(|bytes| bytes.len() == 32);
        return bytes.map(Zeroizing::new).ok_or_else(|| StateError::BadKey {
            path: path.to_owned(),
        });
    }
    let mut bytes = Zeroizing::new(vec![0_u8; 32]);
    random(&mut bytes);
    write_private(path, &format!("{}\n", proof::hex(&bytes)))?;
    Ok(bytes)
}

/// The shared token of a gateway whose configuration names none: made once, kept in
/// `gateway-token`.
pub(crate) fn generated_token(state: &Path) -> io::Result<SecretString> {
    let path = state.join("gateway-token");
    let into_io = |error: StateError| io::Error::other(error.to_string());
    if let Some(text) = read_private(&path).map_err(into_io)?
        && !text.trim().is_empty()
    {
        return Ok(SecretString::from(text.trim().to_owned()));
    }
    let mut bytes = Zeroizing::new([0_u8; 24]);
    random(bytes.as_mut());
    let token = SecretString::from(proof::hex(bytes.as_ref()));
    write_private(&path, &format!("{}\n", token.expose_secret())).map_err(into_io)?;
    Ok(token)
}

/// A private file's text. One that others may read is closed to them first.
fn read_private(path: &Path) -> Result<Option<Zeroizing<String>>, StateError> {
    let mut file = match OpenOptions::new()
        .read(true)
        .custom_flags(nofollow())
        .open(path)
    {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("opening", path)(error)),
    };
    let mode = file
        .metadata()
        .map_err(io_error("reading", path))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        file.set_permissions(fs::Permissions::from_mode(0o600))
            .map_err(io_error("closing to others", path))?;
        tracing::warn!(path = %path.display(), "a private file was readable by others; it is not any more");
    }
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text)
        .map_err(io_error("reading", path))?;
    Ok(Some(text))
}

/// Writes a private file beside its place, syncs it and moves it there.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), StateError> {
    let draft = path.with_extension("new");
    let _ = fs::remove_file(&draft);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .map_err(io_error("making", &draft))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&draft, path))
        .inspect_err(|_| drop(fs::remove_file(&draft)))
        .map_err(io_error("writing", path))
}

/// Fills with random bytes of the operating system.
pub(crate) fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system gives random bytes");
}

/// A fresh serial or secret: `bytes` random bytes as base64url.
pub(crate) fn random_text(bytes: usize) -> String {
    let mut raw = Zeroizing::new(vec![0_u8; bytes]);
    random(&mut raw);
    URL_SAFE_NO_PAD.encode(&*raw)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

/// How long a gateway may take to stop: its drain, and what its programs take to end.
const STOPS_WITHIN: Duration = Duration::from_secs(30);

/// Tells the gateway that holds a state directory to stop, and waits until it let go. Gives its
/// process id; nothing, if no gateway holds it.
///
/// # Errors
/// [`StateError`] when the holder does not say who it is, may not be told, or does not stop.
pub fn stop(state: &Path) -> Result<Option<u32>, StateError> {
    let holder = match StateDir::refuse_if_held(state) {
        Ok(()) => return Ok(None),
        Err(StateError::Held { holder, .. }) => holder,
        Err(error) => return Err(error),
    };
    let stays = || StateError::Held {
        path: state.to_owned(),
        holder: holder.clone(),
    };
    let id = process_in(&holder).ok_or_else(stays)?;
    rustix::process::kill_process(id, rustix::process::Signal::TERM)
        .map_err(|error| io_error("stopping the gateway of", state)(error.into()))?;
    let began = Instant::now();
    while began.elapsed() < STOPS_WITHIN {
        if StateDir::refuse_if_held(state).is_ok() {
            return Ok(u32::try_from(id.as_raw_nonzero().get()).ok());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(stays())
}
