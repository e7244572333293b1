//! Driving one QuickJS guest: boot, evaluate, deliver events, collect what it queued.
//!
//! Between calls the WASM stack is empty, so linear memory, the stack pointer and the handles
//! below are the whole guest.

use std::sync::Arc;

use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha20Rng;
use wasmtime::{Engine, Instance, InstancePre, Module, Store, Trap};

use crate::bridge::HomeTrouble;
use crate::home::{Bounds, Home, Stop, TurnReport};
use crate::host::{linker, new_store, Calls, Host};
use crate::image::Handles;
use crate::sys;

/// QuickJS refuses deeper recursion with a RangeError here, long before native stack runs out.
const QUICKJS_STACK: i32 = 64 << 10;
const GC_THRESHOLD: i32 = 16 << 20;
/// What a new instance may allocate before its memory grows.
const FIRST_ROOM: i32 = 256 << 10;
const MAX_REPORT: usize = 8 << 10;

/// How a turn or an evaluation ended, other than well.
#[derive(Debug)]
pub enum Failure {
    /// The guest's own doing, the same on every machine: a `kind` and what it said.
    Guest { kind: &'static str, detail: String },
    /// The host's doing: the attempt never happened.
    Host(String),
}

pub struct Guest {
    pub store: Store<Host>,
    instance: Instance,
    calls: Calls,
    pub handles: Handles,
}

/// Time, randomness and fuel of one turn.
pub struct Turn {
    pub clock_ms: f64,
    pub seed: [u8; 32],
    pub fuel: u64,
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

impl Guest {
    /// Boots QuickJS itself; `full` still has its data segments.
    pub fn boot(engine: &Engine, full: &Module, maximum: usize, turn: &Turn) -> Result<Guest, Failure> {
        sys::plan_memory(None, maximum);
        let mut store = new_store(engine);
        start_turn(&mut store, turn)?;
        let boot = |store: &mut Store<Host>| -> wasmtime::Result<(Instance, Calls)> {
            let instance = linker(engine)?.instantiate(&mut *store, full)?;
            instance.get_typed_func::<(), ()>(&mut *store, "_initialize")?.call(&mut *store, ())?;
            let calls = Calls::bind(store, &instance)?;
            store.data_mut().calls = Some(calls.clone());
            let made = instance.get_typed_func::<(), i32>(&mut *store, "qjs_init")?.call(&mut *store, ())?;
            if made != 0 {
                return Err(wasmtime::Error::msg("QuickJS did not start"));
            }
            for (name, value) in [("qjs_set_max_stack_size", QUICKJS_STACK), ("qjs_set_promise_rejection_handler", 1)] {
                instance.get_typed_func::<i32, ()>(&mut *store, name)?.call(&mut *store, value)?;
            }
            Ok((instance, calls))
        };
        let (instance, calls) = boot(&mut store).map_err(failure)?;
        let mut guest = Guest { store, instance, calls, handles: Handles::default() };
        guest.install("random", 1).map_err(failure)?;
        guest.install("home", 7).map_err(failure)?;
        Ok(guest)
    }

    /// An instance over an image: nothing is initialised, everything is already there.
    pub fn over(
        engine: &Engine,
        pre: &InstancePre<Host>,
        image: &Arc<sys::Sealed>,
        handles: Handles,
        maximum: usize,
        home: Option<Home>,
    ) -> Result<Guest, Failure> {
        sys::plan_memory(Some(image.clone()), maximum);
        let mut store = new_store(engine);
        let bind = |store: &mut Store<Host>| -> wasmtime::Result<(Instance, Calls)> {
            let instance = pre.instantiate(&mut *store)?;
            Ok((instance, Calls::bind(store, &instance)?))
        };
        let (instance, calls) = bind(&mut store).map_err(|e| Failure::Host(format!("instantiate: {e:#}")))?;
        store.data_mut().calls = Some(calls.clone());
        store.data_mut().home = home.map(Box::new);
        let mut guest = Guest { store, instance, calls, handles };
        guest.restore_stack_pointer(handles.stack_pointer);
        Ok(guest)
    }

