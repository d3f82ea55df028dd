# pgcdc-lua: plain GNU make. `make help` lists the targets.
# SPDX-License-Identifier: MIT

PREFIX ?= /usr/local
DESTDIR ?=
CC ?= cc
BUILD ?= build
# (A row of a snapshot takes 2.5 % fewer instructions than with -O2, and 6 % less time. -flto adds
# nothing to that.)
OPTIMIZE ?= -O3
SANITIZE ?=

WARNINGS = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wwrite-strings \
	-Wformat=2 -Wundef -Wpointer-arith
PACKAGES = libpq lua5.4 sqlite3 jansson libcrypto
CPPFLAGS_ALL = -Isrc -D_GNU_SOURCE -D_FORTIFY_SOURCE=2 $(shell pkg-config --cflags $(PACKAGES)) \
	$(CPPFLAGS)
CFLAGS_ALL = -std=c11 $(OPTIMIZE) -g $(WARNINGS) -fstack-protector-strong -pthread \
	$(SANITIZE) $(CFLAGS)
LDFLAGS_ALL = -Wl,-z,relro,-z,now $(LDFLAGS)
LDLIBS_ALL = $(shell pkg-config --libs $(PACKAGES)) -lm $(LDLIBS)

PROGRAM = $(BUILD)/pgcdc-lua
OBJECTS = $(patsubst src/%.c,$(BUILD)/obj/%.o,$(filter-out src/sinks/% src/listen/%,\
	$(sort $(wildcard src/*.c src/*/*.c))))
WITHOUT_MAIN = $(filter-out %/obj/main.o,$(OBJECTS))
HOME_LINKS = $(BUILD)/../lua $(BUILD)/../scripts

all: $(PROGRAM) modules

help:
	@echo "make [all]           build $(PROGRAM), and modules whose library is there"
	@echo "make MODULES=        the same with these modules, such as MODULES='redis'"
	@echo "make help            list the targets"
	@echo "make check           install what is missing, build, run every test"
	@echo "make demo            the same, then show changes arriving for ten seconds"
	@echo "make test SUITES=    some of the tests, such as SUITES='values json'; JOBS= at a time"
	@echo "make check-servers   the tests against Postgres 14 to 18; SERVERS='14 18' SUITES=: some"
	@echo "make check-state     the tests that are about states, with states in a database"
	@echo "make native          build the C module that the tests are run with"
	@echo "make exact SECONDS=  the exactness tests for longer"
	@echo "make contract SUITES=   the tests that every sink passes, for longer"
	@echo "make sweep STRIDE=   break the program at every STRIDE-th step"
	@echo "make fuzz SECONDS= SEED=   inputs that are made up, under sanitizers"
	@echo "make soak SECONDS= SOAK_ROWS=   much work: pgbench for so long, tables of so many rows;"
	@echo "                     a hundred reloads, and a minute of bad requests"
	@echo "make takeover TIMES= a leader is killed, stopped, cut off, so often each"
	@echo "make bench ROWS=     measure speed and memory"
	@echo "make bench-peers     the same beside Debezium, which is fetched; PEER_ROWS="
	@echo "make lint            layering, warnings as errors, luacheck"
	@echo "make asan | tsan     the tests under the sanitizers"
	@echo "make storm EVERY= SUITES=   tests with hostile finalizers at each EVERY-th call of Lua"
	@echo "make valgrind        some tests under valgrind"
	@echo "make cover           lines that the tests reach"
	@echo "make deb             packages of Debian, in build/deb"
	@echo "make check-packages  the same, installed, started, upgraded and purged in a bare root"
	@echo "make install PREFIX= DESTDIR=   and uninstall, dist, clean"

$(PROGRAM): $(OBJECTS) | $(HOME_LINKS)
	@echo "link $@"
	@$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $(OBJECTS) $(LDLIBS_ALL)

$(BUILD)/obj/%.o: src/%.c | $(BUILD)
	@echo "cc   $<"
	@mkdir -p $(@D)
	@$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(BUILD):
	@pkg-config --print-errors --exists $(PACKAGES) || \
		{ echo "make: libraries are missing; tests/setup.sh installs them" >&2; exit 1; }
	@mkdir -p $@

# The program looks for its Lua files beside the folder it is in.
$(HOME_LINKS): | $(BUILD)
	@[ -e $@ ] || ln -s "$(CURDIR)/$(@F)" $@

$(BUILD)/obj/serve/page.o: $(filter-out %.c %.h,$(wildcard src/serve/page*))

-include $(OBJECTS:.o=.d)

include src/sinks/modules.mk
include src/dist/dist.mk
include tests/tests.mk

modules: $(MODULE_FILES)

clean:
	@rm -rf build

.PHONY: all clean help modules
