"""The command line: `vaelab <command>`, `python -m vaelab <command>` and `python scripts/<command>.py` are the same.

Nothing here imports torch or Hydra before it is needed: --help answers at once.
"""

import os
import re
import signal
import sys
import threading
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from vaelab.commands.help import config_dirs, help_of_all, help_of_one
from vaelab.commands.old_words import check_old_words
from vaelab.runs.configs import quoted


class Command(NamedTuple):
    """A command.

    Args:
        about: what it does, in a line.
        function: path of what does it, which takes a config, or else the words of the command line.
        config: name of its config in conf/; None: it reads the words itself.
    """

    about: str
    function: str
    config: str | None = None


COMMANDS = {
    "train": Command("train a model, evaluate it on test data and picture it", "vaelab.commands.train.train", "config"),
    "evaluate": Command("compute metrics of trained models on their test data", "vaelab.commands.evaluate.evaluate_runs", "evaluate"),
    "generate": Command("draw the figures of a trained model", "vaelab.commands.generate.generate", "generate"),
    "encode": Command("write the codes of data to a file", "vaelab.commands.encode.encode", "encode"),
    "export": Command("write a model in a format that other programs open", "vaelab.commands.export.export", "export"),
    "compress": Command("write data to a file of -ELBO bits, without loss", "vaelab.commands.compress.compress", "compress"),
    "decompress": Command("read the data of such a file", "vaelab.commands.compress.decompress", "decompress"),
    "inpaint": Command("complete test data of which a part is hidden", "vaelab.commands.inpaint.inpaint_run", "inpaint"),
    "impute": Command("fill in what is missing in a table", "vaelab.commands.impute.impute", "impute"),
    "detect_anomalies": Command(
        "find test data that are unlike the training data", "vaelab.commands.anomalies.detect_anomalies", "detect_anomalies"
    ),
    "summarize": Command("make one table over runs, with statistics over seeds", "vaelab.commands.summarize.summarize_runs"),
    "runs": Command("list, show, compare, repeat and delete runs", "vaelab.commands.runs.manage_runs"),
    "docs": Command("print a page of the documentation, such as own_parts", "vaelab.commands.docs.print_page"),
    "benchmark": Command("measure how fast training and evaluation are here", "vaelab.benchmark.benchmark", "benchmark"),
}


def main(command: str | None = None) -> int:
    """Run a command with the words of the command line; return the exit code.

    Args:
        command: its name; None: the first word.
    """
    words = sys.argv[1:]
    let_threads_wait_briefly()
    in_main = threading.current_thread() is threading.main_thread()  # the only one that may handle signals
    if in_main and hasattr(signal, "SIGPIPE") and (command is None or COMMANDS[command].config is None):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `vaelab runs list | head` ends without a word
    if command is None:
        command, *words = words or ["--help"]
        if command in ("-h", "--help"):
            print(help_of_all({name: each.about for name, each in COMMANDS.items()}))
            return 0
        if command == "--version":
            print(f"vaelab {version('vaelab')}")
            return 0
        if command not in COMMANDS:
            print(f"vaelab: {command} is no command: choose one of {', '.join(COMMANDS)}", file=sys.stderr)
            return 2
    from vaelab.commands.overrides import check_first_names

    _, function, config = COMMANDS[command]
    try:
        check_old_words(command, words)
    except ValueError as error:
        print(f"vaelab {command}: {error}", file=sys.stderr)
        return 2
    if config is None:
        return imported(function)(words) or 0
    if {"-h", "--help"} & set(words):
        print(help_of_one(command, config, words))
        return 0
    words = with_places(words) if command == "train" else words
    try:
        check_first_names(words, config, config_dirs(words))
    except ValueError as error:
        print(f"vaelab {command}: {error}", file=sys.stderr)
        return 2
    if not {"-m", "--multirun"} & set(words):
        words = [with_quotes(word) for word in words]
    if command == "train":
        words = prepared(words)
    compose_and_run(function, config, words)
    return 0


