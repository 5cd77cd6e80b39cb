"""Write the codes of data to a file: `python scripts/encode.py` is `vaelab encode`; --help lists what it takes."""

import sys

from vaelab.commands.cli import main

if __name__ == "__main__":
    sys.exit(main("encode"))
