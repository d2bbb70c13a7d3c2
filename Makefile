# Two commands matter: `make rehearse` and `make test`. ARGS go to `converge rehearse`, as in
# make rehearse ARGS="--seed 7 --server mysql".

CARGO ?= cargo
ARGS ?=

.PHONY: setup rehearse selftest test docker-test lint bench clean

setup:
	@.ci/setup

rehearse: setup
	$(CARGO) build --release -p converge-scenarios
	target/release/converge rehearse $(ARGS)

# Rehearsals of movers that are wrong on purpose, in a build of its own. ARGS as in ARGS="--runs 20 --jobs 2".
selftest: setup
	$(CARGO) build --release -p converge-scenarios --features planted --target-dir target/planted
	target/planted/release/converge selftest $(ARGS)

# Servers in containers are a part of the build where an engine could run them.
FEATURES ?= $(if $(shell docker info >/dev/null 2>&1 && echo yes),--features converge-scenarios/docker)

# cargo-nextest, where it is installed, runs tests of all suites side by side, and ends one that hangs; cargo alone runs
# one suite after the other. Tests wait for servers more than they compute: more of them at once than there are cores.
NEXTEST := $(shell $(CARGO) nextest --version 2>/dev/null)

test: setup
ifneq ($(NEXTEST),)
	$(CARGO) nextest run --workspace $(FEATURES)
	$(CARGO) test --workspace $(FEATURES) --doc
else
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-4} $(CARGO) test --workspace $(FEATURES)
endif

# With an engine, or not at all.
docker-test: setup
	CONVERGE_REQUIRE_DOCKER=1 $(CARGO) test --workspace --features converge-scenarios/docker --test docker

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --features converge-scenarios/docker -- -D warnings
	$(CARGO) clippy --workspace --all-targets --features converge-scenarios/docker,converge-scenarios/planted -- -D warnings

bench: setup
	$(CARGO) bench -p converge-benches

clean:
	$(CARGO) clean
	rm -rf runs $(HOME)/.cache/converge/datadirs
