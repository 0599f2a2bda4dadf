# A skill whose actions try what a skill must not be able to do. Packed and run by the tests, never by itself.
set -u
case $1 in
  echo)
    printf '{"name":"%s","call":"%s","workspace":"%s","cwd":"%s","token":"%s","config":%s}' \
      "$(openclaw-ctx input user.name)" "$OPENCLAW_CALL_ID" "${OPENCLAW_WORKSPACE:-}" "$PWD" "${TOKEN:-}" \
      "$(openclaw-ctx config)" ;;
  plain) echo "hello, world" ;;
  callbacks)
    openclaw-ctx progress 0.5 half
    openclaw-ctx log warning careful
    echo "to the log" >&2
    openclaw-ctx json id="$(openclaw-ctx memory add '{"type":"note"}')" \
      found:="$(openclaw-ctx memory search q --limit 2)" \
      text="$(printf prompt | openclaw-ctx llm generate - --temperature 0.5)" answer="$(openclaw-ctx ask 'really?')" ;;
  fail) openclaw-ctx fail "no such branch: main" || exit 1 ;;
  crash) echo "it broke" >&2; exit 3 ;;
  environment) env ;;
  bomb) for _ in $(seq 300); do sleep 60 & done; wait ;;
  endless) yes ;;
  stubborn) trap '' TERM; echo "ignoring $$" >&2; while :; do sleep 1; done ;;
  lookup) python3 -c 'import urllib.request; urllib.request.urlopen("http://example.org/")' ;;
  network) exec 5<>/dev/tcp/127.0.0.1/9 ;;
  runner) kill -9 "$PPID"; kill -9 1; cat /proc/1/environ ;;
  orphan) (trap '' TERM HUP; sleep 600) & echo "left $!" ;;
  garbage) printf 'not json\n{"method":"nothing"}\n' | python3 -c '
import os, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(os.environ["OPENCLAW_CTX"]); s.sendall(sys.stdin.buffer.read())
f = s.makefile(); print(f.readline().strip() + f.readline().strip())' ;;
esac
