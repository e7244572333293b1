//! The threads that run guests.
//!
//! A fixed number of workers take jobs from one queue. A job that has run `DEMOTE_AFTER` is
//! demoted: its thread gives way to others a little, the pool starts another, and the demoted one
//! ends after its job. One that has run `SINK_AFTER` spins, as far as anybody can tell, and drops to
//! the lowest priority: what only has much to do would starve there on a busy machine. Each lane (a tenant) may have only so many demoted jobs; at that number its
//! next jobs wait, so that those who spin compete with each other and not with their neighbours.
//!
//! Waking a thread costs more than a short turn. So one worker at a time looks for the next job for
//! `LOOK` before it sleeps, and only if the last wait of any was that short.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::module::NATIVE_STACK;
use crate::sys;

const DEMOTE_AFTER: Duration = Duration::from_millis(10);
const SINK_AFTER: Duration = Duration::from_millis(100);
/// A share of a core that is about two fifths of others', where all want it.
const DEMOTED_NICE: i32 = 4;
const SUNK_NICE: i32 = 19;
const WATCH_EVERY: Duration = Duration::from_millis(5);
const MAX_DEMOTED_PER_LANE: usize = 2;
const LOOK: Duration = Duration::from_micros(160);
const SOON: Duration = Duration::from_micros(250);

/// The lane of the node's own work: loading and building images. It runs long by nature and nobody
/// chose it to; it gives way to turns by another thread, but keeps its priority.
pub const HOST_LANE: u32 = 0;
/// That of compiling what others wrote.
pub const COMPILE_LANE: u32 = u32::MAX;

pub struct Job {
    pub lane: u32,
    pub run: Box<dyn FnOnce() + Send>,
}

struct Running {
    thread: i32,
    lane: u32,
    since: Instant,
    demoted: bool,
    sunk: bool,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    running: HashMap<u64, Running>,
    demoted: HashMap<u32, usize>,
    workers: usize,
    /// Workers that sleep: waking is a system call, so only who sleeps is woken.
    asleep: usize,
    next_worker: u64,
    closed: bool,
}

pub struct Pool {
    size: usize,
    state: Mutex<State>,
    work: Condvar,
    watch: Condvar,
    /// How many jobs are queued, for whoever looks without the lock.
    queued: AtomicUsize,
    /// Whether a worker is looking; it then needs no waking.
    looking: AtomicBool,
    /// Whether at the last wait a job came soon.
    soon: AtomicBool,
}

impl Pool {
    pub fn new(size: usize) -> Arc<Pool> {
        let pool = Arc::new(Pool {
            size,
            state: Mutex::default(),
            work: Condvar::new(),
            watch: Condvar::new(),
            queued: AtomicUsize::new(0),
            looking: AtomicBool::new(false),
            soon: AtomicBool::new(false),
        });
        {
            let mut state = pool.state.lock().expect("pool");
            for _ in 0..size {
                pool.add_worker(&mut state);
            }
        }
        let watcher = pool.clone();
        std::thread::Builder::new()
            .name("cardinal-watch".into())
            .spawn(move || watcher.watch())
            .expect("the watch thread starts");
        pool
    }

    pub fn submit(&self, job: Job) {
        let mut state = self.state.lock().expect("pool");
        state.queue.push_back(job);
        self.queued.store(state.queue.len(), SeqCst);
        let asleep = state.asleep > 0;
        drop(state);
        // Whoever stops looking looks at the queue once more under the lock, so no job is missed.
        if asleep && !self.looking.load(SeqCst) {
            self.work.notify_one();
        }
    }

    /// Ends the workers after what they run; queued jobs are dropped.
    pub fn close(&self) {
        let mut state = self.state.lock().expect("pool");
        state.closed = true;
        state.queue.clear();
        self.queued.store(0, SeqCst);
        self.work.notify_all();
        self.watch.notify_all();
    }

