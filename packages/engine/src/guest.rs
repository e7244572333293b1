//! A guest of either kind, as turns see it.

use std::sync::Arc;

use wasmtime::{Engine, MemoryAccessError, Trap};

use crate::bridge::HomeTrouble;
use crate::code::Code;
use crate::core_guest::Core;
use crate::delta;
use crate::home::{Bounds, Home, Stop, TurnReport};
use crate::image::{self, Handles, Kind};
use crate::instance::Instance;
use crate::layers::{Image, Lies};
use crate::module::Cache;
use crate::quickjs::QuickJs;
use crate::snapshot::{self, Snapshot};
use crate::sys::{self, PAGE};

/// How a turn or an evaluation ended, other than well.
#[derive(Debug)]
pub enum Failure {
    /// The guest's own doing, the same on every machine: a `kind` and what it said.
    Guest { kind: &'static str, detail: String },
    /// The host's doing: the attempt never happened.
    Host(String),
}

/// Time, randomness and fuel of one turn.
pub struct Turn {
    pub clock_ms: f64,
    pub seed: [u8; 32],
    pub fuel: u64,
    /// Bytes to which its memory may grow.
    pub memory: usize,
    /// What it may take of its home.
    pub bounds: Bounds,
    /// The stops of SQL of a turn that is repeated.
    pub repeat: Option<Vec<Stop>>,
}

/// What a turn left: the guest's output, the fuel that it took, and what it did to its home.
pub struct Ended {
    pub output: Vec<u8>,
    pub fuel: u64,
    pub home: TurnReport,
}

pub enum Guest {
    Js(QuickJs),
    Core(Core),
}

impl Guest {
    /// Over an image, or as it was saved over that.
    pub fn over(engine: &Engine, image: &Arc<Image>, cache: Option<&Cache>, saved: Option<&Snapshot>, home: Option<Home>) -> Result<Guest, Failure> {
        let pre = image.code.pre(engine, cache).map_err(Failure::Host)?;
        let instance = Instance::over(engine, &pre, image, saved, home)?;
        match image.code.kind {
            Kind::Js => Ok(Guest::Js(QuickJs::adopt(instance, image.handles)?)),
            Kind::Core => Ok(Guest::Core(Core::adopt(instance)?)),
        }
    }

    pub fn instance(&mut self) -> &mut Instance {
        match self {
            Guest::Js(guest) => &mut guest.instance,
            Guest::Core(guest) => &mut guest.instance,
        }
    }

    pub fn memory(&self) -> &[u8] {
        match self {
            Guest::Js(guest) => guest.instance.memory(),
            Guest::Core(guest) => guest.instance.memory(),
        }
    }

    pub fn save(&mut self, image: &Image) -> Result<Vec<u8>, Failure> {
        let (globals, lies) = (self.instance().globals(), self.instance().lies);
        let first = image.first().map_err(Failure::Host)?;
        let content = image.below_saves(&first).map_err(Failure::Host)?;
        let mapped = if let Lies::First(mapped) = lies { mapped } else { 0 };
        snapshot::encode(self.memory(), &globals, &image.hash, first.as_deref(), mapped, |n| content.page(n)).map_err(Failure::Host)
    }

    /// One turn: events are delivered, then what the guest queued is collected.
    pub fn turn(&mut self, events: &[&[u8]], turn: &Turn) -> Result<Ended, Failure> {
        self.instance().begin(turn)?;
        let output = match self {
            Guest::Js(guest) => guest.turn(events)?,
            Guest::Core(guest) => guest.turn(events)?,
        };
        if sys::take_host_failure() {
            // It saw an allocation fail that would not have failed elsewhere.
            return Err(Failure::Host("the host could not back the guest's memory".into()));
        }
        let store = &mut self.instance().store;
        let left = store.get_fuel().map_err(failure)?;
        let mut home = TurnReport::default();
        if let Some(of) = &mut store.data_mut().home {
            of.end_turn().map_err(|trouble| in_home(HomeTrouble::from(trouble)))?;
            home = of.report();
        }
        Ok(Ended { output, fuel: turn.fuel - left, home })
    }

    /// What the program declares of itself.
    pub fn describe(&mut self, turn: &Turn) -> Result<Vec<u8>, Failure> {
        self.instance().begin(turn)?;
        match self {
            Guest::Js(guest) => guest.describe(),
            Guest::Core(guest) => guest.describe(),
        }
    }

    pub fn home(&mut self) -> Option<&mut Home> {
        self.instance().store.data_mut().home.as_deref_mut()
    }

    /// Takes its home away, for whoever closes it before the rest.
    pub fn take_home(&mut self) -> Option<Box<Home>> {
        self.instance().store.data_mut().home.take()
    }

    /// Makes an image of what it is now, over the image that it was made from.
    pub fn into_image(mut self, code: &Code, parent: Option<&Image>) -> Result<Vec<u8>, Failure> {
        let globals = self.instance().globals();
        let handles = match &self {
            Guest::Js(guest) => guest.handles,
            Guest::Core(_) => Handles::default(),
        };
        let memory = self.memory();
        let content = parent.map(Image::content).transpose().map_err(Failure::Host)?;
        let below = |n: usize| content.as_ref().and_then(|content| content.page(n));
        let head = image::encode(code.kind, &code.hash, parent.map(|image| &image.hash), memory.len(), handles, &globals);
        delta::encode(memory, 0..memory.len() / PAGE, below, head).map_err(Failure::Host)
    }
}

pub fn in_home(HomeTrouble { kind, detail }: HomeTrouble) -> Failure {
    match kind {
        Some(kind) => Failure::Guest { kind, detail },
        None => Failure::Host(detail),
    }
}

/// Sorts what wasmtime reported into the guest's doing and the host's.
pub fn failure(error: wasmtime::Error) -> Failure {
    if sys::take_host_failure() {
        return Failure::Host("the host could not back the guest's memory".into());
    }
    let error = match error.downcast::<HomeTrouble>() {
        Ok(trouble) => return in_home(trouble),
        Err(error) => error,
    };
    let error = match error.downcast::<crate::core_guest::Exited>() {
        Ok(exited) => return Failure::Guest { kind: "Trap", detail: exited.to_string() },
        Err(error) => error,
    };
    let kind = match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => "OutOfFuel",
        Some(Trap::StackOverflow) => "StackOverflow",
        Some(Trap::AllocationTooLarge) => "OutOfMemory",
        Some(_) => "Trap",
        None if error.downcast_ref::<MemoryAccessError>().is_some() => {
            return Failure::Guest { kind: "BadPointer", detail: "it named bytes outside its memory".into() };
        }
        None => return Failure::Host(format!("{error:#}")),
    };
    Failure::Guest { kind, detail: format!("{:#}", error.root_cause()) }
}
