# modules.mk: the parts of the program that are modules; the Makefile includes it.
# SPDX-License-Identifier: MIT
#
# src/sinks/NAME.c, with NAME_*.c, makes NAME.so, if the library that it needs is there; so does
# src/listen/*.c listen.so. Needs from the Makefile: BUILD and how things are compiled.

# What a module links, by pkg-config's names.
LIBRARY_http = libcurl libcrypto zlib
LIBRARY_kafka = rdkafka
LIBRARY_listen = libmicrohttpd
LIBRARY_nats = libnats
LIBRARY_redis = libssl libcrypto

NAME_OF = $(if $(findstring /listen/,$1),listen,$(firstword $(subst _, ,$(basename $(notdir $1)))))
ALL_MODULES = $(sort $(foreach c,$(wildcard src/sinks/*.c src/listen/*.c),$(call NAME_OF,$c)))
# MODULES="redis kafka" makes these, or fails.
MODULES = $(foreach m,$(ALL_MODULES),$(shell pkg-config --exists $(LIBRARY_$m) && echo $m))
MODULE_FILES = $(MODULES:%=$(BUILD)/modules/%.so)

# What lies below build/pic is in modules: they need no symbol of the program, and have what they
# use of base/ in them.
PIC = $(patsubst src/%.c,$(BUILD)/pic/%.o,$(wildcard $1))

$(BUILD)/pic/%.o: src/%.c | $(BUILD)
	@echo "cc   $< (module)"
	@mkdir -p $(@D)
	@$(CC) $(CPPFLAGS_ALL) $(shell pkg-config --cflags lua5.4 $(LIBRARY_$(call NAME_OF,$@))) \
		$(CFLAGS_ALL) -fPIC -fvisibility=hidden -ffunction-sections -fdata-sections \
		-MMD -MP -c -o $@ $<

.SECONDEXPANSION:
$(BUILD)/modules/%.so: $$(call PIC,src/sinks/$$*.c src/sinks/$$*_*.c \
		$$(if $$(filter listen,$$*),src/listen/*.c) src/base/*.c)
	@echo "link $@"
	@mkdir -p $(@D)
	@$(if $(filter $*,$(ALL_MODULES)),true,{ \
		echo "make: there is no module $*, only: $(ALL_MODULES)" >&2; exit 1; })
	@pkg-config --print-errors --exists $(LIBRARY_$*)
	@$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -shared -Wl,--gc-sections -Wl,--as-needed -o $@ $^ \
		$(shell pkg-config --libs $(LIBRARY_$*)) $(LDLIBS)

.SECONDARY: $(call PIC,src/sinks/*.c src/listen/*.c src/base/*.c)

-include $(patsubst %.o,%.d,$(call PIC,src/sinks/*.c src/listen/*.c src/base/*.c))
