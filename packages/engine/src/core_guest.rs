//! Driving a guest that is any core module: two functions, JSON in and out.
//!
//! `cardinal_alloc(len: i32) -> i32` gives room for so many bytes, which stay the host's until the turn ends;
//! `cardinal_turn(at: i32, len: i32) -> i64` takes the turn's events, a JSON list, and returns where its output
//! lies: address in the upper half, length in the lower. The output stays as it is until the next call.
//!
//! Of WASI it finds the time of the turn, randomness of the turn and standard output; whatever else of WASI it
//! imports answers `ENOSYS`. Anything else is refused by name.

use rand_chacha::rand_core::RngCore;
use wasmtime::{Caller, Engine, ExternType, Linker, Module, Trap, TypedFunc, Val, ValType};

use crate::guest::{failure, Failure};
use crate::host::{write_at, Host, RANDOM_MAX};
use crate::instance::Instance;

const WASI: &str = "wasi_snapshot_preview1";
const SUCCESS: i32 = 0;
const BADF: i32 = 8;
const FAULT: i32 = 21;
const ENOSYS: i32 = 52;
const DESCRIBE: &[u8] = br#"{"t":"describe"}"#;
/// Of what a guest writes to its standard output in one turn.
const MAX_WRITTEN: usize = 1 << 20;
/// And of that, what a failed turn tells.
const MAX_TOLD: usize = 8 << 10;
const MAX_PIECES: u32 = 1024;
const PIECE_FUEL: u64 = 100;
/// No limit of an operator is larger; what is more is not even copied.
const MAX_OUTPUT: usize = 8 << 20;

pub struct Core {
    pub instance: Instance,
    alloc: TypedFunc<i32, i32>,
    turn: TypedFunc<(i32, i32), i64>,
}

/// It ended itself, as a program does and a guest cannot.
#[derive(Debug)]
pub struct Exited(i32);

impl std::fmt::Display for Exited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "it called `proc_exit({})`: a guest returns from its turn and stays", self.0)
    }
}

impl std::error::Error for Exited {}

pub fn linker(engine: &Engine, module: &Module) -> Result<Linker<Host>, String> {
    known(engine).and_then(|known| with_rest(known, module).map_err(wasmtime::Error::msg)).map_err(|e| format!("{e:#}"))
}

fn known(engine: &Engine) -> wasmtime::Result<Linker<Host>> {
    let mut linker: Linker<Host> = Linker::new(engine);
    linker.func_wrap(WASI, "clock_time_get", |mut c: Caller<'_, Host>, _: i32, _: i64, out: i32| {
        let ns = c.data().clock_ns;
        write_at(&mut c, out, &ns.to_le_bytes())
    })?;
    linker.func_wrap(WASI, "clock_res_get", |mut c: Caller<'_, Host>, _: i32, out: i32| {
        write_at(&mut c, out, &1_000_000u64.to_le_bytes())
    })?;
    linker.func_wrap(WASI, "random_get", |mut c: Caller<'_, Host>, mut out: i32, n: i32| -> wasmtime::Result<i32> {
        let mut left = n as u32;
        if !pay(&mut c, u64::from(left)) {
            return Err(Trap::OutOfFuel.into());
        }
        while left > 0 {
            let mut bytes = vec![0u8; left.min(RANDOM_MAX) as usize];
            c.data_mut().random.fill_bytes(&mut bytes);
            if write_at(&mut c, out, &bytes) != SUCCESS {
                return Ok(FAULT);
            }
            out = out.wrapping_add(bytes.len() as i32);
            left -= bytes.len() as u32;
        }
        Ok(SUCCESS)
    })?;
    for name in ["args_sizes_get", "environ_sizes_get"] {
        linker.func_wrap(WASI, name, |mut c: Caller<'_, Host>, count: i32, size: i32| {
            write_at(&mut c, count, &[0; 4]) | write_at(&mut c, size, &[0; 4])
        })?;
    }
    for name in ["args_get", "environ_get"] {
        linker.func_wrap(WASI, name, |_: i32, _: i32| SUCCESS)?;
    }
    linker.func_wrap(WASI, "sched_yield", || SUCCESS)?;
    linker.func_wrap(WASI, "fd_write", write)?;
    for name in ["fd_prestat_get", "fd_fdstat_get"] {
        linker.func_wrap(WASI, name, |_: i32, _: i32| BADF)?;
    }
    linker.func_wrap(WASI, "fd_close", |_: i32| BADF)?;
    linker.func_wrap(WASI, "proc_exit", |code: i32| -> wasmtime::Result<()> { Err(Exited(code).into()) })?;
    Ok(linker)
}

