"""``python -m alerts_engine``: the same as ``alerts-engine``."""

from alerts_engine.cli import main

if __name__ == "__main__":
    main()
