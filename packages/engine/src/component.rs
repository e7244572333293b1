//! Components: somebody's code as a function from a text to a text. It is given no import, so it reaches
//! nothing, keeps nothing, and knows no time; each call is an instance of its own, which ends with it.

use std::sync::OnceLock;

use wasmtime::component::types::ComponentItem;
use wasmparser::{FunctionBody, Operator, Parser, Payload};
use wasmtime::component::{Component, Linker, Type, WasmStr};
use wasmtime::{Config, Engine, ResourceLimiter, Store, Trap};

use crate::module::Compiler;

/// What a component exports: `run: func(args: string) -> result<string, string>`.
const RUN: &str = "run";
/// Text that it may answer.
const MAX_ANSWER: usize = 4 << 20;

/// Over all functions; a second for each million at worst. QuickJS comes to 30,000, StarlingMonkey to 146,000.
const MAX_COST: u64 = 1_000_000;
const JOINS_A_COST: u64 = 100;
/// Core instances, memories and tables of one call; and the elements of all tables.
const MAX_PARTS: usize = 64;
const MAX_ELEMENTS: usize = 1_000_000;

/// Why a call gave no answer.
pub struct Stopped {
    pub kind: &'static str,
    pub detail: String,
}

/// Components are compiled apart from guests, whose memory is mapped in a way of its own.
pub fn engine(compiler: Compiler) -> Result<Engine, String> {
    static MADE: OnceLock<Result<Engine, String>> = OnceLock::new();
    MADE.get_or_init(|| {
        let mut config = Config::new();
        compiler.apply(&mut config)?;
        config
            .wasm_component_model(true)
            .consume_fuel(true)
            .cranelift_nan_canonicalization(true)
            .wasm_backtrace_max_frames(None);
        Engine::new(&config).map_err(|e| format!("wasmtime: {e:#}"))
    })
    .clone()
}

/// What compiling a function comes to: loops in loops, squared, each with all locals (measured).
fn cost_of(body: &FunctionBody<'_>) -> wasmparser::Result<u64> {
    let mut locals = 0u64;
    for group in body.get_locals_reader()? {
        locals += u64::from(group?.0);
    }
    let mut open = Vec::new();
    let (mut depth, mut deepest, mut joins) = (0u64, 0u64, 0u64);
    for operator in body.get_operators_reader()? {
        match operator? {
            Operator::Loop { .. } => {
                open.push(true);
                depth += 1;
                deepest = deepest.max(depth);
            }
            Operator::Block { .. } | Operator::If { .. } | Operator::TryTable { .. } | Operator::Try { .. } => {
                joins += 1;
                open.push(false);
            }
            Operator::End if open.pop() == Some(true) => depth -= 1,
            _ => {}
        }
    }
    // And all locals at every place where ways meet, which costs memory too.
    let met = locals.saturating_mul(joins) / JOINS_A_COST;
    Ok(deepest.saturating_mul(deepest).saturating_mul(locals).saturating_add(met))
}

/// A few kilobytes can take a compiler hours: what would is not begun.
pub fn check_cost(bytes: &[u8]) -> Result<(), String> {
    let mut all = 0u64;
    for payload in Parser::new(0).parse_all(bytes) {
        let cost = match payload {
            Ok(Payload::CodeSectionEntry(body)) => cost_of(&body),
            Ok(_) => Ok(0),
            Err(error) => Err(error),
        };
        all = all.saturating_add(cost.map_err(|e| format!("no component: {}", first_line(&e.to_string())))?);
        if all > MAX_COST {
            return Err("its loops are nested deeper, with more locals, than is compiled here".into());
        }
    }
    Ok(())
}

/// Compiles a component, or says why it is none that is run here.
pub fn load(engine: &Engine, bytes: &[u8]) -> Result<Component, String> {
    check_cost(bytes)?;
    let component = Component::new(engine, bytes).map_err(|e| format!("no component: {}", first_line(&format!("{e:#}"))))?;
    let kind = component.component_type();
    if let Some((name, _)) = kind.imports(engine).next() {
        return Err(format!("it imports `{name}`, and is given nothing: build it without"));
    }
    let is_text = |given: Option<Type>| given == Some(Type::String);
    match kind.get_export(engine, RUN).map(|found| found.ty) {
        Some(ComponentItem::ComponentFunc(run)) => {
            let params: Vec<Type> = run.params().map(|(_, given)| given).collect();
            let results: Vec<Type> = run.results().collect();
            let answers = matches!(results.as_slice(), [Type::Result(one)] if is_text(one.ok()) && is_text(one.err()));
            if params == [Type::String] && answers {
                return Ok(component);
            }
            Err(format!("its `{RUN}` is no `func(args: string) -> result<string, string>`"))
        }
        _ => Err(format!("it exports no function `{RUN}`")),
    }
}

/// What one call may take, over all memories and tables that it makes.
struct Bounds {
    memory_left: usize,
    elements_left: usize,
}

impl ResourceLimiter for Bounds {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(take(&mut self.memory_left, current, desired))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(take(&mut self.elements_left, current, desired))
    }

    fn instances(&self) -> usize {
        MAX_PARTS
    }

    fn tables(&self) -> usize {
        MAX_PARTS
    }

    fn memories(&self) -> usize {
        MAX_PARTS
    }
}

fn take(left: &mut usize, current: usize, desired: usize) -> bool {
    let more = desired.saturating_sub(current);
    let allowed = more <= *left;
    if allowed {
        *left -= more;
    }
    allowed
}

/// Calls it once. The inner error is the component's own.
pub fn run(component: &Component, input: &str, fuel: u64, memory: usize) -> Result<Result<String, String>, Stopped> {
    let engine = component.engine();
    let mut store = Store::new(engine, Bounds { memory_left: memory, elements_left: MAX_ELEMENTS });
    store.limiter(|bounds| bounds);
    store.set_fuel(fuel).map_err(|e| stopped(&e))?;
    let instance = Linker::new(engine).instantiate(&mut store, component).map_err(|e| stopped(&e))?;
    let run = instance.get_typed_func::<(&str,), (Result<WasmStr, WasmStr>,)>(&mut store, RUN).map_err(|e| stopped(&e))?;
    let (answer,) = run.call(&mut store, (input,)).map_err(|e| stopped(&e))?;
    // It stays where it is until it is known not to be too long.
    let text = |given: &WasmStr| -> Result<String, Stopped> {
        let text = given.to_str(&store).map_err(|e| stopped(&e))?;
        if text.len() <= MAX_ANSWER {
            return Ok(text.into_owned());
        }
        Err(Stopped { kind: "AnswerTooLarge", detail: format!("it answered more than {MAX_ANSWER} bytes") })
    };
    match &answer {
        Ok(given) => text(given).map(Ok),
        Err(given) => text(given).map(Err),
    }
}

fn stopped(error: &wasmtime::Error) -> Stopped {
    let kind = if matches!(error.downcast_ref::<Trap>(), Some(Trap::OutOfFuel)) { "OutOfFuel" } else { "Trap" };
    Stopped { kind, detail: first_line(&format!("{error:#}")).to_string() }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
