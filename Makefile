# Targets install what they need (scripts/setup); only a Rust toolchain must be there before.

.PHONY: help build demo test check conformance bench compare fmt clean

help: ## Lists the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 8

build: ## Builds target/release/mcp-edge
	@scripts/setup build
	cargo build --release

demo: ## Runs the edge in front of MCP servers until Ctrl-C (ARGS=--once: one session; PROFILE=release)
	@exec scripts/demo $(ARGS)

test: ## Runs all tests
	@exec scripts/test

check: ## Checks the format, lints and runs all tests, as CI does
	@scripts/setup test
	cargo fmt --check
	cargo clippy --all-targets --features fleet -- -D warnings
	@$(MAKE) --no-print-directory test

conformance: ## Runs the official MCP suite direct and through the edge, and compares (REPLICAS=2)
	@exec scripts/conformance

bench: ## Runs the benchmarks
	@scripts/setup bench
	cargo bench --features fleet

compare: ## Measures the edge beside nginx, HAProxy and Envoy (ARGS="--tables one,latency --seconds 4 --rounds 5")
	@exec scripts/compare $(ARGS)

fmt: ## Formats the code
	cargo fmt

clean: ## Deletes everything that was built, and the demo's logs
	cargo clean
	rm -rf .demo
