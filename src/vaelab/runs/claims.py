"""Claims of folders, so that one process at a time works in each; folders that are new, and links out of them."""

import errno
import fcntl
import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

LOCK = ".lock"
TIME = r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d"  # the name of a folder that was given none
# The claims of this process. It must not open and close the file of a lock that it has: POSIX would release the lock.
OWN = set[Path]()


@contextmanager
def claim_folder(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder while inside; the claim of a process that is killed ends with it.

    Raises:
        ValueError: if another process works in it.
    """
    with _opened(folder / LOCK) as file:
        if not _is_locked(file):
            time.sleep(0.1)  # another process may only have asked whether there is a claim
            if not _is_locked(file):
                raise ValueError(f"another process is at work in {folder}: wait for it, or choose another folder")
        place = folder.resolve()
        OWN.add(place)
        try:
            yield
        finally:
            OWN.discard(place)


def is_claimed(folder: Path) -> bool:
    """True if this process or another works in a folder."""
    if folder.resolve() in OWN:
        return True
    try:
        with (folder / LOCK).open("r+") as file:
            return not _is_locked(file)
    except OSError:
        return False  # there is no lock, or it is not ours to open


def made_anew(folder: str | Path) -> Path:
    """The path of a folder that this call has made: `folder`, or with _2, _3, ... after its name if others have taken that.

    Raises:
        OSError: if it cannot be made.
    """
    for count in itertools.count(1):
        path = Path(folder if count == 1 else f"{folder}_{count}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            if not path.exists():  # but something above it, which is no folder
                raise
        else:
            return path
    raise AssertionError


def check_links(top: Path) -> None:
    """Raise if a link in a folder leads out of it: what is written there would overwrite files elsewhere.

    Raises:
        ValueError: if one does.
    """
    inside = top.resolve()
    for folder, below, files in os.walk(top):
        for path in (Path(folder, name) for name in (*below, *files)):
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                raise ValueError(
                    f"{path} is a link to {os.readlink(path)}, outside of the run folder, and would be written to:"
                    " remove it, or set trust=true if you made it"
                )


def _opened(path: Path) -> IO[str]:
    """The file of a lock, which is made if it is not there; a link is not followed, and nothing is emptied.

    Raises:
        ValueError: if it is a link.
    """
    try:
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "w")
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError(f"{path} is a link, and no lock of a run: remove it") from error
        raise


def _is_locked(file: IO[str]) -> bool:
    """True if this process has the lock of an open file now, or the file system has no locks."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        pass
    return True
