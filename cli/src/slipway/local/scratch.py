"""A folder for what a process and its libraries put aside, which goes when they are gone.

vLLM leaves its sockets in the folder of temporary files however it ends, torch's launcher a folder for each attempt,
and a process that is killed all that it had there.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "slipway-tmp-"
_LONGEST = 66
"""Characters of its path: that of a socket has at most 103 (on Linux 107), and vLLM's names take 37."""


class Scratch:
    """Held by a lock on the folder, which this process has, and who is given `handle`; the kernel lets go of it with
    the last of them, however they end. A folder that nobody holds is removed by whoever makes the next one."""

    def __init__(self) -> None:
        """Raises OSError where there is no room for a folder."""
        _remove_forgotten()
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
            self.handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self.handle, fcntl.LOCK_EX)
            if _is_at(self.path, self.handle):
                return
            os.close(self.handle)  # Somebody took it for a forgotten one before it was locked.

    def variables(self) -> dict[str, str]:
        """Returns what the environment of the process is to have; nothing where sockets would get too long a path."""
        if len(str(self.path)) > _LONGEST:
            return {}
        # What torch has compiled is for the next process too.
        return {"TMPDIR": str(self.path), "TORCHINDUCTOR_CACHE_DIR": _compiled()}

    def remove(self) -> None:
        """Removes it with all that is in it. A second time does nothing."""
        if self.handle >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self.handle)
            self.handle = -1


def _remove_forgotten() -> None:
    for path in Path(tempfile.gettempdir()).glob(PREFIX + "*"):
        # Another user's cannot be opened, and one that is still held cannot be locked.
        with contextlib.suppress(OSError), _locked(path):
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _is_at(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _compiled() -> str:
    """Returns where torch keeps it: where it is told, or in the folder of temporary files for each user."""
    told = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    if told:
        return told
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return str(Path(tempfile.gettempdir(), "torchinductor_" + re.sub(r'[\\/:*?"<>|]', "_", user)))
