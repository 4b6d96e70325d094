"""Files that are whole or not there: written under another name, synced, renamed."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step: synced under another name, then renamed."""
    with unseen(path) as handle:
        handle.write(text.encode())


@contextmanager
def unseen(path: Path) -> Iterator[BinaryIO]:
    """A file that gets its name once it is whole and on the disk; none if the block fails."""
    hidden = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with hidden.open("w+b") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        hidden.replace(path)
        sync_folder(path.parent)
    finally:
        hidden.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    if os.name == "nt":
        return  # Windows cannot open folders; its renames are journalled
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
