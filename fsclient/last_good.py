"""The last good answers, for when a store is away: in memory, and on disk for a process that starts in an outage."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
from cachetools import LRUCache

from fsclient.answers import Answer
from fsclient.provenance import KEY

SCHEMA = 1
_MAGIC = b"fsclient-last-good\n"
_MOST_FILES = 2_000


class LastGood:
    """Answers by their canonical key.

    Memory first; the disk tier (``folder``) is written by ``spool`` and read when memory has nothing. A file is
    refused when it is torn or altered (checksum), of another schema, of another question, or from the future.

    Args:
        folder: where the spool is; None for memory only.
        now: seconds since 1970, to refuse what claims to come from the future.
    """

    def __init__(self, folder: Path | None, *, now: Callable[[], float], max_size: int = 1_000) -> None:
        self._folder = folder
        self._now = now
        self._memory: LRUCache[str, Answer] = LRUCache(max_size)
        self._spooled: LRUCache[str, str | None] = LRUCache(max_size)
        self._lock = threading.Lock()

    def keep(self, key: str, answer: Answer) -> bool:
        """Remembers an answer. Returns whether it is worth spooling: it is of another bar than the one on disk."""
        with self._lock:
            self._memory[key] = answer
            return self._folder is not None and self._spooled.get(key, "") != answer.record.as_of

    def recall(self, key: str) -> pd.DataFrame | None:
        """The last good answer from memory, the caller's own frame."""
        with self._lock:
            held = self._memory.get(key)
        return None if held is None else held.frame()

    def holds(self, key: str) -> bool:
        """Whether memory has an answer."""
        with self._lock:
            return key in self._memory

    def spool(self, key: str, answer: Answer) -> None:
        """Writes an answer to disk; blocking. A disk that fails costs the fallback, never the call."""
        if self._folder is None:
            return
        body = _dump(key, answer.frame(), self._now())
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, name = tempfile.mkstemp(dir=self._folder, suffix=".tmp")
            with os.fdopen(handle, "wb") as file:
                file.write(body)
            Path(name).replace(self._path(key))
        except OSError:
            return
        with self._lock:
            self._spooled[key] = answer.record.as_of
        self._prune()

    def read_spool(self, key: str) -> pd.DataFrame | None:
        """The last good answer from disk; None when there is none that can be trusted. Blocking."""
        if self._folder is None:
            return None
        try:
            body = self._path(key).read_bytes()
        except OSError:
            return None
        return _load(key, body, self._now())

    def _path(self, key: str) -> Path:
        assert self._folder is not None  # noqa: S101  # for the type checker; callers have looked
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()}.arrow"  # no name ever reaches a path

    def _prune(self) -> None:
        assert self._folder is not None  # noqa: S101
        files = list(self._folder.glob("*.arrow"))
        if len(files) > _MOST_FILES:
            files.sort(key=lambda f: f.stat().st_mtime)
            for file in files[: len(files) - _MOST_FILES]:
                file.unlink(missing_ok=True)


def _dump(key: str, answer: pd.DataFrame, now: float) -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pandas(answer)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    frame: bytes = sink.getvalue().to_pybytes()
    head = {"schema": SCHEMA, "key": key, "saved_at": now, KEY: answer.attrs[KEY]}
    payload = json.dumps(head).encode() + b"\n" + frame
    body: bytes = _MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload
    return body


def _load(key: str, body: bytes, now: float) -> pd.DataFrame | None:
    if not body.startswith(_MAGIC):
        return None
    checksum, _, payload = body[len(_MAGIC) :].partition(b"\n")
    if hashlib.sha256(payload).hexdigest().encode() != checksum:
        return None
    line, _, frame = payload.partition(b"\n")
    head = json.loads(line)  # whole and unaltered, or the checksum would not be
    if head["schema"] != SCHEMA or head["key"] != key or head["saved_at"] > now + 1:
        return None
    as_of = head[KEY]["as_of"]
    if as_of is not None and pd.Timestamp(as_of).timestamp() > now + 1:
        return None
    answer = pa.ipc.open_stream(frame).read_pandas()
    answer.attrs[KEY] = head[KEY]
    return answer
