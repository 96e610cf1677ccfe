# make          target/release/libmptcp.so and target/release/mptcp
# make help     everything else

CARGO   ?= cargo
PREFIX  ?= /usr/local
DESTDIR ?=

LIBRARY := target/release/libmptcp.so
COMMAND := target/release/mptcp
LAB     := target/debug/examples/lab
BENCH_PICTURE ?= target/bench.svg
# The library that the tests preload: the debug build, with its assertions and overflow checks.
TEST_LIBRARY := target/debug/libmptcp.so
CDYLIB  := rustc --lib --crate-type cdylib --features preload
# The library is a program too: an ELF entry point beside the exported hooks.
ENTRY   := -- -C link-arg=-Wl,-e,mptcp_entry

# Each step of `make check` says what it is and, at its end, how long it took.
define step
@printf '\n== %s\n' '$(1)'; start=$$(date +%s); $(2) && printf '== %s: %s s\n' '$(1)' "$$(($$(date +%s) - start))"
endef

.PHONY: all library command demo check requirements format clippy documentation test programs soak fuzz conformance cpython bench install clean help
# Steps share cargo's lock and the machine: one after the other, also with make -j.
.NOTPARALLEL:
all: library command

library:
	$(CARGO) $(CDYLIB) --release $(ENTRY)

command:
	$(CARGO) build --release --bin mptcp

demo: all
	@tests/requirements.sh demo
	$(CARGO) build --example lab
	@$(LAB) demo --library $(LIBRARY) --command $(COMMAND)

# The parts in this order; `make -k check` goes on after one that fails.
check: requirements format clippy documentation test
	@printf '\nEverything passed.\n'

requirements:
	@tests/requirements.sh check

format:
	$(call step,formatting,$(CARGO) fmt --check)

clippy:
	$(call step,clippy,$(CARGO) clippy --all-targets -- -D warnings)
	$(call step,clippy of the preloaded library,$(CARGO) clippy --all-targets --features preload -- -D warnings)

documentation:
	$(call step,documentation,RUSTDOCFLAGS='-D warnings' $(CARGO) doc --no-deps)

test: requirements
	$(call step,library for the tests,$(CARGO) $(CDYLIB) $(ENTRY))
	$(call step,lab for the tests,$(CARGO) build --example lab)
	$(call step,tests,MPTCP_LIB=$(CURDIR)/$(TEST_LIBRARY) $(CARGO) test --no-fail-fast)

# Every program of the README's table, without the library and under it. Those whose packages are missing are named, and nothing runs.
programs: library
	@tests/requirements.sh programs
	$(CARGO) build --example lab
	$(call step,programs,MPTCP_LIB=$(CURDIR)/$(LIBRARY) $(CARGO) test --test programs -- --include-ignored --test-threads=1)

# SEEDS fresh runs of the protocol simulator on all cores, from seed FIRST on.
SEEDS ?= 100000
FIRST ?= $(shell date +%s)00000
soak:
	SIM_SEEDS=$(SEEDS) SIM_FIRST=$(FIRST) $(CARGO) test --lib sim::tests::seeds -- --exact --nocapture

# Each fuzz target for FUZZ_SECONDS, from its corpus on: cargo-fuzz and a nightly compiler. A finding lies in fuzz/artifacts.
FUZZ_SECONDS ?= 60
fuzz:
	cd fuzz && set -e; for target in $$(ls corpus); do \
		$(CARGO) +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) -timeout=20; done

# Every requirement of the RFCs, with the tests that prove it.
conformance:
	@$(CARGO) test -q --test conformance -- --nocapture every_row

# CPython's own network tests over loopback, without the library and under it, compared. TESTS chooses modules.
cpython:
	$(CARGO) $(CDYLIB) $(ENTRY)
	$(CARGO) build --bin mptcp
	@tests/cpython.py --library $(TEST_LIBRARY) --command target/debug/mptcp $(TESTS)

bench: all
	@tests/requirements.sh demo
	$(CARGO) build --example lab
	@$(LAB) bench --library $(LIBRARY) --picture $(BENCH_PICTURE)

install: all
	install -D -m 755 $(LIBRARY) $(DESTDIR)$(PREFIX)/lib/libmptcp.so
	install -D -m 755 $(COMMAND) $(DESTDIR)$(PREFIX)/bin/mptcp
	install -D -m 644 include/mptcp.h $(DESTDIR)$(PREFIX)/include/mptcp.h
	install -D -m 644 man/mptcp.7 $(DESTDIR)$(PREFIX)/share/man/man7/mptcp.7

clean:
	$(CARGO) clean

help:
	@echo 'make            builds $(LIBRARY) and $(COMMAND)'
	@echo 'make demo       downloads over two emulated wires at once, then with one wire cut (as root, a minute)'
	@echo 'make check      formatting, clippy, documentation, and all tests (as root, some minutes)'
	@echo 'make test       of these the tests; also: make format, make clippy, make documentation'
	@echo 'make programs   Debian'"'"'s servers and clients without and under the library, compared (as root, some minutes)'
	@echo 'make soak       SEEDS=100000 runs of the protocol simulator from seed FIRST on (the time of day by default)'
	@echo 'make fuzz       every fuzz target for FUZZ_SECONDS=60 (cargo-fuzz, nightly)'
	@echo 'make conformance every requirement of the RFCs, with the tests that prove it'
	@echo 'make cpython    CPython'"'"'s own network tests without and under the library, compared (as root, ten minutes; TESTS=test_socket …)'
	@echo 'make bench      rates, latency, CPU and memory beside those of the kernel'"'"'s MPTCP and TCP (as root, minutes); $(BENCH_PICTURE)'
	@echo 'make install    PREFIX=$(PREFIX) DESTDIR=$(DESTDIR): lib/libmptcp.so, bin/mptcp, include/mptcp.h, share/man/man7/mptcp.7'
	@echo 'make clean      removes everything that was built'