    fn add_worker(self: &Arc<Self>, state: &mut State) {
        state.workers += 1;
        state.next_worker += 1;
        let (pool, id) = (self.clone(), state.next_worker);
        std::thread::Builder::new()
            .name(format!("cardinal-turn-{id}"))
            .stack_size(NATIVE_STACK + (1 << 20))
            .spawn(move || pool.work(id))
            .expect("a turn thread starts");
    }

    fn work(self: &Arc<Self>, id: u64) {
        let thread = sys::thread_id();
        loop {
            let Some(job) = self.next(id, thread) else { return };
            (job.run)();
            let mut state = self.state.lock().expect("pool");
            let ended = state.running.remove(&id).expect("noted when it began");
            if ended.demoted {
                let left = state.demoted.get_mut(&ended.lane).expect("counted when demoted");
                *left -= 1;
                if *left == 0 {
                    state.demoted.remove(&ended.lane);
                }
                // Jobs of this lane may have been waiting for exactly this end.
                self.work.notify_all();
                return;
            }
        }
    }

    fn next(&self, id: u64, thread: i32) -> Option<Job> {
        self.look();
        let mut state = self.state.lock().expect("pool");
        loop {
            if state.closed {
                return None;
            }
            let full = |lane: u32, s: &State| s.demoted.get(&lane).is_some_and(|n| *n >= MAX_DEMOTED_PER_LANE);
            let found = if state.demoted.is_empty() {
                if state.queue.is_empty() { None } else { Some(0) }
            } else {
                state.queue.iter().position(|job| !full(job.lane, &state))
            };
            if let Some(at) = found {
                let job = state.queue.remove(at).expect("just found");
                self.queued.store(state.queue.len(), SeqCst);
                if !state.queue.is_empty() && state.asleep > 0 {
                    // Whoever submitted the rest may have woken nobody, because this thread was looking.
                    self.work.notify_one();
                }
                let running = Running { thread, lane: job.lane, since: Instant::now(), demoted: false, sunk: false };
                let first = state.running.is_empty();
                state.running.insert(id, running);
                if first {
                    self.watch.notify_one();
                }
                return Some(job);
            }
            let began = Instant::now();
            state.asleep += 1;
            state = self.work.wait(state).expect("pool");
            state.asleep -= 1;
            self.soon.store(began.elapsed() < SOON, SeqCst);
        }
    }

    /// Looks for a job without sleeping, if that is likely to pay and nobody else does.
    fn look(&self) {
        if !self.soon.load(SeqCst) || self.looking.swap(true, SeqCst) {
            return;
        }
        let until = Instant::now() + LOOK;
        while self.queued.load(SeqCst) == 0 && Instant::now() < until {
            std::hint::spin_loop();
        }
        self.looking.store(false, SeqCst);
    }

    /// Demotes what runs long; sleeps while nothing runs.
    fn watch(self: &Arc<Self>) {
        let mut state = self.state.lock().expect("pool");
        while !state.closed {
            if state.running.is_empty() {
                state = self.watch.wait(state).expect("pool");
                continue;
            }
            state = self.watch.wait_timeout(state, WATCH_EVERY).expect("pool").0;
            let mut lanes = Vec::new();
            for running in state.running.values_mut() {
                if !running.demoted && running.since.elapsed() >= DEMOTE_AFTER {
                    running.demoted = true;
                    if running.lane != HOST_LANE {
                        sys::demote(running.thread, DEMOTED_NICE);
                    }
                    lanes.push(running.lane);
                }
                if !running.sunk && running.lane != HOST_LANE && running.since.elapsed() >= SINK_AFTER {
                    running.sunk = true;
                    sys::demote(running.thread, SUNK_NICE);
                }
            }
            for lane in lanes {
                *state.demoted.entry(lane).or_default() += 1;
                state.workers -= 1;
                if state.workers < self.size {
                    self.add_worker(&mut state);
                }
            }
        }
    }
}
