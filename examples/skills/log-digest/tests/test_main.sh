#!/usr/bin/env bash
# Run by `openclaw skill test`. Each call is one in a real sandbox on this machine.
set -uo pipefail
skill=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# check WHAT EXPECTED GOT: EXPECTED has to be part of GOT.
check() {
  if [[ "$3" == *"$2"* ]]; then
    echo "ok - $1"
  else
    echo "not ok - $1: expected $2, got $3"
    failed=1
  fi
}

call() {
  openclaw skill run "$skill" "$1" --workspace "$work" --input "$2" 2>&1
}

cat >"$work/app.log" <<'LOG'
2026-01-02T10:00:00Z INFO started
2026-01-02T10:00:01Z ERROR order 17: "no stock" at 0x7f01
2026-01-02T10:00:02Z ERROR order 18: "no stock" at 0x7f02
2026-01-02T10:00:03Z ERROR disk is full
2026-01-02T10:00:04Z INFO stopped
LOG

found=$(call top '{"path": "app.log"}')
check "counts what matches" '"matched": 3' "$found"
check "counts the same message once" '"count": 2,
      "message": "ERROR order #: \"no stock\" at #"' "$found"
check "names a wrong pattern" "pattern: ( is not an extended regular expression" "$(call top '{"path": "app.log", "pattern": "("}')"
check "shows what is around a line" '"text": "2026-01-02T10:00:02Z ERROR order 18: \"no stock\" at 0x7f02\n2026-01-02T10:00:03Z ERROR disk is full' \
  "$(call around '{"path": "app.log", "text": "disk is full", "lines": 1}')"
check "names a file that is not there" "path: none.log is not in the workspace" "$(call top '{"path": "none.log"}')"
exit "$failed"
