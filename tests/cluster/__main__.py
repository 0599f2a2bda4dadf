"""`python -m tests.cluster COMMAND`."""

from tests.cluster.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
