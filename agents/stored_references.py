"""What commands do with the references in the store."""

from __future__ import annotations

from collections.abc import Sequence

from agents.config import Config
from alerting.alert import printable
from tables.daily_histograms import DailyHistograms, rolled
from tables.errors import RunError
from tables.redis_connection import RedisConnection
from tables.redis_url import parse_store_url
from tables.reference import Reference, ReferenceBook
from tables.reference_store import ReferenceStore

SHOWN_NAMES = 10


async def put_reference(config: Config, reference: Reference) -> None:
    """Let it hold from now on. Raises StoreUnavailable."""
    async with _redis(config) as redis:
        await ReferenceStore(redis, config.group).put(reference)


async def load_references(config: Config) -> tuple[list[Reference], list[Reference]]:
    """Those that hold, and all that are kept. Raises StoreError."""
    async with _redis(config) as redis:
        store = ReferenceStore(redis, config.group)
        holding = await store.load_all()
        models = dict.fromkeys(reference.model_id for reference in holding)
        return holding, [each for model_id in models for each in await store.versions(model_id)]


async def find_reference(config: Config, model_id: str, model_version: str | None) -> Reference:
    """The one that holds for a model and version. Raises StoreError, and RunError where there is none."""
    async with _redis(config) as redis:
        return _find(await ReferenceStore(redis, config.group).load_all(), model_id, model_version, config)


async def roll_reference(
    config: Config, model_id: str, model_version: str | None, now_ms: int, days: int
) -> tuple[Reference, list[str]]:
    """The reference that holds, with the counts of the last days before today; and what it is made of, in words.

    Raises StoreError, and RunError where there is no reference or no day.
    """
    async with _redis(config) as redis:
        store = ReferenceStore(redis, config.group)
        current = _find(await store.load_all(), model_id, model_version, config)
        histograms = DailyHistograms(redis, config.group)
        found = await histograms.days(model_id, model_version, before_ms=now_ms, count=days)
        same = await store.with_bins_of(current, {day.reference_id for day in found})
    usable = [day for day in found if day.reference_id in same]
    count = len({day.day_ms for day in usable})
    others = len({day.day_ms for day in found}) - count
    if not usable:
        raise RunError(
            f"--rolling: expected days counted in the bins of reference {current.id} in {config.redacted_store}, "
            f"found {f'{others} in other bins' if others else 'none'} in the last {days} days"
        )
    source = f"rolling {days} days, {count} of them counted"
    reference = rolled(current, usable, model_version=model_version, created_at_ms=now_ms, source=source)
    left_out = [f"left out: {others} days that were counted in other bins"] if others else []
    return reference, [f"{count} of {days} days", *left_out]


def _redis(config: Config) -> RedisConnection:
    return RedisConnection(parse_store_url(config.store))


def _find(references: Sequence[Reference], model_id: str, model_version: str | None, config: Config) -> Reference:
    found = ReferenceBook(references).find(model_id, model_version)
    if found is not None:
        return found
    model = f"model {printable(model_id, 80)!r}"
    where = f"in {config.redacted_store} for group {config.group}"
    if versions := [each.model_version for each in references if each.model_id == model_id]:
        wanted = "every version" if model_version is None else f"version {printable(model_version, 80)!r}"
        raise RunError(f"no reference of {model} for {wanted} {where}; there is one for version {_list(versions)}")
    models = list(dict.fromkeys(each.model_id for each in references))
    raise RunError(f"no reference of {model} {where}; there are {f'those of {_list(models)}' if models else 'none'}")


def _list(names: Sequence[str | None]) -> str:
    shown = [printable(name or "", 80) or '""' for name in names[:SHOWN_NAMES]]
    return ", ".join(shown) + (", ..." if len(names) > SHOWN_NAMES else "")
