//! Pages that most instances write in the turn for which they are made.
//!
//! They are copied when an instance is made, in one call: a page that is first read and then written costs two
//! faults, and an interrupt of every other core that runs a thread of this process.
//!
//! A page that was copied looks like one that was written. So while it is learned which they are, every other instance
//! is made without: what the turn does not write is found in half of the samples at most.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use crate::sys;

const SAMPLES: usize = 32;

#[derive(Default)]
pub struct Warm {
    /// As (first byte, bytes).
    hot: Mutex<Arc<Vec<(usize, usize)>>>,
    samples: Mutex<Samples>,
}

/// How often each page was written by how many instances.
#[derive(Default)]
struct Samples {
    taken: usize,
    counts: HashMap<usize, usize>,
}

impl Warm {
    /// Whether it is worth telling what an instance wrote.
    pub fn wants_samples(&self) -> bool {
        self.samples.lock().expect("samples").taken < SAMPLES
    }

    /// Learns from pages that an instance wrote, but for those that were its own before; of such as lie in `mapped` bytes.
    pub fn learn(&self, pages: &[usize], own: &[usize], mapped: usize) {
        let mut samples = self.samples.lock().expect("samples");
        if samples.taken >= SAMPLES {
            return;
        }
        samples.taken += 1;
        let own: HashSet<usize> = own.iter().copied().collect();
        for page in pages.iter().filter(|page| (*page + 1) * sys::PAGE <= mapped && !own.contains(page)) {
            *samples.counts.entry(*page).or_default() += 1;
        }
        // Few samples say little; once there are enough, they are taken as they are.
        let most = samples.taken * 3 / 4;
        let hot = samples.counts.iter().filter(|(_, n)| **n > most).map(|(page, _)| *page).collect();
        *self.hot.lock().expect("hot") = Arc::new(sys::ranges(hot));
        if samples.taken == SAMPLES {
            samples.counts = HashMap::new();
        }
    }

    /// What is copied for the next instance.
    pub fn ranges(&self) -> Arc<Vec<(usize, usize)>> {
        let taken = self.samples.lock().expect("samples").taken;
        if taken < SAMPLES && taken % 2 == 1 {
            return Arc::default();
        }
        self.hot.lock().expect("hot").clone()
    }
}
