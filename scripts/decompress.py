"""Read the data of a file of `vaelab compress`: `python scripts/decompress.py` is `vaelab decompress`; --help lists what it takes."""

import sys

from vaelab.commands.cli import main

if __name__ == "__main__":
    sys.exit(main("decompress"))
