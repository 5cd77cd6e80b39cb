"""Write a trained model in a format that other programs open: `python scripts/export.py` is `vaelab export`; --help lists what it takes."""

import sys

from vaelab.commands.cli import main

if __name__ == "__main__":
    sys.exit(main("export"))
