"""The older flag style (SPEC CLI-3): ``python -m alerts_engine.runner FLAGS`` is ``alerts-engine run FLAGS``.

With ``--preflight`` it is ``alerts-engine preflight``, and with ``--health`` ``alerts-engine health``; these have no
use for what only a run is told.
"""

from __future__ import annotations

import argparse
import sys

from alerts_engine.cli import main

_WRONG_USAGE = 2


def translated(flags: list[str]) -> list[str]:
    """The arguments of ``alerts-engine`` that do what these flags ask for."""
    parser = argparse.ArgumentParser(
        prog="python -m alerts_engine.runner", add_help=False, allow_abbrev=False, exit_on_error=False
    )
    parser.add_argument("--preflight", action="store_true")
    parser.add_argument("--health", action="store_true")
    asked, for_command = parser.parse_known_args(flags)
    if asked.preflight and asked.health:
        raise ValueError("give one of --preflight and --health")
    if asked.health:
        return ["health", *_without(for_command, "--phase", "--since-hours", "--batch-size", switches=("--dry-run",))]
    if asked.preflight:
        return ["preflight", *_without(for_command, "--since-hours", "--batch-size")]
    return ["run", *flags]


def _without(flags: list[str], *options: str, switches: tuple[str, ...] = ()) -> list[str]:
    """``flags`` without these, and without their values."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in options:
        parser.add_argument(option)
    for switch in switches:
        parser.add_argument(switch, action="store_true")
    return parser.parse_known_args(flags)[1]


if __name__ == "__main__":
    try:
        arguments = translated(sys.argv[1:])
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(_WRONG_USAGE)
    main(arguments)
