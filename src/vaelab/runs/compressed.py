"""Files of compressed examples: a head that says how they are decoded, and bits.

| bytes            | what                                                                   |
|------------------|------------------------------------------------------------------------|
| 4                | VLAB                                                                   |
| 1                | version of the format                                                  |
| 3                | length of the head, little-endian                                      |
| that many        | the head, JSON                                                         |
| a multiple of 4  | the words of the stack, 32 bits each, little-endian, the lowest first  |
| 4                | CRC-32 of all before it                                                |
"""

import json
import zlib
from pathlib import Path
from typing import Any

from vaelab.runs.files import DamagedFile, write_bytes

MAGIC, VERSION = b"VLAB", 1
ENDING = ".vlab"
ADVICE = "copy it again, or compress the examples again"


def write_compressed(path: Path, head: dict[str, Any], bits: bytes) -> int:
    """Write a file of compressed examples; return its size in bytes."""
    data = to_bytes(head, bits)
    write_bytes(data, path)
    return len(data)


def to_bytes(head: dict[str, Any], bits: bytes) -> bytes:
    """The bytes of such a file."""
    text = json.dumps(head, separators=(",", ":")).encode()
    data = MAGIC + bytes([VERSION]) + len(text).to_bytes(3, "little") + text + bits
    return data + zlib.crc32(data).to_bytes(4, "little")


def read_compressed(path: Path) -> tuple[dict[str, Any], bytes]:
    """The head and the bits of a file.

    Raises:
        ValueError: if it is not there, is no such file, or one of another version.
        DamagedFile: if it is not as it was written, to the bit.
    """
    if not path.is_file():
        raise ValueError(f"input={path} is not there: give a file that `vaelab compress` has written")
    return from_bytes(path.read_bytes(), path)


def from_bytes(data: bytes, path: Path) -> tuple[dict[str, Any], bytes]:
    """The head and the bits of the bytes of a file; raises as `read_compressed`."""
    if data[:4] != MAGIC:
        raise ValueError(f"input={path} does not begin as the files of `vaelab compress` do: give one of them")
    if len(data) < 12 or zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise DamagedFile(path, "it was cut, or a bit has changed", ADVICE)
    if data[4] != VERSION:
        raise ValueError(
            f"input={path} is of version {data[4]} of the format, and this vaelab reads version {VERSION}: use the one that wrote it"
        )
    end = 8 + int.from_bytes(data[5:8], "little")
    return json.loads(data[8:end]), data[end:-4]
