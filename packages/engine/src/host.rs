//! What a QuickJS guest sees of its host: time and randomness of the turn, its home, and nothing else.
//! And the other way round, the exports of QuickJS that the host calls.

use rand_chacha::rand_core::{RngCore, SeedableRng};
use rand_chacha::ChaCha20Rng;
use crate::bridge;
use crate::home::Home;
use wasmtime::{Caller, Engine, Instance, Linker, Memory, Store, Trap, TypedFunc};

/// The largest single draw of randomness, as in Web Crypto.
pub const RANDOM_MAX: u32 = 65_536;

pub struct Host {
    pub clock_ns: u64,
    pub random: ChaCha20Rng,
    /// Promises rejected with nobody listening yet: (identity, handle of the reason).
    pub rejected: Vec<(i32, i32)>,
    pub calls: Option<Calls>,
    /// None while an image is built, and while a call of it is under way.
    pub home: Option<Box<Home>>,
    /// What a core guest wrote to its standard output in this turn.
    pub written: Vec<u8>,
}

/// The exports of QuickJS, looked up once an instance.
#[derive(Clone)]
pub struct Calls {
    pub memory: Memory,
    pub malloc: TypedFunc<i32, i32>,
    pub free: TypedFunc<i32, ()>,
    pub new_string: TypedFunc<(i32, i32), i32>,
    pub new_bytes: TypedFunc<(i32, i32), i32>,
    pub new_number: TypedFunc<f64, i32>,
    pub new_big_int: TypedFunc<(i32, i32), i32>,
    pub new_array: TypedFunc<(), i32>,
    pub null: TypedFunc<(), i32>,
    pub get_item: TypedFunc<(i32, i32), i32>,
    pub set_item: TypedFunc<(i32, i32, i32), i32>,
    pub typed_array: TypedFunc<(i32, i32, i32, i32), i32>,
    pub array_buffer: TypedFunc<(i32, i32), i32>,
    pub new_function: TypedFunc<(i32, i32, i32), i32>,
    pub get_number: TypedFunc<i32, f64>,
    pub get_text: TypedFunc<(i32, i32), i32>,
    pub free_text: TypedFunc<i32, ()>,
    pub free_value: TypedFunc<i32, ()>,
    pub value_ptr: TypedFunc<i32, i32>,
    pub get_property: TypedFunc<(i32, i32), i32>,
    pub set_property: TypedFunc<(i32, i32, i32), i32>,
    pub global: TypedFunc<(), i32>,
    pub undefined: TypedFunc<(), i32>,
    pub is_exception: TypedFunc<i32, i32>,
    pub is_function: TypedFunc<i32, i32>,
    pub exception: TypedFunc<(), i32>,
    pub eval: TypedFunc<(i32, i32, i32, i32), i32>,
    pub call: TypedFunc<(i32, i32, i32, i32), i32>,
    pub job_pending: TypedFunc<(), i32>,
    pub run_job: TypedFunc<(), i32>,
}

pub fn linker(engine: &Engine) -> wasmtime::Result<Linker<Host>> {
    let mut linker: Linker<Host> = Linker::new(engine);
    linker.func_wrap("env", "host_get_timezone_offset", |_: i32, _: i32| 0i32)?;
    linker.func_wrap("env", "host_interrupt", || 0i32)?;
    linker.func_wrap("env", "host_promise_rejection", note_rejection)?;
    linker.func_wrap("env", "host_module_normalize", |_: i32, _: i32| 0i32)?;
    linker.func_wrap("env", "host_module_load", |_: i32, _: i32| 0i32)?;
    linker.func_wrap("env", "host_call", host_call)?;
    let wasi = "wasi_snapshot_preview1";
    const BADF: i32 = 8;
    linker.func_wrap(wasi, "clock_time_get", |mut c: Caller<'_, Host>, _: i32, _: i64, out: i32| {
        let ns = c.data().clock_ns;
        write_at(&mut c, out, &ns.to_le_bytes())
    })?;
    linker.func_wrap(wasi, "random_get", |mut c: Caller<'_, Host>, out: i32, n: i32| {
        let mut bytes = vec![0u8; (n as u32).min(RANDOM_MAX) as usize];
        c.data_mut().random.fill_bytes(&mut bytes);
        write_at(&mut c, out, &bytes)
    })?;
    linker.func_wrap(wasi, "fd_close", |_: i32| BADF)?;
    linker.func_wrap(wasi, "fd_fdstat_get", |_: i32, _: i32| BADF)?;
    linker.func_wrap(wasi, "fd_seek", |_: i32, _: i64, _: i32, _: i32| BADF)?;
    linker.func_wrap(wasi, "fd_write", |_: i32, _: i32, _: i32, _: i32| BADF)?;
    Ok(linker)
}

