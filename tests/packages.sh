#!/bin/sh
# packages.sh: the packages of Debian, as somebody's machine meets them.
# SPDX-License-Identifier: MIT
#
#    tests/packages.sh build/deb
#
# In a bare root, made by debootstrap (kept in the cache as an archive): installs the packages with
# apt, runs the tests that belong to them against Debian's servers, upgrades while a pipeline runs,
# and purges. Needs root, and the network for what is not in the cache. Ends with 0 if all holds.

set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
debs=$(cd "$1" && pwd)
cache=/var/cache/pgcdc-lua/bare-root.tar
root=
failed=0

say() {
   printf 'packages: %s\n' "$*"
}

# check WHAT COMMAND...
check() {
   what=$1
   shift
   if "$@" >"$debs/check.log" 2>&1; then
      say "ok     $what"
   else
      say "FAILED $what"
      tail -20 "$debs/check.log" | sed 's/^/   /'
      failed=1
   fi
}

inside() {
   chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
      DEBIAN_FRONTEND=noninteractive "$@"
}

finish() {
   status=$?
   if [ -n "$root" ]; then
      for proc in /proc/[0-9]*; do # whatever still runs in there
         case $(readlink "$proc/root" 2>/dev/null || true) in
         "$root"*) kill -9 "${proc#/proc/}" 2>/dev/null || true ;;
         esac
      done
      for part in dev/pts dev/shm dev proc; do
         umount -l "$root/$part" 2>/dev/null || true
      done
      rm -rf "$root"
   fi
   exit $status
}

make_root() {
   if [ ! -e $cache ]; then
      say "making a bare root"
      mkdir -p $(dirname $cache)
      debootstrap --variant=minbase bookworm "$root" >"$debs/check.log" 2>&1 || {
         tail -5 "$debs/check.log" >&2
         exit 1
      }
      tar -C "$root" -cf $cache.part . && mv $cache.part $cache
   else
      tar -C "$root" -xf $cache
   fi
   cp /etc/resolv.conf "$root/etc/resolv.conf"
   printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # no service is started
   chmod +x "$root/usr/sbin/policy-rc.d"
   mount -t proc proc "$root/proc"
   mount --rbind /dev "$root/dev"
   mount --make-rslave "$root/dev"
}

# The same packages with a later version.
make_next() {
   mkdir -p "$debs/next"
   for deb in "$debs"/pgcdc-lua*_*.deb; do
      case $deb in *-dbgsym_*) continue ;; esac
      rm -rf "$debs/unpacked"
      dpkg-deb -R "$deb" "$debs/unpacked"
      sed -i 's/^Version: .*/&+next/' "$debs/unpacked/DEBIAN/control"
      dpkg-deb -b "$debs/unpacked" "$debs/next" >/dev/null
   done
   rm -rf "$debs/unpacked"
}

install_all() {
   inside apt-get update
   mkdir -p "$root/debs" && cp "$debs"/pgcdc-lua*_*.deb "$root/debs" && rm -f "$root"/debs/*dbgsym*
   inside sh -c 'apt-get install -y --no-install-recommends /debs/*.deb'
}

tests_of_packages() {
   inside apt-get install -y --no-install-recommends \
      postgresql postgresql-common redis-server redis-tools nats-server python3
   cp -R "$top/src/dist/debian/tests" "$root/tests"
   inside mkdir -p /run/postgresql /tmp
}

# One test of a package, as autopkgtest would run it.
run_test() {
   inside sh -c "mkdir -p /tmp/$1 && chmod 777 /tmp/$1 && AUTOPKGTEST_TMP=/tmp/$1 /tests/$1"
}

# A pipeline runs, the packages are upgraded, it goes on with the new program: nothing is lost.
upgrade() {
   rm -f "$root"/debs/* && cp "$debs"/next/*.deb "$root/debs"
   inside pg_virtualenv sh -ec '
      psql -qc "CREATE TABLE t (id bigint PRIMARY KEY)"
      run() { pgcdc-lua --state /tmp/up.state "$@" jsonl table=t interval=0.1 out=/tmp/up.jsonl; }
      run 2>/dev/null &
      pid=$!
      ( i=0; while [ ! -e /tmp/up.end ]; do i=$((i + 1)); psql -qc "INSERT INTO t VALUES ($i)"
        done ) &
      writer=$!
      apt-get install -y /debs/*.deb >/dev/null 2>&1
      kill -TERM $pid; wait $pid
      run 2>/dev/null &
      pid=$!
      touch /tmp/up.end; wait $writer
      kill -TERM $pid; wait $pid
      run --once
      [ "$(psql -Atc "SELECT count(*) FROM t")" -gt 10 ]
      [ "$(psql -Atc "SELECT count(*) FROM t")" = "$(grep -c "" /tmp/up.jsonl)" ]
      [ "$(grep -oE "\"id\":[0-9]+" /tmp/up.jsonl | sort -u | wc -l)" = \
        "$(grep -c "" /tmp/up.jsonl)" ]'
   inside dpkg -l pgcdc-lua | grep '+next'
}

# What the packages brought, below $root, before and after.
files_of_packages() {
   inside find /usr /etc /lib/systemd /var/lib -path '*pgcdc*' | grep -v '/dpkg/\|/apt/' || true
}

purge() {
   mkdir -p "$root/var/lib/private/pgcdc-lua/orders"
   inside sh -c 'apt-get purge -y "pgcdc-lua*"'
   left=$(files_of_packages)
   [ -z "$left" ] || { printf 'left behind:\n%s\n' "$left"; return 1; }
}

trap finish EXIT
trap 'exit 1' INT TERM
[ "$(id -u)" = 0 ] || { say "root is needed for a root of its own" >&2; exit 1; }
root=$(mktemp -d /var/tmp/pgcdc-root.XXXXXX)
chmod 755 "$root"

check "lintian finds no error" sh -c "lintian --fail-on error $debs/*.changes"
make_root
make_next
check "installed by apt" install_all
check "the program runs" inside sh -c 'cd / && pgcdc-lua --version && pgcdc-lua --list'
check "the manual is there" inside sh -c '
   [ -e /usr/share/man/man1/pgcdc-lua.1.gz ] || grep -q path-exclude /etc/dpkg/dpkg.cfg.d/*'
check "the service is right" sh -c "
   sed 's|/usr/bin/pgcdc-lua|/bin/true|' '$root/lib/systemd/system/pgcdc-lua@.service' \
      >'$debs/pgcdc-lua@.service' &&
   systemd-analyze verify --man=no '$debs/pgcdc-lua@orders.service' &&
   systemd-analyze security --offline=true --threshold=30 '$debs/pgcdc-lua@.service'"
check "the user of services is made" sh -c "
   systemd-sysusers --root='$root' pgcdc-lua.conf && grep -q '^pgcdc-lua:' '$root/etc/passwd'"
check "servers for the tests" tests_of_packages
for test in modules files redis nats http; do
   check "the test $test of the packages" run_test $test
done
check "upgraded while a pipeline runs" upgrade
check "purged, nothing left" purge
exit $failed
