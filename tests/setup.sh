#!/bin/sh
# setup.sh: installs what the build and the tests need and this machine lacks.
# SPDX-License-Identifier: MIT
#
# setup.sh fuzz | servers | java | bench: what `make fuzz`, `make check-servers`, `make check-kafka`
# with `make check-opensearch` and `make bench-peers`, and `make bench` need besides, too.
#
# Says nothing and touches nothing where all is there. Otherwise it installs Debian
# packages with apt-get, through sudo where it is not run as root, and says which.
# What is missing is found by trying it, not by asking dpkg, so that things that
# were installed in another way count. Debian starts a server when it installs
# one: not here, the tests make their own.

set -eu

say() {
   printf 'setup: %s\n' "$*"
}

missing=
optional=

need() {
   missing="$missing $*"
}

has() {
   command -v "$1" >/dev/null 2>&1
}

has_fuzzer() {
   echo 'int LLVMFuzzerTestOneInput(void); int LLVMFuzzerTestOneInput(void) { return 0; }' |
      clang -fsanitize=fuzzer,address,undefined -x c -o /dev/null - >/dev/null 2>&1
}

has_server() {
   if [ -n "${PGBIN:-}" ]; then
      [ -x "$PGBIN/postgres" ]
   else
      for postgres in "$(pg_config --bindir 2>/dev/null || true)/postgres" \
         /usr/lib/postgresql/*/bin/postgres; do
         [ -x "$postgres" ] && return
      done
      return 1
   fi
}

has "${CC:-cc}" || need gcc libc6-dev
has pkg-config || need pkg-config
for pair in libpq:libpq-dev lua5.4:liblua5.4-dev sqlite3:libsqlite3-dev jansson:libjansson-dev \
   libcrypto:libssl-dev; do
   pkg-config --exists "${pair%:*}" 2>/dev/null || need "${pair#*:}"
done
has lua5.4 || need lua5.4
lua5.4 -e 'require "luaunit"' >/dev/null 2>&1 || need lua-unit
has luacheck || need lua-check
has_server || need postgresql
has openssl || need openssl
has groff || need groff-base
has sqlite3 || need sqlite3
PATH=$PATH:/usr/sbin has pgbouncer || need pgbouncer
[ -e /usr/share/i18n/locales/de_DE ] || need locales
# Where the server or the library of a sink cannot be had its suites say so.
has redis-server || optional="$optional redis-server"
PATH=$PATH:/usr/sbin has nats-server || optional="$optional nats-server"
has kcat || optional="$optional kcat"
# The same of libraries of sinks: what is built is tested.
for pair in libcurl:libcurl4-openssl-dev zlib:zlib1g-dev libnats:libnats-dev \
   rdkafka:librdkafka-dev libmicrohttpd:libmicrohttpd-dev; do
   pkg-config --exists "${pair%:*}" 2>/dev/null || optional="$optional ${pair#*:}"
done
has python3 || optional="$optional python3"
PATH=$PATH:/usr/sbin has clickhouse-server || optional="$optional clickhouse-server"
has curl || optional="$optional curl"
has promtool || optional="$optional prometheus"
has chromium || optional="$optional chromium"
if [ "${1:-}" = fuzz ]; then
   has_fuzzer || need clang libclang-rt-dev
fi
if [ "${1:-}" = servers ]; then
   has npm || need npm
fi

if [ "${1:-}" = packages ]; then
   PATH=$PATH:/usr/sbin has debootstrap || need debootstrap
   has lintian || need lintian
   has dh || need debhelper
   has dpkg-buildpackage || need dpkg-dev
   has systemd-analyze || need systemd
fi

if [ "${1:-}" = bench ]; then
   PATH=$PATH:/usr/sbin has nginx || optional="$optional nginx-light"
   has wrk || optional="$optional wrk"
   has redis-benchmark || optional="$optional redis-tools"
fi

if [ "${1:-}" = java ]; then
   # what compiles is part of it, also where a program is run from its source
   has javac || need openjdk-17-jdk-headless
   has mvn || need maven
   has curl || need curl
fi

[ -n "$missing$optional" ] || exit 0

# Ends where nothing can be installed: with 0 if the tests can do without.
give_up() {
   say "$*"
   [ -z "$missing" ]
   exit
}

has apt-get || give_up "missing, by Debian's names:$missing$optional; there is no apt-get here"
sudo=
if [ "$(id -u)" != 0 ]; then
   has sudo || give_up "no sudo here: as root, run  apt-get install$missing$optional"
   sudo=sudo
fi

install() {
   say "installing with ${sudo:+sudo }apt-get: $*"
   $sudo sh -c '
   apt="env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -qq -o DPkg::Lock::Timeout=300"
   clusters=/etc/postgresql-common/createcluster.d
   log=$(mktemp)
   trap "rm -f \"$log\" $clusters/pgcdc-lua.conf" EXIT
   mkdir -p $clusters
   echo "create_main_cluster = false" >$clusters/pgcdc-lua.conf
   $apt update >"$log" 2>&1 || cat "$log" >&2
   if ! $apt install --no-install-recommends "$@" </dev/null >"$log" 2>&1; then
      cat "$log" >&2
      exit 1
   fi
' setup "$@"
}

# shellcheck disable=SC2086 # $missing is a list
if [ -n "$missing" ] && ! install $missing; then
   say "apt-get could not install them"
   exit 1
fi
for package in $optional; do
   install "$package" || say "going on without $package: its tests are skipped"
done
say "done"
