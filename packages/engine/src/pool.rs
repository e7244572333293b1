//! The threads that run guests.
//!
//! A fixed number of workers take jobs as `lanes` says whose turn it is. A job that has run `DEMOTE_AFTER` is
//! demoted: its thread gives way to others a little, the pool starts another, and the demoted one
//! ends after its job. One that has run `SINK_AFTER` spins, as far as anybody can tell, and runs only
//! where nobody else wants to: what only has much to do would starve there on a busy machine.
//!
//! A lane whose jobs ran long lately gets that priority at once: who begins anew every second would otherwise
//! compete at full priority each time. What counts for both is processor time: who waits for a processor or a disk
//! would otherwise wait ever longer.
//!
//! Waking a thread costs more than a short turn. So one worker at a time looks for the next job for
//! `LOOK` before it sleeps, and only if the last wait of any was that short.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::lanes::{JobKind, Lanes};
use crate::module::NATIVE_STACK;
use crate::sys;

const DEMOTE_AFTER: Duration = Duration::from_millis(10);
const SINK_AFTER: Duration = Duration::from_millis(100);
/// A share of a core that is about two fifths of others', where all want it.
const DEMOTED_NICE: i32 = 4;
const WATCH_EVERY: Duration = Duration::from_millis(5);
const LOOK: Duration = Duration::from_micros(160);
const SOON: Duration = Duration::from_micros(250);

/// The lane of the node's own work: loading and building images. It runs long by nature and nobody
/// chose it to; it gives way to turns by another thread, but keeps its priority.
pub const HOST_LANE: u32 = 0;
/// That of compiling what others wrote.
pub const COMPILE_LANE: u32 = u32::MAX;

/// The share of the node's own work, where a tenant has 100.
const HOST_WEIGHT: u32 = 800;

/// Dropped by whoever has time; at so many, by the next who comes.
const MAX_DISCARDED: usize = 64;

pub type Discarded = Box<dyn Send>;

pub struct Job {
    pub lane: u32,
    pub kind: JobKind,
    pub run: Box<dyn FnOnce() + Send>,
}

struct Running {
    thread: i32,
    lane: u32,
    kind: JobKind,
    since: Instant,
    /// What its lane was charged for it.
    charged: Duration,
    /// Processor time of its thread when it began, and up to which its lane was heated.
    cpu_began: u64,
    cpu_seen: u64,
    demoted: bool,
    sunk: bool,
}

#[derive(Default)]
struct State {
    lanes: Lanes<Job>,
    running: HashMap<u64, Running>,
    discarded: Vec<Discarded>,
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
            state.lanes.set_weight(HOST_LANE, HOST_WEIGHT);
            for _ in 0..size {
                assert!(pool.add_worker(&mut state), "a turn thread starts");
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
        state.lanes.push(job.lane, job.kind, job);
        self.queued.store(state.lanes.len(), SeqCst);
        let asleep = state.asleep > 0;
        drop(state);
        // Whoever stops looking looks at the queue once more under the lock, so no job is missed.
        if asleep && !self.looking.load(SeqCst) {
            self.work.notify_one();
        }
    }

    /// Drops what takes as long to drop as a short job, when no job waits for that.
    pub fn discard(&self, what: Discarded) {
        let mut state = self.state.lock().expect("pool");
        if !state.closed {
            state.discarded.push(what);
        }
        let sleeping = state.asleep == state.workers;
        drop(state);
        if sleeping && !self.looking.load(SeqCst) {
            self.work.notify_one();
        }
    }

    /// The share of a lane, where others have 100.
    pub fn set_weight(&self, lane: u32, weight: u32) {
        self.state.lock().expect("pool").lanes.set_weight(lane, weight);
    }

    /// Ends the workers after what they run; queued jobs are dropped.
    pub fn close(&self) {
        let mut state = self.state.lock().expect("pool");
        state.closed = true;
        let discarded = std::mem::take(&mut state.discarded);
        state.lanes.clear();
        self.queued.store(0, SeqCst);
        self.work.notify_all();
        self.watch.notify_all();
        drop(state);
        drop(discarded);
    }

    /// False: the system has no thread for it now.
    fn add_worker(self: &Arc<Self>, state: &mut State) -> bool {
        state.next_worker += 1;
        let (pool, id) = (self.clone(), state.next_worker);
        let started = std::thread::Builder::new()
            .name(format!("cardinal-turn-{id}"))
            .stack_size(NATIVE_STACK + (1 << 20))
            .spawn(move || pool.work(id))
            .is_ok();
        state.workers += usize::from(started);
        started
    }

