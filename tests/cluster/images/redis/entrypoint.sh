#!/bin/bash
# Flags or a *.conf file mean redis-server with them, as with the public `redis` image.
set -euo pipefail
if [ "${1#-}" != "${1:-}" ] || [ "${1%.conf}" != "${1:-}" ]; then
  set -- redis-server "$@"
fi
if [ "$1" = redis-server ] && [ $# -eq 1 ]; then
  # Without a configuration file protected mode would refuse every other pod.
  set -- redis-server --protected-mode no
fi
exec "$@"
