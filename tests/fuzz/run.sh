#!/bin/sh
# run.sh: runs each target of the fuzzer for its share of some seconds; `make fuzz`.
# SPDX-License-Identifier: MIT
#
#    run.sh BUILD SECONDS [SEED]
#
# SEED: the same inputs each time, as far as the machine's speed allows; 0 (default): others.
# BUILD/fuzz is the program; which target it is it knows by its name. Inputs begin with those of
# tests/fuzz/corpus/TARGET, and with what earlier runs found worth keeping, in BUILD/corpus/TARGET.
# An input that fails stays as BUILD/found/TARGET-..., and is named. Exit status 1: there is one.

set -u

build=$1
seconds=$2
seed=${3:-0}
here=tests/fuzz
found=$build/found
status=0
n=0

for corpus in "$here"/corpus/*/; do
   n=$((n + 1))
done
share=$((seconds / n))
[ "$share" -gt 0 ] || share=1
mkdir -p "$found"
export ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=1:allocator_may_return_null=1"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-}:print_stacktrace=1"

for corpus in "$here"/corpus/*/; do
   target=$(basename "$corpus")
   ln -sf fuzz "$build/$target"
   mkdir -p "$build/corpus/$target"
   log=$build/$target.log
   leaks=1
   case $target in
      # what Lua has not collected yet would be looked for after each input
      json | options | row) leaks=0 ;;
   esac
   if "$build/$target" -seed="$seed" -max_total_time="$share" -timeout=20 -rss_limit_mb=2048 \
      -max_len=32768 -detect_leaks=$leaks \
      -artifact_prefix="$found/$target-" -print_final_stats=1 \
      "$build/corpus/$target" "$corpus" >"$log" 2>&1 </dev/null; then
      runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
      echo "fuzz $target: $runs inputs in $share s, nothing found"
   else
      status=1
      echo "fuzz $target: FAILED"
      grep -av -e '^#[0-9]' -e '^INFO:' -e '^stat::' "$log" | tail -60 | cut -c 1-300
      sed -n 's/^.*Test unit written to \(.*\)$/the input: \1/p' "$log"
   fi
done
exit $status
