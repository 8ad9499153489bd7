# What there is to do with this project. `make` alone lists it.

CARGO ?= cargo
ARGS ?=
BIN ?=
FUZZ_SECONDS ?= 3600
TARGET ?= all
SOAK_SECONDS ?= 3600

.PHONY: help quickstart demo-agent llm test lint fmt doc bench instruction-counts build interop control-ui foreign-page clients conformance torture fuzz soak deny sbom

help:
	@echo 'make quickstart   build, start a gateway on its own state directory, and show the first five minutes'
	@echo '                  (ARGS=--once ends it afterwards)'
	@echo 'make demo-agent   the same of agents: a job and a question, answered by a real model (sets up a small one,'
	@echo '                  or ARGS="--base-url URL --model ID"; BIN=PATH builds nothing)'
	@echo 'make test         every test'
	@echo 'make llm          turns on a real model (sets up a small one)'
	@echo 'make torture      kill -9 ten thousand times under jobs and under changes of everything,'
	@echo '                  and a hundred thousand simulated schedules'
	@echo 'make fuzz         every reader of what comes from elsewhere under libFuzzer, an hour each (needs a nightly'
	@echo '                  toolchain; FUZZ_SECONDS=60 for a minute, TARGET=frame for one of fuzz/targets)'
	@echo 'make lint         formatting and clippy'
	@echo 'make bench        the numbers of docs/performance.md, each with its floor'
	@echo 'make instruction-counts  the instructions of the hot paths against docs/instruction-counts.txt (valgrind;'
	@echo '                  ARGS=--bless keeps them)'
	@echo 'make soak         an hour of everything at once: memory, descriptors and threads must stay (SOAK_SECONDS=600)'
	@echo 'make deny         licences, sources and known holes of what comes in (needs cargo-deny)'
	@echo 'make sbom         what the program is made of, as CycloneDX'
	@echo 'make doc          the documentation of the code'
	@echo 'make interop      the real OpenClaw client against this gateway (needs the interop kit)'
	@echo 'make control-ui   the published Control UI in a real browser against this gateway (sets itself up)'
	@echo 'make foreign-page a page of a stranger in a real browser against this gateway (sets itself up)'
	@echo 'make conformance  the dialogues of tests/conformance against any gateway'
	@echo '                  (ARGS="--url ws://127.0.0.1:18789 --token TOKEN")'
	@echo 'make clients      the published clients of wire 4 against this gateway (needs npm)'

build:
	$(CARGO) build --release --locked -p clawgate-cli

quickstart: build
	@scripts/quickstart target/release/clawgate $(ARGS)

demo-agent: $(if $(BIN),,build)
	@scripts/demo-agent $(or $(BIN),target/release/clawgate) $(ARGS)

llm:
	@tests/llm/run $(ARGS)

test:
	$(CARGO) test --workspace --locked $(ARGS)

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

fmt:
	$(CARGO) fmt --all

doc:
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --locked

bench: build
	$(CARGO) run --release --locked -q -p clawgate-bench -- --bin target/release/clawgate $(ARGS)

instruction-counts:
	@scripts/instruction-counts $(ARGS)

soak: build
	$(CARGO) run --release --locked -q -p clawgate-bench -- --bin target/release/clawgate --check --soak-seconds $(SOAK_SECONDS) soak

interop:
	@scripts/interop $(ARGS)

control-ui:
	@tests/control-ui/run $(ARGS)

foreign-page:
	@tests/foreign-page/run $(ARGS)

conformance:
	@$(CARGO) run --locked -q -p clawgate-testkit --bin conformance -- $(ARGS)

clients:
	$(CARGO) build --locked -q -p clawgate-cli
	@tests/clients/run --bin $${CARGO_TARGET_DIR:-target}/debug/clawgate $(ARGS)

deny:
	$(CARGO) deny --locked check $(ARGS)

sbom:
	@scripts/sbom $(ARGS)

fuzz:
	@fuzz/run $(TARGET) $(FUZZ_SECONDS)

torture:
	CLAWGATE_SEEDS=100000 $(CARGO) test --locked -p clawgate-core --test cron_planner -- --nocapture
	CLAWGATE_KILLS=10000 $(CARGO) test --locked -p clawgate-cli --test cron_torture -- --nocapture
	CLAWGATE_KILLS=10000 $(CARGO) test --locked -p clawgate-cli --test state_torture -- --nocapture
