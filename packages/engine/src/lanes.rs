//! Whose job is next: lanes share the turn threads by weight, as far as they want them.
//!
//! Start-time fair queueing (Goyal, Vin and Cheng, 1996), with time that was taken instead of packet lengths:
//! a lane's virtual time grows by what its jobs take, divided by its weight; the lane with the least goes
//! first. One that comes back after a pause begins at the clock of those that worked, so that a pause earns no
//! arrears and no job of a busy lane can starve a quiet one.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Long jobs of a kind that a lane may have running: at that number its next ones wait, so that those who spin compete
/// with each other and not with their neighbours.
const MAX_DEMOTED: usize = 2;
/// A lane whose long turns took so much lately has its next ones run behind everybody else's from the start.
const HOT: Duration = Duration::from_millis(150);
const COOL: Duration = Duration::from_secs(1);
const DEFAULT_WEIGHT: u32 = 100;
/// Lanes that are remembered beyond those with anything to do.
const MAX_IDLE: usize = 4096;

/// What a job is for. Both count as time of their lane, but neither waits for long ones of the other: whoever wants
/// the room of a tenant's agents would otherwise wait for turns of theirs that spin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JobKind {
    /// A save, of memory or of a home: what makes room. Before turns of its lane.
    Save,
    Turn,
}

const KINDS: [JobKind; 2] = [JobKind::Save, JobKind::Turn];

struct Jobs<J> {
    queue: VecDeque<J>,
    demoted: usize,
}

impl<J> Jobs<J> {
    fn may_begin(&self) -> bool {
        !self.queue.is_empty() && self.demoted < MAX_DEMOTED
    }
}

struct Lane<J> {
    weight: u32,
    /// Nanoseconds taken, times `DEFAULT_WEIGHT`, by weight.
    taken: u64,
    /// By kind.
    jobs: [Jobs<J>; 2],
    running: usize,
    /// Time that long turns took lately, halved every `COOL`.
    heat: Duration,
    heated: Instant,
}

pub struct Lanes<J> {
    lanes: HashMap<u32, Lane<J>>,
    /// Lanes with a job that may begin, by the time that they have taken.
    ready: BTreeSet<(u64, u32)>,
    clock: u64,
    /// The most that any lane has taken.
    highest: u64,
    queued: usize,
    running: usize,
}

impl<J> Default for Lanes<J> {
    fn default() -> Lanes<J> {
        Lanes { lanes: HashMap::new(), ready: BTreeSet::new(), clock: 0, highest: 0, queued: 0, running: 0 }
    }
}

impl<J> Lane<J> {
    fn of(&mut self, kind: JobKind) -> &mut Jobs<J> {
        &mut self.jobs[kind as usize]
    }

    fn may_begin(&self) -> bool {
        self.jobs.iter().any(Jobs::may_begin)
    }

    fn heat_now(&self) -> Duration {
        self.heat.mul_f64(0.5f64.powf(self.heated.elapsed().as_secs_f64() / COOL.as_secs_f64()))
    }

    fn idle(&self) -> bool {
        self.running == 0 && self.jobs.iter().all(|jobs| jobs.queue.is_empty())
    }
}

impl<J> Lanes<J> {
    fn lane(&mut self, lane: u32) -> &mut Lane<J> {
        let jobs = || Jobs { queue: VecDeque::new(), demoted: 0 };
        let fresh = || Lane { weight: DEFAULT_WEIGHT, taken: 0, jobs: [jobs(), jobs()], running: 0, heat: Duration::ZERO, heated: Instant::now() };
        self.lanes.entry(lane).or_insert_with(fresh)
    }

    /// Changes a lane, and its place among those that may begin.
    fn change<T>(&mut self, lane: u32, change: impl FnOnce(&mut Lane<J>) -> T) -> T {
        let of = self.lane(lane);
        let (was, before) = (of.may_begin(), of.taken);
        let done = change(of);
        let (is, after) = (of.may_begin(), of.taken);
        if was && (!is || before != after) {
            self.ready.remove(&(before, lane));
        }
        if is && (!was || before != after) {
            self.ready.insert((after, lane));
        }
        done
    }

    /// A share of time, where others have 100.
    pub fn set_weight(&mut self, lane: u32, weight: u32) {
        self.lane(lane).weight = weight.max(1);
    }

    /// Whether no job may begin, though some may wait.
    pub fn nothing_ready(&self) -> bool {
        self.ready.is_empty()
    }

    pub fn len(&self) -> usize {
        self.queued
    }

    pub fn push(&mut self, lane: u32, kind: JobKind, job: J) {
        let clock = self.clock;
        self.queued += 1;
        self.change(lane, |of| {
            if of.idle() {
                of.taken = of.taken.max(clock);
            }
            of.of(kind).queue.push_back(job);
        });
    }

    /// The next job, if one may begin.
    pub fn pop(&mut self) -> Option<(u32, JobKind, J)> {
        let (taken, lane) = *self.ready.first()?;
        self.clock = self.clock.max(taken);
        self.queued -= 1;
        self.running += 1;
        let (kind, job) = self.change(lane, |of| {
            of.running += 1;
            let kind = KINDS.into_iter().find(|kind| of.of(*kind).may_begin()).expect("ready");
            (kind, of.of(kind).queue.pop_front().expect("ready"))
        });
        Some((lane, kind, job))
    }

    /// A job of this lane has taken so much more.
    pub fn charge(&mut self, lane: u32, time: Duration) {
        let taken = self.change(lane, |of| {
            of.taken += time.as_nanos() as u64 * u64::from(DEFAULT_WEIGHT) / u64::from(of.weight);
            of.taken
        });
        self.highest = self.highest.max(taken);
    }

    /// A long turn of this lane has taken so much more.
    pub fn heat(&mut self, lane: u32, time: Duration) {
        let of = self.lane(lane);
        of.heat = of.heat_now() + time;
        of.heated = Instant::now();
    }

    pub fn is_hot(&self, lane: u32) -> bool {
        self.lanes.get(&lane).is_some_and(|of| of.heat > HOT && of.heat_now() > HOT)
    }

    pub fn demoted(&mut self, lane: u32, kind: JobKind) {
        self.change(lane, |of| of.of(kind).demoted += 1);
    }

    pub fn ended(&mut self, lane: u32, kind: JobKind, demoted: bool) {
        self.change(lane, |of| {
            of.running -= 1;
            of.of(kind).demoted -= usize::from(demoted);
        });
        self.running -= 1;
        if self.running == 0 && self.queued == 0 {
            // What was taken while nobody else wanted it is no debt.
            self.clock = self.highest;
        }
        if self.lanes.len() > MAX_IDLE {
            let clock = self.clock;
            self.lanes.retain(|_, of| !of.idle() || of.taken > clock || of.weight != DEFAULT_WEIGHT);
        }
    }

    pub fn clear(&mut self) {
        self.lanes.clear();
        self.ready.clear();
        self.queued = 0;
    }
}
