//! How much SQL a turn may take: steps of SQLite's machine, and the processor time of those that take
//! long. Not a pure function of what a guest did, so a stop is recorded and repeated as recorded.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Result};

use crate::sys;

/// The meter is read after so many steps.
pub const STEPS_A_LOOK: u64 = 100;
/// A step that takes longer than this counts as several; few do, so that most statements cost the same
/// in every repetition.
const NS_A_STEP: u64 = 100;
/// Below this nobody asks the operating system for the time of the thread.
const SHORT: Duration = Duration::from_millis(2);

#[derive(Default)]
pub struct Meter {
    left: AtomicI64,
    /// Statements of the kernel's own cost nothing and are never stopped.
    paused: AtomicBool,
    taken: AtomicU64,
    /// Steps since processor time was asked for.
    looked: AtomicU64,
    /// Processor time of this thread that has been counted, since the call began.
    counted_ns: AtomicU64,
}

impl Meter {
    /// A turn begins, with so many steps.
    pub fn fill(&self, steps: u64) {
        self.left.store(steps.min(i64::MAX as u64) as i64, Relaxed);
        self.taken.store(0, Relaxed);
    }

    pub fn pause(&self, paused: bool) {
        self.paused.store(paused, Relaxed);
    }

    pub fn begin_call(&self) {
        self.counted_ns.store(sys::thread_cpu_ns(), Relaxed);
        self.looked.store(0, Relaxed);
    }

    /// Counts what a call took beside its steps, if it was long.
    pub fn end_call(&self, began: Instant) {
        if began.elapsed() > SHORT {
            let slow = self.time_steps().saturating_sub(self.looked.swap(0, Relaxed));
            self.charge(slow);
        }
    }

    /// Counts what a statement took since it was last looked at.
    pub fn charge(&self, steps: u64) {
        self.taken.fetch_add(steps, Relaxed);
        self.left.fetch_sub(steps as i64, Relaxed);
    }

    pub fn spent(&self) -> bool {
        self.left.load(Relaxed) <= 0
    }

    pub fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    fn time_steps(&self) -> u64 {
        let now = sys::thread_cpu_ns();
        let before = self.counted_ns.swap(now, Relaxed);
        now.saturating_sub(before) / NS_A_STEP
    }

    /// Whether the statement must stop.
    fn look(&self, since: &mut Instant) -> bool {
        if self.paused.load(Relaxed) {
            return false;
        }
        self.charge(STEPS_A_LOOK);
        if since.elapsed() > SHORT {
            let slow = self.time_steps().saturating_sub(self.looked.swap(0, Relaxed));
            self.charge(slow);
            *since = Instant::now();
        } else {
            self.looked.fetch_add(STEPS_A_LOOK, Relaxed);
        }
        self.spent()
    }

    pub fn watch(self: &Arc<Self>, connection: &mut Connection) -> Result<()> {
        let meter = self.clone();
        let mut since = Instant::now();
        connection.progress_handler(STEPS_A_LOOK as i32, Some(move || meter.look(&mut since)))
    }
}