/// Takes fuel for what the host does in the guest's place; false: there is not so much.
fn pay(caller: &mut Caller<'_, Host>, fuel: u64) -> bool {
    let left = caller.get_fuel().unwrap_or(0);
    fuel <= left && caller.set_fuel(left - fuel).is_ok()
}

/// Standard output and error: lines that the agent logs.
fn write(mut caller: Caller<'_, Host>, fd: i32, list: i32, count: i32, out: i32) -> wasmtime::Result<i32> {
    if !(1..=2).contains(&fd) {
        return Ok(BADF);
    }
    let Some(memory) = caller.get_export("memory").and_then(|e| e.into_memory()) else { return Ok(FAULT) };
    let mut total = 0u32;
    for i in 0..(count as u32).min(MAX_PIECES) {
        let mut piece = [0u8; 8];
        let at = u64::from(list as u32) + u64::from(i) * 8;
        if memory.read(&caller, at as usize, &mut piece).is_err() {
            return Ok(FAULT);
        }
        let word = |i: usize| u32::from_le_bytes(piece[i..i + 4].try_into().expect("four bytes"));
        let (from, len) = (word(0) as usize, word(4) as usize);
        if !pay(&mut caller, PIECE_FUEL + len.min(MAX_WRITTEN) as u64) {
            return Err(Trap::OutOfFuel.into());
        }
        let room = MAX_WRITTEN.saturating_sub(caller.data().written.len());
        let Some(bytes) = from.checked_add(len).and_then(|to| memory.data(&caller).get(from..to)) else { return Ok(FAULT) };
        let bytes = bytes[..len.min(room)].to_vec();
        caller.data_mut().written.extend_from_slice(&bytes);
        total = total.wrapping_add(len as u32);
    }
    Ok(write_at(&mut caller, out, &total.to_le_bytes()))
}

/// What else of WASI a module names is there and does nothing; what is not of WASI is refused.
fn with_rest(mut linker: Linker<Host>, module: &Module) -> Result<Linker<Host>, String> {
    for import in module.imports() {
        let name = format!("`{}.{}`", import.module(), import.name());
        let ExternType::Func(of) = import.ty() else { return Err(format!("its import section: {name} is no function")) };
        if import.module() != WASI {
            return Err(format!("its import section: {name} is nothing that a guest is given"));
        }
        let number = matches!(of.results().collect::<Vec<_>>().as_slice(), [ValType::I32]);
        if !number {
            // `proc_exit` is the only one of WASI that returns nothing, and is known.
            if import.name() != "proc_exit" {
                return Err(format!("its import section: {name} does not answer as WASI does"));
            }
            continue;
        }
        let known = linker.get_by_import(&mut wasmtime::Store::new(module.engine(), crate::host::empty_host()), &import);
        if known.is_none() {
            linker
                .func_new(WASI, import.name(), of, |_, _, results| {
                    results[0] = Val::I32(ENOSYS);
                    Ok(())
                })
                .map_err(|e| format!("{e:#}"))?;
        }
    }
    Ok(linker)
}

