"""Files of a run folder: written whole or not at all, and read with one sentence where they are damaged."""

import csv
import json
import math
import os
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from vaelab.runs.configs import of_today

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it was compiled


CONFIG_IN_HEAD = "vaelab"  # name of the config in the head of a file of safetensors


class DamagedFile(ValueError):
    """A file is empty, cut, garbled or of another shape than this package writes."""

    def __init__(self, path: Path, reason: str, advice: str) -> None:
        super().__init__(f"{path} cannot be read ({' '.join(reason.split())}): {advice}")


def write_text(text: str, path: Path) -> None:
    """Write all of the text or nothing, also if the process is killed meanwhile."""
    write_bytes(text.encode(), path)


def write_bytes(data: bytes, path: Path) -> None:
    """Write all of the bytes or nothing, also if the process is killed meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)  # of a process that was killed; a link would be written through
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)  # a disk that is full has no room for it
        raise


def write_json(record: dict[str, Any], path: Path) -> None:
    """Write a record as `write_text` does; numbers that are not finite, which JSON does not have, are null."""
    write_text(json.dumps(finite(record), indent=2, allow_nan=False) + "\n", path)


def finite(node: Any) -> Any:
    """A node of plain types with None in place of NaN and of infinite numbers; of an interval, if either end is one."""
    if isinstance(node, float) and not math.isfinite(node):
        return None
    if isinstance(node, Mapping):
        parts = {key: finite(value) for key, value in node.items()}
        return {key: None if str(key).endswith("_ci") and value and None in value else value for key, value in parts.items()}
    return [finite(value) for value in node] if isinstance(node, list | tuple) else node


def read_json(path: Path, advice: str) -> dict[str, Any]:
    """The mapping that a JSON file holds.

    Args:
        path: of the file.
        advice: what to do if it is damaged.

    Raises:
        DamagedFile: if it is no JSON, or no mapping.
    """
    return _read_mapping(path, advice, json.loads)


def read_results(path: Path, advice: str) -> dict[str, Any]:
    """The results of a run; see `read_json`.

    Raises:
        DamagedFile: if it is no mapping, or its numbers are of another shape than this package writes.
    """
    record = read_json(path, advice)
    test, val, evaluations, _ = parts = [record.get(key) or {} for key in ("test", "val", "evaluations", "versions")]
    if not all(isinstance(part, dict) for part in parts):
        raise DamagedFile(path, "it was not written by vaelab: its test, val, evaluations or versions are of another shape", advice)
    if not all(map(_is_evaluation, evaluations.values())) or not all(_is_number(*pair) for pair in [*test.items(), *val.items()]):
        raise DamagedFile(path, "it was not written by vaelab: a number or how it was found is of another shape", advice)
    return record


def with_metric(record: dict[str, Any], metric: str, found: Mapping[str, Any], how: Mapping[str, Any]) -> dict[str, Any]:
    """Results with what a metric found, in place of what it had found before.

    What it calls val/<name> is of validation data, and is added to theirs; to a run that has not finished, which has none, it is not.
    """
    evaluations = record.get("evaluations") or {}
    before = evaluations.get(metric, {}).get("keys", [])
    test, val = split_by_data(found)
    record["test"] = {key: value for key, value in (record.get("test") or {}).items() if key not in before} | test
    if "val" in record:
        record["val"] = (record["val"] or {}) | val
    return {**record, "evaluations": evaluations | {metric: dict(how)}}


def split_by_data(found: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values of test data, and those of validation data, whose names begin with val/ and lose that."""
    of_val = {name: value for name, value in found.items() if name.startswith("val/")}
    return {name: found[name] for name in found if name not in of_val}, {name[4:]: value for name, value in of_val.items()}


def _is_evaluation(how: Any) -> bool:
    return isinstance(how, dict) and isinstance(how.get("keys", []), list) and isinstance(how.get("options", {}), dict)


