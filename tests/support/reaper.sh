# reaper.sh -- cleans up after a test run, also one that was killed.
# SPDX-License-Identifier: MIT
#
# Standard input holds one directory per line and ends when the test runner does,
# however that happens. Then whatever servers are left that carry a
# directory's name in their title ("postgres: pgcdc-x1y2z3/main: ...") are killed,
# their shared memory goes, and the directories. A runner that ends in order has
# stopped all servers itself before it closes its end.

dirs=$(cat)
IFS='
'
set -f
for dir in $dirs; do
   tag=${dir##*/}
   case $tag in pgcdc-??????) ;; *) continue ;; esac
   set +f
   for pid in /proc/[0-9]*; do
      pid=${pid#/proc/}
      title=$(tr '\0' ' ' <"/proc/$pid/cmdline") 2>/dev/null
      case $title in "postgres: $tag/"*) kill -9 "$pid" ;; esac
   done
   for lock in "$dir"/*/data/postmaster.pid; do
      [ -f "$lock" ] && ipcrm -m "$(sed -n '7s/.* //p' "$lock")"
   done
   set -f
   # Servers notice the death of their parent by themselves but may write until they do.
   for try in 1 2 3 4 5 6 7 8 9 10; do
      rm -rf "$dir" && break
      sleep 0.2
   done
done
