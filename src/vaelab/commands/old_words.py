"""Words that commands took before, and what they are now."""

from collections.abc import Iterable

from vaelab.runs.configs import MOVED_KEYS

OLD_WORDS = {
    "train": {f"evaluation.{old}": f"evaluation.{new}" for old, new in MOVED_KEYS.items()},
    "evaluate": MOVED_KEYS,
    "generate": {"file": "input", "folder": "output", "num_images": "num"},
    "inpaint": {"file": "input", "name": "output", "num_images": "num"},
    "detect_anomalies": {"name": "output", "num_images": "num"},
    "summarize": {"--output": "output"},
}


def check_old_words(command: str, words: Iterable[str]) -> None:
    """Check that no word of a command line is one of `OLD_WORDS`.

    Args:
        command: its name.
        words: that follow it.

    Raises:
        ValueError: if one is, with the word to type now.
    """
    typed, known = list(words), OLD_WORDS.get(command, {})
    for place, word in enumerate(typed):
        key, equals, value = word.lstrip("+~").partition("=")
        if key in known and (equals or key[0] == "-"):  # else it is what another option takes, such as --config-dir folder
            raise ValueError(now_called(key, known[key], value if equals else next(iter(typed[place + 1 :]), "...")))


def now_called(old: str, new: str, value: str = "...") -> str:
    """The sentence about an old word."""
    return f"{old}{'=' * (old[0] != '-')} is now {new}=: type {new}={value}"
