# pgcdc-lua: plain GNU make. `make help` lists the targets.
# SPDX-License-Identifier: MIT

PREFIX ?= /usr/local
DESTDIR ?=
CC ?= cc
BUILD ?= build
OPTIMIZE ?= -O2
SANITIZE ?=

# The rooms of src/ in dependency order: each includes only what stands before it.
ROOMS_0 = err buf words log clock queue
ROOMS_1 = db types
ROOMS_2 = table horizon identity position query batch survey standing capture spool outbox reader
ROOMS_3 = store
ROOMS_4 = pool script json cells row push bind_source bind_host runtime
ROOMS_5 = output progress host main
ROOMS = $(ROOMS_0) $(ROOMS_1) $(ROOMS_2) $(ROOMS_3) $(ROOMS_4) $(ROOMS_5)

WARNINGS = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wwrite-strings \
	-Wformat=2 -Wundef -Wpointer-arith
PACKAGES = libpq lua5.4 sqlite3 jansson
CPPFLAGS_ALL = -D_GNU_SOURCE -D_FORTIFY_SOURCE=2 $(shell pkg-config --cflags $(PACKAGES)) $(CPPFLAGS)
CFLAGS_ALL = -std=c11 $(OPTIMIZE) -g $(WARNINGS) -fstack-protector-strong -pthread $(SANITIZE) $(CFLAGS)
LDLIBS_ALL = $(shell pkg-config --libs $(PACKAGES)) -lm $(LDLIBS)

PROGRAM = $(BUILD)/pgcdc-lua
OBJECTS = $(ROOMS:%=$(BUILD)/%.o)

all: $(PROGRAM)

help:
	@echo "make                 build $(PROGRAM)"
	@echo "make check           install what is missing, build, run every test"
	@echo "make demo            the same, then show changes arriving for ten seconds"
	@echo "make bench           measure speed and memory"
	@echo "make soak SECONDS=   the exactness test for longer"
	@echo "make lint            layering, warnings as errors, luacheck"
	@echo "make asan | tsan     the tests under the sanitizers"
	@echo "make valgrind        one run under valgrind"
	@echo "make cover           lines that the tests reach"
	@echo "make install PREFIX= DESTDIR=   and uninstall, dist, clean"

$(PROGRAM): $(OBJECTS)
	@echo "link $@"
	@$(CC) $(CFLAGS_ALL) $(LDFLAGS) -o $@ $(OBJECTS) $(LDLIBS_ALL)

$(BUILD)/%.o: src/%.c | $(BUILD)
	@echo "cc   $<"
	@$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(BUILD):
	@mkdir -p $(BUILD)

-include $(OBJECTS:.o=.d)

# ---- tests ----

NATIVE = $(BUILD)/tests/native.so
NATIVE_SOURCES = $(wildcard tests/support/native*.c)
TEST = PGCDC_LUA="$(CURDIR)/$(PROGRAM)" lua5.4 tests/run.lua
SUITES ?=

native: $(NATIVE)

$(NATIVE): $(NATIVE_SOURCES) tests/support/native.h
	@echo "cc   $@"
	@mkdir -p $(@D)
	@$(CC) -std=c11 -D_GNU_SOURCE -O2 $(WARNINGS) -fPIC -shared $$(pkg-config --cflags lua5.4 libpq) \
		-o $@ $(NATIVE_SOURCES) -lpq

test: $(PROGRAM) $(NATIVE)
	@$(TEST) $(SUITES)

clean:
	@rm -rf build

.PHONY: all help native test clean
