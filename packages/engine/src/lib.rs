//! The engine: a thin binding between Node and wasmtime.
//!
//! It boots a guest once into an image, maps that image copy-on-write under every instance, runs
//! turns on its own threads and hands each outcome back as a value. It knows nothing of agents,
//! cards or logs; every decision belongs to its caller.
//!
//! `sys`, `sqlite` and `statement` hold all unsafe code. `module` compiles, `guest` drives QuickJS over
//! what `host` binds, `image` and `snapshot` are the two byte formats, `pool` owns the threads, `engine` is
//! what JavaScript sees.
//!
//! `component` runs what others compiled, as functions without imports.
//!
//! `home` is an agent's SQLite as its turns see it, `connection`, `running` and `transaction` are parts of it;
//! `bridge` leads there from the guest. `authorizer` and `names` say what SQL of a guest may name,
//! `functions` what it finds, `meter` and `rowids` where it is stopped, `rows` how operators see it, `portable` how it leaves a node and comes in.

mod authorizer;
mod bridge;
mod component;
mod connection;
mod engine;
mod functions;
mod guest;
mod home;
mod host;
mod image;
mod meter;
mod module;
mod names;
mod pool;
mod portable;
mod rowids;
mod rows;
mod running;
mod snapshot;
mod sqlite;
mod statement;
mod sys;
mod transaction;
