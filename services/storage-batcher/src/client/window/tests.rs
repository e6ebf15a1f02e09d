use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::{Answered, Credit, Window};

const CREDIT: Credit = Credit { writes: 3, bytes: 100 };

fn window(writes: u64) -> Window<u64> {
    let mut window = Window::default();
    for write in 1..=writes {
        assert_eq!(window.push(write, 10), write);
    }
    window.begin();
    window.allow(CREDIT);
    window
}

fn sent(window: &mut Window<u64>) -> Vec<u64> {
    std::iter::from_fn(|| window.send().map(|(number, _)| number)).collect()
}

#[test]
fn no_more_is_sent_than_the_server_takes_and_nothing_before_it_said_how_much() {
    let mut window = window(5);
    assert_eq!(sent(&mut window), [1, 2, 3]);
    assert_eq!(window.answer(2, false), Answered::Decided(2));
    assert_eq!(sent(&mut window), [4]);
    window.begin();
    assert!(!window.can_send());
    window.allow(CREDIT);
    assert_eq!(sent(&mut window), [1, 3, 4], "what is not answered, in order");
    window.push(6, 1_000);
    for number in [1, 3, 4] {
        assert_eq!(window.answer(number, false), Answered::Decided(number));
    }
    assert_eq!(sent(&mut window), [5]);
    assert_eq!(window.answer(5, false), Answered::Decided(5));
    assert_eq!((sent(&mut window), window.first_unanswered()), (vec![6], 6), "a large one by itself");
}

#[test]
fn what_is_refused_for_now_is_sent_again_with_all_that_follow_when_nothing_is_on_its_way() {
    let mut window = window(4);
    assert_eq!(sent(&mut window), [1, 2, 3]);
    assert_eq!(window.answer(3, true), Answered::Again);
    assert_eq!(window.answer(2, true), Answered::Again);
    assert!(!window.can_send() && !window.can_go_back());
    assert_eq!(window.answer(1, false), Answered::Decided(1));
    assert!(!window.can_send() && window.can_go_back());
    window.go_back();
    assert_eq!(sent(&mut window), [2, 3, 4]);
}

#[test]
fn an_answer_that_nobody_waits_for_changes_nothing() {
    let mut window = window(2);
    assert_eq!(window.answer(1, false), Answered::Unasked, "not sent yet");
    assert_eq!(sent(&mut window), [1, 2]);
    assert_eq!(window.answer(1, false), Answered::Decided(1));
    assert_eq!(window.answer(1, false), Answered::Unasked);
    assert_eq!((window.answer(7, true), window.take()), (Answered::Unasked, vec![2]));
}

/// What chance lets happen.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A write to one of four documents is pushed.
    Push(u8, u64),
    /// The writer sends so much of what it may.
    Send(usize),
    /// The server takes so many of those that came.
    Take(usize),
    /// One of the answers that are ready arrives; by chance which, and whether twice.
    Hear(usize, bool),
    /// The journal fills up, or there is room again.
    Full(bool),
    /// The stream breaks: writes that came may still be taken, answers are lost.
    Break(usize),
    /// The writer goes back if it has to and may.
    Back,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u8..4, 1_u64..60).prop_map(|(document, bytes)| Step::Push(document, bytes)),
        6 => (1_usize..6).prop_map(Step::Send),
        6 => (1_usize..6).prop_map(Step::Take),
        6 => (any::<usize>(), any::<bool>()).prop_map(|(which, twice)| Step::Hear(which, twice)),
        1 => any::<bool>().prop_map(Step::Full),
        1 => (0_usize..6).prop_map(Step::Break),
        2 => Just(Step::Back),
    ]
}

/// One write: its document and what it is known by.
type Write = (u8, u64);

/// A server that accepts a write once, and halts a round where the journal is full.
#[derive(Default)]
struct Server {
    came: VecDeque<(u64, Write)>,
    answers: Vec<(u64, bool)>,
    accepted: BTreeSet<u64>,
    /// What was accepted of each document, in order.
    documents: BTreeMap<u8, Vec<u64>>,
    halted: Option<u64>,
    full: bool,
}

