"""One owner per data folder."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from embedded.errors import Refused

LOCK_NAME = "lock"


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the folder for this process. The kernel lets go when the process ends, however it ends.

    The file is never removed: two processes could then hold locks on two files of the same name.

    Raises:
        Refused: another process holds the folder; the message names it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_NAME).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise Refused(
                f"{folder} is in use by another Expunge process (pid {holder}). Stop that one, or use another folder."
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
