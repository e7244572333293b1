//! What memory over an image looks like after a first turn that nobody asked for. Agents of one program resemble it,
//! so their saves hold what differs from it, a few hundred bytes where they have done little.
//!
//! It is itself a save, rehearsed once with words that are nobody's, and kept beside the image: later saves name it.

use std::sync::Arc;

use crate::image::Hash;
use crate::sys::{self, PAGE};

/// The front of a hash: of an image, or of a first turn.
pub type Short = [u8; 8];

pub fn short(hash: &Hash) -> Short {
    hash[..8].try_into().expect("eight of 32 bytes")
}

/// Its bytes, as they lie beside the image.
pub struct First {
    pub name: Short,
    pub bytes: Vec<u8>,
}

/// The pages that were written, whole.
pub struct FirstPages {
    pub name: Short,
    /// Their numbers, ascending.
    pub numbers: Vec<usize>,
    pub pages: Vec<u8>,
}

impl FirstPages {
    pub fn page(&self, n: usize) -> Option<&[u8]> {
        let at = self.numbers.binary_search(&n).ok()?;
        self.pages.get(at * PAGE..(at + 1) * PAGE)
    }

    /// Over memory that holds the image.
    pub fn apply(&self, memory: &mut [u8]) {
        sys::populate(memory, &sys::ranges(self.numbers.clone()));
        for (n, page) in self.numbers.iter().zip(self.pages.chunks_exact(PAGE)) {
            if let Some(to) = memory.get_mut(n * PAGE..(n + 1) * PAGE) {
                to.copy_from_slice(page);
            }
        }
    }
}

pub type SharedPages = Option<Arc<FirstPages>>;
