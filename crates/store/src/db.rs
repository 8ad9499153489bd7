//! The database file, its writer thread with group commit, and its reader thread.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{Fault, StoreError, migrate};

/// Acts that wait for a thread at most; more block their callers' tasks, not the sockets' reader.
const QUEUE_MAX: usize = 4_096;
/// Acts that share one commit at most, so that the first of them is not answered late.
const GROUP_MAX: usize = 512;

/// A transaction in progress: every act is a method of it, in the file of its noun.
#[derive(Debug)]
pub struct Tx<'a> {
    pub(crate) db: &'a Connection,
}

/// A snapshot to read from: every look is a method of it, in the file of its noun.
#[derive(Debug)]
pub struct Read<'a> {
    pub(crate) db: &'a Connection,
}

impl Tx<'_> {
    /// The same state, for looks that acts need.
    pub fn read(&self) -> Read<'_> {
        Read { db: self.db }
    }
}

impl Read<'_> {
    /// Looks several times at one state, whatever is committed meanwhile.
    ///
    /// # Errors
    /// The look's own error, or the database's.
    pub fn at_once<T>(
        &self,
        look: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let doing = StoreError::doing("reading");
        let snapshot = self.db.unchecked_transaction().map_err(&doing)?;
        let seen = look()?;
        snapshot.finish().map_err(doing)?;
        Ok(seen)
    }
}

type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
/// Runs inside the transaction; what it returns tells the outcome once the commit is known.
type Act = Box<dyn FnOnce(&Connection) -> (bool, Done) + Send>;
type Look = Box<dyn FnOnce(&Connection) + Send>;

/// The open database. Cheap to clone; the file closes with the last clone.
#[derive(Clone, Debug)]
pub struct Store {
    // Channels that grow with what waits: one of the standard library takes the room of its bound at
    // once, about 100 KB here, and that for a queue that is nearly always empty.
    writer: mpsc::Sender<Act>,
    reader: mpsc::Sender<Look>,
    /// Commits so far, counted before anybody is told of one.
    commits: Arc<AtomicU64>,
    /// What the disk does, as far as it is known.
    fault: Arc<watch::Sender<Option<Fault>>>,
    path: PathBuf,
    /// Set before the threads are told to finish what waits and to take nothing more.
    closing: Arc<AtomicBool>,
    threads: Arc<Threads>,
}

/// Joins the threads when the last handle goes, so that a clean stop checkpoints the log.
#[derive(Debug, Default)]
struct Threads(std::sync::Mutex<Vec<JoinHandle<()>>>);

