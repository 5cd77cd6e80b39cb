"""List, show, compare, repeat and delete runs: `python scripts/runs.py` is `vaelab runs`; --help lists what it takes."""

import sys

from vaelab.commands.cli import main

if __name__ == "__main__":
    sys.exit(main("runs"))
