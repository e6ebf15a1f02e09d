//! Threads of the service's own for what is cut into parts: as many as there are cores, fair among whoever asks.

use std::{
    collections::VecDeque,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
};

use parking_lot::{Condvar, Mutex};

/// A fixed number of threads that take parts in turn: one of this job, one of the next.
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// The work was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failed {
    /// As many jobs as the pool takes were waiting already.
    #[error("too many scans are waiting")]
    Busy,
    /// A part of it panicked.
    #[error("a part of the work failed")]
    Panicked,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    most: usize,
    /// There is a part to take, or the pool is closed.
    ready: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// Jobs of which a part is still to be taken, with the number of the next part.
    jobs: VecDeque<(Arc<Job>, usize)>,
    closed: bool,
}

struct Job {
    part: Box<dyn Fn(usize) + Send + Sync>,
    parts: usize,
    state: Mutex<State>,
    /// All parts are done.
    done: Condvar,
}

#[derive(Debug)]
struct State {
    left: usize,
    panicked: bool,
}

impl Pool {
    /// Starts `threads` threads, at least one, which keep at most `most` jobs waiting.
    ///
    /// # Errors
    /// The system's, if a thread cannot be started.
    pub(crate) fn new(threads: usize, most: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), most, ready: Condvar::new() });
        let mut pool = Self { shared, threads: Vec::new() };
        for _ in 0..threads.max(1) {
            let shared = Arc::clone(&pool.shared);
            let thread = thread::Builder::new().name("memory-scan".into()).spawn(move || shared.work())?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// Does `part` for each number below `parts` and returns once all are done; blocks meanwhile. A single part is done on the
    /// thread of the caller, who is off the async threads.
    ///
    /// # Errors
    /// [`Failed::Busy`] if nothing was begun, [`Failed::Panicked`] if a part panicked.
    pub(crate) fn run(
        &self,
        parts: usize,
        part: impl Fn(usize) + Send + Sync + 'static,
    ) -> Result<(), Failed> {
        if parts <= 1 {
            (0..parts).for_each(part);
            return Ok(());
        }
        let state = Mutex::new(State { left: parts, panicked: false });
        let job = Arc::new(Job { part: Box::new(part), parts, state, done: Condvar::new() });
        {
            let mut queue = self.shared.queue.lock();
            if queue.jobs.len() >= self.shared.most {
                return Err(Failed::Busy);
            }
            queue.jobs.push_back((Arc::clone(&job), 0));
        }
        self.shared.ready.notify_all();
        let mut state = job.state.lock();
        job.done.wait_while(&mut state, |state| state.left > 0);
        if state.panicked { Err(Failed::Panicked) } else { Ok(()) }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.queue.lock().closed = true;
        self.shared.ready.notify_all();
        for thread in self.threads.drain(..) {
            // A thread does not panic: its parts are caught.
            drop(thread.join());
        }
    }
}

impl Shared {
    fn work(&self) {
        while let Some((job, part)) = self.take() {
            job.run(part);
        }
    }

    /// Waits for a part; nothing once the pool is closed and all is taken.
    fn take(&self) -> Option<(Arc<Job>, usize)> {
        let mut queue = self.queue.lock();
        loop {
            if let Some((job, part)) = queue.jobs.pop_front() {
                if part + 1 < job.parts {
                    queue.jobs.push_back((Arc::clone(&job), part + 1));
                }
                return Some((job, part));
            }
            if queue.closed {
                return None;
            }
            self.ready.wait(&mut queue);
        }
    }
}

impl Job {
    fn run(&self, part: usize) {
        let panicked = catch_unwind(AssertUnwindSafe(|| (self.part)(part))).is_err();
        let mut state = self.state.lock();
        state.left -= 1;
        state.panicked |= panicked;
        if state.left == 0 {
            self.done.notify_all();
        }
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Job").field("parts", &self.parts).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::channel,
    };

    use parking_lot::Mutex;

    use super::{Failed, Pool};

    #[test]
    fn every_part_is_done_once() {
        let pool = Pool::new(3, 8).unwrap();
        for parts in [0, 1, 2, 100] {
            let done: Arc<Vec<AtomicUsize>> = Arc::new((0..parts).map(|_| AtomicUsize::new(0)).collect());
            let counted = Arc::clone(&done);
            let count = move |part: usize| {
                counted[part].fetch_add(1, Relaxed);
            };
            pool.run(parts, count).unwrap();
            assert!(done.iter().all(|times| times.load(Relaxed) == 1));
        }
    }

    #[test]
    fn jobs_take_turns() {
        let pool = Arc::new(Pool::new(1, 8).unwrap());
        let (order, gate) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Barrier::new(2)));
        let (began, begins) = channel();
        std::thread::scope(|scope| {
            let first = {
                let (pool, order, gate) = (Arc::clone(&pool), Arc::clone(&order), Arc::clone(&gate));
                let part = move |part| {
                    order.lock().push(('a', part));
                    if part == 0 {
                        began.send(()).unwrap();
                        gate.wait();
                    }
                };
                scope.spawn(move || pool.run(3, part))
            };
            // The first part of the first job holds the only thread until the second job waits.
            begins.recv().unwrap();
            let second = {
                let (pool, order) = (Arc::clone(&pool), Arc::clone(&order));
                scope.spawn(move || pool.run(2, move |part| order.lock().push(('b', part))))
            };
            while pool.shared.queue.lock().jobs.len() < 2 {
                std::thread::yield_now();
            }
            gate.wait();
            assert_eq!((first.join().unwrap(), second.join().unwrap()), (Ok(()), Ok(())));
        });
        assert_eq!(*order.lock(), [('a', 0), ('a', 1), ('b', 0), ('a', 2), ('b', 1)]);
    }

    #[test]
    fn more_jobs_than_may_wait_are_refused() {
        let pool = Pool::new(1, 0).unwrap();
        assert_eq!(pool.run(2, |_| ()), Err(Failed::Busy));
    }

    #[test]
    fn a_part_that_panics_fails_its_job_and_no_other() {
        let pool = Pool::new(2, 8).unwrap();
        assert_eq!(pool.run(4, |part| assert_ne!(part, 2, "on purpose")), Err(Failed::Panicked));
        assert_eq!(pool.run(4, |_| ()), Ok(()));
    }
}
