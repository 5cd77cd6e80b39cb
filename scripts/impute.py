"""Fill in what is missing in a table: `python scripts/impute.py` is `vaelab impute`; --help lists what it takes."""

import sys

from vaelab.commands.cli import main

if __name__ == "__main__":
    sys.exit(main("impute"))
