# bash completion of pgcdc-lua: options, scripts, and the words of the script in hand.
# SPDX-License-Identifier: MIT

_pgcdc_lua() {
   local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
   local program=${COMP_WORDS[0]} script= i

   # "name=value" is three words for bash
   if [[ $prev == = || $cur == = ]]; then
      return
   fi
   for ((i = 1; i < COMP_CWORD; i++)); do
      case ${COMP_WORDS[i]} in
      -d | -s | --dsn | --state | --max-memory | --max-time | --log-level | --log-format | \
         --listen | --listen-token-file | --max-lag | --name | --lease | --record | --replay)
         ((i++))
         [[ ${COMP_WORDS[i]} == = ]] && ((i++))
         ;;
      -*) ;;
      *)
         script=${COMP_WORDS[i]}
         break
         ;;
      esac
   done
   if [[ $script == ctl ]]; then
      COMPREPLY=($(compgen -W "--json $("$program" ctl --help 2>/dev/null |
         sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p')" -- "$cur") $(compgen -f -X '!*.lua' -- "$cur"))
      return
   fi
   if [[ -n $script ]]; then
      local IFS=$'\n'
      COMPREPLY=($(compgen -W "$("$program" "$script" help=1 2>/dev/null |
         sed -n 's/^  *\([a-z_]*\)=.*/\1=/p')" -- "$cur"))
      compopt -o nospace
      return
   fi
   case $prev in
   --log-level) COMPREPLY=($(compgen -W "error warn info debug" -- "$cur")) ;;
   --log-format) COMPREPLY=($(compgen -W "text json" -- "$cur")) ;;
   -d | --dsn | --max-memory | --max-time | --listen | --max-lag | --name | --lease) ;;
   -s | --state | --listen-token-file | --record | --replay) compopt -o default ;;
   *)
      if [[ $cur == -* ]]; then
         COMPREPLY=($(compgen -W "$("$program" --help 2>/dev/null |
            grep -oE -- '--[a-z-]+' | sort -u)" -- "$cur"))
      else
         COMPREPLY=($(compgen -W "$("$program" --list 2>/dev/null | cut -d' ' -f1)" -- "$cur")
            $(compgen -f -X '!*.lua' -- "$cur"))
         compopt -o filenames
      fi
      ;;
   esac
}

complete -F _pgcdc_lua pgcdc-lua
