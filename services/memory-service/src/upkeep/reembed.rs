//! Makes the vectors of a space anew, by another embedder, while the space goes on serving with the old ones.
//!
//! New vectors go to a set of their own, in the order of the memories' numbers. A memory that is written meanwhile gets a greater
//! number, so the job comes to it. When none is left the space changes to the new set in one commit, which is refused if a
//! memory came in between: no answer ever compares vectors of two makers. The job as it stands is a part of the commit that brings
//! vectors; whoever is killed goes on there.

use std::time::{Duration, SystemTime};

use crate::shape::{Metric, Shape};

/// How often the job may come too late for the change before writers to the space have to wait for its last memories.
const PATIENCE: u32 = 3;
/// Pause after the first failure; it doubles with each one that follows, up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A re-embedding of one space, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// Who makes the new vectors.
    pub(crate) embedder: String,
    /// How many values they have.
    pub(crate) dimensions: usize,
    /// The set that they go to.
    pub(crate) set: u32,
    /// When it began.
    pub(crate) began: SystemTime,
    /// Every memory up to this number has its new vector.
    pub(crate) after: u64,
    /// Memories embedded, those that went since among them.
    pub(crate) done: u64,
    /// Where it stands.
    pub(crate) state: State,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It goes on from memory to memory; it came too late for the change so often.
    Embedding(u32),
    /// Every memory that it knows of has its vector, and the space may change.
    Ready(u32),
    /// The embedder failed this often in a row, for this reason; it goes on at that time.
    Waiting {
        /// Failures in a row.
        failures: u32,
        /// When it goes on.
        until: SystemTime,
        /// Why it failed the last time.
        reason: String,
    },
    /// The space has the new vectors; the old ones can go.
    Changed,
    /// Somebody ended it; its vectors can go.
    Cancelled,
}

/// What the job does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Embed the next memories after this number.
    Page {
        /// The number.
        after: u64,
        /// Whether writers to the space wait until the space has changed.
        hold: bool,
    },
    /// Change the space to the new set, if no memory has a greater number than this.
    Change {
        /// The number.
        after: u64,
        /// Whether writers to the space still wait.
        hold: bool,
    },
    /// Nothing before this time.
    Pause(SystemTime),
    /// Nothing any more.
    Nothing,
}

impl Job {
    /// Begins a job.
    pub(crate) fn new(embedder: String, dimensions: usize, set: u32, now: SystemTime) -> Self {
        Self { embedder, dimensions, set, began: now, after: 0, done: 0, state: State::Embedding(0) }
    }

    /// Returns what comes next.
    pub(crate) fn want(&self, now: SystemTime) -> Want {
        match &self.state {
            State::Embedding(late) => Want::Page { after: self.after, hold: *late >= PATIENCE },
            State::Ready(late) => Want::Change { after: self.after, hold: *late >= PATIENCE },
            State::Waiting { until, .. } if now < *until => Want::Pause(*until),
            State::Waiting { .. } => Want::Page { after: self.after, hold: false },
            State::Changed | State::Cancelled => Want::Nothing,
        }
    }

    /// Takes note of the memories that got their vectors, by their numbers in order; none if there were no more. To be kept in the
    /// commit that brings the vectors.
    pub(crate) fn embedded(&mut self, seqs: &[u64]) {
        let late = match self.state {
            State::Embedding(late) | State::Ready(late) => late,
            State::Waiting { .. } => 0,
            State::Changed | State::Cancelled => return,
        };
        self.state = seqs.last().map_or(State::Ready(late), |_| State::Embedding(late));
        self.after = seqs.last().copied().unwrap_or(self.after);
        self.done += seqs.len() as u64;
    }

    /// Takes note that the space has changed, or that a memory came before it could.
    pub(crate) fn changed(&mut self, has: bool) {
        if let State::Ready(late) = self.state {
            self.state = if has { State::Changed } else { State::Embedding(late + 1) };
        }
    }

