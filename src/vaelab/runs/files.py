"""Files that are written whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any


def write_text(text: str, path: Path) -> None:
    """All of it or nothing, also if the process is killed meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    os.replace(part, path)


def write_json(record: dict[str, Any], path: Path) -> None:
    write_text(json.dumps(record, indent=2) + "\n", path)
