"""The older flag style: ``python -m alerts_engine.runner FLAGS`` is ``alerts-engine run FLAGS`` (SPEC CLI-3)."""

from __future__ import annotations

import sys

from alerts_engine.cli import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]])