impl Core {
    /// Boots a module: its start, then `_initialize`, once.
    pub fn boot(mut instance: Instance) -> Result<Core, Failure> {
        if instance.wasm.get_func(&mut instance.store, "_start").is_some() {
            let detail = "it exports `_start`: build it as a library (reactor), whose memory stays".into();
            return Err(Failure::Guest { kind: "BadModule", detail });
        }
        if let Some(initialize) = instance.wasm.get_func(&mut instance.store, "_initialize") {
            let typed = initialize.typed::<(), ()>(&instance.store);
            let typed = typed.map_err(|_| Failure::Guest { kind: "BadModule", detail: "its `_initialize` wants something".into() })?;
            typed.call(&mut instance.store, ()).map_err(|e| told(failure(e), &instance))?;
        }
        Core::adopt(instance)
    }

    pub fn adopt(mut instance: Instance) -> Result<Core, Failure> {
        let missing = |name: &str| {
            let detail = format!("its export section: `{name}` is missing, or of another type");
            move |_: wasmtime::Error| Failure::Guest { kind: "BadModule", detail }
        };
        let alloc = instance.wasm.get_typed_func(&mut instance.store, "cardinal_alloc");
        let alloc = alloc.map_err(missing("cardinal_alloc(i32) -> i32"))?;
        let turn = instance.wasm.get_typed_func(&mut instance.store, "cardinal_turn");
        let turn = turn.map_err(missing("cardinal_turn(i32, i32) -> i64"))?;
        Ok(Core { instance, alloc, turn })
    }

    pub fn turn(&mut self, events: &[&[u8]]) -> Result<Vec<u8>, Failure> {
        let list = [b"[".as_slice(), &events.join(b",".as_slice()), b"]"].concat();
        self.call(&list).map_err(|failed| told(failed, &self.instance))
    }

    pub fn describe(&mut self) -> Result<Vec<u8>, Failure> {
        self.turn(&[DESCRIBE])
    }

    fn call(&mut self, input: &[u8]) -> Result<Vec<u8>, Failure> {
        let Instance { store, memory, .. } = &mut self.instance;
        let bad = |detail: String| Failure::Guest { kind: "BadPointer", detail };
        let at = self.alloc.call(&mut *store, input.len() as i32).map_err(failure)?;
        let start = at as u32 as usize;
        let room = memory.data_mut(&mut *store).get_mut(start..start + input.len());
        let room = room.filter(|_| at != 0).ok_or_else(|| bad(format!("`cardinal_alloc({})` gave no room in its memory", input.len())))?;
        room.copy_from_slice(input);
        let found = self.turn.call(&mut *store, (at, input.len() as i32)).map_err(failure)? as u64;
        let (from, len) = ((found >> 32) as usize, found as u32 as usize);
        if len > MAX_OUTPUT {
            let detail = format!("a turn with {len} bytes of effects and replies");
            return Err(Failure::Guest { kind: "OutputTooLarge", detail });
        }
        let output = memory.data(&*store).get(from..from + len).ok_or_else(|| bad("`cardinal_turn` answered with bytes outside its memory".into()))?;
        Ok(with_written(output, &store.data().written))
    }
}

/// What it wrote goes with its output, so that it is recorded and repeated with it.
fn with_written(output: &[u8], written: &[u8]) -> Vec<u8> {
    let Some(rest) = output.trim_ascii_start().strip_prefix(b"{").filter(|_| !written.is_empty()) else {
        return output.to_vec();
    };
    let comma: &[u8] = if rest.trim_ascii_start().starts_with(b"}") { b"" } else { b"," };
    let text = crate::rows::text(&String::from_utf8_lossy(written));
    [br#"{"written":"#.as_slice(), text.as_bytes(), comma, rest].concat()
}

/// A failure of the guest's own, with what it wrote before: where Go and C say what went wrong.
fn told(failed: Failure, instance: &Instance) -> Failure {
    match failed {
        Failure::Guest { kind, detail } => {
            let written = String::from_utf8_lossy(&instance.store.data().written).into_owned();
            let mut from = written.len().saturating_sub(MAX_TOLD);
            while !written.is_char_boundary(from) {
                from += 1;
            }
            let said = written[from..].trim();
            Failure::Guest { kind, detail: if said.is_empty() { detail } else { format!("{detail}\n{said}") } }
        }
        failed => failed,
    }
}
