//! The file itself: what a stop leaves, and what is refused at the next start.

mod support;

use clawgate_store::{Store, StoreError, Tx};
use support::{Place, block_on};

fn note(store: &Store, value: &'static str) -> Result<(), StoreError> {
    block_on(store.write("a test", move |tx: &Tx<'_>| tx.set_setting("a test", value)))
}

#[test]
fn a_closed_store_leaves_one_file_whoever_still_holds_it() {
    let place = Place::new();
    let (dir, path) = (place.path(), place.database());
    let store = Store::open(&path).expect("it opens");
    let held = store.clone();
    note(&store, "before").expect("it is written");
    store.close();
    let mut left: Vec<_> = std::fs::read_dir(dir)
        .expect("it is a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["clawgate.sqlite"], "no log beside it");
    // Who comes late is told, and nothing is written behind anybody's back.
    assert!(matches!(note(&held, "after"), Err(StoreError::Closed)));
    assert!(matches!(
        block_on(held.read(|db| db.setting("a test"))),
        Err(StoreError::Closed)
    ));
    // Closing twice is closing once.
    held.close();
    let again = Store::open(&path).expect("it opens");
    let kept = block_on(again.read(|db| db.setting("a test"))).expect("it reads");
    assert_eq!(kept.as_deref(), Some("before"));
}

#[test]
fn a_log_without_its_database_is_refused_and_an_index_is_no_log() {
    let place = Place::new();
    let (dir, path) = (place.path(), place.database());
    std::fs::write(dir.join("clawgate.sqlite-shm"), [7; 32_768]).expect("written");
    std::fs::write(dir.join("clawgate.sqlite-wal"), "").expect("written");
    Store::open(&path).expect("nothing is in them").close();
    std::fs::remove_file(&path).expect("removed");
    let log = dir.join("clawgate.sqlite-wal");
    std::fs::write(&log, "what was not written yet").expect("written");
    let refused = Store::open(&path).expect_err("it would be replayed into the new one");
    assert!(
        refused.to_string().contains("clawgate.sqlite-wal"),
        "{refused}"
    );
    assert!(!path.exists());
}