    /// Takes note that the embedder failed. The job goes on after a pause, as often as it has to: somebody may cancel it.
    pub(crate) fn failed(&mut self, reason: String, now: SystemTime) {
        let failures = match self.state {
            State::Changed | State::Cancelled => return,
            State::Waiting { failures, .. } => failures.saturating_add(1),
            State::Embedding(_) | State::Ready(_) => 1,
        };
        let pause = PAUSE.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST_PAUSE);
        self.state = State::Waiting { failures, until: now + pause, reason };
    }

    /// Returns what the new vectors are, which are compared by `metric` as the old ones.
    pub(crate) fn shape(&self, metric: Metric) -> Shape {
        Shape { embedder: self.embedder.clone(), dimensions: self.dimensions, metric }
    }

    /// Returns whether it is not over.
    pub(crate) fn runs(&self) -> bool {
        !matches!(self.state, State::Changed | State::Cancelled)
    }

    /// Ends the job if it is not over; returns whether it was not.
    pub(crate) fn cancel(&mut self) -> bool {
        let runs = self.runs();
        if runs {
            self.state = State::Cancelled;
        }
        runs
    }

    /// Returns the share that is done, 0 to 1, where `left` memories have a number after [`Job::after`].
    pub(crate) fn progress(&self, left: u64) -> f64 {
        match self.state {
            State::Changed => 1.0,
            #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 52 bits")]
            _ => self.done as f64 / (self.done + left).max(1) as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        time::{Duration, SystemTime, UNIX_EPOCH},
    };

    use proptest::{collection::vec, prelude::*};

    use super::{Job, PATIENCE, State, Want};

    /// Memories at a time.
    const PAGE: usize = 3;

    /// A store whose every method is one commit.
    #[derive(Clone)]
    struct Space {
        next: u64,
        memories: BTreeMap<u64, String>,
        /// The maker of a vector and what it was made of, by set and number.
        vectors: BTreeMap<(u32, u64), (u32, String)>,
        set: u32,
        job: Job,
    }

    impl Space {
        fn new() -> Self {
            let job = Job::new("new".into(), 4, 2, UNIX_EPOCH);
            Self { next: 1, memories: BTreeMap::new(), vectors: BTreeMap::new(), set: 1, job }
        }

        /// Writes a memory, by the maker that the space has at the moment.
        fn write(&mut self, content: u8) {
            let content = content.to_string();
            self.vectors.insert((self.set, self.next), (self.set, content.clone()));
            self.memories.insert(self.next, content);
            self.next += 1;
        }

        fn remove(&mut self, nth: u8) {
            let Some(seq) = self.memories.keys().nth(usize::from(nth)).copied() else { return };
            self.memories.remove(&seq);
            [1, 2].into_iter().for_each(|set| drop(self.vectors.remove(&(set, seq))));
        }

        fn bring(&mut self, job: Job, vectors: Vec<(u64, String)>) {
            // What went while it was embedded gets no vector any more.
            let live = vectors.into_iter().filter(|(seq, _)| self.memories.contains_key(seq));
            self.vectors.extend(live.map(|(seq, content)| ((2, seq), (2, content))));
            self.job = job;
        }

        fn change(&mut self, after: u64) {
            let has = self.memories.keys().all(|seq| *seq <= after);
            self.set = if has { 2 } else { self.set };
            self.job.changed(has);
        }

        /// What a recall compares.
        fn recalled(&self) -> Vec<(u32, &str)> {
            let vector = |seq: &u64| self.vectors.get(&(self.set, *seq)).unwrap();
            self.memories.keys().map(|seq| (vector(seq).0, vector(seq).1.as_str())).collect()
        }

        fn is_whole(&self) -> bool {
            let contents = self.memories.values().map(|content| (self.set, content.as_str()));
            self.recalled().into_iter().eq(contents)
        }
    }

    /// A worker, and what it read and has not brought yet: that is lost when it is killed.
    #[derive(Default)]
    struct Worker(Option<Vec<(u64, String)>>);

    impl Worker {
        fn step(&mut self, space: &mut Space, now: SystemTime, fails: bool) {
            let mut job = space.job.clone();
            if let Some(read) = self.0.take() {
                if fails {
                    job.failed("the embedder is away".into(), now);
                    space.job = job;
                } else {
                    job.embedded(&read.iter().map(|(seq, _)| *seq).collect::<Vec<_>>());
                    space.bring(job, read);
                }
                return;
            }
            match job.want(now) {
                Want::Page { after, .. } => {
                    let page = space.memories.range(after + 1..).take(PAGE);
                    self.0 = Some(page.map(|(seq, content)| (*seq, content.clone())).collect());
                }
                Want::Change { after, .. } => space.change(after),
                Want::Pause(_) | Want::Nothing => {}
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Event {
        Write(u8),
        Remove(u8),
        Step,
        Fail,
        Kill,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            3 => any::<u8>().prop_map(Event::Write),
            1 => (0_u8..20).prop_map(Event::Remove),
            6 => Just(Event::Step),
            1 => Just(Event::Fail),
            1 => Just(Event::Kill),
        ]
    }

    proptest! {
        #[test]
        fn every_answer_is_of_one_maker_and_the_job_ends_whoever_writes_fails_or_is_killed(events in vec(event(), 0..200)) {
            let (mut space, mut worker, mut now) = (Space::new(), Worker::default(), UNIX_EPOCH);
            (0..10).for_each(|content| space.write(content));
            for event in events {
                now += Duration::from_secs(1);
                match event {
                    Event::Write(content) => space.write(content),
                    Event::Remove(nth) => space.remove(nth),
                    Event::Step => worker.step(&mut space, now, false),
                    Event::Fail => worker.step(&mut space, now, true),
                    Event::Kill => worker = Worker::default(),
                }
                prop_assert!(space.is_whole());
            }
            now += Duration::from_hours(1);
            let steps = 2 * space.memories.len() + 12;
            (0..steps).for_each(|_| worker.step(&mut space, now, false));
            prop_assert_eq!((&space.job.state, space.set), (&State::Changed, 2));
            prop_assert!(space.is_whole());
        }
    }

    #[test]
    fn writers_wait_only_for_a_job_that_came_too_late_again_and_again() {
        let mut job = Job::new("new".into(), 4, 2, UNIX_EPOCH);
        for late in 0..PATIENCE {
            job.embedded(&[u64::from(late) + 1]);
            job.embedded(&[]);
            assert_eq!(job.want(UNIX_EPOCH), Want::Change { after: u64::from(late) + 1, hold: false });
            job.changed(false);
        }
        assert_eq!(job.want(UNIX_EPOCH), Want::Page { after: 3, hold: true });
        job.embedded(&[9]);
        job.embedded(&[]);
        assert_eq!(job.want(UNIX_EPOCH), Want::Change { after: 9, hold: true });
        job.changed(true);
        assert_eq!((job.want(UNIX_EPOCH), job.cancel()), (Want::Nothing, false));
    }

    #[test]
    fn an_embedder_that_fails_is_asked_again_after_longer_and_longer_pauses() {
        let mut job = Job::new("new".into(), 4, 2, UNIX_EPOCH);
        let pauses: Vec<u64> = (0..12)
            .map(|_| {
                job.failed("away".into(), UNIX_EPOCH);
                match job.want(UNIX_EPOCH) {
                    Want::Pause(until) => until.duration_since(UNIX_EPOCH).unwrap().as_secs(),
                    other => panic!("{other:?}"),
                }
            })
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        job.embedded(&[1]);
        assert_eq!(job.state, State::Embedding(0));
    }

    #[test]
    fn progress_is_told_and_a_cancelled_job_does_nothing() {
        let mut job = Job::new("new".into(), 4, 2, UNIX_EPOCH);
        assert!(job.progress(4).abs() < f64::EPSILON);
        job.embedded(&[1, 2, 3]);
        assert!((job.progress(1) - 0.75).abs() < f64::EPSILON);
        assert!(job.cancel());
        job.embedded(&[4]);
        job.failed("away".into(), UNIX_EPOCH);
        assert_eq!((job.want(UNIX_EPOCH), job.done), (Want::Nothing, 3));
    }
}