def _is_number(name: str, value: Any) -> bool:
    """True if a value of the results can be what its name says: a number if it is an error, two if it is an interval."""
    if value is None:
        return True
    if name.endswith("_ci"):
        return isinstance(value, list) and len(value) == 2 and all(isinstance(end, int | float) for end in value)
    return isinstance(value, int | float) or not name.endswith("_std_error")


def read_yaml(path: Path, advice: str) -> dict[str, Any]:
    """The mapping that a YAML file holds; see `read_json`.

    Raises:
        DamagedFile: if it is no YAML, or no mapping.
    """
    return _read_mapping(path, advice, partial(yaml.load, Loader=Loader))


def _read_mapping(path: Path, advice: str, parse: Callable[[str], Any]) -> dict[str, Any]:
    try:
        record = parse(path.read_text())
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
        raise DamagedFile(path, str(error), advice) from error
    if not isinstance(record, dict):
        raise DamagedFile(path, "it is no mapping", advice)
    return record


def read_curves(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Every metric of a metrics.csv, as (step, value).

    Raises:
        DamagedFile: if the file is no table of numbers.
    """
    found: dict[str, list[tuple[int, float]]] = {}
    try:
        header, *lines = csv.reader(path.read_text().splitlines())
        steps = header.index("step")
        for line in lines:
            for name, value in zip(header, line, strict=True):
                if value and name != "step":
                    found.setdefault(name, []).append((int(line[steps]), float(value)))
    except (ValueError, csv.Error, OSError) as error:
        raise DamagedFile(
            path, f"it is no table of numbers: {error}", "remove it; the metrics of a finished run are in its results"
        ) from error
    return found


def check_sums(path: Path, ending: str = "") -> None:
    """Raise if a file of an archive is not what was written; torch reads a file with a changed bit as if nothing had happened.

    Args:
        path: of the archive.
        ending: of the names of the files in it that are looked at.

    Raises:
        zipfile.BadZipFile: if a sum is wrong, or it is no archive.
    """
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.endswith(ending) and member.CRC:  # torch can be told to write none
                with archive.open(member) as file:
                    while file.read(1 << 20):  # the sum is compared at the end
                        pass


def read_checkpoint(path: Path, mmap: bool = False) -> dict[str, Any]:
    """A checkpoint, read without running anything that is in it; its config names classes where they live today.

    Args:
        path: of the file, a checkpoint of training or what `vaelab export format=safetensors` wrote.
        mmap: whether weights stay on the disk until they are used.

    Raises:
        ValueError: if the file is damaged, or was not written by vaelab.
    """
    import torch  # most readers of run folders do without

    if path.suffix == ".safetensors":
        return read_safetensors(path)
    try:
        check_sums(path, "/data.pkl" if mmap else "")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # whatever pickle, zipfile and torch make of bytes that are not theirs
        raise ValueError(f"{path} cannot be read: it is damaged or was not written by vaelab; try the run's other checkpoint") from error
    if not isinstance(checkpoint, dict) or not all(isinstance(checkpoint.get(key), dict) for key in ("config", "state_dict")):
        raise ValueError(f"{path} was not written by vaelab: it has no config and state_dict")
    return checkpoint | {"config": of_today(checkpoint["config"])}


def read_safetensors(path: Path) -> dict[str, Any]:
    """The weights, config and scaling of the data that `vaelab export format=safetensors` wrote, as a checkpoint has them.

    Raises:
        ValueError: if the file is damaged, was not written by vaelab, or safetensors is not installed.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ValueError(f"{path.name} needs safetensors: pip install 'vaelab[export]'") from error
    try:
        with safe_open(path, framework="pt") as file:
            config = json.loads((file.metadata() or {})[CONFIG_IN_HEAD])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read: it is damaged or was not written by vaelab export") from error
    prefix = "scaling."
    scaling = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    weights = {name: value for name, value in tensors.items() if not name.startswith(prefix)}
    return {"config": of_today(config), "state_dict": weights, "DataModule": {"scaling": scaling} if scaling else {}}
