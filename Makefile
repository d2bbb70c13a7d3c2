# Two commands matter: `make rehearse` and `make test`. ARGS go to `converge rehearse`, as in
# make rehearse ARGS="--seed 7 --server mysql".

CARGO ?= cargo
ARGS ?=

.PHONY: setup rehearse selftest test lint bench clean

setup:
	@.ci/setup

rehearse: setup
	$(CARGO) build --release -p converge-scenarios
	target/release/converge rehearse $(ARGS)

# Rehearsals of movers that are wrong on purpose, in a build of its own. ARGS as in ARGS="--runs 20 --jobs 2".
selftest: setup
	$(CARGO) build --release -p converge-scenarios --features planted --target-dir target/planted
	target/planted/release/converge selftest $(ARGS)

# Tests wait for servers more than they compute: more of them at once than there are cores.
test: setup
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-4} $(CARGO) test --workspace

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

bench: setup
	$(CARGO) bench -p converge-benches

clean:
	$(CARGO) clean
	rm -rf runs $(HOME)/.cache/converge/datadirs
