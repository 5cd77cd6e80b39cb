"""`python -m vaelab`, which is `vaelab`."""

import sys

from vaelab.commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
