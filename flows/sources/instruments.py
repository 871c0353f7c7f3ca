"""Whether the instrument that a file names can be the symbol that it is read as."""

from __future__ import annotations

import re
from collections.abc import Iterator

from feature_repo.catalog import Symbol

_ALIASES = {"xbt": "btc", "xxbt": "btc", "xeth": "eth", "xdg": "doge", "zusd": "usd", "zeur": "eur"}  # Kraken, BitMEX
_COMMODITIES = {"gold": "xauusd", "silver": "xagusd"}
_BROKERS_SUFFIX = re.compile(r"([A-Z0-9]{3,})[a-z]{1,4}")  # EURUSDm, EURUSDpro


def may_be(name: str, symbol: Symbol) -> bool:
    """Whether vendors may write ``symbol`` as ``name``.

    Case, punctuation, an exchange before the name and a market behind it do not count: ``EURUSD``, ``EUR_USD``,
    ``FX:EURUSD``, ``EURUSD=X`` and ``EURUSDm`` may be EUR/USD, ``AAPL.US`` may be AAPL. A name without letters is a
    vendor's number and says nothing. Any other name is another instrument's: MSFT is not AAPL, BTCUSDT not BTC/USD.
    """
    if not any(character.isalpha() for character in name):
        return True
    wanted = set(_spellings(symbol))
    only_base = _joined(name) == _joined(symbol.name.partition("/")[0])
    return only_base or any(reading in wanted for reading in _readings(name))


def _spellings(symbol: Symbol) -> Iterator[str]:
    yield _joined(symbol.name)
    base, slash, quote = symbol.name.partition("/")
    if slash:  # AUD/USD.MT is a broker's AUD/USD
        yield _joined(base + quote.partition(".")[0])


def _readings(name: str) -> Iterator[str]:
    """What a name may mean: each run of its words, by itself and with other names of its currencies."""
    suffixed = _BROKERS_SUFFIX.fullmatch(name)
    for text in (name, suffixed[1] if suffixed else name):
        words = re.findall(r"[^\W_]+", text)
        for first in range(len(words)):
            for last in range(first + 1, len(words) + 1):
                run = [word.casefold() for word in words[first:last]]
                joined = "".join(run)
                yield joined
                yield _COMMODITIES.get(joined, joined)
                yield "".join(_ALIASES.get(word, word) for word in run)
                for alias, usual in _ALIASES.items():
                    if joined.startswith(alias):
                        rest = joined.removeprefix(alias)
                        yield usual + _ALIASES.get(rest, rest)


def _joined(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())
