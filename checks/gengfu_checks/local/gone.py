"""Items that were there and are not any more: a queue removed, a share unmounted, a server no longer configured.

The check has looked and the thing is gone, so whatever was wrong with it is over. That is said for an hour, so that
its fault can close, and then forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gengfu_checks.model import Context, Measurement, Status

TELL_FOR_S = 3600.0
MAX_ITEMS = 512


def with_gone(context: Context, measurements: Iterable[Measurement]) -> Iterator[Measurement]:
    """Yield the measurements, then one that is all well for each item of the last hour that is not among them."""
    seen: dict[str, float] = context.memory.setdefault("seen", {})
    now_s = context.monotonic()
    present = set()
    for measurement in measurements:
        present.add(measurement.item)
        yield measurement
    seen.update(dict.fromkeys(present, now_s))
    for item, last_s in list(seen.items()):
        if now_s - last_s > TELL_FOR_S or len(seen) > MAX_ITEMS:
            del seen[item]
        elif item not in present:
            yield Measurement(item)


def with_gone_when_whole(context: Context, measurements: Iterable[Measurement]) -> Iterator[Measurement]:
    """As `with_gone`, unless something is unknown: what could not be looked at may hold what seems to be gone."""
    known = list(measurements)
    if all(each.problem is None or each.problem.status is not Status.UNKNOWN for each in known):
        return with_gone(context, known)
    context.memory.setdefault("seen", {}).update(dict.fromkeys((each.item for each in known), context.monotonic()))
    return iter(known)
