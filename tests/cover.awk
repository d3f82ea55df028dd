# cover.awk: makes a table of what gcov -n says of the rooms, the least covered first.
# SPDX-License-Identifier: MIT

/^File / { split($0, quoted, "'"); file = quoted[2] }

/^Lines executed:/ && file ~ /^src\/.*\.c$/ {
   split($0, part, /[:% ]+/)
   lines = part[5]
   reached = part[3] * lines / 100
   printf "%6.1f %%  %5d lines  %s\n", part[3], lines, file | "sort -n"
   all += lines
   all_reached += reached
   file = "" # the last such line is about all files
}

END {
   close("sort -n")
   if (all > 0)
      printf "%6.1f %%  %5d lines  together\n", 100 * all_reached / all, all
}
