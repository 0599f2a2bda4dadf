"""`openclaw-operator`: run the operator, print the rights it needs, or look at a cluster for somebody."""

from __future__ import annotations

import argparse
import os
import sys

from openclaw_operator import rbac
from openclaw_operator.cli import diff
from openclaw_operator.cli.doctor import command as doctor
from openclaw_operator.errors import OperatorError, SettingsError
from openclaw_operator.settings import load_settings


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit code 2 for wrong settings, 1 for a failure."""
    parser = argparse.ArgumentParser(
        prog="openclaw-operator", description="Turns Agent, Skill and MemoryStore resources into running agents."
    )
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("run", help="run the operator (the default)")
    commands.add_parser("rbac", help="print the rights the operator needs as ClusterRole rules")
    diff.configure(commands.add_parser("diff", help="show what applying a file would do to child objects and pods"))
    doctor.configure(commands.add_parser("doctor", help="look for what agents lack in a cluster, and say what to do"))
    options = parser.parse_args(argv)
    if options.command == "rbac":
        sys.stdout.write(rbac.to_yaml())
        return 0
    try:
        if options.command == "diff":
            return diff.run(options)
        if options.command == "doctor":
            return doctor.run(options)
        # Only here: kopf and what it needs take a second to import, which the other commands would wait for.
        from openclaw_operator.serve import serve

        serve(load_settings(os.environ))
    except SettingsError as error:
        sys.stderr.write(f"openclaw-operator: {error}\n")
        return 2
    except OperatorError as error:
        sys.stderr.write(f"openclaw-operator: {error}\n")
        return 2 if options.command == "diff" else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
