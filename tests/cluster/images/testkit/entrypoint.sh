#!/bin/sh
# testkit [qdrant|llm] [options], or any other command.
case "${1:-qdrant}" in
  qdrant) [ $# -gt 0 ] && shift; exec python -m tests.cluster.qdrant_front "$@" ;;
  llm) shift; exec python -m tests.fakes.llm --host 0.0.0.0 "$@" ;;
  *) exec "$@" ;;
esac
