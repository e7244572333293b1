//! One instance of a module: its memory and its globals, which at a quiet point are all that it is.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Arc;

use wasmtime::{Engine, Global, Instance as WasmInstance, InstancePre, Memory, Store, Val};

use crate::code::Code;
use crate::guest::{failure, Failure, Turn};
use crate::home::Home;
use crate::host::{new_store, Host};
use crate::image::GlobalValue;
use crate::layers::{Image, Lease, Lies};
use crate::module::{Cache, START};
use crate::snapshot::Snapshot;
use crate::sys;

/// More than this no guest has.
pub const MOST_MEMORY: usize = 1 << 30;

const WASM_PAGE: usize = 65_536;
const START_FUEL: u64 = 100_000_000;

pub struct Instance {
    pub store: Store<Host>,
    pub wasm: WasmInstance,
    pub memory: Memory,
    pub lies: Lies,
    /// Pages that it was restored with; none once its first turn has run.
    pub unlearned: Option<Vec<usize>>,
    maximum: Arc<AtomicUsize>,
    globals: Vec<Global>,
    _lease: Option<Lease>,
}

fn host(text: String) -> Failure {
    Failure::Host(text)
}

impl Instance {
    /// As the module says that it begins: its data in memory, and its start function run.
    pub fn fresh(engine: &Engine, code: &Code, cache: Option<&Cache>, turn: &Turn) -> Result<Instance, Failure> {
        let bad = |detail: String| Failure::Guest { kind: "BadModule", detail };
        let pre = code.pre(engine, cache).map_err(bad)?;
        let maximum = Arc::new(AtomicUsize::new(turn.memory));
        sys::plan_memory(None, 0, maximum.clone());
        let mut store = new_store(engine);
        start_turn(&mut store, turn)?;
        let wasm = pre.instantiate(&mut store).map_err(failure)?;
        let mut instance = Instance::bind(store, wasm, maximum, &code.globals, None)?;
        for (i, (at, bytes)) in code.data().iter().enumerate() {
            let room = at.checked_add(bytes.len()).and_then(|end| instance.memory_mut().get_mut(*at..end));
            room.ok_or_else(|| bad(format!("its data section: segment {i} lies outside its memory")))?.copy_from_slice(bytes);
        }
        if code.starts() {
            let start = instance.wasm.get_typed_func::<(), ()>(&mut instance.store, START);
            start.and_then(|start| start.call(&mut instance.store, ())).map_err(failure)?;
        }
        Ok(instance)
    }

    /// Over an image, or as it was saved over that: nothing is initialised, everything is already there.
    pub fn over(
        engine: &Engine,
        pre: &InstancePre<Host>,
        image: &Arc<Image>,
        saved: Option<&Snapshot<'_>>,
        home: Option<Home>,
    ) -> Result<Instance, Failure> {
        let lease = image.lease();
        let memory_len = saved.map_or(0, |saved| saved.memory_len).max(image.memory_len).next_multiple_of(WASM_PAGE);
        let first = saved.and_then(|saved| saved.first).map(|name| image.first_named(name)).transpose().map_err(host)?;
        let mapping = image.map(first).map_err(host)?;
        // Turns say how far it may grow; until the first it is as large as it was saved.
        let maximum = Arc::new(AtomicUsize::new(MOST_MEMORY));
        sys::plan_memory(Some(mapping.sealed.clone()), memory_len, maximum.clone());
        let mut store = new_store(engine);
        // Some modules initialise themselves by code, which wants fuel; each turn has its own.
        store.set_fuel(START_FUEL).map_err(failure)?;
        let wasm = pre.instantiate(&mut store).map_err(|e| host(format!("instantiate: {e:#}")))?;
        store.data_mut().home = home.map(Box::new);
        let mut instance = Instance::bind(store, wasm, maximum, &image.code.globals, Some(lease))?;
        instance.lies = mapping.lies(memory_len);
        image.complete(&mapping, instance.memory_mut()).map_err(host)?;
        let own = saved.map_or(Ok(Vec::new()), |saved| saved.apply(instance.memory_mut())).map_err(host)?;
        instance.unlearned = Some(own);
        instance.set_globals(saved.map_or(&image.globals, |saved| &saved.globals))?;
        Ok(instance)
    }

    fn bind(mut store: Store<Host>, wasm: WasmInstance, maximum: Arc<AtomicUsize>, names: &[String], lease: Option<Lease>) -> Result<Instance, Failure> {
        let memory = wasm.get_memory(&mut store, "memory").ok_or_else(|| host("no export `memory`".into()))?;
        let globals: Option<Vec<Global>> = names.iter().map(|name| wasm.get_global(&mut store, name)).collect();
        let globals = globals.ok_or_else(|| host("a global that is not exported".into()))?;
        Ok(Instance { store, wasm, memory, lies: Lies::Copies, unlearned: None, maximum, globals, _lease: lease })
    }

    pub fn memory(&self) -> &[u8] {
        self.memory.data(&self.store)
    }

    pub fn memory_mut(&mut self) -> &mut [u8] {
        self.memory.data_mut(&mut self.store)
    }

    pub fn globals(&mut self) -> Vec<GlobalValue> {
        let store = &mut self.store;
        let value = |global: &Global| match global.get(&mut *store) {
            Val::I32(value) => GlobalValue { of: 0, bits: u64::from(value as u32) },
            Val::I64(value) => GlobalValue { of: 1, bits: value as u64 },
            Val::F32(bits) => GlobalValue { of: 2, bits: u64::from(bits) },
            Val::F64(bits) => GlobalValue { of: 3, bits },
            _ => unreachable!("checked when the module was made ready"),
        };
        self.globals.iter().map(value).collect()
    }

    fn set_globals(&mut self, values: &[GlobalValue]) -> Result<(), Failure> {
        if values.len() != self.globals.len() {
            return Err(host(format!("{} globals saved, {} there", values.len(), self.globals.len())));
        }
        for (global, value) in self.globals.iter().zip(values) {
            let value = match value.of {
                0 => Val::I32(value.bits as u32 as i32),
                1 => Val::I64(value.bits as i64),
                2 => Val::F32(value.bits as u32),
                3 => Val::F64(value.bits),
                _ => return Err(host("a global of no known type".into())),
            };
            global.set(&mut self.store, value).map_err(|e| host(format!("a global: {e:#}")))?;
        }
        Ok(())
    }

    /// What a turn begins with: its time, its randomness, its fuel, and its home.
    pub fn begin(&mut self, turn: &Turn) -> Result<(), Failure> {
        start_turn(&mut self.store, turn)?;
        self.maximum.store(turn.memory, Relaxed);
        if let Some(home) = &mut self.store.data_mut().home {
            home.begin_turn(turn.clock_ms, &turn.seed, turn.bounds, turn.repeat.clone());
        }
        Ok(())
    }
}

pub fn start_turn(store: &mut Store<Host>, turn: &Turn) -> Result<(), Failure> {
    use rand_chacha::rand_core::SeedableRng;
    sys::take_host_failure();
    sys::take_denied();
    store.set_fuel(turn.fuel).map_err(failure)?;
    let host = store.data_mut();
    host.clock_ns = (turn.clock_ms * 1e6) as u64;
    host.random = rand_chacha::ChaCha20Rng::from_seed(turn.seed);
    host.written.clear();
    Ok(())
}
