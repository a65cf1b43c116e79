//! `mcp-edge schema`: prints what a configuration may contain.

use std::process::ExitCode;

use clap::Args;

use super::exit::print;
use crate::config;

/// The form of the output.
#[derive(Debug, Args)]
pub(super) struct Schema {
    /// Print a reference in Markdown (docs/configuration.md) instead of the JSON Schema
    #[arg(long)]
    markdown: bool,
}

impl Schema {
    pub(super) fn run(self) -> ExitCode {
        if self.markdown {
            print(config::reference().trim_end())
        } else {
            print(&format!("{:#}", config::json_schema()))
        }
    }
}
