"""Make one table over runs: `python scripts/summarize.py` is `vaelab summarize`; --help lists what it takes."""

import sys

from vaelab.commands.cli import main

if __name__ == "__main__":
    sys.exit(main("summarize"))
