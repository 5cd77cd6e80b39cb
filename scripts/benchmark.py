"""Measure how fast training and evaluation are here: `python scripts/benchmark.py` is `vaelab benchmark`; --help lists what it takes."""

import sys

from vaelab.commands.cli import main

if __name__ == "__main__":
    sys.exit(main("benchmark"))
