"""Write data to a file of -ELBO bits, without loss: `python scripts/compress.py` is `vaelab compress`; --help lists what it takes."""

import sys

from vaelab.commands.cli import main

if __name__ == "__main__":
    sys.exit(main("compress"))
