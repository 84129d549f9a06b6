# A thin front: meson does the work. `make help` lists what there is.
BUILD ?= build
PREFIX ?= /usr/local
DESTDIR ?=

.PHONY: all build run test bench install uninstall format clean help setup

all: build

help:
	@echo "make build | run | test | bench | install [PREFIX=$(PREFIX)] [DESTDIR=] | uninstall | format | clean"

setup:
	@tools/setup build

build: setup
	@tools/build $(BUILD)

run: build
	@tools/setup run
	@tools/demo $(BUILD)

test: build
	@tools/setup test
	@tests/run $(BUILD) $(TESTS)

bench: build
	@tools/setup bench
	@bench/run $(BUILD)

install: build
	@meson configure $(BUILD) -Dprefix=$(PREFIX)
	@DESTDIR="$(DESTDIR)" meson install -C $(BUILD) --quiet

uninstall:
	@ninja -C $(BUILD) uninstall

format:
	@git ls-files -co --exclude-standard '*.c' '*.h' | xargs clang-format -i

clean:
	@rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-fuzz