    /// Puts a host function on the global object, for the SDK to take.
    fn install(&mut self, name: &str, arguments: i32) -> wasmtime::Result<()> {
        let key = self.put(format!("__cardinal_{name}").as_bytes())?;
        let length = name.len() as i32;
        let name = self.put(name.as_bytes())?;
        let function = self.calls.new_function.call(&mut self.store, (name, length, arguments))?;
        let global = self.calls.global.call(&mut self.store, ())?;
        self.calls.set_property.call(&mut self.store, (global, key, function))?;
        for value in [function, global] {
            self.calls.free_value.call(&mut self.store, value)?;
        }
        for at in [name, key] {
            self.calls.free.call(&mut self.store, at)?;
        }
        Ok(())
    }

    pub fn memory(&self) -> &[u8] {
        self.calls.memory.data(&self.store)
    }

    pub fn memory_mut(&mut self) -> &mut [u8] {
        self.calls.memory.data_mut(&mut self.store)
    }

    /// Grows memory to at least `len` bytes.
    pub fn grow_to(&mut self, len: usize) -> Result<(), Failure> {
        const WASM_PAGE: usize = 65_536;
        let more = len.saturating_sub(self.memory().len()).div_ceil(WASM_PAGE);
        if more > 0 {
            let grown = self.calls.memory.grow(&mut self.store, more as u64);
            grown.map_err(|e| Failure::Host(format!("grow memory: {e:#}")))?;
        }
        Ok(())
    }

    pub fn stack_pointer(&mut self) -> i32 {
        let global = self.instance.get_global(&mut self.store, "__stack_pointer").expect("checked at boot");
        global.get(&mut self.store).unwrap_i32()
    }

    pub fn restore_stack_pointer(&mut self, value: i32) {
        let global = self.instance.get_global(&mut self.store, "__stack_pointer").expect("checked at boot");
        global.set(&mut self.store, value.into()).expect("a mutable i32");
    }

    /// Evaluates a script as part of an image, drains its jobs, and refuses what it left rejected.
    pub fn evaluate(&mut self, source: &[u8], name: &str, turn: &Turn) -> Result<(), Failure> {
        start_turn(&mut self.store, turn)?;
        let run = |g: &mut Guest| -> wasmtime::Result<Result<(), Failure>> {
            let (code, file) = (g.put(source)?, g.put(name.as_bytes())?);
            let value = g.calls.eval.call(&mut g.store, (code, source.len() as i32, file, 0))?;
            g.calls.free.call(&mut g.store, code)?;
            g.calls.free.call(&mut g.store, file)?;
            if let Err(thrown) = g.settle(value)? {
                return Ok(Err(thrown));
            }
            g.drain()
        };
        run(self).map_err(failure)??;
        self.check_rejections()
    }

    /// Takes the turn functions that the SDK left on the global object, and removes them from it,
    /// so that no program can replace them.
    pub fn adopt_turn_functions(&mut self) -> Result<(), Failure> {
        let adopt = |g: &mut Guest| -> wasmtime::Result<Result<(), Failure>> {
            for name in ["deliver", "collect", "describe"] {
                let global = g.calls.global.call(&mut g.store, ())?;
                let key = g.put(format!("__cardinal_{name}").as_bytes())?;
                let value = g.calls.get_property.call(&mut g.store, (global, key))?;
                g.calls.free_value.call(&mut g.store, global)?;
                g.calls.free.call(&mut g.store, key)?;
                if g.calls.is_function.call(&mut g.store, value)? == 0 {
                    let detail = format!("the SDK did not define `{name}`");
                    return Ok(Err(Failure::Guest { kind: "Malformed", detail }));
                }
                match name {
                    "deliver" => g.handles.deliver = value,
                    "collect" => g.handles.collect = value,
                    _ => g.handles.describe = value,
                }
            }
            g.handles.undefined = g.calls.undefined.call(&mut g.store, ())?;
            Ok(Ok(()))
        };
        adopt(self).map_err(failure)??;
        let forget = b"delete globalThis.__cardinal_deliver; delete globalThis.__cardinal_collect; \
            delete globalThis.__cardinal_describe; delete globalThis.__cardinal_random; \
            delete globalThis.__cardinal_home; 0";
        self.evaluate(forget, "cardinal:adopt", &Turn { clock_ms: 0.0, seed: [0; 32], fuel: 1 << 32, bounds: Bounds::default(), repeat: None })
    }

