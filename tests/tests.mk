# tests.mk: the targets that test the program; the Makefile includes it.
# SPDX-License-Identifier: MIT
#
# Needs from the Makefile: BUILD, PROGRAM, OBJECTS, HOME_LINKS and how things are compiled.

NATIVE = build/tests/native.so
NATIVE_SOURCES = $(wildcard tests/support/native*.c)
RULES = $(wildcard tests/mutants/horizon_*.c)
SEQ_MUTANTS = $(patsubst tests/mutants/%.c,$(PROGRAM)-%,$(wildcard tests/mutants/seq_*.c))
# What the first word of a mutant stands in the place of.
IS_claims = slot_claims
IS_leaves = log_leaves
IS_logical = logical
IS_floor = log_floor
IS_columns = log_columns
IS_ahead = stream_ahead
IS_stuck = slot_stuck
LOG_MUTANTS = $(patsubst tests/mutants/%.c,$(PROGRAM)-%,$(wildcard $(patsubst \
	%,tests/mutants/%_*.c,claims leaves logical floor columns ahead stuck)))
HOME_MUTANTS = $(patsubst tests/mutants/%.c,$(PROGRAM)-%,$(wildcard tests/mutants/home_*.c))
HASTY = $(PROGRAM)-hasty
MUTANTS = $(patsubst tests/mutants/horizon_%.c,$(PROGRAM)-%,$(RULES)) $(SEQ_MUTANTS) \
	$(LOG_MUTANTS) $(HOME_MUTANTS) $(PROGRAM)-hints $(PROGRAM)-quiet $(HASTY)
