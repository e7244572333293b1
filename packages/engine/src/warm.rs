//! Pages that most instances of an image write in their first turn.
//!
//! They are copied when an instance is made, in one call: a page that is first read and then written costs two
//! faults, and an interrupt of every other core that runs a thread of this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::sys;

const SAMPLES: usize = 32;

#[derive(Default)]
pub struct Warm {
    /// As (first byte, bytes).
    hot: Mutex<Arc<Vec<(usize, usize)>>>,
    samples: Mutex<Samples>,
}

/// How often each page was written in the first turn of how many instances.
#[derive(Default)]
struct Samples {
    taken: usize,
    counts: HashMap<usize, usize>,
}

impl Warm {
    /// Whether it is worth telling what an instance wrote in its first turn.
    pub fn wants_samples(&self) -> bool {
        self.samples.lock().expect("samples").taken < SAMPLES
    }

    /// Learns from the pages that an instance wrote in its first turn.
    pub fn learn(&self, pages: &[usize], image_len: usize) {
        let mut samples = self.samples.lock().expect("samples");
        if samples.taken >= SAMPLES {
            return;
        }
        samples.taken += 1;
        for page in pages.iter().filter(|page| (*page + 1) * sys::PAGE <= image_len) {
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

    pub fn ranges(&self) -> Arc<Vec<(usize, usize)>> {
        self.hot.lock().expect("hot").clone()
    }
}
