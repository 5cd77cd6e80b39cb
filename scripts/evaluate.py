"""Compute metrics of trained models on their test data: `python scripts/evaluate.py` is `vaelab evaluate`; --help lists what it takes."""

import sys

from vaelab.commands.cli import main

if __name__ == "__main__":
    sys.exit(main("evaluate"))
