"""What a field is made of."""

from __future__ import annotations

from fsclient.dashboard.panels.catalog import lineage


def test_lineage_begins_with_its_source_and_ends_with_what_a_strategy_reads() -> None:
    assert lineage("rsi_14") == (
        "bars (close)", "rsi(window=14)", "quality gate", "indicators_*:rsi_14", "latest_* service"
    )  # fmt: skip
    assert lineage("close")[0] == "source file"