    fn work(self: &Arc<Self>, id: u64) {
        let thread = sys::thread_id();
        loop {
            let Some(job) = self.next(id, thread) else { return };
            (job.run)();
            let mut state = self.state.lock().expect("pool");
            let ended = state.running.remove(&id).expect("noted when it began");
            if state.closed {
                return;
            }
            let more = ended.since.elapsed().saturating_sub(ended.charged);
            state.lanes.charge(ended.lane, more);
            if ended.demoted && ended.kind == JobKind::Turn {
                let worked = sys::thread_cpu_ns().saturating_sub(ended.cpu_seen);
                state.lanes.heat(ended.lane, Duration::from_nanos(worked));
            }
            state.lanes.ended(ended.lane, ended.kind, ended.demoted);
            if ended.demoted {
                // Jobs of this lane may have been waiting for exactly this end.
                self.work.notify_all();
                if state.workers >= self.size {
                    return;
                }
                // No other thread could be had for it: better a slow one than none.
                state.workers += 1;
            }
        }
    }

    /// A job runs long, or will: the pool gets another thread for it, and its own ends with it.
    fn give_way(self: &Arc<Self>, state: &mut State, lane: u32, kind: JobKind) {
        state.lanes.demoted(lane, kind);
        state.workers -= 1;
        if state.workers < self.size {
            self.add_worker(state);
        }
    }

    fn next(self: &Arc<Self>, id: u64, thread: i32) -> Option<Job> {
        self.look();
        let mut state = self.state.lock().expect("pool");
        loop {
            if state.closed {
                return None;
            }
            if state.discarded.len() >= MAX_DISCARDED || (state.lanes.nothing_ready() && !state.discarded.is_empty()) {
                let discarded = std::mem::take(&mut state.discarded);
                drop(state);
                drop(discarded);
                state = self.state.lock().expect("pool");
                continue;
            }
            if let Some((lane, kind, job)) = state.lanes.pop() {
                self.queued.store(state.lanes.len(), SeqCst);
                if state.lanes.len() > 0 && state.asleep > 0 {
                    // Whoever submitted the rest may have woken nobody, because this thread was looking.
                    self.work.notify_one();
                }
                let hot = kind == JobKind::Turn && lane != HOST_LANE && state.lanes.is_hot(lane);
                let cpu = sys::thread_cpu_ns();
                let since = Instant::now();
                let running = Running { thread, lane, kind, since, charged: Duration::ZERO, cpu_began: cpu, cpu_seen: cpu, demoted: hot, sunk: hot };
                let first = state.running.is_empty();
                state.running.insert(id, running);
                if first {
                    self.watch.notify_one();
                }
                if hot {
                    self.give_way(&mut state, lane, kind);
                    sys::sink(thread);
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
            let (mut lanes, mut charges) = (Vec::new(), Vec::new());
            for running in state.running.values_mut() {
                let ran = running.since.elapsed();
                let cpu = sys::cpu_ns_of(running.thread);
                let worked = (running.demoted && running.kind == JobKind::Turn).then(|| Duration::from_nanos(cpu.saturating_sub(running.cpu_seen)));
                charges.push((running.lane, ran.saturating_sub(running.charged), worked));
                (running.charged, running.cpu_seen) = (ran, cpu);
                if !running.demoted && running.since.elapsed() >= DEMOTE_AFTER {
                    running.demoted = true;
                    if running.lane != HOST_LANE {
                        sys::demote(running.thread, DEMOTED_NICE);
                    }
                    lanes.push((running.lane, running.kind));
                }
                if !running.sunk && running.lane != HOST_LANE && Duration::from_nanos(cpu.saturating_sub(running.cpu_began)) >= SINK_AFTER {
                    running.sunk = true;
                    sys::sink(running.thread);
                }
            }
            // What runs long counts while it runs, not only when it has ended.
            for (lane, more, worked) in charges {
                state.lanes.charge(lane, more);
                if let Some(worked) = worked {
                    state.lanes.heat(lane, worked);
                }
            }
            for (lane, kind) in lanes {
                self.give_way(&mut state, lane, kind);
            }
        }
    }
}
