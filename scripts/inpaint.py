"""Complete test data of which a part is hidden: `python scripts/inpaint.py` is `vaelab inpaint`; --help lists what it takes."""

import sys

from vaelab.commands.cli import main

if __name__ == "__main__":
    sys.exit(main("inpaint"))
