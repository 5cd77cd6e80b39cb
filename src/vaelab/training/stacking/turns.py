"""Functions that run in threads of one process, one at a time, each as if it were alone."""

import logging
import random
import sys
import threading
from collections.abc import Callable
from typing import Any, Generic, TextIO, TypeVar

import numpy as np
import torch

T = TypeVar("T")


class Surroundings:
    """What a process has once, and each thread of a stack shall have for itself: generators of random numbers, output and logging.

    Args:
        output: where it prints to.
    """

    def __init__(self, output: TextIO) -> None:
        self.output = output
        self.random, self.numpy, self.torch = random.getstate(), np.random.get_state(), torch.get_rng_state()
        self.loggers: dict[logging.Logger, tuple[list[logging.Handler], bool, int]] = {}
        self._outer: Surroundings | None = None

    def take(self) -> None:
        """Notes what they are now."""
        self.random, self.numpy, self.torch = random.getstate(), np.random.get_state(), torch.get_rng_state()
        named = [each for each in logging.Logger.manager.loggerDict.values() if isinstance(each, logging.Logger)]
        self.loggers = {each: (list(each.handlers), each.propagate, each.level) for each in (logging.root, *named)}

    def put(self) -> None:
        """Sets them."""
        random.setstate(self.random)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)
        for each, (handlers, propagate, level) in self.loggers.items():
            each.handlers[:], each.propagate = handlers, propagate
            each.setLevel(level) if each.level != level else None
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
        outer.take()
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
        """To be called by the function: the others go on until it is its turn again."""
        self._back.release()
        self._go.acquire()

    def _run(self, function: Callable[["Turn[T]"], T]) -> None:
        self._go.acquire()
        try:
            self.result = function(self)
        except BaseException as error:  # of whatever kind: the others go on
            self.error = error
        finally:
            self.has_ended = True
            self._back.release()
