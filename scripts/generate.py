"""Draw the figures of a trained model: `python scripts/generate.py` is `vaelab generate`; --help lists what it takes."""

import sys

from vaelab.commands.cli import main

if __name__ == "__main__":
    sys.exit(main("generate"))
