# demo · test · check · bench · down.  A target does only what is not done yet.
SHELL   := /bin/sh
PYTHON  ?= python3
VENV    := .venv
BIN     := $(VENV)/bin
NATIVE  := src/tulle/_native
CLANG   ?= $(firstword $(foreach c,clang-19 clang-18 clang,$(shell command -v $(c))))
STRIP   := $(firstword $(foreach s,llvm-strip-19 llvm-strip-18 llvm-strip,$(shell command -v $(s))))
MACHINE := $(shell uname -m)
ARCH    := $(subst aarch64,arm64,$(subst x86_64,x86,$(MACHINE)))
OBJECTS := $(patsubst bpf/%.bpf.c,$(NATIVE)/%.bpf.o,$(wildcard bpf/*.bpf.c))
WHEEL_VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' src/tulle/__init__.py)

.PHONY: help demo test check bench down deps native venv clean
help:            ## this list
	@sed -n 's/^\([a-z]*\): .*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

demo: venv       ## a three-node cluster on this machine, a dozen Pods, and the proof that it keeps the model
	@$(BIN)/tulle lab demo

down: venv       ## takes the cluster of `make demo` away again, without a trace
	@$(BIN)/tulle lab down

test: venv       ## every test: unit, bpf, netns, lab (as root)
	@$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

check: venv      ## lint, types, import layers
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-cache

bench: venv      ## the figures, as ratios within one run, into bench/results
	@$(BIN)/python -m bench

deps: .build/deps             ## the distribution's packages that packages.txt names
venv: .build/venv native      ## the virtual environment with Tulle in it
native: $(OBJECTS) $(NATIVE)/tulle-cni  ## the eBPF objects and the CNI plugin

.build/deps: packages.txt scripts/deps
	@scripts/deps
	@mkdir -p .build && touch $@

.build/venv: pyproject.toml hatch_build.py | .build/deps
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -q --disable-pip-version-check -e '.[dev]'
	@mkdir -p .build && touch $@

$(NATIVE)/%.bpf.o: bpf/%.bpf.c $(wildcard bpf/*.h bpf/lib/*.h) | .build/deps
	@mkdir -p $(NATIVE)
	$(CLANG) -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror -D__TARGET_ARCH_$(ARCH) \
	    -I/usr/include/$(MACHINE)-linux-gnu -c $< -o $@
	$(STRIP) -g $@

$(NATIVE)/tulle-cni: cni/tulle-cni.c | .build/deps
	@mkdir -p $(NATIVE)
	$(CC) -static -O2 -Wall -Wextra -Werror -s -o $@ $<

clean:           ## what the build made
	rm -rf .build $(VENV) $(NATIVE) dist
