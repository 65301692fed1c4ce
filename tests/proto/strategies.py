"""Values of the contract for Hypothesis: what honest sides say, and what hostile ones may."""

from __future__ import annotations

import string

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from gengfu_checks.model import Breach, Direction, Finding, ItemLimits, Status, Threshold
from gengfu_proto.convert.plan import Plan, PlannedCheck

NAMES = st.text(string.ascii_lowercase + string.digits + "_", max_size=20).map("m".__add__)
CHECK_NAMES = st.text(string.ascii_lowercase + string.digits + "_.-", max_size=20).map("c".__add__)
CODES = st.tuples(NAMES, NAMES).map(".".join)
SHOWABLE = st.text(st.characters(categories=["L", "N", "P", "Zs"]), max_size=40)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
FACTS = st.one_of(SHOWABLE, INTEGERS, FINITE, st.booleans())
SECONDS = st.integers(1, 10**9).map(lambda ms: ms / 1000)
UP_TO_A_DAY_S = st.integers(1, 86_400_000).map(lambda ms: ms / 1000)
BREACHES = st.builds(Breach, NAMES, FINITE, st.sampled_from(Direction))
MEASURED_AT = st.integers(0, 2**42).map(lambda ms: ms / 1000)


@st.composite
def runs(draw: st.DrawFn) -> tuple[str, list[Finding]]:
    """Check name and findings of one run: different items, one time of measurement."""
    check = draw(CHECK_NAMES)
    measured_at = draw(MEASURED_AT)
    items = draw(st.lists(SHOWABLE, unique=True, min_size=1, max_size=5))
    metric_names = draw(st.lists(NAMES, unique=True, max_size=6))
    metrics = st.dictionaries(st.sampled_from(metric_names), FINITE) if metric_names else st.just({})
    findings = [
        Finding(
            check=check,
            item=item,
            status=draw(st.sampled_from(Status)),
            code=draw(CODES),
            facts=draw(st.dictionaries(NAMES, FACTS, max_size=4)),
            metrics=draw(metrics),
            measured_at=measured_at,
            breach=draw(st.none() | BREACHES),
        )
        for item in items
    ]
    return check, findings


ITEM_LIMITS = st.builds(ItemLimits, st.none() | FINITE, st.none() | FINITE)
THRESHOLDS = st.builds(
    Threshold,
    metric=NAMES,
    code=CODES,
    direction=st.sampled_from(Direction),
    warning=st.none() | FINITE,
    critical=st.none() | FINITE,
    hysteresis=st.floats(0, 1e300),
    items=st.dictionaries(SHOWABLE, ITEM_LIMITS, max_size=3),
)
SETTINGS = st.dictionaries(NAMES, FACTS | st.lists(SHOWABLE, max_size=3).map(tuple), max_size=4)
PLANNED_CHECKS = st.builds(
    PlannedCheck,
    name=CHECK_NAMES,
    kind=NAMES,
    every_s=SECONDS.filter(lambda s: s >= 1),
    timeout_s=UP_TO_A_DAY_S,
    settings=SETTINGS,
    thresholds=st.lists(THRESHOLDS, max_size=3).map(tuple),
    target=SHOWABLE,
)
PLANS = st.builds(
    Plan,
    checks=st.lists(PLANNED_CHECKS, max_size=4, unique_by=lambda check: check.name).map(tuple),
    flush_after_s=UP_TO_A_DAY_S,
)

_ANY_SCALAR = {
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_SINT64: INTEGERS,
    FieldDescriptor.TYPE_DOUBLE: st.floats(),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_STRING: NAMES | st.text(max_size=30),
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=20) | st.binary(min_size=16, max_size=16),
    FieldDescriptor.TYPE_ENUM: st.integers(-1, 9),
}


@st.composite
def any_message(draw: st.DrawFn, descriptor: Descriptor) -> Message:
    """A message of this type with any content that its types allow."""
    message: Message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if not draw(st.booleans()):
            continue
        target = getattr(message, field.name)
        if field.message_type is None:
            if field.is_repeated:
                target.extend(draw(st.lists(_ANY_SCALAR[field.type], max_size=4)))
            else:
                setattr(message, field.name, draw(_ANY_SCALAR[field.type]))
        elif field.message_type.GetOptions().map_entry:
            value = field.message_type.fields_by_name["value"].message_type
            assert value is not None
            for key in draw(st.lists(st.text(max_size=10), max_size=3)):
                target[key].CopyFrom(draw(any_message(value)))
        elif field.is_repeated:
            target.extend(draw(st.lists(any_message(field.message_type), max_size=3)))
        else:
            target.CopyFrom(draw(any_message(field.message_type)))
    return message


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """These bytes with some of them changed, cut out or put in."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 4))
        data[at : at + length] = draw(st.binary(max_size=4))
    return bytes(data)
