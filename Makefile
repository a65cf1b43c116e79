# The targets install what they need (scripts/setup). Only a Rust toolchain must be installed before.

.PHONY: help build demo test check conformance sdks bench compare soak fmt clean

help: ## Lists the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 8

build: ## Builds target/release/mcp-edge
	@scripts/setup build
	cargo build --release

demo: ## Runs the edge in front of MCP servers until Ctrl-C (ARGS=--once: only one MCP session; PROFILE=release)
	@exec scripts/demo $(ARGS)

test: ## Runs all tests
	@exec scripts/test

check: ## Checks the format, lints and runs all tests, as CI does
	@scripts/setup test
	cargo fmt --check
	cargo clippy --all-targets --features fleet -- -D warnings
	@$(MAKE) --no-print-directory test

conformance: ## Runs the official MCP suite directly and through the edge, and compares the results (REPLICAS=2)
	@exec scripts/conformance

sdks: ## Runs the official SDKs of two generations direct and through the edge, and compares the results
	@exec scripts/sdks $(ARGS)

bench: ## Runs the benchmarks
	@scripts/setup bench
	cargo bench --features fleet

compare: ## Compares the edge with nginx, HAProxy and Envoy (ARGS="--tables one,latency --seconds 4 --rounds 5")
	@exec scripts/compare $(ARGS)

soak: ## Runs minutes of mixed traffic while replicas die and the configuration changes (ARGS="--minutes 10")
	@exec scripts/soak $(ARGS)

fmt: ## Formats the code
	cargo fmt

clean: ## Deletes all build results and the demo's logs
	cargo clean
	rm -rf .demo
