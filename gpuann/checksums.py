"""Checksums of large data: BLAKE2b of the checksums of its blocks, which several threads make."""

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

BLOCK = 1 << 22  # bytes
DIGITS = 32  # hexadecimal
_AT_ONCE = 16  # blocks that are held, and one


def of(data: bytes | memoryview) -> str:
    """Of bytes in memory."""
    view = memoryview(data).cast("B")
    return _of_blocks(view[at : at + BLOCK] for at in range(0, len(view), BLOCK))


def of_file(handle: BinaryIO, start: int, n_bytes: int) -> str:
    """Of a part of a file, as far as there is one."""
    handle.seek(start)

    def blocks() -> Iterator[bytes]:
        left = n_bytes
        while left and (block := handle.read(min(left, BLOCK))):
            left -= len(block)
            yield block

    return _of_blocks(blocks())


def _of_blocks(blocks: Iterable[bytes | memoryview]) -> str:
    whole, left = hashlib.blake2b(digest_size=DIGITS // 2), iter(blocks)
    first = list(itertools.islice(left, 1))
    rest = list(itertools.islice(left, _AT_ONCE))
    if not rest:  # no threads for little data
        for block in first:
            whole.update(_one(block))
        return whole.hexdigest()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while first:
            for digest in pool.map(_one, [*first, *rest]):
                whole.update(digest)
            first.clear()  # before more are read
            rest.clear()
            first.extend(itertools.islice(left, _AT_ONCE))
    return whole.hexdigest()


def _one(block: bytes | memoryview) -> bytes:
    return hashlib.blake2b(block, digest_size=DIGITS // 2).digest()
