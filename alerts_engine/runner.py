"""The older flag style (SPEC CLI-3): ``python -m alerts_engine.runner FLAGS`` is ``alerts-engine run FLAGS``.

With ``--preflight`` it is ``alerts-engine preflight``, which has no use for what only a run is told.
"""

from __future__ import annotations

import argparse
import sys

from alerts_engine.cli import main


def translated(flags: list[str]) -> list[str]:
    """The arguments of ``alerts-engine`` that do what these flags ask for."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preflight", action="store_true")
    parser.add_argument("--since-hours")
    parser.add_argument("--batch-size")
    known, others = parser.parse_known_args(flags)
    return ["preflight", *others] if known.preflight else ["run", *flags]


if __name__ == "__main__":
    main(translated(sys.argv[1:]))
