# cover.awk: makes a table of what gcov -n says of the rooms, the least covered first.
# SPDX-License-Identifier: MIT
#
#    awk -f cover.awk
#
# The lines of src/host and of src/*.c are told apart. Fails where less than 90 % of the others'
# lines were reached.

/^File / { split($0, quoted, "'"); file = quoted[2] }

/^Lines executed:/ && file ~ /^src\/.*\.c$/ {
   split($0, part, /[:% ]+/)
   lines = part[5]
   reached = part[3] * lines / 100
   printf "%6.1f %%  %5d lines  %s\n", part[3], lines, file | "sort -n"
   is_above = file ~ /^src\/(host\/)?[^\/]*$/
   all[is_above] += lines
   all_reached[is_above] += reached
   file = "" # the last such line is about all files
}

END {
   close("sort -n")
   for (top = 0; top <= 1; top++)
      if (all[top] > 0)
         printf "%6.1f %%  %5d lines  %s\n", 100 * all_reached[top] / all[top], all[top],
            top ? "src/host and src/*.c" : "all folders below"
   exit all_reached[0] < 0.9 * all[0]
}
