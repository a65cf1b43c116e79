//! The process: start, threads, reload, drain, admin listener.

mod admin;
mod process;
mod reload;
mod threads;