impl Store {
    /// Opens the file, creating it in an existing directory, and migrates it.
    ///
    /// # Errors
    /// An unreadable or foreign file is refused, never replaced.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !refuse_foreign(path)? {
            create(path)?;
        }
        let mut write = connect(path)?;
        migrate::run(&mut write)?;
        let read = connect(path)?;
        read.pragma_update(None, "query_only", true)
            .map_err(StoreError::doing("opening the reader"))?;

        let (writer, acts) = mpsc::channel::<Act>(QUEUE_MAX);
        let (reader, mut looks) = mpsc::channel::<Look>(QUEUE_MAX);
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .stack_size(1 << 20)
                .spawn(run)
                .map_err(|error| StoreError::Unusable {
                    path: path.display().to_string(),
                    why: format!("no thread: {error}"),
                })
        };
        let commits = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&commits);
        let fault = Arc::new(watch::Sender::new(None));
        let (met_writing, met_reading) = (Arc::clone(&fault), Arc::clone(&fault));
        let closing = Arc::new(AtomicBool::new(false));
        let (stop_writing, stop_reading) = (Arc::clone(&closing), Arc::clone(&closing));
        let handles = vec![
            spawn(
                "store-writer",
                Box::new(move || {
                    write_loop(write, acts, &counted, &met_writing, &stop_writing);
                }),
            )?,
            spawn(
                "store-reader",
                Box::new(move || {
                    while let Some(look) = looks.blocking_recv() {
                        // A look that panics drops its answer; the next one is looked at.
                        let _ = catch_unwind(AssertUnwindSafe(|| look(&read)));
                        meets(&met_reading, Fault::take_met());
                        if stop_reading.load(Ordering::Acquire) {
                            looks.close();
                        }
                    }
                }),
            )?,
        ];
        Ok(Self {
            writer,
            reader,
            commits,
            fault,
            path: path.to_owned(),
            closing,
            threads: Arc::new(Threads(std::sync::Mutex::new(handles))),
        })
    }

    /// Finishes what waits, takes nothing more, whoever still holds a clone, and closes the file.
    /// Waits for the disk: not for a thread that drives a runtime.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        // Each wakes up for one thing more, and sees it. One that is gone needs no waking.
        let _ = self
            .writer
            .blocking_send(Box::new(|_| (false, Box::new(|_| ()))));
        let _ = self.reader.blocking_send(Box::new(|_| ()));
        self.threads.join();
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How often something was committed. While it stays the same, what was read after it was looked
    /// at is still what a reader would find, as far as anybody was told.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Acquire)
    }

    /// What the disk does, as far as it is known: by the last act that wrote something, or by a look
    /// that met damage. `None` while all is well.
    pub fn fault(&self) -> Option<Fault> {
        *self.fault.borrow()
    }

    /// The same, for whoever wants to know when it changes.
    pub fn faults(&self) -> watch::Receiver<Option<Fault>> {
        self.fault.subscribe()
    }

    /// Runs an act in a transaction. The answer comes after the commit; an act that returns an
    /// error leaves no trace.
    ///
    /// # Errors
    /// The act's own error, or the commit's.
    pub async fn write<T, E>(
        &self,
        doing: &'static str,
        act: impl FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.write_then(doing, act, |outcome| outcome).await
    }

    /// The same, with `then` between the commit and the answer: it runs on the writer's thread, so
    /// that what is kept in memory follows the database in the order of the commits, which is not
    /// the order in which callers wake up. It must not wait. It does not run for an act that left
    /// no trace, and runs for one whose caller went away.
    ///
    /// # Errors
    /// The act's own error, or the commit's.
    pub async fn write_then<T, U, E>(
        &self,
        doing: &'static str,
        act: impl FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
        then: impl FnOnce(T) -> U + Send + 'static,
    ) -> Result<U, E>
    where
        T: Send + 'static,
        U: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let act: Act = Box::new(move |db| {
            let outcome = act(&Tx { db });
            let keep = outcome.is_ok();
            let done: Done = Box::new(move |committed| {
                // Nobody waits any more when the caller was dropped; the act stands all the same.
                let _ = answer.send(match committed {
                    Ok(()) => outcome.map(then),
                    Err(error) => Err(outcome.err().unwrap_or_else(|| E::from(error))),
                });
            });
            (keep, done)
        });
        self.writer
            .send(act)
            .await
            .map_err(|_| E::from(StoreError::Closed))?;
        answered.await.unwrap_or_else(|_| {
            Err(E::from(match self.fault() {
                Some(fault) => StoreError::Faulty { doing, fault },
                None => StoreError::Abandoned { doing },
            }))
        })
    }

    /// Looks at the last committed state.
    ///
    /// # Errors
    /// The look's own error.
    pub async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Read<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let look: Look = Box::new(move |db| {
            let _ = answer.send(look(&Read { db }));
        });
        self.reader
            .send(look)
            .await
            .map_err(|_| StoreError::Closed)?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Looks at the last committed state from a thread that may wait (start-up, tests).
    ///
    /// # Errors
    /// The look's own error.
    pub fn read_blocking<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Read<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = std::sync::mpsc::channel();
        let mut look: Look = Box::new(move |db| {
            let _ = answer.send(look(&Read { db }));
        });
        // At start nothing waits, so this goes round once. (The channel's own way of waiting is not
        // for a thread that drives a runtime.)
        while let Err(refused) = self.reader.try_send(look) {
            look = match refused {
                mpsc::error::TrySendError::Full(back) => back,
                mpsc::error::TrySendError::Closed(_) => return Err(StoreError::Closed),
            };
            std::thread::yield_now();
        }
        answered.recv().unwrap_or(Err(StoreError::Closed))
    }
}

