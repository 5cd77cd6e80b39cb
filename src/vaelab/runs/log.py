"""The words of a run for whoever watches it: on the screen, and in its train.log."""

import logging

_RECORD = logging.getLogger("vaelab.record")  # which conf/config.yaml sends to train.log alone
_RECORD.propagate = False


def tell(text: str) -> None:
    """Print a text, which a progress bar makes room for, and keep it in train.log."""
    print(text, flush=True)
    record(text)


def record(text: str) -> None:
    """Keep a text in train.log; without a run there is none."""
    _RECORD.info(text)
