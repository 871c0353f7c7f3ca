"""What a user may mean by a source, and by what a source is known again."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from feature_repo.catalog import symbol, timeframe
from flows.sources import SourceBars, SourceError, SourceOptions, read_bars

TEXT = "time,open,high,low,close\n2024-01-08T09:00:00Z,1.1,1.2,1.0,1.15\n"


def read(source: Path | str, ask: Path | str | None = None, name: str = "EUR/USD", **options: object) -> SourceBars:
    source_options = SourceOptions(**options)  # type: ignore[arg-type]
    return read_bars(source, symbol=symbol(name), timeframe=timeframe("1h"), options=source_options, ask=ask)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.csv"
    path.write_text(TEXT)
    return path


def test_the_digest_is_of_the_bytes_and_of_what_they_mean(file: Path, tmp_path: Path) -> None:
    digest = read(file).digest
    copy = tmp_path / "copy.csv"
    copy.write_text(TEXT)
    assert len(digest) == 64
    assert digest == read(copy).digest == read(str(file)).digest
    different = [
        read(file, tz="Europe/Berlin"),
        read(file, stamp="close"),
        read(file, unit=1),
        read(file, columns={"close": "open"}),
        read(file, name="GBP/USD"),
        read(file, ask=copy),
    ]
    copy.write_text(TEXT + "\n")
    different.append(read(copy))
    assert len({digest, *(source.digest for source in different)}) == 8


def test_the_digest_of_a_folder_follows_the_order_of_its_files(tmp_path: Path) -> None:
    texts = [TEXT, TEXT.replace("09:00", "10:00")]
    digests = []
    for number, order in enumerate((texts, texts[::-1])):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, text in zip("ab", order, strict=True):
            (folder / f"{name}.csv").write_text(text)
        digests.append(read(folder).digest)
    assert digests[0] != digests[1]


def test_the_newest_file_decides_when_a_source_was_written(file: Path, tmp_path: Path) -> None:
    moment = datetime(2024, 1, 8, 10, tzinfo=UTC)
    os.utime(file, (0, moment.timestamp()))
    (tmp_path / "b.csv").write_text(TEXT.replace("09:00", "10:00"))
    os.utime(tmp_path / "b.csv", (0, moment.timestamp() - 60))
    assert read(file).written_at == read(tmp_path).written_at == read(tmp_path / "b.csv", ask=file).written_at == moment


@pytest.mark.parametrize(
    "options",
    [{"query": "x"}, {"table": "x"}, {"exchange_url": "http://x"}, {"start": datetime(2024, 1, 1, tzinfo=UTC)}],
)
def test_an_option_that_would_do_nothing_is_refused(file: Path, options: dict[str, object]) -> None:
    with pytest.raises(SourceError, match=r"a file takes no --(query|table|exchange-url|start)"):
        read(file, **options)


@pytest.mark.parametrize("form", ["sql", "ccxt"])
def test_a_format_of_another_source_is_refused(file: Path, form: str) -> None:
    with pytest.raises(SourceError, match=f"a file has no format {form}. Known: auto, csv"):
        read(file, format=form)


def test_an_ask_is_a_file(file: Path) -> None:
    for sides in ((file, "sqlite:///x"), ("sqlite:///x", file), ("exchange://binance", file)):
        with pytest.raises(SourceError, match="--ask is for files"):
            read(sides[0], ask=sides[1])


def test_a_start_comes_before_its_end() -> None:
    with pytest.raises(SourceError, match="--start is not before --end"):
        SourceOptions(start=datetime(2024, 1, 2, tzinfo=UTC), end=datetime(2024, 1, 2))  # noqa: DTZ001
