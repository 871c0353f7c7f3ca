"""The service's keys: random, shown once, and kept as SHA-256 digests in a file; revoking takes effect at once.

A key has 256 random bits, so its plain hash can't be reversed by guessing; a slow hash would add nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import orjson

from feature_repo.atomic_file import replace_file

PREFIX = "fstore_"
"""The beginning of every key, so that scanners for leaked secrets recognise one."""
_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_LOCK_SUFFIX = ".lock"


class KeysError(ValueError):
    """An invalid key name, or a key file that can't be read; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What is stored of a key.

    Attributes:
        created: ISO-8601, UTC.
        sha256: digest of the key, hexadecimal.
    """

    name: str
    created: str
    sha256: str = field(repr=False)


class KeyFile:
    """The keys in one file. Several processes may use it: changes are made under a lock and replace the file.

    Once the file exists, a key is needed, even after the last one was revoked.
    """

    def __init__(self, path: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._path = path
        self._now = now
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] | None = None
        self._keys: tuple[Key, ...] | None = None

    @property
    def path(self) -> Path:
        return self._path

    def exists(self) -> bool:
        """Whether the file exists, so that a key is needed."""
        try:
            self._path.stat()
        except FileNotFoundError:
            return False
        except OSError:
            return True  # it may hold keys
        return True

    def read(self) -> tuple[Key, ...]:
        """All keys in the order in which they were added; read again when the file has changed.

        Raises:
            KeysError: the file can't be read.
        """
        with self._lock:
            try:
                stat = self._path.stat()
            except FileNotFoundError:
                return ()
            except OSError as error:
                raise self._unreadable(error) from None
            state = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if self._keys is None or state != self._seen:
                self._keys, self._seen = self._load(), state
            return self._keys

    def name_of(self, candidate: str) -> str | None:
        """The name of a key; None when it is unknown. Takes the same time for every key, right or wrong.

        Raises:
            KeysError: the file can't be read.
        """
        digest = hashlib.sha256(candidate.encode()).hexdigest()
        name = None
        for key in self.read():  # all of them, even after a match
            if hmac.compare_digest(digest, key.sha256):
                name = key.name
        return name

    def add(self, name: str) -> str:
        """Creates a key.

        Returns:
            The key itself, which is not stored anywhere.

        Raises:
            KeysError: the name is invalid or taken, or the file can't be read.
        """
        if not _NAME.fullmatch(name):
            raise KeysError(f"{name!r} is not a valid key name: use up to 64 letters, digits and . _ @ -")
        with self._changing() as keys:
            if any(key.name == name for key in keys):
                raise KeysError(f"a key named {name} exists already; revoke it first, or choose another name")
            secret = PREFIX + secrets.token_urlsafe(_BYTES)
            created = self._now().astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            keys.append(Key(name=name, created=created, sha256=hashlib.sha256(secret.encode()).hexdigest()))
        return secret

    def revoke(self, name: str) -> int:
        """Revokes a key, also for services that are running.

        Returns:
            How many keys are left.

        Raises:
            KeysError: there is no key of that name, or the file can't be read.
        """
        with self._changing() as keys:
            left = [key for key in keys if key.name != name]
            if len(left) == len(keys):
                raise KeysError(f"there is no key named {name!r}; `fstore keys list` shows them all")
            keys[:] = left
        return len(left)

    @contextmanager
    def _changing(self) -> Iterator[list[Key]]:
        """The keys as a list that is written back at the end."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_name(self._path.name + _LOCK_SUFFIX).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = [*self._load()] if self.exists() else []
            yield keys
            self._write(keys)

    def _load(self) -> tuple[Key, ...]:
        try:
            rows = orjson.loads(self._path.read_bytes())["keys"]
            return tuple(Key(name=r["name"], created=r["created"], sha256=str(r["sha256"])) for r in rows)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._unreadable(error) from None

    def _write(self, keys: list[Key]) -> None:
        rows = [{"name": key.name, "created": key.created, "sha256": key.sha256} for key in keys]
        content = orjson.dumps({"keys": rows}, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        replace_file(self._path, content, is_durable=True, is_private=True)

    def _unreadable(self, error: Exception) -> KeysError:
        return KeysError(
            f"the key file {self._path} can't be read ({type(error).__name__}); fix it, or delete it and add new keys"
        )