SABOTEUR = $(patsubst %,$(BUILD)/tests/%.o,saboteur saboteur_net saboteur_clock)
SABOTAGED_POOL = $(BUILD)/tests/saboteur_pool.o
SABOTAGED = $(PROGRAM)-sabotaged
STORM = $(PROGRAM)-storm
# Where librdkafka is: a cluster for the tests of the sink `kafka`.
KAFKA_MOCK = $(if $(filter kafka,$(MODULES)),build/tests/kafka_mock)
UNIT = $(BUILD)/tests/unit
UNIT_SOURCES = $(wildcard tests/unit/*.c)
REPLAY = $(BUILD)/tests/replay
FUZZ_SOURCES = $(wildcard tests/fuzz/*.c)
FUZZ_FLAGS = -DFUZZ_TOP='"$(CURDIR)"'
IN_TEST = TMPDIR="$$(tests/tmpdir.sh)" PGCDC_LUA="$(CURDIR)/$(PROGRAM)"
SUITES ?=
SERVERS ?= 14 15 16 17 18
# As many compilers as processors, where nobody has said how many.
AT_A_TIME = $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(shell nproc))
# Suites wait for most of their time.
JOBS ?= $(shell n=$$((2 * $$(nproc))); echo $$((n > 6 ? 6 : n)))
ROWS ?= 2000000
SECONDS ?= 600
SOAK_ROWS ?= 20000000

check:
	@tests/setup.sh
	@$(MAKE) --no-print-directory test

demo:
	@tests/setup.sh
	@$(MAKE) --no-print-directory $(PROGRAM) $(NATIVE)
	@$(IN_TEST) lua5.4 tests/demo.lua

test:
	@$(MAKE) --no-print-directory $(AT_A_TIME) built
	@$(IN_TEST) lua5.4 tests/run.lua --jobs $(JOBS) $(SUITES)

# All that the suites run.
built: $(PROGRAM) modules $(MUTANTS) $(SABOTAGED) $(UNIT) $(REPLAY) $(NATIVE) $(KAFKA_MOCK)
	@:

check-servers:
	@tests/setup.sh servers
	@$(MAKE) --no-print-directory $(AT_A_TIME) built
	@$(IN_TEST) tests/servers.sh "$(SERVERS)" $(SUITES)

# Apache Kafka itself, which is fetched once. KILLS: how often the program is killed. With
# PGCDC_CONTRACT=1 it does what `make contract` does, too.
KAFKA_JARS = build/kafka/libs
ON_KAFKA = kafka_real kafka_secure doctor_kafka kafka_takeover group_real debezium_real \
	contract_sweep contract_mutants $(CONTRACT)
KILLS ?= 15

check-kafka:
	@$(if $(SUITES),:,echo "check-kafka: about $$((30 + $(KILLS) * 3 / 10)) minutes on two cores" \
		"that have other work, too")
	@tests/setup.sh java
	@$(MAKE) --no-print-directory $(KAFKA_JARS) $(PEERS)/classes/Peer.class
	@PGCDC_KAFKA=1 PGCDC_KAFKA_KILLS=$(KILLS) PGCDC_CONTRACT_SINK=kafka \
		$(MAKE) --no-print-directory test JOBS=1 SUITES="$(or $(SUITES),$(ON_KAFKA))"

$(KAFKA_JARS): tests/kafka/pom.xml
	@echo "get  $@"
	@rm -rf $@ $@.part
	@mvn -B -q -f $< dependency:copy-dependencies -DoutputDirectory="$(CURDIR)/$@.part"
	@mv $@.part $@

# A node of OpenSearch, which is fetched once, in place of what stands in for it.
OPENSEARCH = build/opensearch

check-opensearch: export PGCDC_OPENSEARCH = 1
check-opensearch: export PGCDC_CONTRACT_SINK = opensearch
check-opensearch:
	@tests/setup.sh java
	@$(MAKE) --no-print-directory $(OPENSEARCH)
	@$(MAKE) --no-print-directory test JOBS=1 SUITES="opensearch $(CONTRACT)"

$(OPENSEARCH): tests/opensearch/pom.xml tests/opensearch/Server.java
	@echo "get  $@"
	@rm -rf $@ $@.part
	@mvn -B -q -f $< dependency:copy-dependencies -DoutputDirectory="$(CURDIR)/$@.part/libs"
	@javac -d $@.part -cp '$@.part/libs/*' tests/opensearch/Server.java
	@mv $@.part $@

# What is about states, positions and kills, with states in a database.
IN_DATABASE = state deletes deletes_known deletes_due deletes_exact operators_persist \
	operators_window stop settle prepared holding dead_letters exactly_once together reread \
	seq hand_over declared sources keys snapshot increment trigger partition exact \
	on_error fault_identity fault_table fault_crash orphans sink_postgres_fault sinks_file

check-state: export PGCDC_TEST_STATE = database
check-state:
	@tests/setup.sh
	@$(MAKE) --no-print-directory test SUITES="$(or $(SUITES),$(IN_DATABASE))"

# Packages of Debian, in a bare root. Needs root.
check-packages:
	@tests/setup.sh packages
	@$(MAKE) --no-print-directory deb
	@tests/packages.sh $(DEB)

exact: $(PROGRAM) modules $(MUTANTS) $(NATIVE)
	@$(IN_TEST) PGCDC_EXACT_SECONDS=$(SECONDS) lua5.4 tests/run.lua exact xid xid_alias exactly_once

# What every sink keeps, for longer: more kills, a big table, a network that stands still.
CONTRACT = contract contract_faults contract_losses contract_refused contract_long

contract: export PGCDC_CONTRACT = 1
contract:
	@$(MAKE) --no-print-directory test SUITES="$(or $(SUITES),$(CONTRACT))"

# Big files go to a disk, not to memory.
soak: $(PROGRAM) modules $(NATIVE)
	@TMPDIR="$${TMPDIR:-/var/tmp}" PGCDC_LUA="$(CURDIR)/$(PROGRAM)" PGCDC_SOAK_SECONDS=$(SECONDS) \
		PGCDC_SOAK_ROWS=$(SOAK_ROWS) PGCDC_RELOADS=100 PGCDC_HOSTILE_SECONDS=60 \
		lua5.4 tests/run.lua load reload listen

# A leader in all kinds of trouble, each so often with each sink that takeovers are tried with.
# STOPPED: how long a leader is stopped that goes on later. WHAT: a part, such as WHAT=nats_slept.
TIMES ?= 20
STOPPED ?= 30
WHAT ?= Takeover

takeover: $(PROGRAM) modules $(NATIVE) $(SABOTAGED) $(HOME_MUTANTS)
	@$(IN_TEST) PGCDC_TAKEOVERS=$(TIMES) PGCDC_TAKEOVER_STOPPED=$(STOPPED) \
		lua5.4 tests/run.lua --filter $(WHAT) takeover

bench:
	@tests/setup.sh bench
	@$(MAKE) --no-print-directory $(PROGRAM) modules $(NATIVE) $(KAFKA_MOCK)
	@status=0; $(IN_TEST) lua5.4 tests/bench/bench.lua $(ROWS) || status=1; \
	[ -n "$$ONLY" ] || $(IN_TEST) TMPDIR=/var/tmp ONLY=state lua5.4 tests/bench/bench.lua 1000 || \
		status=1; exit $$status

# This program and Debezium beside each other, which is fetched once. PEER_ROWS: of the table.
PEERS = build/peers
PEER_ROWS ?= 1000000

bench-peers:
	@tests/setup.sh java
	@$(MAKE) --no-print-directory $(PROGRAM) modules $(NATIVE) $(KAFKA_JARS) \
		$(PEERS)/classes/Peer.class $(PEERS)/observer
	@$(IN_TEST) lua5.4 tests/bench/peers.lua $(PEER_ROWS)

$(PEERS)/libs: tests/bench/peers/pom.xml
	@echo "get  $@"
	@rm -rf $@ $@.part
	@mvn -B -q -f $< dependency:copy-dependencies -DincludeScope=runtime \
		-DoutputDirectory="$(CURDIR)/$@.part"
	@mv $@.part $@

$(PEERS)/classes/Peer.class: tests/bench/peers/Peer.java | $(PEERS)/libs
	@echo "javac $@"
	@javac -Xlint:all -cp "$(PEERS)/libs/*" -d $(@D) $<

$(PEERS)/observer: tests/bench/peers/observer.c
	@echo "cc   $@"
	@mkdir -p $(@D)
	@$(CC) -std=c11 -D_GNU_SOURCE -O2 $(WARNINGS) -o $@ $< $$(pkg-config --cflags --libs rdkafka)

lint: SANITIZE =
lint:
	@FLAGS='$(CPPFLAGS_ALL) $(CFLAGS_ALL)' lua5.4 tests/lint/lint.lua

native: $(NATIVE)

$(NATIVE): $(NATIVE_SOURCES) tests/support/native.h
	@echo "cc   $@"
	@mkdir -p $(@D)
	@$(CC) -std=c11 -D_GNU_SOURCE -O2 $(WARNINGS) -fPIC -shared -o $@ $(NATIVE_SOURCES) \
		$$(pkg-config --cflags lua5.4 libpq) -lpq

build/tests/kafka_mock: tests/support/kafka_mock.c
	@echo "cc   $@"
	@mkdir -p $(@D)
	@$(CC) -std=c11 -D_GNU_SOURCE -O2 $(WARNINGS) -o $@ $< $$(pkg-config --cflags --libs rdkafka)

$(UNIT): $(UNIT_SOURCES) $(OBJECTS) $(wildcard tests/unit/*.h)
	@echo "cc   $@"
	@mkdir -p $(@D)
	@$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $(UNIT_SOURCES) \
		$(WITHOUT_MAIN) $(LDLIBS_ALL)

# The fuzzer's targets, to run on files.
$(REPLAY): $(FUZZ_SOURCES) $(OBJECTS) tests/fuzz/fuzz.h
	@echo "cc   $@"
	@mkdir -p $(@D)
	@$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(LDFLAGS_ALL) $(FUZZ_FLAGS) -DFUZZ_REPLAY -o $@ \
		$(FUZZ_SOURCES) $(WITHOUT_MAIN) $(LDLIBS_ALL)

# The program with another capture rule, for a test that must find it out.
$(PROGRAM)-%: $(BUILD)/horizon_%.o $(OBJECTS) | $(HOME_LINKS)
	@echo "link $@"
	@$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $< \
		$(filter-out %/capture/horizon.o,$(OBJECTS)) $(LDLIBS_ALL)

$(BUILD)/horizon_%.o: tests/mutants/horizon_%.c | $(BUILD)
	@echo "cc   $<"
	@$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

# The program, linked so that calls which can fail go through saboteur.c.
$(SABOTEUR): $(BUILD)/tests/%.o: tests/support/%.c tests/support/saboteur.h | $(BUILD)
	@echo "cc   $<"
	@mkdir -p $(@D)
	@$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -O1 -fno-builtin -U_FORTIFY_SOURCE -fno-sanitize=all \
		-c -o $@ $<

$(SABOTAGED): $(SABOTEUR) $(OBJECTS) | $(HOME_LINKS)
	@echo "link $@"
	@objcopy --redefine-sym malloc=lua_malloc --redefine-sym realloc=lua_realloc \
		$(BUILD)/obj/lua/pool.o $(SABOTAGED_POOL)
	@$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $(SABOTEUR) $(SABOTAGED_POOL) \
		$(filter-out %/lua/pool.o,$(OBJECTS)) $(LDLIBS_ALL) \
		$$(nm -u $(SABOTEUR) | sed -n 's/.* __real_/-Wl,--wrap=/p')

# The same with other numbers of changes.
$(SEQ_MUTANTS): $(PROGRAM)-%: tests/mutants/%.c $(SABOTAGED)
	@echo "link $@"
	@$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $< $(SABOTEUR) $(SABOTAGED_POOL) \
		$(filter-out %/lua/pool.o %/state/seq.o,$(OBJECTS)) $(LDLIBS_ALL) \
		$$(nm -u $(SABOTEUR) | sed -n 's/.* __real_/-Wl,--wrap=/p')

# The same with other rules of states in databases: home_NAME.c for state/NAME.c.
$(HOME_MUTANTS): $(PROGRAM)-%: tests/mutants/%.c $(SABOTAGED)
	@echo "link $@"
	@$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $< $(SABOTEUR) $(SABOTAGED_POOL) \
		$(filter-out %/lua/pool.o %/state/$(*:home_%=%).o,$(OBJECTS)) $(LDLIBS_ALL) \
		$$(nm -u $(SABOTEUR) | sed -n 's/.* __real_/-Wl,--wrap=/p')

# The program with other rules of hints.
$(PROGRAM)-hints: tests/mutants/hints.c $(OBJECTS) | $(HOME_LINKS)
	@echo "link $@"
	@$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $< \
		$(filter-out %/capture/hints.o %/capture/sql_hints.o,$(OBJECTS)) $(LDLIBS_ALL)

# The same with other rules of counters.
$(PROGRAM)-quiet: tests/mutants/quiet.c $(OBJECTS) | $(HOME_LINKS)
	@echo "link $@"
	@$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $< \
		$(filter-out %/capture/quiet.o,$(OBJECTS)) $(LDLIBS_ALL)

# The program that takes a loop for dead after 1.5 seconds, not thirty, saves positions that say
# only "nothing happened" after a tenth of one, not five, gives servers that are at work two seconds
# of a stop, not fifteen, warns of old transactions after half a second, not an hour, and looks at
# the facts of the log each half a second, not ten.
HASTY_PARTS = serve/health serve/server host/checkpoint pg/wire capture/hinted \
	capture/method_logical
HASTY_OBJECTS = $(patsubst %,$(BUILD)/tests/hasty/%.o,$(HASTY_PARTS))

$(HASTY_OBJECTS): $(BUILD)/tests/hasty/%.o: src/%.c src/serve/health.h src/host/checkpoint.h | \
		$(BUILD)
	@echo "cc   $@"
	@mkdir -p $(@D)
	@$(CC) $(CPPFLAGS_ALL) -DHEALTH_STALLED_MS=1500 -DCHECKPOINT_LAZY_MS=100 -DWIRE_WORK_MS=2000 \
		-DHINTED_LATE_MS=500 -DMETHOD_LOGICAL_LOOK_MS=500 $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

-include $(HASTY_OBJECTS:.o=.d)

$(HASTY): $(HASTY_OBJECTS) $(OBJECTS) | $(HOME_LINKS)
	@echo "link $@"
	@$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $(HASTY_OBJECTS) \
		$(filter-out $(patsubst %,$(BUILD)/obj/%.o,$(HASTY_PARTS)),$(OBJECTS)) $(LDLIBS_ALL)

# The program with other rules of the log.
$(LOG_MUTANTS): $(PROGRAM)-%: tests/mutants/%.c $(OBJECTS) | $(HOME_LINKS)
	@echo "link $@"
	@$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $< \
		$(filter-out %/capture/$(IS_$(firstword $(subst _, ,$*))).o,$(OBJECTS)) $(LDLIBS_ALL)

# The program, linked so that every call of Lua that may run a finalizer runs hostile ones.
$(BUILD)/tests/storm.o: tests/support/storm.c $(OBJECTS)
	@echo "cc   $<"
	@mkdir -p $(@D)
	@$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -c -o $@ $<

$(STORM): $(BUILD)/tests/storm.o $(OBJECTS) | $(HOME_LINKS)
	@echo "link $@"
	@$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $< $(OBJECTS) $(LDLIBS_ALL) \
		$$(nm -u $< | sed -n 's/.* __real_/-Wl,--wrap=/p')

.SECONDARY: $(RULES:tests/mutants/%.c=$(BUILD)/%.o)

-include $(RULES:tests/mutants/%.c=$(BUILD)/%.d)

# ---- tests of a program that watches itself ----

# A finding ends the program with status 99 and is kept in a file, whoever started the program.
# (Under gcc that is not so for undefined behaviour, hence clang where there is one.)
WATCHER = $(or $(shell command -v clang),$(CC))
WATCHED = --no-print-directory test CPPFLAGS='-U_FORTIFY_SOURCE -DSANITIZED'
FINDINGS = cat $(BUILD)/report.* 2>/dev/null && exit 1 || exit $$status

asan: BUILD = build/asan
asan:
	@rm -f $(BUILD)/report.*
	@status=0; \
	options="exitcode=99:log_path=$(CURDIR)/$(BUILD)/report"; \
	export ASAN_OPTIONS="$$options" UBSAN_OPTIONS="$$options:print_stacktrace=1"; \
	PGCDC_TEST_SLOW=5 $(MAKE) $(WATCHED) BUILD=$(BUILD) CC="$(WATCHER)" \
		OPTIMIZE="-O1 -fno-omit-frame-pointer" \
		SANITIZE="-fsanitize=address,undefined -fno-sanitize-recover=all" || status=1; \
	$(FINDINGS)

# Tests of the API, and attacks, in a program in which every call of Lua that may run a finalizer
# collects everything and runs hostile ones; at every EVERY-th of these calls.
EVERY ?= 7
STORMED = walls_pointers api_change api_json exact_numbers values encoding connect connect_send

storm: BUILD = build/storm
storm:
	@rm -f $(BUILD)/report.*
	@$(MAKE) --no-print-directory $(AT_A_TIME) $(BUILD)/pgcdc-lua-storm $(NATIVE) BUILD=$(BUILD) \
		CC="$(WATCHER)" CPPFLAGS='-U_FORTIFY_SOURCE -DSANITIZED' \
		OPTIMIZE="-O1 -fno-omit-frame-pointer" \
		SANITIZE="-fsanitize=address,undefined -fno-sanitize-recover=all"
	@status=0; \
	options="exitcode=99:log_path=$(CURDIR)/$(BUILD)/report"; \
	export ASAN_OPTIONS="$$options" UBSAN_OPTIONS="$$options:print_stacktrace=1"; \
	export STORM_SCRIPT="$(CURDIR)/tests/support/storm.lua" STORM_EVERY="$(EVERY)"; \
	PGCDC_TEST_SLOW=20 TMPDIR="$$(tests/tmpdir.sh)" \
		PGCDC_LUA="$(CURDIR)/$(BUILD)/pgcdc-lua-storm" \
		lua5.4 tests/run.lua --jobs $(JOBS) $(or $(SUITES),$(STORMED)) || status=1; \
	$(FINDINGS)

# Every STRIDE-th step. A program that is killed need not watch itself, nor need the runs in which
# nothing fails. STRIDE=1 kills some 4,000 runs, without those of _again (a quarter of an
# hour on two busy cores) and breaks some 13,000 of sabotage_fail (hours). A part is
# SUITES="--filter sqlite sabotage_fail", or STRIDE="1 201 300" (the 201st to the 300th step).
STRIDE ?= 29
KILLED = sabotage_kill power_loss contract_sweep
SWEPT = $(or $(SUITES),$(KILLED) sabotage_fail)
SWEPT_PLAIN = $(if $(filter $(KILLED),$(SWEPT)),$(filter-out sabotage_fail,$(SWEPT)))
SWEPT_WATCHED = $(if $(filter sabotage_fail,$(SWEPT)),$(filter-out $(KILLED),$(SWEPT)))

sweep: $(PROGRAM)
	@status=0; export PGCDC_SWEEP="$(STRIDE)" PGCDC_SWEEP_WHOLE="$(CURDIR)/$(PROGRAM)"; \
	[ -z "$(SWEPT_PLAIN)" ] || \
		$(MAKE) --no-print-directory test SUITES="$(SWEPT_PLAIN)" || status=1; \
	export ASAN_OPTIONS=exitcode=99 UBSAN_OPTIONS=exitcode=99:print_stacktrace=1; \
	[ -z "$(SWEPT_WATCHED)" ] || \
		PGCDC_TEST_SLOW=5 $(MAKE) $(WATCHED) SUITES="$(SWEPT_WATCHED)" BUILD=build/asan \
		CC="$(WATCHER)" OPTIMIZE="-O1 -fno-omit-frame-pointer" \
		SANITIZE="-fsanitize=address,undefined -fno-sanitize-recover=all" || status=1; \
	exit $$status

tsan: BUILD = build/tsan
tsan:
	@rm -f $(BUILD)/report.*
	@status=0; export TSAN_OPTIONS="exitcode=99:log_path=$(CURDIR)/$(BUILD)/report"; \
	PGCDC_TEST_SLOW=5 $(MAKE) $(WATCHED) BUILD=$(BUILD) CC="$(WATCHER)" \
		OPTIMIZE=-O1 SANITIZE=-fsanitize=thread || status=1; \
	$(FINDINGS)

# The targets of tests/fuzz, each with inputs that the fuzzer makes up, beginning with those of its
# corpus. What it finds stays in build/fuzz.
fuzz: BUILD = build/fuzz
fuzz: SECONDS = 60
fuzz:
	@tests/setup.sh fuzz
	@$(MAKE) --no-print-directory $(AT_A_TIME) $(BUILD)/fuzz BUILD=$(BUILD) CC=clang \
		CPPFLAGS=-U_FORTIFY_SOURCE OPTIMIZE="-O1 -fno-omit-frame-pointer" SANITIZE="$(FUZZED)"
	@$(IN_TEST) tests/fuzz/run.sh $(BUILD) $(SECONDS) $(SEED)

FUZZED = -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all

$(BUILD)/fuzz: $(FUZZ_SOURCES) $(OBJECTS) tests/fuzz/fuzz.h
	@echo "link $@"
	@$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(LDFLAGS_ALL) -fsanitize=fuzzer $(FUZZ_FLAGS) -o $@ \
		$(FUZZ_SOURCES) $(WITHOUT_MAIN) $(LDLIBS_ALL)

valgrind: $(PROGRAM) modules $(NATIVE)
	@PGCDC_TEST_SLOW=20 \
		PGCDC_TEST_WRAPPER="valgrind -q --vgdb=no --error-exitcode=99 --leak-check=full" \
		$(IN_TEST) lua5.4 tests/run.lua $(or $(SUITES),install)

cover: BUILD = build/cover
cover:
	@find $(BUILD)/obj -name "*.gcda" -delete 2>/dev/null || true
	@PGCDC_TEST_SLOW=2 PGCDC_TEST_COVER=1 $(MAKE) $(WATCHED) BUILD=$(BUILD) OPTIMIZE=-O0 \
		SANITIZE="--coverage -fprofile-update=atomic"; status=$$?; \
	find $(BUILD)/obj -name "*.gcda" -exec gcov -n '{}' + | awk -f tests/cover.awk && \
		exit $$status

.PHONY: asan bench bench-peers built check check-kafka check-opensearch check-servers check-state \
	contract cover demo exact fuzz lint native soak storm sweep takeover test tsan valgrind
