#!/usr/bin/env bash
# Log files of the workspace, counted and looked into with the tools that every system has.
set -euo pipefail
shopt -s inherit_errexit

# refuse MESSAGE: ends the call with a message for the user.
refuse() {
  openclaw-ctx fail "$1"
}

# given NAME DEFAULT: a field of the input that may be missing.
given() {
  openclaw-ctx input "$1" 2>/dev/null || printf '%s\n' "$2"
}

# file_of: the file that the input names, as an absolute path.
file_of() {
  local path root file
  path=$(openclaw-ctx input path)
  root=$(realpath -- "$OPENCLAW_WORKSPACE")
  file=$(realpath -e -- "$root/$path" 2>/dev/null) || refuse "path: $path is not in the workspace"
  [[ "$file" == "$root"/* ]] || refuse "path: $path is outside the workspace"
  [[ -f "$file" && -r "$file" ]] || refuse "path: $path is not a file that can be read"
  printf '%s\n' "$file"
}

# without_details: one message for all lines that differ only in times, numbers and ids.
without_details() {
  tr '\t' ' ' | tr -d '\000-\010\013-\037\177' | iconv -c -f UTF-8 -t UTF-8 | sed -E \
    -e 's/^[][0-9TZ:.,+ -]+//' \
    -e 's/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/#/gI' \
    -e 's/0x[0-9a-f]+/#/gI' \
    -e 's/[0-9]+/#/g' \
    -e 's/ +/ /g' | cut -c -300
}

# as_json: lines of `uniq -c` as a JSON list.
as_json() {
  sed 's/[\\"]/\\&/g' | awk '
    BEGIN { printf "[" }
    { count = $1; sub(/^ *[0-9]+ /, ""); printf "%s{\"count\": %d, \"message\": \"%s\"}", separator, count, $0; separator = ", " }
    END { printf "]" }'
}

top() {
  local file pattern limit matches messages
  file=$(file_of)
  pattern=$(given pattern 'error|fail|fatal|panic|exception')
  limit=$(given limit 10)
  matches=$OPENCLAW_SCRATCH/matches
  grep -E -i -a -e "$pattern" -- "$file" >"$matches" ||
    [[ $? -eq 1 ]] || refuse "pattern: $pattern is not an extended regular expression"
  messages=$(without_details <"$matches" | sort | uniq -c | sort -k1,1nr -k2 | sed -n "1,${limit}p" | as_json)
  openclaw-ctx json matched:="$(wc -l <"$matches")" messages:="$messages"
}

around() {
  local file text lines found
  file=$(file_of)
  text=$(openclaw-ctx input text)
  lines=$(given lines 10)
  found=$(grep -a -F -m 1 -B "$lines" -A "$lines" -e "$text" -- "$file" | cut -b -500) ||
    refuse "text: no line of the file holds $text"
  openclaw-ctx json text="$found"
}

"$1"
