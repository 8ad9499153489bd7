//! Pages of jobs, kept as they were sent: who asks again while nothing was written gets the same text.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use clawgate_core::Dialect;

/// Pages kept at most; the one that was made first goes.
const PAGES_MAX: usize = 8;
/// Bytes of a page that is kept at most.
const PAGE_BYTES_MAX: usize = 256 * 1024;
/// Bytes of the params that name a page that is kept at most.
const PARAMS_BYTES_MAX: usize = 1_024;

/// What a page depends on besides the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) dialect: Dialect,
    pub(super) default_agent: String,
    /// As they came.
    pub(super) params: String,
}

/// Pages, each with the number of commits before it was read.
#[derive(Debug, Default)]
pub(crate) struct Pages(Mutex<VecDeque<(Asked, u64, Arc<str>)>>);

impl Pages {
    /// The page of an earlier time, if nothing was committed since.
    pub(super) fn find(&self, asked: &Asked, commits: u64) -> Option<Arc<str>> {
        let pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pages
            .iter()
            .find(|(kept, at, _)| *at == commits && kept == asked)
            .map(|(.., text)| Arc::clone(text))
    }

    /// Keeps a page that was read after so many commits.
    pub(super) fn keep(&self, asked: Asked, commits: u64, text: &Arc<str>) {
        if text.len() > PAGE_BYTES_MAX || asked.params.len() > PARAMS_BYTES_MAX {
            return;
        }
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What was read before the last commit is of no use to anybody.
        pages.retain(|(kept, at, _)| *at >= commits && *kept != asked);
        if pages.len() >= PAGES_MAX {
            pages.pop_front();
        }
        pages.push_back((asked, commits, Arc::clone(text)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(params: &str) -> Asked {
        Asked {
            dialect: Dialect::V4,
            default_agent: "main".to_owned(),
            params: params.to_owned(),
        }
    }

    #[test]
    fn a_page_is_good_until_something_is_committed() {
        let pages = Pages::default();
        pages.keep(asked("{}"), 7, &"page".into());
        assert_eq!(pages.find(&asked("{}"), 7).as_deref(), Some("page"));
        assert_eq!(pages.find(&asked("{}"), 8), None);
        assert_eq!(pages.find(&asked(r#"{"limit":1}"#), 7), None);
        let other = Asked {
            dialect: Dialect::V3,
            ..asked("{}")
        };
        assert_eq!(pages.find(&other, 7), None);
    }

    #[test]
    fn pages_are_bounded_in_number_and_size() {
        let pages = Pages::default();
        for number in 0..100 {
            pages.keep(asked(&number.to_string()), 1, &"page".into());
        }
        assert_eq!(pages.0.lock().unwrap().len(), PAGES_MAX);
        assert!(pages.find(&asked("99"), 1).is_some());
        pages.keep(asked("large"), 1, &"x".repeat(PAGE_BYTES_MAX + 1).into());
        assert_eq!(pages.find(&asked("large"), 1), None);
    }
}
