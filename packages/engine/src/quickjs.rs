//! Driving one QuickJS guest: boot, evaluate, deliver events, collect what it queued.
//!
//! Between calls the WASM stack is empty, so linear memory, the stack pointer and the handles
//! below are the whole guest.

use wasmtime::Trap;

use crate::guest::{failure, Failure, Turn};
use crate::home::Bounds;
use crate::host::Calls;
use crate::image::Handles;
use crate::instance::{Instance, MOST_MEMORY};

/// QuickJS refuses deeper recursion with a RangeError here, long before native stack runs out.
const QUICKJS_STACK: i32 = 64 << 10;
const GC_THRESHOLD: i32 = 16 << 20;
/// What a new instance may allocate before its memory grows.
const FIRST_ROOM: i32 = 256 << 10;
const MAX_REPORT: usize = 8 << 10;

pub struct QuickJs {
    pub instance: Instance,
    calls: Calls,
    pub handles: Handles,
}

impl QuickJs {
    /// Boots QuickJS itself in an instance that still has its data segments.
    pub fn boot(mut instance: Instance) -> Result<QuickJs, Failure> {
        let initialize = instance.wasm.get_typed_func::<(), ()>(&mut instance.store, "_initialize");
        initialize.and_then(|f| f.call(&mut instance.store, ())).map_err(failure)?;
        let mut guest = QuickJs::adopt(instance, Handles::default())?;
        guest.start().map_err(failure)?;
        guest.install("random", 1).map_err(failure)?;
        guest.install("home", 7).map_err(failure)?;
        Ok(guest)
    }

    fn start(&mut self) -> wasmtime::Result<()> {
        let Instance { store, wasm, .. } = &mut self.instance;
        let made = wasm.get_typed_func::<(), i32>(&mut *store, "qjs_init")?.call(&mut *store, ())?;
        if made != 0 {
            return Err(wasmtime::Error::msg("QuickJS did not start"));
        }
        for (name, value) in [("qjs_set_max_stack_size", QUICKJS_STACK), ("qjs_set_promise_rejection_handler", 1)] {
            wasm.get_typed_func::<i32, ()>(&mut *store, name)?.call(&mut *store, value)?;
        }
        Ok(())
    }

    /// A guest over an image: its values are where they were.
    pub fn adopt(mut instance: Instance, handles: Handles) -> Result<QuickJs, Failure> {
        let calls = Calls::bind(&mut instance.store, &instance.wasm);
        let calls = calls.map_err(|e| Failure::Host(format!("QuickJS: {e:#}")))?;
        instance.store.data_mut().calls = Some(calls.clone());
        Ok(QuickJs { instance, calls, handles })
    }

    /// Puts a host function on the global object, for the SDK to take.
    fn install(&mut self, name: &str, arguments: i32) -> wasmtime::Result<()> {
        let key = self.put(format!("__cardinal_{name}").as_bytes())?;
        let length = name.len() as i32;
        let name = self.put(name.as_bytes())?;
        let function = self.calls.new_function.call(&mut self.instance.store, (name, length, arguments))?;
        let global = self.calls.global.call(&mut self.instance.store, ())?;
        self.calls.set_property.call(&mut self.instance.store, (global, key, function))?;
        for value in [function, global] {
            self.calls.free_value.call(&mut self.instance.store, value)?;
        }
        for at in [name, key] {
            self.calls.free.call(&mut self.instance.store, at)?;
        }
        Ok(())
    }

