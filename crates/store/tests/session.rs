//! Sessions on a real database file: entries are kept in their order with right totals, pages cost what
//! they show, what is put away stays readable, and a run is claimed once.

mod support;

use clawgate_store::{
    Appended, Cost, NewEntry, Parent, Read, RunClaim, Session, SessionFilter, Store, StoreError,
    Transcript, Tx, UsageRange, Used,
};
use support::{Place, block_on};

fn write<T: Send + 'static>(
    store: &Store,
    act: impl FnOnce(&Tx<'_>) -> Result<T, StoreError> + Send + 'static,
) -> T {
    block_on(store.write("testing", act)).expect("a commit")
}

fn read<T: Send + 'static>(
    store: &Store,
    look: impl FnOnce(&Read<'_>) -> Result<T, StoreError> + Send + 'static,
) -> T {
    store.read_blocking(look).expect("a look")
}

fn session(key: &str, updated_at_ms: i64) -> Session {
    Session {
        key: key.to_owned(),
        agent_id: "main".to_owned(),
        session_id: format!("id-{key}"),
        kind: "direct".to_owned(),
        is_run: key.contains(":run:"),
        label: None,
        spawned_by: None,
        archived_at_ms: None,
        created_at_ms: updated_at_ms,
        updated_at_ms,
        names: key.to_owned(),
        entry: "{}".to_owned(),
    }
}

