"""Train a model, evaluate it on test data and picture it: `python scripts/train.py` is `vaelab train`; --help lists what it takes."""

import sys

from vaelab.commands.cli import main

if __name__ == "__main__":
    sys.exit(main("train"))
