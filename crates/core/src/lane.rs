//! Lanes: which turn runs next.
//!
//! One turn at a time in a session, so many at a time of each [`Lane`], and sessions take turns: one
//! with a hundred messages waiting holds nobody up. What waits costs its names and nothing else, and
//! a session that has nothing to do is not there.

use std::collections::{HashMap, VecDeque};

/// What a turn is counted among.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Somebody asked.
    Main,
    /// A schedule did.
    Cron,
    /// Another turn did.
    Nested,
}

impl Lane {
    /// Every lane.
    pub const ALL: [Self; 3] = [Self::Main, Self::Cron, Self::Nested];

    const fn index(self) -> usize {
        match self {
            Self::Main => 0,
            Self::Cron => 1,
            Self::Nested => 2,
        }
    }
}

/// Where a turn is that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Turns of the same session before it, the running one among them.
    pub in_session: usize,
    /// Whether its session is free and it waits for others of its lane to end.
    pub for_lane: bool,
}

/// Every turn that runs or waits.
#[derive(Clone, Debug)]
pub struct Lanes {
    widths: [usize; 3],
    busy: [usize; 3],
    running: HashMap<String, (String, Lane)>,
    waiting: HashMap<String, VecDeque<(String, Lane)>>,
    /// Sessions in which something waits, the next one first.
    order: VecDeque<String>,
}

impl Lanes {
    /// Lanes of these widths, in the order of [`Lane::ALL`]. A width of none counts as one.
    #[must_use]
    pub fn new(widths: [usize; 3]) -> Self {
        Self {
            widths: widths.map(|width| width.max(1)),
            busy: [0; 3],
            running: HashMap::new(),
            waiting: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Other widths from now on. What runs goes on.
    pub fn widen(&mut self, widths: [usize; 3]) {
        self.widths = widths.map(|width| width.max(1));
    }

    /// A turn comes in, and waits until [`Self::take`] gives it out.
    pub fn enter(&mut self, session: &str, run: &str, lane: Lane) {
        let queue = self.waiting.entry(session.to_owned()).or_default();
        if queue.is_empty() {
            self.order.push_back(session.to_owned());
        }
        queue.push_back((run.to_owned(), lane));
    }

    /// The next turn that may run: its session and itself. It runs from now on.
    pub fn take(&mut self) -> Option<(String, String)> {
        let at = self.order.iter().position(|session| {
            !self.running.contains_key(session)
                && self
                    .waiting
                    .get(session)
                    .and_then(VecDeque::front)
                    .is_some_and(|(_, lane)| self.has_room(*lane))
        })?;
        let session = self.order.remove(at)?;
        let queue = self.waiting.get_mut(&session)?;
        let (run, lane) = queue.pop_front()?;
        if queue.is_empty() {
            self.waiting.remove(&session);
        } else {
            self.order.push_back(session.clone());
        }
        self.busy[lane.index()] += 1;
        self.running.insert(session.clone(), (run.clone(), lane));
        Some((session, run))
    }

    fn has_room(&self, lane: Lane) -> bool {
        self.busy[lane.index()] < self.widths[lane.index()]
    }

    /// A turn is over, or does not want to run any more. `false` when it is not here.
    pub fn leave(&mut self, session: &str, run: &str) -> bool {
        if let Some((running, lane)) = self.running.get(session)
            && running == run
        {
            let lane = *lane;
            self.busy[lane.index()] -= 1;
            self.running.remove(session);
            return true;
        }
        let Some(queue) = self.waiting.get_mut(session) else {
            return false;
        };
        let Some(at) = queue.iter().position(|(waiting, _)| waiting == run) else {
            return false;
        };
        queue.remove(at);
        if queue.is_empty() {
            self.waiting.remove(session);
            self.order.retain(|other| other != session);
        }
        true
    }

    /// The turn that runs in a session.
    #[must_use]
    pub fn running(&self, session: &str) -> Option<&str> {
        self.running.get(session).map(|(run, _)| run.as_str())
    }

    /// The turns that wait in a session, the next one first.
    pub fn waiting(&self, session: &str) -> impl Iterator<Item = &str> {
        let queue = self.waiting.get(session);
        queue.into_iter().flatten().map(|(run, _)| run.as_str())
    }

    /// Where a waiting turn is. `None` when it does not wait.
    #[must_use]
    pub fn place(&self, session: &str, run: &str) -> Option<Place> {
        let at = self.waiting(session).position(|waiting| waiting == run)?;
        let runs = usize::from(self.running.contains_key(session));
        Some(Place {
            in_session: at + runs,
            for_lane: at + runs == 0,
        })
    }

    /// How many run and how many wait.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let waiting = self.waiting.values().map(VecDeque::len).sum();
        (self.running.len(), waiting)
    }
}

/// What becomes of a message for a session in which a turn runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueMode {
    /// It is put into the running turn before the model is asked again; a turn that asks no more
    /// leaves it to the next one.
    Steer,
    /// It waits for a turn of its own.
    Followup,
    /// What waits becomes one turn.
    #[default]
    Collect,
    /// The running turn is stopped.
    Interrupt,
}

impl QueueMode {
    /// Reads the word of `messages.queue.mode` and of `queueMode`; the original has some twice.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word.trim().to_ascii_lowercase().as_str() {
            "steer" | "steer-backlog" | "steer+backlog" | "steering" => Self::Steer,
            "followup" | "follow-up" | "queue" | "queued" => Self::Followup,
            "collect" | "coalesce" => Self::Collect,
            "interrupt" | "interrupts" | "abort" => Self::Interrupt,
            _ => return None,
        })
    }

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Steer => "steer",
            Self::Followup => "followup",
            Self::Collect => "collect",
            Self::Interrupt => "interrupt",
        }
    }
}