fn said(id: &str, role: &str, at_ms: i64, text: &str) -> NewEntry {
    NewEntry {
        id: id.to_owned(),
        kind: "message".to_owned(),
        role: Some(role.to_owned()),
        at_ms,
        body: format!(r#"{{"role":"{role}","content":"{text}"}}"#),
        text: Some(text.to_owned()),
        ..NewEntry::default()
    }
}

fn begun(tx: &Tx<'_>, key: &str) -> Result<Transcript, StoreError> {
    tx.keep_session(&session(key, 1))?;
    tx.begin_transcript("main", &format!("id-{key}"), key, None, 1)
}

fn texts(
    db: &Read<'_>,
    of: &Transcript,
    last: i64,
    limit: usize,
) -> Result<Vec<String>, StoreError> {
    let mut texts = Vec::new();
    db.messages_back(of, last, |entry| {
        texts.push(entry.text.unwrap_or_default());
        texts.len() < limit
    })?;
    texts.reverse();
    Ok(texts)
}

#[test]
fn entries_follow_each_other_and_their_totals_are_kept() {
    let place = Place::new();
    let store = place.open();
    let of = write(&store, |tx| {
        let mut of = begun(tx, "a")?;
        tx.append(&mut of, &said("1", "user", 1_000, "what is it"))?;
        let used = Used {
            input: 100,
            output: 20,
            tokens: 120,
            cost: Some(Cost {
                input: 0.5,
                output: 0.25,
                total: 0.75,
                ..Cost::default()
            }),
            ..Used::default()
        };
        let answer = NewEntry {
            used: Some(used),
            provider: Some("p".to_owned()),
            model: Some("m".to_owned()),
            tool_calls: vec!["exec".to_owned(), "exec".to_owned()],
            ..said("2", "assistant", 1_559, "a tea pot")
        };
        tx.append(&mut of, &answer)?;
        let change = NewEntry {
            id: "3".to_owned(),
            kind: "model_change".to_owned(),
            at_ms: 1_600,
            body: "{}".to_owned(),
            ..NewEntry::default()
        };
        tx.append(&mut of, &change)?;
        Ok(of)
    });
    let kept = read(&store, |db| db.live_transcript("main", "id-a")).expect("it is live");
    assert_eq!((kept.lines, kept.messages), (3, 2));
    assert_eq!((of.lines, of.messages), (3, 2));
    assert_eq!(kept.first_text.as_deref(), Some("what is it"));
    assert_eq!(kept.last_text.as_deref(), Some("a tea pot"));
    let entries = read(&store, move |db| db.entries_after(kept.number, 0, 3, 10));
    let parents: Vec<Option<&str>> = entries.iter().map(|e| e.parent_id.as_deref()).collect();
    assert_eq!(parents, [None, Some("1"), Some("2")]);
    let range = UsageRange {
        from_ms: 0,
        until_ms: 900_000,
        transcript: None,
    };
    let (slots, tools, waits) = read(&store, move |db| {
        Ok((db.usage(&range)?, db.tool_usage(&range)?, db.waits(&range)?))
    });
    let tokens: Vec<(i64, i64, i64)> = slots.iter().map(|s| (s.users, s.uses, s.tokens)).collect();
    assert_eq!(tokens, [(1, 0, 0), (0, 1, 120)]);
    assert!((slots[1].cost - 0.75).abs() < 1e-9);
    assert_eq!((tools[0].tool.as_str(), tools[0].calls), ("exec", 2));
    assert_eq!(
        (waits[0].step_ms, waits[0].min_ms, waits[0].max_ms),
        (550, 559, 559)
    );
}

#[test]
fn what_is_said_under_one_key_is_said_once_also_after_a_restart() {
    let place = Place::new();
    let once = |id: &str| NewEntry {
        idempotency_key: Some("k".to_owned()),
        ..said(id, "user", 5, "hello")
    };
    let store = place.open();
    let first = once("1");
    write(&store, move |tx| {
        let mut of = begun(tx, "a")?;
        assert_eq!(
            tx.append(&mut of, &first)?,
            Appended::New {
                line: 1,
                message: Some(1)
            }
        );
        Ok(())
    });
    drop(store);
    let store = place.open();
    let second = once("2");
    let again = write(&store, move |tx| {
        let mut of = tx.read().live_transcript("main", "id-a")?.expect("kept");
        tx.append(&mut of, &second)
    });
    assert_eq!(again, Appended::Before("1".to_owned()));
    assert_eq!(read(&store, |db| db.row_counts()).entries, 1);
}

#[test]
fn a_page_of_a_long_conversation_reads_no_more_than_it_shows() {
    let place = Place::new();
    let store = place.open();
    write(&store, |tx| {
        let mut of = begun(tx, "a")?;
        for n in 1..=5_000 {
            tx.append(
                &mut of,
                &said(&format!("e{n}"), "user", n, &format!("words {n}")),
            )?;
        }
        Ok(())
    });
    let (page, read_rows) = read(&store, |db| {
        let of = db.live_transcript("main", "id-a")?.expect("it is live");
        let mut seen = 0;
        let mut page = Vec::new();
        db.messages_back(&of, of.messages - 1_000, |entry| {
            seen += 1;
            page.push(entry.text.unwrap_or_default());
            page.len() < 3
        })?;
        Ok((page, seen))
    });
    assert_eq!(page, ["words 4000", "words 3999", "words 3998"]);
    assert_eq!(read_rows, 3);
    for gap in ["\0", "\u{1}", "\n"] {
        let query = format!("words{gap}4321{gap}");
        let hits = read(&store, move |db| db.search_messages(&query, None, &[], 5));
        assert_eq!(hits.len(), 1, "{gap:?}");
    }
    let hits = read(&store, |db| db.search_messages("words 4321", None, &[], 5));
    let ids: Vec<&str> = hits.iter().map(|hit| hit.entry_id.as_str()).collect();
    assert_eq!(ids, ["e4321"]);
    let hostile = read(&store, |db| {
        db.search_messages("\" OR ) NEAR(* words:4321 -", None, &[], 5)
    });
    assert!(hostile.is_empty(), "{hostile:?}");
}

#[test]
fn a_search_puts_first_what_says_the_words_most_in_the_least_text() {
    let place = Place::new();
    let store = place.open();
    write(&store, |tx| {
        let mut of = begun(tx, "a")?;
        let long = format!("tea {}", "and so on ".repeat(60));
        for (id, text) in [
            ("long", long.as_str()),
            ("twice", "Tea with milk, or tea without."),
            ("other", "coffee"),
            ("older", "a cup of tea"),
            ("newer", "a cup of tea"),
            ("accent", "un thé, s'il vous plaît"),
        ] {
            tx.append(&mut of, &said(id, "user", 1, text))?;
        }
        Ok(())
    });
    let ids = |query: &'static str, limit| {
        let hits = read(&store, move |db| {
            db.search_messages(query, None, &[], limit)
        });
        assert!(hits.iter().all(|hit| hit.score > 0.0), "{hits:?}");
        let ids = hits.into_iter().map(|hit| (hit.entry_id, hit.snippet));
        ids.collect::<Vec<_>>()
    };
    let found: Vec<String> = ids("TEA", 10).into_iter().map(|(id, _)| id).collect();
    assert_eq!(found, ["twice", "newer", "older", "long"]);
    let best = (
        "twice".to_owned(),
        "Tea with milk, or tea without.".to_owned(),
    );
    assert_eq!(ids("tea", 1), [best]);
    let unaccented = ("accent".to_owned(), "un thé, s'il vous plaît".to_owned());
    assert_eq!(ids("the plait", 5), [unaccented]);
}

