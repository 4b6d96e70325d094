"""One file over HTTP: resumed where it stopped, checked, named once it is whole."""

import hashlib
import urllib.error
import urllib.request
from pathlib import Path

from gpuann.errors import BackendError

BLOCK = 1 << 20


def download(url: str, folder: Path, sha256: str | None = None) -> Path:
    """The file of a URL in `folder`; it is not asked for again once it is there.

    What came before a stop is kept as NAME.part and continued. The first whole copy's SHA-256 is
    written beside it (NAME.sha256), unless one is given, and compared at each later use.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / url.rpartition("/")[2]
    noted = place.with_name(place.name + ".sha256")
    if not place.exists():
        part = place.with_name(place.name + ".part")
        _fetch(url, part)
        part.rename(place)
    found = digest(place)
    wanted = sha256 or (noted.read_text().strip() if noted.exists() else found)
    if found != wanted:
        raise BackendError(f"bench: {place} must have SHA-256 {wanted}, got {found}; delete it")
    noted.write_text(found + "\n")
    return place


def digest(place: Path) -> str:
    """SHA-256 of a file."""
    made = hashlib.sha256()
    with place.open("rb") as file:
        while block := file.read(BLOCK):
            made.update(block)
    return made.hexdigest()


def _fetch(url: str, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            # 206: the rest; 200: a server that knows no ranges begins anew
            append = have and answer.status == 206
            with part.open("ab" if append else "wb") as file:
                while block := answer.read(BLOCK):
                    file.write(block)
            length = answer.headers.get("Content-Length")
            if length and part.stat().st_size != int(length) + (have if append else 0):
                raise BackendError(f"bench: {url} ended early; call again to continue {part}")
    except urllib.error.URLError as error:
        raise BackendError(
            f"bench: {url} must be reached for this data set, got {error.reason}; "
            f"without a network put the file into {part.parent}"
        ) from error
