"""Functions that run in threads of one process, one at a time, each as if it were alone."""

import ctypes
import logging
import sys
import threading
from collections.abc import Callable
from typing import Generic, TextIO, TypeVar

from vaelab import rng

T = TypeVar("T")


LOGGERS = (logging.root, logging.getLogger("vaelab.record"))  # that Hydra gives files of a job


class Surroundings:
    """Generators of random numbers, output and files of logs, which a process has once and each thread shall have for itself.

    Args:
        output: where it prints to.
    """

    def __init__(self, output: TextIO) -> None:
        self.output = output
        self.take()

    def take(self) -> None:
        """Notes what they are now."""
        self.generators = rng.snapshot()
        self.handlers = [(list(logger.handlers), logger.level, logger.propagate) for logger in LOGGERS]

    def put(self) -> None:
        """Sets them."""
        rng.go_back(self.generators)
        for logger, (handlers, level, propagate) in zip(LOGGERS, self.handlers, strict=True):
            logger.handlers[:], logger.propagate = handlers, propagate
            logger.setLevel(level)
        sys.stdout = sys.stderr = self.output


class Turn(Generic[T]):
    """A function in a thread that goes on when it is told to, until it waits or ends.

    Args:
        function: of this turn, whose `wait` it may call.
        surroundings: of the function.
        swap: called with True before the function goes on and with False after it has stopped, for what else it has of its own.
    """

    def __init__(self, function: Callable[["Turn[T]"], T], surroundings: Surroundings, swap: Callable[[bool], None]) -> None:
        self.surroundings, self.swap = surroundings, swap
        self.result: T | None = None
        self.error: BaseException | None = None
        self.has_ended = False
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(function,), daemon=True)
        self._thread.start()

    def go_on(self) -> None:
        """Lets the function go on, and returns when it waits or has ended."""
        output, error = sys.stdout, sys.stderr
        outer = Surroundings(output)
        self.swap(True)
        self.surroundings.put()
        try:
            self._go.release()
            self._back.acquire()
        finally:
            self.surroundings.take()
            self.swap(False)
            outer.put()
            sys.stdout, sys.stderr = output, error

    def wait(self) -> None:
        """Lets the others go on until it is this one's turn again; called by the function."""
        self._back.release()
        self._go.acquire()

    def interrupt(self, kind: type[BaseException]) -> None:
        """Raises an exception in the function, which goes on at this time.

        Args:
            kind: of the exception, made without arguments.
        """
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread.ident or 0), ctypes.py_object(kind))

    def _run(self, function: Callable[["Turn[T]"], T]) -> None:
        self._go.acquire()
        try:
            self.result = function(self)
        except BaseException as error:  # of whatever kind: the others go on
            self.error = error
        finally:
            self.has_ended = True
            self._back.release()