#[test]
fn a_list_is_walked_by_an_index_and_never_sorted() {
    let place = Place::new();
    let store = place.open();
    for filter in [
        SessionFilter {
            limit: 50,
            ..SessionFilter::default()
        },
        SessionFilter {
            limit: 50,
            agent_id: Some("main".to_owned()),
            with_runs: true,
            ..SessionFilter::default()
        },
        SessionFilter {
            limit: 50,
            since_ms: Some(5),
            with_runs: true,
            ..SessionFilter::default()
        },
    ] {
        let asked = filter.clone();
        let plan = read(&store, move |db| db.session_page_plan(&asked));
        assert!(
            plan.iter()
                .any(|step| step.contains("USING INDEX sessions_")),
            "{filter:?}: {plan:#?}"
        );
        assert!(
            !plan
                .iter()
                .any(|step| step.starts_with("SCAN s ") && !step.contains("INDEX")),
            "{plan:#?}"
        );
    }
}

#[test]
fn a_list_is_filtered_and_counted_as_rows_come_and_go() {
    let place = Place::new();
    let store = place.open();
    write(&store, |tx| {
        for (key, at) in [("a", 1), ("b", 2), ("cron:j:run:r", 3), ("c", 4)] {
            tx.keep_session(&session(key, at))?;
        }
        tx.keep_session(&Session {
            label: Some("home".to_owned()),
            names: "home\nb".to_owned(),
            ..session("b", 5)
        })?;
        Ok(())
    });
    let keys = |filter: SessionFilter| -> Vec<String> {
        read(&store, move |db| db.session_page(&filter))
            .into_iter()
            .map(|listed| listed.session.key)
            .collect()
    };
    let all = SessionFilter {
        limit: 10,
        ..SessionFilter::default()
    };
    assert_eq!(keys(all.clone()), ["b", "c", "a"]);
    assert_eq!(
        keys(SessionFilter {
            offset: 1,
            limit: 1,
            ..all.clone()
        }),
        ["c"]
    );
    assert_eq!(
        keys(SessionFilter {
            search: Some("ome".to_owned()),
            ..all.clone()
        }),
        ["b"]
    );
    assert_eq!(
        keys(SessionFilter {
            label: Some("home".to_owned()),
            ..all.clone()
        }),
        ["b"]
    );
    let counts = |store: &Store| read(store, |db| db.session_counts());
    assert_eq!(counts(&store), [("main".to_owned(), 4)]);
    assert!(write(&store, |tx| tx.remove_session("b")));
    assert!(!write(&store, |tx| tx.remove_session("b")));
    assert_eq!(counts(&store), [("main".to_owned(), 3)]);
}

