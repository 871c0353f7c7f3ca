"""Which column of a file is which, by their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from feature_repo.catalog import Symbol
from flows.sources.error import SourceError, printable, shown
from flows.sources.options import SourceOptions

PRICES = ("open", "high", "low", "close")
Side = Literal["both", "bid", "ask"]


# Names are compared as `key` makes them; where a file has two of them, the earlier is taken.
def _edges(*edges: str, bare: Sequence[str]) -> tuple[str, ...]:
    """The names of a bar's edge: ``endtime``, ``time_end``, ``end_at``, and by itself where that is not a price."""
    words = ("time", "timestamp", "datetime", "date", "at", "ts", "utc")
    names = (name for edge in edges for word in words for name in (f"{edge}{word}", f"{word}{edge}"))
    return (*bare, *names)


_STARTS = ("timeperiodstart", "periodstart", "intervalstart", "windowstart", "barstart", "candlestart")
_ENDS = ("timeperiodend", "periodend", "intervalend", "windowend", "barend", "candleend")
_OPEN_STAMPED = _edges("open", "start", "begin", *_STARTS, bare=("start", "begin", *_STARTS))
_CLOSE_STAMPED = (*_edges("close", "end", *_ENDS, bare=("end", *_ENDS)), "eventtimestamp")  # a bar's event is its close
_INSTANTS = (
    *(*_OPEN_STAMPED, "timestamp", "datetime", "gmttime", "utctime", "localtime", "ts"),
    *("timestamputc", "datetimeutc", "timeutc", "dateutc", "unix", "unixtime", "unixtimestamp"),
)
_INSTANTS_LAST = ("t", *_CLOSE_STAMPED, "indexlevel0")
FINISHED = ("complete", "iscomplete", "completed", "isfinal", "final", "isclosed", "closed", "confirm", "confirmed")
UNFINISHED = ("incomplete", "isincomplete", "partial", "ispartial", "unfinished")
_UNNAMED = ("", "unnamed0", "index")  # how pandas writes its index; meant only for the first column
_SYMBOL = ("symbol", "ticker", "pair", "instrument")
_VOLUMES = ("volume", "vol", "v", "realvolume")
_TICK_COUNTS = ("tickvolume", "tickvol")
_SIZES = ("size", "qty", "quantity", "amount")  # of ticks
_QUOTE_VOLUMES = ("volumeto", "quotevolume", "volumequote", "quoteassetvolume")
_LISTED = 20  # columns named in an error
_PRICE_NAMES = {
    **{price: (price, price[0]) for price in PRICES},
    **{f"{side}_{price}": (f"{side}{price}", f"{price}{side}") for side in ("bid", "ask") for price in PRICES},
}
_TICK_NAMES = {
    "bid": ("bid", "bidprice"),
    "ask": ("ask", "askprice", "offer"),
    "price": ("price", "last", "lastprice", "tradeprice"),
}
_KNOWN_NAMES = frozenset(
    name
    for names in (
        *((*_INSTANTS, *_INSTANTS_LAST, "date", "time"), _VOLUMES, _TICK_COUNTS, _SIZES, _SYMBOL),
        *(*_PRICE_NAMES.values(), *_TICK_NAMES.values()),
    )
    for name in names
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Positions of the columns that make a bar, or a tick.

    Attributes:
        time: one column, or a date and a time column.
        prices: open, high, low, close, of a tick its price; the bid's where ``ask_prices`` is not empty.
        ask_prices: the same of the ask in a file that has both sides, else empty.
        volumes: the columns that may be the volume, the best first; empty when the file reports none.
        tick_count: the one of them that counts ticks, which stands in for a volume of zero throughout.
        symbol: a column naming the instrument, None when there is none.
        finished: a column that says whether a bar is whole, None when there is none.
        unfinished: a column that says whether a bar is not whole, None when there is none.
        open_stamped, close_stamped: the time column's name says that it is the open, or the close.
        text: the mapping as shown to a user.
    """

    time: tuple[int, ...]
    prices: tuple[int, ...]
    ask_prices: tuple[int, ...]
    volumes: tuple[int, ...]
    tick_count: int | None
    symbol: int | None
    finished: int | None
    unfinished: int | None
    open_stamped: bool
    close_stamped: bool
    text: str

    @property
    def of_ticks(self) -> bool:
        return len(self.prices) == 1


def key(name: str) -> str:
    """``name`` without case, spaces and punctuation: ``<Gmt time>`` and ``GMT_TIME`` are one name."""
    return "".join(c for c in name.casefold() if c.isalnum())


def recognised(names: Sequence[str], options: SourceOptions) -> int:
    """How many of ``names`` are names of bar columns: 2 or more make a header."""
    known = _KNOWN_NAMES | {key(theirs) for theirs in (options.columns or {}).values()}
    return sum(key(name) in known for name in names)


def choose(
    names: Sequence[str], symbol: Symbol, options: SourceOptions, side: Side, error: Callable[[str, str], SourceError]
) -> Choice:
    """Find the columns of a bar among ``names``, or else those of a tick.

    Args:
        side: ``"both"`` for a file on its own, ``"bid"`` or ``"ask"`` for one of two files.
        error: makes the error for what and remedy, naming the file.

    Raises:
        SourceError: a column is missing, mapped to a name that is not there, or there twice.
    """
    columns = _Columns(names, options.columns or {}, error)
    prices, ask_prices = columns.prices(side)
    time = columns.time()
    of_ticks = len(prices) == 1
    shown_as = {"time": time, **dict(zip(("price",) if of_ticks else PRICES, ((i,) for i in prices), strict=True))}
    if ask_prices:
        shown_as = {"time": time, "bid": prices, "ask": ask_prices}
    text = ", ".join(f"{ours}={' '.join(names[i] or '(unnamed)' for i in i_s)}" for ours, i_s in shown_as.items())
    return Choice(
        time=time,
        prices=prices,
        ask_prices=ask_prices,
        volumes=columns.volumes(symbol, of_ticks=of_ticks),
        tick_count=columns.tick_count(),
        symbol=columns.first(_SYMBOL),
        finished=columns.first(FINISHED),
        unfinished=columns.first(UNFINISHED),
        open_stamped=key(names[time[-1]]) in _OPEN_STAMPED,
        close_stamped=key(names[time[-1]]) in _CLOSE_STAMPED,
        text=printable(text),
    )


def volume_text(names: Sequence[str], choice: Choice, taken: int | None) -> str:
    """Which column the volume was taken from, as shown to a user."""
    if taken is None:
        says_nothing = ", ".join(names[i] for i in choice.volumes)
        return printable(f"volume not reported{f' (not {says_nothing})' if says_nothing else ''}")
    others = ", ".join(names[i] for i in choice.volumes if i != taken)
    return printable(f"volume={names[taken]}{f' (not {others})' if others else ''}")


class _Columns:
    """The columns of a file by name, the user's mapping first."""

    def __init__(
        self, names: Sequence[str], mapping: Mapping[str, str], error: Callable[[str, str], SourceError]
    ) -> None:
        self._names = names
        self._keys = [key(name) for name in names]
        self._error = error
        self._mapped = {ours: self._named(ours, theirs) for ours, theirs in mapping.items()}

    def _listed(self) -> str:
        more = ", ..." if len(self._names) > _LISTED else ""
        return f"its columns are {', '.join(shown(name) for name in self._names[:_LISTED])}{more}"

    def _named(self, ours: str, theirs: str) -> int:
        exact = [i for i, name in enumerate(self._names) if name == theirs]
        matches = exact or [i for i, name in enumerate(self._keys) if name == key(theirs)]
        if len(matches) != 1:
            what = "more than one column" if matches else "no column"
            raise self._error(f"{what} called {shown(theirs)}; {self._listed()}", f"Correct {ours}=... of --columns.")
        return matches[0]

    def first(self, aliases: Sequence[str]) -> int | None:
        """The column with the earliest of ``aliases``."""
        counts = Counter(self._keys)
        for alias in aliases:
            if counts[alias] > 1:
                raise self._error(
                    f"more than one column called {shown(alias)}; {self._listed()}", "Rename all but one of them."
                )
            if counts[alias]:
                return self._keys.index(alias)
        return None

    def prices(self, side: Side) -> tuple[tuple[int, ...], tuple[int, ...]]:
        columns: dict[str, int] = {}
        for ours, aliases in _PRICE_NAMES.items():
            at = self._mapped[ours] if ours in self._mapped else self.first(aliases)
            if at is not None:
                columns[ours] = at
        bid, ask = ([f"{s}_{price}" for price in PRICES] for s in ("bid", "ask"))
        wanted: tuple[tuple[list[str], list[str]], ...] = ((list(PRICES), []),)
        wanted += {"both": ((bid, ask),), "bid": ((bid, []),), "ask": ((ask, []),)}[side]
        for first, second in wanted:
            if columns.keys() >= {*first, *second}:
                return tuple(columns[name] for name in first), tuple(columns[name] for name in second)
        if not columns:
            ticks = self._ticks(side)
            if ticks:
                return ticks
        # Name what is missing of the set that the file has most of.
        first, second = max(wanted, key=lambda names: len(columns.keys() & {*names[0], *names[1]}))
        missing = [name for name in (*first, *second) if name not in columns]
        example = ",".join(f"{name}=NAME" for name in missing)
        raise self._error(
            f"no column for {', '.join(missing)}; {self._listed()}", f"Name them with --columns {example}."
        )

    def _ticks(self, side: Side) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """The price of a tick, or its bid and ask; a quote goes before a trade."""
        columns: dict[str, int] = {}
        for ours, aliases in _TICK_NAMES.items():
            at = self._mapped[ours] if ours in self._mapped else self.first(aliases)
            if at is not None:
                columns[ours] = at
        if side == "both" and columns.keys() >= {"bid", "ask"} and "price" not in self._mapped:
            return (columns["bid"],), (columns["ask"],)
        for ours in ("price",) if side == "both" else (side, "price"):
            if ours in columns:
                return (columns[ours],), ()
        return None

    def time(self) -> tuple[int, ...]:
        for names in (("open_time",), ("date", "time")):
            if mapped := tuple(self._mapped[ours] for ours in names if ours in self._mapped):
                return mapped
        at = self.first(_INSTANTS)
        if at is not None:
            return (at,)
        pair = tuple(i for i in (self.first(("date",)), self.first(("time",))) if i is not None)
        if pair:
            return pair
        at = self.first(_INSTANTS_LAST)
        if at is None and self._keys[0] in _UNNAMED:
            at = 0
        if at is None:
            raise self._error(f"no column for the time; {self._listed()}", "Name it with --columns time=NAME.")
        return (at,)

    def tick_count(self) -> int | None:
        return None if "volume" in self._mapped else self.first(_TICK_COUNTS)

    def volumes(self, symbol: Symbol, *, of_ticks: bool) -> tuple[int, ...]:
        """All volume columns, the one in the base asset (traded units) first, one in the quote asset (money) last."""
        if "volume" in self._mapped:
            return (self._mapped["volume"],)
        base, _, quote = (key(part) for part in symbol.name.partition("/"))
        in_base = (f"volume{base}", f"{base}volume", "volumefrom", "basevolume", "volumebase", "baseassetvolume")
        in_quote = (*_QUOTE_VOLUMES, *((f"volume{quote}", f"{quote}volume") if quote else ()))
        sizes = _SIZES if of_ticks else _TICK_COUNTS
        columns = (self.first((alias,)) for alias in (*in_base, *_VOLUMES, *sizes, *in_quote))
        return tuple(dict.fromkeys(i for i in columns if i is not None))
