"""Files that are replaced as a whole: a reader finds the earlier content or the later one, never a part."""

from __future__ import annotations

import os
import threading
from pathlib import Path


def replace_file(path: Path, content: bytes, *, is_durable: bool = False, is_private: bool = False) -> None:
    """Writes a file in one step; its folder must exist.

    Args:
        is_durable: whether the content must outlast a loss of power from the moment this returns.
        is_private: whether only its owner may read it (mode 0600); otherwise the umask decides.

    Raises:
        OSError: it cannot be written; the earlier file is as it was.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    unfinished.unlink(missing_ok=True)  # of a process that was killed under the same number
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if is_private else 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            if is_durable:
                file.flush()
                os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
