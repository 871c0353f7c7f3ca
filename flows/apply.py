"""``feast apply`` with guards: what a view's name means never changes silently, and new definitions have been tried."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from feature_repo.catalog import PRODUCER
from flows.compute.trial import trial_problem

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView

Meaning = Mapping[str, str]
DIGEST = "meaning"
"""The tag that holds the digest of a field's meaning."""


class DefinitionChangedError(ValueError):
    """A name that is already served now means something else; the message is the difference."""


class DefinitionFailedError(ValueError):
    """A new or changed definition does not do what its row says; the message names it and the first bar at fault."""


def apply_definitions(store: FeatureStore, *, accept: bool = False) -> dict[str, list[str]]:
    """Registers all definitions.

    Args:
        accept: also accept what changed or was removed. Feast keeps a changed view's earlier definition as a version.

    Returns:
        ``{"added": [...], "changed": [...], "removed": [...], "unchanged": [...]}``: names of views.

    Raises:
        DefinitionChangedError: a served view changed, or a view or service vanished, and ``accept`` is False; nothing
            is registered.
        DefinitionFailedError: the trial of a new or changed definition failed, accepted or not; nothing is registered.
    """
    from feature_repo import definitions

    registered = {v.name: v for v in store.list_feature_views()}
    defined = definitions.views
    changes: dict[str, list[str]] = {"added": [], "changed": [], "removed": [], "unchanged": []}
    differences: list[str] = []
    for name, view in defined.items():
        if name not in registered:
            changes["added"].append(name)
            continue
        lines = _difference(name, _meaning(registered[name]), _meaning(view))
        changes["changed" if lines else "unchanged"].append(name)
        differences += lines
    changes["removed"] = sorted(set(registered) - set(defined))
    services = [s for s in store.list_feature_services() if s.name not in definitions.services]
    differences += [f"- {name}: the view is gone" for name in changes["removed"]]
    differences += [f"- {service.name}: the service is gone" for service in services]
    if differences and not accept:
        raise DefinitionChangedError(
            "\n".join(differences) + "\nStrategies read these names. Give the new meaning a new name, "
            "or run `fstore apply --accept` to change what the old one means."
        )
    _try_out(registered, defined)
    objects: list[Any] = [definitions.project, definitions.symbol]
    objects += [*definitions.sources.values(), *defined.values(), *definitions.services.values()]
    known_sources = {source.name for source in definitions.sources.values()}
    removed: list[Any] = [*services, *(registered[name] for name in changes["removed"])]
    removed += [source for source in store.list_data_sources() if source.name not in known_sources]
    store.apply(objects, objects_to_delete=removed, partial=not removed)
    return changes


def _try_out(registered: Mapping[str, FeatureView], defined: Mapping[str, FeatureView]) -> None:
    """Tries the indicators whose meaning is not registered yet.

    Raises:
        DefinitionFailedError: at least one of them failed.
    """
    tried = {(field.name, field.tags.get(DIGEST)) for view in registered.values() for field in view.features}
    names = {
        field.name
        for view in defined.values()
        for field in view.features
        if (field.name, field.tags.get(DIGEST)) not in tried
    }
    indicators = {PRODUCER[name].name: PRODUCER[name] for name in sorted(names) if name in PRODUCER}
    problems = [f"- {name}: {problem}" for name, i in indicators.items() if (problem := trial_problem(i))]
    if problems:
        raise DefinitionFailedError(
            "\n".join(problems) + "\nNothing was registered. Correct the kernel in feature_repo/kernels.py or the row "
            "in feature_repo/kinds.py or feature_repo/catalog, then run `fstore apply` again."
        )


def _meaning(view: FeatureView) -> dict[str, Meaning]:
    """What a view's fields mean: each field's type and tags, as ``feature_repo.meaning`` made them."""
    fields: dict[str, Meaning] = {f.name: {"type": str(f.dtype), **f.tags} for f in view.features}
    return {**fields, "(time)": {"type": f"{view.batch_source and view.batch_source.timestamp_field}"}}


def _difference(view: str, old: Mapping[str, Meaning], new: Mapping[str, Meaning]) -> list[str]:
    lines = []
    for name, was in sorted(old.items()):
        if name not in new:
            lines.append(f"- {view}:{name} {_shown(was, ['parameters'])}")
        elif changed := _changed(was, new[name]):
            lines.append(f"- {view}:{name} {_shown(was, changed)}")
            lines.append(f"+ {view}:{name} {_shown(new[name], changed)}")
    return lines  # a field that is only new changes no name's meaning


def _changed(was: Meaning, is_now: Meaning) -> list[str]:
    """The tags by which two meanings differ.

    Definitions that were registered before there was a digest say nothing of inputs, outputs, warm-up and kernel; they
    are compared by what they do say, and get their digest with this registration.
    """
    if DIGEST in was and was[DIGEST] == is_now.get(DIGEST) and was["type"] == is_now["type"]:
        return []
    compared = {*was, *is_now} if DIGEST in was else {*was}
    return [name for name in compared - {DIGEST} if was.get(name) != is_now.get(name)]


def _shown(meaning: Meaning, names: Collection[str]) -> str:
    """The type, the kind, and the tags with these names."""
    tags = [
        f"{name}={meaning.get(name, '')}" for name in sorted({"kind", *names} - {"type", DIGEST}) if name in meaning
    ]
    return " ".join([meaning["type"], *tags])