impl Server {
    fn take(&mut self) {
        let Some((number, (document, key))) = self.came.pop_front() else { return };
        if self.halted == Some(number) {
            self.halted = None;
        }
        let is_known = self.accepted.contains(&key);
        if self.halted.is_some() || (self.full && !is_known) {
            self.halted.get_or_insert(number);
            return self.answers.push((number, true));
        }
        if self.accepted.insert(key) {
            self.documents.entry(document).or_default().push(key);
        }
        self.answers.push((number, false));
    }

    fn breaks(&mut self, taken: usize) {
        (0..taken).for_each(|_| self.take());
        self.came.clear();
        self.answers.clear();
        self.halted = None;
    }
}

/// Both sides, and what was told to those who wait.
#[derive(Default)]
struct Story {
    window: Window<Write>,
    server: Server,
    pushed: BTreeMap<u8, Vec<u64>>,
    told: Vec<u64>,
    last_sent: u64,
}

impl Story {
    fn send(&mut self) -> bool {
        let Some((number, write)) = self.window.send() else { return false };
        let write = *write;
        self.server.came.push_back((number, write));
        let may = number > self.last_sent || self.server.halted == Some(number);
        assert!(may, "{number} after {}", self.last_sent);
        self.last_sent = number;
        assert!(self.window.writes <= CREDIT.writes);
        assert!(self.window.bytes <= CREDIT.bytes || self.window.writes == 1);
        true
    }

    fn hear(&mut self, which: usize, twice: bool) -> bool {
        if self.server.answers.is_empty() {
            return false;
        }
        let place = which % self.server.answers.len();
        let (number, for_now) = self.server.answers.remove(place);
        if let Answered::Decided((_, key)) = self.window.answer(number, for_now) {
            self.told.push(key);
        }
        if twice && !for_now {
            assert_eq!(self.window.answer(number, for_now), Answered::Unasked);
        }
        true
    }

    fn begin(&mut self) {
        self.window.begin();
        self.window.allow(CREDIT);
        self.last_sent = 0;
    }

    fn go(&mut self, step: Step) {
        match step {
            Step::Push(document, bytes) => {
                let key = self.window.next_number();
                self.pushed.entry(document).or_default().push(key);
                self.window.push((document, key), bytes);
            }
            Step::Send(most) => while_some(most, || self.send()),
            Step::Take(most) => (0..most).for_each(|_| self.server.take()),
            Step::Hear(which, twice) => while_some(1, || self.hear(which, twice)),
            Step::Full(full) => self.server.full = full,
            Step::Break(taken) => {
                self.server.breaks(taken);
                self.begin();
            }
            Step::Back => self.window.go_back(),
        }
    }

    /// Lets all come to an end.
    fn finish(&mut self) {
        self.server.full = false;
        loop {
            let mut moved = self.send();
            moved |= !self.server.came.is_empty();
            self.server.take();
            moved |= self.hear(0, false);
            moved |= self.window.can_go_back();
            self.window.go_back();
            if !moved {
                return;
            }
        }
    }
}

/// Does something so many times, or until there is nothing to do.
fn while_some(most: usize, mut work: impl FnMut() -> bool) {
    for _ in 0..most {
        if !work() {
            return;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_write_is_answered_once_and_each_documents_order_is_kept(
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut story = Story::default();
        story.begin();
        for step in steps {
            story.go(step);
        }
        story.finish();
        let pushed: Vec<u64> = (1..story.window.next_number()).collect();
        story.told.sort_unstable();
        prop_assert_eq!(&story.told, &pushed);
        prop_assert_eq!(story.server.accepted.into_iter().collect::<Vec<_>>(), pushed);
        prop_assert_eq!(story.server.documents, story.pushed);
        prop_assert!(story.window.take().is_empty());
    }
}
