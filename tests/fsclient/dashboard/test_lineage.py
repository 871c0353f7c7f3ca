"""What a definition means, and what a field is made of."""

from __future__ import annotations

from dataclasses import replace

from feature_repo.catalog import INDICATORS
from fsclient.dashboard.panels.catalog import definition_digest, lineage


def test_a_definitions_digest_follows_its_meaning() -> None:
    rsi = INDICATORS["rsi_14"]
    assert definition_digest(rsi) == definition_digest(replace(rsi))
    assert definition_digest(rsi) != definition_digest(replace(rsi, parameters={"window": 15}))
    assert len({definition_digest(i) for i in INDICATORS.values()}) == len(INDICATORS)


def test_lineage_begins_with_its_source_and_ends_with_what_a_strategy_reads() -> None:
    assert lineage("rsi_14") == (
        "bars (close)", "rsi(window=14)", "quality gate", "indicators_*:rsi_14", "latest_* service"
    )  # fmt: skip
    assert lineage("close")[0] == "source file"