    /// One turn: each event is delivered and its jobs drained before the next, then what the guest
    /// queued is collected.
    pub fn turn(&mut self, events: &[&[u8]], turn: &Turn) -> Result<Ended, Failure> {
        start_turn(&mut self.store, turn)?;
        if let Some(home) = &mut self.store.data_mut().home {
            home.begin_turn(turn.clock_ms, &turn.seed, turn.bounds, turn.repeat.clone());
        }
        let (deliver, collect) = (self.handles.deliver, self.handles.collect);
        for event in events {
            self.call_with(deliver, Some(event))?;
        }
        let output = self.call_with(collect, None)?;
        self.check_rejections()?;
        let left = self.store.get_fuel().map_err(failure)?;
        let mut home = TurnReport::default();
        if let Some(of) = &mut self.store.data_mut().home {
            of.end_turn().map_err(|trouble| in_home(HomeTrouble::from(trouble)))?;
            home = of.report();
        }
        Ok(Ended { output, fuel: turn.fuel - left, home })
    }

    pub fn home(&mut self) -> Option<&mut Home> {
        self.store.data_mut().home.as_deref_mut()
    }

    /// Makes the memory of an image cheap to share: garbage is collected now and rarely later (a
    /// collection walks, and so makes private, every page), and the holes that it left are filled for
    /// good, so that what an instance allocates lies together behind the image and not all over it.
    /// Cycles are still collected once a guest has allocated `GC_THRESHOLD` of its own.
    pub fn settle_heap(&mut self) -> Result<(), Failure> {
        let settle = |g: &mut Guest| -> wasmtime::Result<()> {
            g.instance.get_typed_func::<(), ()>(&mut g.store, "qjs_run_gc")?.call(&mut g.store, ())?;
            g.instance.get_typed_func::<i32, ()>(&mut g.store, "qjs_set_gc_threshold")?.call(&mut g.store, GC_THRESHOLD)?;
            g.fill_holes()
        };
        settle(self).map_err(failure)
    }

    /// Allocates every hole, from large to small, then makes room behind them that is one piece.
    fn fill_holes(&mut self) -> wasmtime::Result<()> {
        let end = self.memory().len();
        let large = (10..=20).rev().map(|bits| 1i32 << bits);
        for size in large.chain((4..1024).rev().step_by(8)) {
            loop {
                let at = self.calls.malloc.call(&mut self.store, size)?;
                if at == 0 {
                    return Err(Trap::AllocationTooLarge.into());
                }
                if at as u32 as usize + size as usize > end {
                    self.calls.free.call(&mut self.store, at)?;
                    break;
                }
            }
        }
        let room = self.calls.malloc.call(&mut self.store, FIRST_ROOM)?;
        self.calls.free.call(&mut self.store, room)
    }

    /// What the program declares of itself, as the SDK reports it.
    pub fn describe(&mut self, turn: &Turn) -> Result<Vec<u8>, Failure> {
        start_turn(&mut self.store, turn)?;
        let describe = self.handles.describe;
        self.call_with(describe, None)
    }

    fn call_with(&mut self, function: i32, argument: Option<&[u8]>) -> Result<Vec<u8>, Failure> {
        let run = |g: &mut Guest| -> wasmtime::Result<Result<Vec<u8>, Failure>> {
            let (mut string, mut argv) = (0, 0);
            if let Some(text) = argument {
                let at = g.put(text)?;
                string = g.calls.new_string.call(&mut g.store, (at, text.len() as i32))?;
                g.calls.free.call(&mut g.store, at)?;
                argv = g.put(&string.to_le_bytes())?;
            }
            let argc = i32::from(argument.is_some());
            let value = g.calls.call.call(&mut g.store, (function, g.handles.undefined, argc, argv))?;
            if argument.is_some() {
                g.calls.free_value.call(&mut g.store, string)?;
                g.calls.free.call(&mut g.store, argv)?;
            }
            let text = match g.take(value)? {
                Ok(text) => text,
                Err(thrown) => return Ok(Err(thrown)),
            };
            Ok(g.drain()?.map(|()| text))
        };
        run(self).map_err(failure)?
    }

    /// Runs promise jobs until none is left.
    fn drain(&mut self) -> wasmtime::Result<Result<(), Failure>> {
        while self.calls.job_pending.call(&mut self.store, ())? != 0 {
            if self.calls.run_job.call(&mut self.store, ())? < 0 {
                return Ok(Err(self.thrown("UncaughtException")?));
            }
        }
        Ok(Ok(()))
    }

    fn check_rejections(&mut self) -> Result<(), Failure> {
        let rejected = std::mem::take(&mut self.store.data_mut().rejected);
        let Some((_, reason)) = rejected.first().copied() else { return Ok(()) };
        let detail = self.report(reason).map_err(failure)?;
        Err(Failure::Guest { kind: "UnhandledRejection", detail })
    }

