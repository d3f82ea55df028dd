# dist.mk: what is installed beside the program, archives and packages; the Makefile includes it.
# SPDX-License-Identifier: MIT
#
# Needs from the Makefile: BUILD, PROGRAM, MODULE_FILES, PREFIX, DESTDIR, modules.

TO = $(DESTDIR)$(PREFIX)
VERSION = $(shell sed -n 's/.*define VERSION "\(.*\)"/\1/p' src/version.h)
MAN1 = share/man/man1/pgcdc-lua.1
MAN5 = share/man/man5/pgcdc-lua-scripts.5
SERVICE = lib/systemd/system/pgcdc-lua@.service
SYSUSERS = lib/sysusers.d/pgcdc-lua.conf
BASH = share/bash-completion/completions/pgcdc-lua
ZSH = share/zsh/vendor-completions/_pgcdc-lua
DEB = $(BUILD)/deb

install: $(PROGRAM) modules
	@echo "install $(TO)/bin/pgcdc-lua"
	@install -D -m 755 $(PROGRAM) "$(TO)/bin/pgcdc-lua"
	@find lua scripts -name '*.lua' -exec \
		install -D -m 644 '{}' "$(TO)/share/pgcdc-lua/{}" ';'
	@install -D -m 644 src/pgcdc-lua.1 "$(TO)/$(MAN1)"
	@install -D -m 644 src/dist/pgcdc-lua-scripts.5 "$(TO)/$(MAN5)"
	@install -D -m 644 src/dist/pgcdc-lua.bash "$(TO)/$(BASH)"
	@install -D -m 644 src/dist/_pgcdc-lua "$(TO)/$(ZSH)"
	@install -m 644 src/dist/grafana.json src/dist/alerts.yml "$(TO)/share/pgcdc-lua"
	@install -d "$(TO)/$(dir $(SERVICE))"
	@sed 's|/usr/bin/|$(PREFIX)/bin/|' src/dist/pgcdc-lua@.service >"$(TO)/$(SERVICE)"
	@chmod 644 "$(TO)/$(SERVICE)"
	@install -D -m 644 src/dist/pgcdc-lua.sysusers "$(TO)/$(SYSUSERS)"
	@for module in $(MODULE_FILES); do \
		install -D -m 644 "$$module" "$(TO)/lib/pgcdc-lua/$${module##*/}"; done

uninstall:
	@echo "remove $(TO)/bin/pgcdc-lua"
	@rm -rf "$(TO)/bin/pgcdc-lua" "$(TO)/share/pgcdc-lua" "$(TO)/lib/pgcdc-lua" "$(TO)/$(MAN1)" \
		"$(TO)/$(MAN5)" "$(TO)/$(SERVICE)" "$(TO)/$(SYSUSERS)" "$(TO)/$(BASH)" "$(TO)/$(ZSH)"

dist: | $(BUILD)
	@echo "dist $(BUILD)/pgcdc-lua-$(VERSION).tar.gz"
	@git archive --prefix=pgcdc-lua-$(VERSION)/ -o $(BUILD)/pgcdc-lua-$(VERSION).tar.gz HEAD

# Packages of Debian, of what is committed: the program, and one for each module.
deb:
	@rm -rf $(DEB)
	@mkdir -p $(DEB)/pgcdc-lua
	@git archive HEAD | tar -x -C $(DEB)/pgcdc-lua
	@cp -R $(DEB)/pgcdc-lua/src/dist/debian $(DEB)/pgcdc-lua/debian
	@cd $(DEB)/pgcdc-lua && env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS dpkg-buildpackage -b -us -uc \
		>../build.log 2>&1 || { tail -30 ../build.log >&2; exit 1; }
	@ls $(DEB)/*.deb

.PHONY: deb dist install uninstall
