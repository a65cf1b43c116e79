//! The `mcp-edge` binary: arguments in, exit code out.

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    mcp_edge::cli::Arguments::parse().run()
}