impl Threads {
    fn join(&self) {
        let handles = match self.0.lock() {
            Ok(mut handles) => std::mem::take(&mut *handles),
            Err(_) => return,
        };
        for handle in handles {
            // The last handle may be dropped by one of them; that one is left to end by itself.
            if handle.thread().id() != std::thread::current().id() {
                let _ = handle.join();
            }
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // The senders are gone by now, so the threads are on their way out.
        self.join();
    }
}

/// Where a new database is made before it is moved to its place. It lies there from the beginning of
/// a first start until the database is whole.
pub fn draft(path: &Path) -> PathBuf {
    path.with_extension("sqlite.new")
}

/// Whether there is a database. A file that was cut to nothing, that is no file or no database of
/// clawgate's is refused and left as it is: starting empty over somebody's data would lose it without
/// a word. So is a log whose database is gone: it would be replayed into the new one.
fn refuse_foreign(path: &Path) -> Result<bool, StoreError> {
    let unusable = |why: &str| StoreError::Unusable {
        path: path.display().to_string(),
        why: why.to_owned(),
    };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // (The index of a log, "-shm", holds nothing, and is made anew.)
            for log in ["-wal", "-journal"] {
                let mut beside = path.as_os_str().to_owned();
                beside.push(log);
                if std::fs::symlink_metadata(&beside).is_ok_and(|meta| meta.len() > 0) {
                    return Err(unusable(&format!(
                        "it is gone, and its log {} is not; restore the database, or move the log away",
                        beside.display()
                    )));
                }
            }
            Ok(false)
        }
        Err(error) => Err(unusable(&error.to_string())),
        Ok(meta) if !meta.is_file() => Err(unusable("it is not a file")),
        Ok(meta) if meta.len() == 0 => Err(unusable(
            "it is empty; restore a backup, or remove it if nothing was ever in it",
        )),
        Ok(_) => {
            migrate::refuse_foreign(path)?;
            migrate::refuse_damaged_log(path)?;
            Ok(true)
        }
    }
}

/// A new database is made beside its place and moved there when it is whole, so that an empty
/// file in its place always means damage and never a start that was cut short.
fn create(path: &Path) -> Result<(), StoreError> {
    let unusable = |why: std::io::Error| StoreError::Unusable {
        path: path.display().to_string(),
        why: why.to_string(),
    };
    let draft = draft(path);
    // Private from the first byte; the log beside it takes over the mode. What an earlier start left
    // is cut to nothing and not removed, so that at every moment it can be seen that one was begun.
    let file = std::os::unix::fs::OpenOptionsExt::mode(
        std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true),
        0o600,
    )
    .open(&draft)
    .map_err(unusable)?;
    migrate::lay_out(&file)
        .and_then(|()| file.sync_all())
        .map_err(unusable)?;
    std::fs::rename(&draft, path).map_err(unusable)?;
    let parent = path.parent().unwrap_or(Path::new("."));
    std::fs::File::open(parent)
        .and_then(|dir| dir.sync_all())
        .map_err(unusable)
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let doing = StoreError::doing("opening");
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let db = Connection::open_with_flags(path, flags).map_err(&doing)?;
    db.busy_timeout(Duration::from_secs(5)).map_err(&doing)?;
    db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))
        .map_err(&doing)?;
    db.pragma_update(None, "synchronous", "FULL")
        .map_err(&doing)?;
    db.pragma_update(None, "foreign_keys", true)
        .map_err(&doing)?;
    db.pragma_update(None, "cache_size", -2_048)
        .map_err(&doing)?;
    db.pragma_update(None, "trusted_schema", false)
        .map_err(&doing)?;
    db.set_prepared_statement_cache_capacity(64);
    Ok(db)
}