#[test]
fn what_a_compaction_cuts_is_not_shown_and_stays_readable_under_its_name() {
    let place = Place::new();
    let store = place.open();
    write(&store, |tx| {
        let mut of = begun(tx, "a")?;
        for n in 1..=9 {
            tx.append(
                &mut of,
                &said(&format!("e{n}"), "user", n, &format!("words {n}")),
            )?;
        }
        tx.compact_transcript(&of, 3, "cut", 10)
    });
    let of = read(&store, |db| db.live_transcript("main", "id-a")).expect("it is live");
    assert_eq!((of.cut_lines, of.cut_messages), (6, 6));
    let asked = of.clone();
    let shown = read(&store, move |db| texts(db, &asked, asked.messages, 100));
    assert_eq!(shown, ["words 7", "words 8", "words 9"]);
    assert_eq!(
        read(&store, |db| db.search_messages("words", None, &[], 25)).len(),
        3
    );
    let archive = read(&store, |db| db.archive("cut")).expect("it has a name");
    assert_eq!((archive.first_line, archive.last_line), (1, 6));
    let cut = read(&store, move |db| {
        db.entries_after(archive.transcript, 0, 6, 100)
    });
    assert_eq!(cut.len(), 6);
    // Put away as a whole, it is in no list and no search, and what it used is still counted.
    write(&store, move |tx| {
        tx.put_transcript_away(&of, Some(("away", "reset")), 11)
    });
    assert!(read(&store, |db| db.live_transcript("main", "id-a")).is_none());
    assert!(read(&store, |db| db.search_messages("words", None, &[], 25)).is_empty());
    // Erased, nothing of it is left but what it used.
    write(&store, |tx| {
        for archive in tx.read().archives_before(100, 10)? {
            tx.erase_archive(&archive)?;
        }
        Ok(())
    });
    assert_eq!(read(&store, |db| db.row_counts()).entries, 0);
    assert!(read(&store, |db| db.archive("cut")).is_none());
    let range = UsageRange {
        from_ms: 0,
        until_ms: 900_000,
        transcript: None,
    };
    assert_eq!(read(&store, move |db| db.usage(&range))[0].users, 9);
}

#[test]
fn a_run_is_claimed_once_and_its_outcome_outlives_a_restart() {
    let place = Place::new();
    let store = place.open();
    let claim = |store: &Store| write(store, |tx| tx.claim_run("r", "a", Some("{}"), 5));
    let before = |store: &Store| match claim(store) {
        RunClaim::Before(run) => run,
        RunClaim::Claimed => panic!("it was claimed twice"),
    };
    assert_eq!(claim(&store), RunClaim::Claimed);
    assert_eq!(before(&store).started_at_ms, None);
    drop(store);
    let store = place.open();
    let open = read(&store, |db| db.open_runs());
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].request.as_deref(), Some("{}"));
    assert!(write(&store, |tx| tx.start_run("r", 6)));
    assert!(!write(&store, |tx| tx.start_run("r", 7)), "it begins once");
    assert_eq!(before(&store).started_at_ms, Some(6));
    assert!(write(&store, |tx| tx.end_run("r", "ok", Some("1"), 8)));
    assert!(!write(&store, |tx| tx.end_run("r", "late", None, 9)));
    assert!(!write(&store, |tx| tx.start_run("r", 9)));
    drop(store);
    let store = place.open();
    let run = before(&store);
    assert_eq!(run.ended, Some((8, "ok".to_owned())));
    assert_eq!(run.result.as_deref(), Some("1"));
    assert_eq!(read(&store, |db| db.open_runs()), []);
}

#[test]
fn system_events_are_taken_once_in_their_order() {
    let place = Place::new();
    let store = place.open();
    for text in ["one", "two"] {
        write(&store, move |tx| tx.queue_system_event("a", text, None, 7));
    }
    write(&store, |tx| tx.queue_system_event("b", "other", None, 8));
    let taken = write(&store, |tx| tx.take_system_events("a"));
    assert_eq!(taken, [("one".to_owned(), 7), ("two".to_owned(), 7)]);
    assert_eq!(write(&store, |tx| tx.take_system_events("a")), []);
    assert_eq!(read(&store, |db| db.queued_system_events("b")), ["other"]);
}

#[test]
fn an_entry_of_a_tree_keeps_the_parent_that_it_came_with() {
    let place = Place::new();
    let store = place.open();
    let parents = write(&store, |tx| {
        let mut of = begun(tx, "a")?;
        for (id, parent) in [("1", None), ("2", Some("1")), ("3", Some("1"))] {
            let entry = NewEntry {
                parent: Parent::Given(parent.map(str::to_owned)),
                ..said(id, "user", 1, id)
            };
            tx.append(&mut of, &entry)?;
        }
        tx.read().entries_after(of.number, 0, 3, 10)
    });
    let parents: Vec<Option<&str>> = parents.iter().map(|e| e.parent_id.as_deref()).collect();
    assert_eq!(parents, [None, Some("1"), Some("1")]);
}