    fn put(&mut self, bytes: &[u8]) -> wasmtime::Result<i32> {
        let at = self.calls.malloc.call(&mut self.store, bytes.len() as i32 + 1)?;
        if at == 0 {
            return Err(Trap::AllocationTooLarge.into());
        }
        let memory = self.calls.memory.data_mut(&mut self.store);
        let start = at as u32 as usize;
        memory[start..start + bytes.len()].copy_from_slice(bytes);
        memory[start + bytes.len()] = 0;
        Ok(at)
    }

    /// Frees a value that is not an exception; reports one that is.
    fn settle(&mut self, value: i32) -> wasmtime::Result<Result<(), Failure>> {
        Ok(self.take(value)?.map(|_| ()))
    }

    fn take(&mut self, value: i32) -> wasmtime::Result<Result<Vec<u8>, Failure>> {
        if self.calls.is_exception.call(&mut self.store, value)? != 0 {
            return Ok(Err(self.thrown("Exception")?));
        }
        let text = self.text(value)?;
        self.calls.free_value.call(&mut self.store, value)?;
        Ok(Ok(text))
    }

    fn thrown(&mut self, kind: &'static str) -> wasmtime::Result<Failure> {
        let exception = self.calls.exception.call(&mut self.store, ())?;
        let detail = self.report(exception)?;
        Ok(Failure::Guest { kind, detail })
    }

    /// Message and stack of a thrown value. Getters of the guest may run here, under its fuel.
    fn report(&mut self, value: i32) -> wasmtime::Result<String> {
        let mut text = String::from_utf8_lossy(&self.text(value)?).into_owned();
        let key = self.put(b"stack")?;
        let stack = self.calls.get_property.call(&mut self.store, (value, key))?;
        self.calls.free.call(&mut self.store, key)?;
        let stack = String::from_utf8_lossy(&self.text(stack)?).into_owned();
        if stack.contains("    at ") {
            text = format!("{text}\n{}", stack.trim_end());
        }
        text.truncate(text.floor_char_boundary(MAX_REPORT));
        Ok(text)
    }

    fn text(&mut self, value: i32) -> wasmtime::Result<Vec<u8>> {
        let length_at = self.calls.malloc.call(&mut self.store, 4)?;
        let at = self.calls.get_text.call(&mut self.store, (value, length_at))?;
        if at == 0 {
            self.calls.free.call(&mut self.store, length_at)?;
            return Ok(Vec::new());
        }
        let mut length = [0u8; 4];
        self.calls.memory.read(&self.store, length_at as u32 as usize, &mut length)?;
        let mut bytes = vec![0u8; u32::from_le_bytes(length) as usize];
        self.calls.memory.read(&self.store, at as u32 as usize, &mut bytes)?;
        self.calls.free_text.call(&mut self.store, at)?;
        self.calls.free.call(&mut self.store, length_at)?;
        Ok(bytes)
    }
}

fn start_turn(store: &mut Store<Host>, turn: &Turn) -> Result<(), Failure> {
    sys::take_host_failure();
    store.set_fuel(turn.fuel).map_err(failure)?;
    let host = store.data_mut();
    host.clock_ns = (turn.clock_ms * 1e6) as u64;
    host.random = ChaCha20Rng::from_seed(turn.seed);
    Ok(())
}

fn in_home(HomeTrouble { kind, detail }: HomeTrouble) -> Failure {
    match kind {
        Some(kind) => Failure::Guest { kind, detail },
        None => Failure::Host(detail),
    }
}

/// Sorts what wasmtime reported into the guest's doing and the host's.
fn failure(error: wasmtime::Error) -> Failure {
    if sys::take_host_failure() {
        return Failure::Host("the host could not back the guest's memory".into());
    }
    let error = match error.downcast::<HomeTrouble>() {
        Ok(trouble) => return in_home(trouble),
        Err(error) => error,
    };
    let kind = match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => "OutOfFuel",
        Some(Trap::StackOverflow) => "StackOverflow",
        Some(Trap::AllocationTooLarge) => "OutOfMemory",
        Some(_) => "Trap",
        None => return Failure::Host(format!("{error:#}")),
    };
    Failure::Guest { kind, detail: format!("{:#}", error.root_cause()) }
}
