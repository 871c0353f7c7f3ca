"""The last good answers, for outages of a store: in memory, and on disk for a process that starts in an outage."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from feature_repo.atomic_file import replace_file
from fsclient.answers.answers import Answer
from fsclient.answers.arrow import frame_from_arrow, frame_to_arrow
from fsclient.provenance import KEY, from_iso

log = logging.getLogger("feature_store_client")

SCHEMA = 2
_MAGIC = b"fsclient-last-good\n"
_MAX_FILES = 2_000
_MAX_BYTES = 64 * 2**20
_LARGEST_BYTES = 2 * 2**20
"""A larger answer (a range of some 40,000 bars) is not kept: it would push out hundreds of others."""


class LastGood:
    """Answers by their canonical key.

    Memory first; the disk tier (``folder``) is written by ``spool`` and read when memory has nothing. A file is
    refused when it is torn or altered (checksum), of another schema, of another question, or from the future.

    Args:
        folder: where the spool is.
        now: seconds since 1970, to refuse what claims to come from the future.
    """

    def __init__(self, folder: Path, *, now: Callable[[], float]) -> None:
        self._folder = folder
        self._now = now
        self._memory: dict[str, Answer] = {}  # in the order in which they were kept
        self._bytes = 0
        self._spooled: dict[str, tuple[str | None, bytes]] = {}  # the same for the disk
        self._writes = 0
        self._lock = threading.Lock()

    def keep(self, key: str, answer: Answer) -> bool:
        """Remembers an answer, if it holds anything and is not too large.

        Returns:
            Whether it is worth spooling: it is of another bar than the one on disk, or a correction of it.
        """
        if answer.record.as_of is None or answer.nbytes > _LARGEST_BYTES:
            return False
        with self._lock:
            former = self._memory.pop(key, None)
            self._memory[key] = answer
            self._bytes += answer.nbytes - (0 if former is None else former.nbytes)
            while self._bytes > _MAX_BYTES:
                self._bytes -= self._memory.pop(next(iter(self._memory))).nbytes
            return self._spooled.get(key) != (answer.record.as_of, answer.newest)

    def recall(self, key: str) -> pd.DataFrame | None:
        """The last good answer from memory, the caller's own frame."""
        with self._lock:
            answer = self._memory.get(key)
        return None if answer is None else answer.fresh()

    def spool(self, key: str, answer: Answer) -> None:
        """Writes an answer to disk; blocking. A disk that fails costs the fallback, never the call."""
        newest = (answer.record.as_of, answer.newest)
        with self._lock:
            if self._spooled.get(key) == newest:
                return  # another call was first
        body = _dump(key, answer.fresh(), self._now())
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_file(self._path(key), body, is_private=True)
            if self._writes % 100 == 0:
                self._prune()
            self._writes += 1
        except OSError as error:
            log.warning("the last good answers cannot be kept on disk (%s)", type(error).__name__)
            return
        with self._lock:
            self._spooled.pop(key, None)
            self._spooled[key] = newest
            if len(self._spooled) > _MAX_FILES:
                del self._spooled[next(iter(self._spooled))]

    def read_spool(self, key: str) -> pd.DataFrame | None:
        """The last good answer from disk; None when there is none that can be trusted. Blocking."""
        try:
            body = self._path(key).read_bytes()
        except OSError:
            return None
        return _load(key, body, self._now())

    def _path(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()}.arrow"  # no name ever reaches a path

    def _prune(self) -> None:
        files = list(self._folder.glob("*.arrow"))
        if len(files) > _MAX_FILES:
            files.sort(key=lambda f: f.stat().st_mtime)
            for file in files[: len(files) - _MAX_FILES]:
                file.unlink(missing_ok=True)


def _dump(key: str, answer: pd.DataFrame, now: float) -> bytes:
    head = {"schema": SCHEMA, "key": key, "saved_at": now}
    payload = json.dumps(head).encode() + b"\n" + frame_to_arrow(answer)
    body: bytes = _MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload
    return body


def _load(key: str, body: bytes, now: float) -> pd.DataFrame | None:
    if not body.startswith(_MAGIC):
        return None
    checksum, _, payload = body[len(_MAGIC) :].partition(b"\n")
    if hashlib.sha256(payload).hexdigest().encode() != checksum:
        return None
    line, _, frame = payload.partition(b"\n")
    head = json.loads(line)  # whole and unaltered, or the checksum would not match
    if head["schema"] != SCHEMA or head["key"] != key or head["saved_at"] > now + 1:
        return None
    answer = frame_from_arrow(frame)
    return None if from_iso(answer.attrs[KEY]["as_of"]) > (now + 1) * 1e6 else answer
