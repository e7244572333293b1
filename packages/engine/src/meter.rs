//! How much SQL a turn may take: steps of SQLite's machine, and the processor time of those that take
//! long. Not a pure function of what a guest did, so a stop is recorded and repeated as recorded.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
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
    /// Steps since processor time was asked for.
    looked: AtomicU64,
    /// Processor time of this thread, and the time of day, when it was asked for last.
    asked: Mutex<Option<(u64, Instant)>>,
}

impl Meter {
    /// A turn begins, with so many steps.
    pub fn fill(&self, steps: u64) {
        self.left.store(steps.min(i64::MAX as u64) as i64, Relaxed);
    }

    pub fn pause(&self, paused: bool) {
        self.paused.store(paused, Relaxed);
    }

    /// From here on time counts, on the thread that calls this.
    pub fn begin_call(&self) {
        *self.asked.lock().expect("meter") = Some((sys::thread_cpu_ns(), Instant::now()));
        self.looked.store(0, Relaxed);
    }

    /// Counts what a call took beside its steps, if it was long.
    pub fn end_call(&self) {
        self.charge_time();
        *self.asked.lock().expect("meter") = None;
    }

    pub fn charge(&self, steps: u64) {
        self.left.fetch_sub(steps as i64, Relaxed);
    }

    pub fn spent(&self) -> bool {
        self.left.load(Relaxed) <= 0
    }

    /// Counts processor time beyond that of the steps, where some time has gone by.
    fn charge_time(&self) {
        let mut asked = self.asked.lock().expect("meter");
        let Some((before, since)) = *asked else { return };
        if since.elapsed() <= SHORT {
            return;
        }
        let now = sys::thread_cpu_ns();
        *asked = Some((now, Instant::now()));
        let steps = now.saturating_sub(before) / NS_A_STEP;
        self.charge(steps.saturating_sub(self.looked.swap(0, Relaxed)));
    }

    /// Whether the statement must stop.
    fn look(&self) -> bool {
        if self.paused.load(Relaxed) {
            return false;
        }
        self.charge(STEPS_A_LOOK);
        self.looked.fetch_add(STEPS_A_LOOK, Relaxed);
        self.charge_time();
        self.spent()
    }

    pub fn watch(self: &Arc<Self>, connection: &mut Connection) -> Result<()> {
        let meter = self.clone();
        connection.progress_handler(STEPS_A_LOOK as i32, Some(move || meter.look()))
    }
}
