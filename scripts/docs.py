"""Print a page of the documentation: `python scripts/docs.py` is `vaelab docs`."""

import sys

from vaelab.commands.cli import main

if __name__ == "__main__":
    sys.exit(main("docs"))
