"""Find anomalies: `python scripts/detect_anomalies.py` is `vaelab detect_anomalies`; --help lists what it takes."""

import sys

from vaelab.commands.cli import main

if __name__ == "__main__":
    sys.exit(main("detect_anomalies"))