def let_threads_wait_briefly() -> None:
    """Has OpenMP's threads give their core back after some 30 microseconds without work; to be called before torch is imported.

    By default libgomp lets them wait for milliseconds, which is as fast on an idle machine. Where other processes need the cores, a thread
    that waits keeps away the one that it waits for: a step of a small model takes 2 to 20 times as long.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def with_quotes(word: str) -> str:
    """The word, with quotes around its value if that has "=" in it, as folders of sweeps have: run='outputs/x/seed=0'."""
    key, _, value = word.partition("=")
    plain = "=" in value and re.fullmatch(r"[+~]*[\w.@/]+", key) and not re.search(r"[\\'\"\[\](){}$]", value)
    return f"{key}={quoted(value)}" if plain else word


def with_places(words: list[str]) -> list[str]:
    """The words of `train`, which is told where data are as all commands are; of a run that is resumed, whatever its data."""
    words = [re.sub("^data_dir=", "paths.data_dir=", word) for word in words]
    is_resumed = any(word.startswith("resume=") for word in words)
    return [re.sub(r"^(?=data\.(root|file|cache)=)", "++", word) if is_resumed else word for word in words]


def prepared(words: list[str]) -> list[str]:
    """The words of `train`, as one of several processes has them; signals wait until it can handle them."""
    from vaelab.commands.places import as_rank, rank

    if hasattr(signal, "pthread_sigmask"):  # a time limit may be announced during imports
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2})
    number = rank()
    return words if number is None else as_rank(words, number)


def compose_and_run(function: str, config_name: str, words: list[str]) -> None:
    """Let Hydra compose a config from the words, and call a function with it; with each config of a sweep."""
    import hydra
    import hydra._internal.utils as internal
    from hydra._internal.hydra import Hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from vaelab.commands import places  # its resolvers are used in conf/config.yaml
    from vaelab.commands.composing import CONF, typed_words
    from vaelab.commands.errors import UserError, end, end_in_words, wants_all
    from vaelab.commands.overrides import check_words

    typed = list(sys.argv)

    def check(config: Any, notes: Any) -> None:
        """Raise in a sentence; a run that is resumed has a config of its own."""
        try:
            check_words(config, config_name, typed_words(notes), notes.runtime.choices)
        except ValueError as error:
            raise UserError(str(error)) from None

    @hydra.main(config_path=str(CONF), config_name=config_name, version_base="1.3")
    def application(config: Any) -> Any:
        sys.argv[:] = typed  # from which Lightning makes the command lines of other processes
        notes = HydraConfig.get()
        os.chdir(notes.runtime.cwd)  # also with hydra.job.chdir=true: paths are relative to where the command was typed
        try:
            check(config, notes)
            return imported(function)(config)
        except Exception as error:
            if config_name == "config" and notes.output_subdir is not None:  # of a run, and of its first process
                places.release(Path(notes.runtime.output_dir, notes.output_subdir))
            if isinstance(error, UserError) and notes.mode == RunMode.RUN and not wants_all():
                end(str(error))  # Hydra would print all words of the command line before it
            raise

    sys.argv[1:] = end_in_words(lambda: in_order(words))  # which Hydra reads
    internal.run_and_report = end_in_words  # type: ignore[assignment]  # what Hydra does with errors of composing; it would print several lines
    if not any("hydra.mode" in word or word.startswith("-c") or "--config" in word for word in words):
        # Hydra composes the config once more, to look whether anything sets hydra.mode; the yamls of conf/ do not
        Hydra.get_mode = lambda *_, **__: None  # type: ignore[method-assign]
    application()


def in_order(words: list[str]) -> list[str]:
    """The words with options such as -m first: Hydra understands no value that follows one and does not follow all of them.

    Raises:
        ValueError: if there is no such option.
    """
    import hydra._internal.utils as internal

    parsed, more = internal.get_args_parser().parse_known_args(words)
    for word in more:
        if word.startswith("-"):
            raise ValueError(f"there is no option {word}: --help says what there is")
    values = [*parsed.overrides, *more]
    return [*(word for word in words if word not in values), *values]


def imported(path: str) -> Any:
    """The function at a path."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)