    /// Evaluates a script as part of an image, drains its jobs, and refuses what it left rejected.
    pub fn evaluate(&mut self, source: &[u8], name: &str, turn: &Turn) -> Result<(), Failure> {
        self.instance.begin(turn)?;
        let run = |g: &mut QuickJs| -> wasmtime::Result<Result<(), Failure>> {
            let (code, file) = (g.put(source)?, g.put(name.as_bytes())?);
            let value = g.calls.eval.call(&mut g.instance.store, (code, source.len() as i32, file, 0))?;
            g.calls.free.call(&mut g.instance.store, code)?;
            g.calls.free.call(&mut g.instance.store, file)?;
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
        let adopt = |g: &mut QuickJs| -> wasmtime::Result<Result<(), Failure>> {
            for name in ["deliver", "collect", "describe"] {
                let global = g.calls.global.call(&mut g.instance.store, ())?;
                let key = g.put(format!("__cardinal_{name}").as_bytes())?;
                let value = g.calls.get_property.call(&mut g.instance.store, (global, key))?;
                g.calls.free_value.call(&mut g.instance.store, global)?;
                g.calls.free.call(&mut g.instance.store, key)?;
                if g.calls.is_function.call(&mut g.instance.store, value)? == 0 {
                    let detail = format!("the SDK did not define `{name}`");
                    return Ok(Err(Failure::Guest { kind: "Malformed", detail }));
                }
                match name {
                    "deliver" => g.handles.deliver = value,
                    "collect" => g.handles.collect = value,
                    _ => g.handles.describe = value,
                }
            }
            g.handles.undefined = g.calls.undefined.call(&mut g.instance.store, ())?;
            Ok(Ok(()))
        };
        adopt(self).map_err(failure)??;
        let forget = b"delete globalThis.__cardinal_deliver; delete globalThis.__cardinal_collect; \
            delete globalThis.__cardinal_describe; delete globalThis.__cardinal_random; \
            delete globalThis.__cardinal_home; 0";
        self.evaluate(forget, "cardinal:adopt", &Turn { clock_ms: 0.0, seed: [0; 32], fuel: 1 << 32, memory: MOST_MEMORY, bounds: Bounds::default(), repeat: None })
    }

    /// Each event is delivered and its jobs drained before the next, then what the guest queued is collected.
    pub fn turn(&mut self, events: &[&[u8]]) -> Result<Vec<u8>, Failure> {
        let (deliver, collect) = (self.handles.deliver, self.handles.collect);
        for event in events {
            self.call_with(deliver, Some(event))?;
        }
        let output = self.call_with(collect, None)?;
        self.check_rejections()?;
        Ok(output)
    }

    /// Makes the memory of an image cheap to share: garbage is collected now and rarely later (a
    /// collection walks, and so makes private, every page), and the holes that it left are filled for
    /// good, so that what an instance allocates lies together behind the image and not all over it.
    /// Cycles are still collected once a guest has allocated `GC_THRESHOLD` of its own.
    pub fn settle_heap(&mut self) -> Result<(), Failure> {
        let settle = |g: &mut QuickJs| -> wasmtime::Result<()> {
            g.instance.wasm.get_typed_func::<(), ()>(&mut g.instance.store, "qjs_run_gc")?.call(&mut g.instance.store, ())?;
            g.instance.wasm.get_typed_func::<i32, ()>(&mut g.instance.store, "qjs_set_gc_threshold")?.call(&mut g.instance.store, GC_THRESHOLD)?;
            g.fill_holes()
        };
        settle(self).map_err(failure)
    }

    /// Allocates every hole, from large to small, then makes room behind them that is one piece.
    fn fill_holes(&mut self) -> wasmtime::Result<()> {
        let end = self.instance.memory().len();
        let large = (10..=20).rev().map(|bits| 1i32 << bits);
        for size in large.chain((4..1024).rev().step_by(8)) {
            loop {
                let at = self.calls.malloc.call(&mut self.instance.store, size)?;
                if at == 0 {
                    return Err(Trap::AllocationTooLarge.into());
                }
                if at as u32 as usize + size as usize > end {
                    self.calls.free.call(&mut self.instance.store, at)?;
                    break;
                }
            }
        }
        let room = self.calls.malloc.call(&mut self.instance.store, FIRST_ROOM)?;
        self.calls.free.call(&mut self.instance.store, room)
    }

    /// What the program declares of itself, as the SDK reports it.
    pub fn describe(&mut self) -> Result<Vec<u8>, Failure> {
        let describe = self.handles.describe;
        self.call_with(describe, None)
    }

    fn call_with(&mut self, function: i32, argument: Option<&[u8]>) -> Result<Vec<u8>, Failure> {
        let run = |g: &mut QuickJs| -> wasmtime::Result<Result<Vec<u8>, Failure>> {
            let (mut string, mut argv) = (0, 0);
            if let Some(text) = argument {
                let at = g.put(text)?;
                string = g.calls.new_string.call(&mut g.instance.store, (at, text.len() as i32))?;
                g.calls.free.call(&mut g.instance.store, at)?;
                argv = g.put(&string.to_le_bytes())?;
            }
            let argc = i32::from(argument.is_some());
            let value = g.calls.call.call(&mut g.instance.store, (function, g.handles.undefined, argc, argv))?;
            if argument.is_some() {
                g.calls.free_value.call(&mut g.instance.store, string)?;
                g.calls.free.call(&mut g.instance.store, argv)?;
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
        while self.calls.job_pending.call(&mut self.instance.store, ())? != 0 {
            if self.calls.run_job.call(&mut self.instance.store, ())? < 0 {
                return Ok(Err(self.thrown("UncaughtException")?));
            }
        }
        Ok(Ok(()))
    }

    fn check_rejections(&mut self) -> Result<(), Failure> {
        let rejected = std::mem::take(&mut self.instance.store.data_mut().rejected);
        let Some((_, reason)) = rejected.first().copied() else { return Ok(()) };
        let detail = self.report(reason).map_err(failure)?;
        Err(Failure::Guest { kind: "UnhandledRejection", detail })
    }

    fn put(&mut self, bytes: &[u8]) -> wasmtime::Result<i32> {
        let at = self.calls.malloc.call(&mut self.instance.store, bytes.len() as i32 + 1)?;
        if at == 0 {
            return Err(Trap::AllocationTooLarge.into());
        }
        let memory = self.calls.memory.data_mut(&mut self.instance.store);
        let start = at as u32 as usize;
        // Where its heap is broken, the address is anything.
        let room = memory.get_mut(start..start + bytes.len() + 1).ok_or(Trap::MemoryOutOfBounds)?;
        room[..bytes.len()].copy_from_slice(bytes);
        room[bytes.len()] = 0;
        Ok(at)
    }

    /// Frees a value that is not an exception; reports one that is.
    fn settle(&mut self, value: i32) -> wasmtime::Result<Result<(), Failure>> {
        Ok(self.take(value)?.map(|_| ()))
    }

    fn take(&mut self, value: i32) -> wasmtime::Result<Result<Vec<u8>, Failure>> {
        if self.calls.is_exception.call(&mut self.instance.store, value)? != 0 {
            return Ok(Err(self.thrown("Exception")?));
        }
        let text = self.text(value)?;
        self.calls.free_value.call(&mut self.instance.store, value)?;
        Ok(Ok(text))
    }

    fn thrown(&mut self, kind: &'static str) -> wasmtime::Result<Failure> {
        let exception = self.calls.exception.call(&mut self.instance.store, ())?;
        let detail = self.report(exception)?;
        Ok(Failure::Guest { kind, detail })
    }

    /// Message and stack of a thrown value. Getters of the guest may run here, under its fuel.
    fn report(&mut self, value: i32) -> wasmtime::Result<String> {
        let mut text = String::from_utf8_lossy(&self.text(value)?).into_owned();
        let key = self.put(b"stack")?;
        let stack = self.calls.get_property.call(&mut self.instance.store, (value, key))?;
        self.calls.free.call(&mut self.instance.store, key)?;
        let stack = String::from_utf8_lossy(&self.text(stack)?).into_owned();
        if stack.contains("    at ") {
            text = format!("{text}\n{}", stack.trim_end());
        }
        text.truncate(text.floor_char_boundary(MAX_REPORT));
        Ok(text)
    }

    fn text(&mut self, value: i32) -> wasmtime::Result<Vec<u8>> {
        let length_at = self.calls.malloc.call(&mut self.instance.store, 4)?;
        let at = self.calls.get_text.call(&mut self.instance.store, (value, length_at))?;
        if at == 0 {
            self.calls.free.call(&mut self.instance.store, length_at)?;
            return Ok(Vec::new());
        }
        let mut length = [0u8; 4];
        self.calls.memory.read(&self.instance.store, length_at as u32 as usize, &mut length)?;
        let (from, length) = (at as u32 as usize, u32::from_le_bytes(length) as usize);
        let bytes = self.instance.memory().get(from..from + length).ok_or(Trap::MemoryOutOfBounds)?.to_vec();
        self.calls.free_text.call(&mut self.instance.store, at)?;
        self.calls.free.call(&mut self.instance.store, length_at)?;
        Ok(bytes)
    }
}