pub fn write_at(caller: &mut Caller<'_, Host>, at: i32, bytes: &[u8]) -> i32 {
    const FAULT: i32 = 21;
    match caller.get_export("memory").and_then(|e| e.into_memory()) {
        Some(memory) => memory.write(caller, at as u32 as usize, bytes).map_or(FAULT, |()| 0),
        None => FAULT,
    }
}

fn note_rejection(mut caller: Caller<'_, Host>, promise: i32, reason: i32, handled: i32) -> wasmtime::Result<()> {
    let Some(calls) = caller.data().calls.clone() else { return Ok(()) };
    let identity = calls.value_ptr.call(&mut caller, promise)?;
    calls.free_value.call(&mut caller, promise)?;
    if handled == 0 {
        caller.data_mut().rejected.push((identity, reason));
        return Ok(());
    }
    calls.free_value.call(&mut caller, reason)?;
    let known = caller.data().rejected.iter().position(|(i, _)| *i == identity);
    if let Some(at) = known {
        let (_, kept) = caller.data_mut().rejected.swap_remove(at);
        calls.free_value.call(&mut caller, kept)?;
    }
    Ok(())
}

/// The host functions that a guest can call, by name: `random` and `home`.
fn host_call(
    caller: Caller<'_, Host>,
    name: i32,
    name_len: i32,
    _this: i32,
    argc: i32,
    argv: i32,
) -> wasmtime::Result<i32> {
    let Some(calls) = caller.data().calls.clone() else { return Ok(0) };
    let start = name as u32 as usize;
    let home = calls.memory.data(&caller).get(start..start + name_len as u32 as usize) == Some(b"home");
    if home { bridge::home(caller, argc, argv) } else { draw_random(caller, argc, argv) }
}

/// `random(n)`: bytes of the turn's own stream.
fn draw_random(mut caller: Caller<'_, Host>, argc: i32, argv: i32) -> wasmtime::Result<i32> {
    let Some(calls) = caller.data().calls.clone() else { return Ok(0) };
    let mut n = 0u32;
    if argc > 0 {
        let mut pointer = [0u8; 4];
        calls.memory.read(&caller, argv as u32 as usize, &mut pointer)?;
        let number = calls.get_number.call(&mut caller, i32::from_le_bytes(pointer))?;
        n = (number as u32).min(RANDOM_MAX);
    }
    let mut bytes = vec![0u8; n as usize];
    caller.data_mut().random.fill_bytes(&mut bytes);
    let at = calls.malloc.call(&mut caller, n.max(1) as i32)?;
    if at == 0 {
        return Err(Trap::AllocationTooLarge.into());
    }
    calls.memory.write(&mut caller, at as u32 as usize, &bytes)?;
    let value = calls.new_bytes.call(&mut caller, (at, n as i32))?;
    calls.free.call(&mut caller, at)?;
    Ok(value)
}

impl Calls {
    pub fn bind(store: &mut Store<Host>, instance: &Instance) -> wasmtime::Result<Calls> {
        macro_rules! f {
            ($name:expr) => {
                instance.get_typed_func(&mut *store, $name)?
            };
        }
        let memory = instance
            .get_memory(&mut *store, "memory")
            .ok_or_else(|| wasmtime::Error::msg("no export `memory`"))?;
        Ok(Calls {
            memory,
            malloc: f!("wasm_malloc"),
            free: f!("wasm_free"),
            new_string: f!("qjs_new_string"),
            new_bytes: f!("qjs_new_uint8_array"),
            new_number: f!("qjs_new_number"),
            new_big_int: f!("qjs_new_big_int64"),
            new_array: f!("qjs_new_array"),
            null: f!("qjs_get_null"),
            get_item: f!("qjs_get_prop_uint32"),
            set_item: f!("qjs_set_prop_uint32"),
            typed_array: f!("qjs_get_typed_array_buffer"),
            array_buffer: f!("qjs_get_array_buffer"),
            new_function: f!("qjs_new_host_function"),
            get_number: f!("qjs_get_float64"),
            get_text: f!("qjs_get_string_len"),
            free_text: f!("qjs_free_cstring"),
            free_value: f!("qjs_free_value"),
            value_ptr: f!("qjs_get_value_ptr"),
            get_property: f!("qjs_get_prop_string"),
            set_property: f!("qjs_set_prop_string"),
            global: f!("qjs_get_global"),
            undefined: f!("qjs_get_undefined"),
            is_exception: f!("qjs_is_exception"),
            is_function: f!("qjs_is_function"),
            exception: f!("qjs_get_exception"),
            eval: f!("qjs_eval"),
            call: f!("qjs_call"),
            job_pending: f!("qjs_is_job_pending"),
            run_job: f!("qjs_execute_pending_job"),
        })
    }
}

pub fn empty_host() -> Host {
    let random = ChaCha20Rng::from_seed([0; 32]);
    Host { clock_ns: 0, random, rejected: Vec::new(), calls: None, home: None, written: Vec::new() }
}

pub fn new_store(engine: &Engine) -> Store<Host> {
    Store::new(engine, empty_host())
}