/// Notes what was met. What ended the writing stays until the file is opened anew.
fn meets(known: &watch::Sender<Option<Fault>>, met: Option<Fault>) {
    if met.is_some() {
        known.send_if_modified(|known| {
            let is_news = *known != met && !known.is_some_and(Fault::ends_writing);
            if is_news {
                *known = met;
            }
            is_news
        });
    }
}

/// Something was written, and is there for good.
fn wrote(known: &watch::Sender<Option<Fault>>) {
    known.send_if_modified(|known| {
        let is_over = known.is_some_and(|fault| !fault.ends_writing());
        if is_over {
            *known = None;
        }
        is_over
    });
}

fn write_loop(
    mut db: Connection,
    mut acts: mpsc::Receiver<Act>,
    commits: &AtomicU64,
    fault: &watch::Sender<Option<Fault>>,
    closing: &AtomicBool,
) {
    let mut group = Vec::new();
    while acts.blocking_recv_many(&mut group, GROUP_MAX) > 0 {
        let group = std::mem::take(&mut group);
        // Whoever waits for one that is dropped is told of the fault.
        if !fault.borrow().is_some_and(Fault::ends_writing) {
            commit_group(&mut db, group, commits, fault);
        }
        if closing.load(Ordering::Acquire) {
            acts.close();
        }
    }
    // A clean stop leaves one file.
    let _ = db.pragma_update_and_check(None, "wal_checkpoint", "TRUNCATE", |_| Ok(()));
}

fn commit_group(
    db: &mut Connection,
    group: Vec<Act>,
    commits: &AtomicU64,
    fault: &watch::Sender<Option<Fault>>,
) {
    let doing = StoreError::doing("committing");
    let mut settled = Vec::with_capacity(group.len());
    let changes = db.total_changes();
    Fault::take_met();
    // Those that are not reached are dropped after the fault is known.
    let mut acts = group.into_iter();
    let committed = (|| {
        let mut tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Who is alone has the transaction for itself, and spares every page its second copy.
        if acts.len() == 1
            && let Some(act) = acts.next()
        {
            return match catch_unwind(AssertUnwindSafe(|| act(&tx))) {
                Ok((true, done)) => {
                    settled.push(done);
                    tx.commit()
                }
                Ok((false, done)) => {
                    settled.push(done);
                    tx.rollback()
                }
                Err(_) => tx.rollback(),
            };
        }
        for act in acts.by_ref() {
            let savepoint = tx.savepoint()?;
            // An act that panics fails alone: it leaves no trace, its caller is told, and the
            // others of the group stand.
            match catch_unwind(AssertUnwindSafe(|| act(&savepoint))) {
                Ok((true, done)) => {
                    settled.push(done);
                    savepoint.commit()?;
                }
                Ok((false, done)) => {
                    settled.push(done);
                    savepoint.finish()?;
                }
                Err(_) => savepoint.finish()?,
            }
        }
        tx.commit()
    })();
    // Also of one that failed, because a failed one may have changed the file.
    commits.fetch_add(1, Ordering::Release);
    match committed {
        Ok(()) => {
            match Fault::take_met() {
                Some(met) => meets(fault, Some(met)),
                None if db.total_changes() != changes => wrote(fault),
                None => {}
            }
            settled.into_iter().for_each(|done| done(Ok(())));
        }
        Err(error) => {
            let code = error.sqlite_error().copied();
            let text = error.to_string();
            let mut first = Some(doing(error));
            // The one that comes first is what the others came of.
            meets(fault, Fault::take_met());
            for done in settled {
                done(Err(first.take().unwrap_or_else(|| {
                    let code = code.unwrap_or_else(|| rusqlite::ffi::Error::new(1));
                    doing(rusqlite::Error::SqliteFailure(code, Some(text.clone())))
                })));
            }
        }
    }
    drop(acts);
}
