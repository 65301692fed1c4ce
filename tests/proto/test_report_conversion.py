"""Findings and gaps to the wire and back; nothing that arrives raises anything but MessageError."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Callable, Mapping

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from strategies import any_message, damaged, runs

from gengfu_checks.model import Fact, Finding, MetricType, Status
from gengfu_proto.convert import facts as parts
from gengfu_proto.convert import report as wire
from gengfu_proto.errors import LimitExceeded, MalformedMessage, MessageError
from gengfu_proto.v1 import report_pb2

SLOW_TO_BUILD = settings(suppress_health_check=[HealthCheck.too_slow])


def finding(item: str = "/", facts: Mapping[str, Fact] | None = None, **metrics: float) -> Finding:
    return Finding("disk", item, Status.OK, "ok", facts or {}, metrics, 1_700_000_000.0)


def encode(*findings: Finding, check: str = "disk") -> wire.EncodedRun:
    return wire.encode_run(check, "disk", 60.0, findings, {}, 0.25)


def shape_message(**fields: object) -> report_pb2.Shape:
    message = report_pb2.Shape(check="disk", kind="disk", every_ms=60_000)
    message.MergeFrom(report_pb2.Shape(**fields))  # type: ignore[arg-type]
    return message


def decode_shape(message: report_pb2.Shape) -> wire.Shape:
    return wire.decode_shape(message.SerializeToString())


def body_of(*messages: report_pb2.CheckRun) -> bytes:
    return report_pb2.ReportBody(findings=report_pb2.Findings(runs=messages)).SerializeToString()


@given(runs(), st.data())
@SLOW_TO_BUILD
def test_findings_come_back_as_they_went(run: tuple[str, list[Finding]], data: st.DataObject) -> None:
    check, findings = run
    names = sorted({name for one in findings for name in one.metrics})
    types = {name: data.draw(st.sampled_from(MetricType)) for name in names}
    encoded = wire.encode_run(check, "disk", 30.0, findings, types, 1.5, target="ups-1")
    body = wire.decode_body(wire.encode_findings_body([encoded]))
    shape = wire.decode_shape(encoded.shape)
    assert wire.findings_of(shape, body.runs[0]) == findings
    assert [list(one.metrics) for one in wire.findings_of(shape, body.runs[0])] == [
        list(one.metrics) for one in findings
    ]
    assert shape.metric_types == types
    assert (body.kind, shape.check, shape.kind, shape.every_s, shape.target) == (
        "findings",
        check,
        "disk",
        30.0,
        "ups-1",
    )
    assert (shape.id, body.runs[0].shape_id) == (encoded.shape_id, encoded.shape_id)
    assert body.runs[0].duration_ms == 1500


def test_the_shape_is_the_same_while_only_numbers_move() -> None:
    first = encode(finding(free_bytes=1.0))
    assert encode(finding(free_bytes=2.0)).shape == first.shape
    assert encode(finding(free_bytes=2.0, facts={"fs": "ext4"})).shape_id != first.shape_id
    assert encode(finding(used_bytes=1.0)).shape_id != first.shape_id
    assert encode(finding(free_bytes=1.0), check="disk-2").shape_id != first.shape_id


@given(st.text(st.characters(codec=None), max_size=60))
@example("/mnt/\udcff")
@example("\x1b]0;title\x07\u202e")
def test_any_text_of_a_machine_reaches_the_other_side_harmless(text: str) -> None:
    encoded = encode(finding(item=text, facts={"label": text}))
    (found,) = wire.decode_shape(encoded.shape).findings
    assert (found.item == text) == (found.facts["label"] == text)
    for shown in (found.item, found.facts["label"]):
        assert isinstance(shown, str)
        shown.encode("utf-8")
        assert not any(c in shown for c in "\x00\n\r\x1b\x7f\x85\u2028\u202e\ufeff")


@pytest.mark.parametrize(
    "items", [("/mnt/\udcfe", "/mnt/\udcff"), ("a\x01", "a\x02"), ("x" * 999 + "1", "x" * 999 + "2")]
)
def test_items_that_the_wire_cannot_hold_stay_two(items: tuple[str, str]) -> None:
    found = wire.decode_shape(encode(*map(finding, items)).shape).findings
    assert len({one.item for one in found}) == 2
    again = wire.decode_shape(encode(*map(finding, reversed(items))).shape).findings
    assert {one.item for one in again} == {one.item for one in found}


def test_texts_longer_than_the_wire_allows_are_cut_by_the_sender() -> None:
    encoded = encode(finding(item="i" * 10_000, facts={"label": "f" * 10_000}))
    (found,) = wire.decode_shape(encoded.shape).findings
    assert re.fullmatch(r"i+…~[0-9a-f]{8}", found.item)
    assert len(found.item) == parts.MAX_ITEM_CHARACTERS
    assert found.facts["label"] == "f" * (parts.MAX_FACT_CHARACTERS - 1) + "…"


def test_a_whole_number_too_big_for_the_wire_goes_as_an_inexact_one() -> None:
    (found,) = wire.decode_shape(encode(finding(facts={"big": 2**63, "fits": 2**63 - 1})).shape).findings
    assert found.facts == {"big": float(2**63), "fits": 2**63 - 1}
    assert isinstance(found.facts["fits"], int)


@given(
    st.lists(st.integers(1, 50), min_size=2, max_size=20).map(
        lambda parts: [sum(parts[: i + 1]) for i in range(len(parts))]
    ),
    st.sampled_from(report_pb2.GapReason.keys()),
)
def test_a_gap_comes_back_as_it_went(numbers: list[int], reason: str) -> None:
    ranges = tuple(zip(numbers[::2], numbers[1::2], strict=False))
    gap = wire.GapRecord(7, ranges, reason.removeprefix("GAP_REASON_").lower(), 1_000, 2_000)
    body = wire.decode_body(wire.encode_gap_body(gap))
    assert (body.kind, body.gap, body.runs) == ("gap", gap, ())


@pytest.mark.parametrize("ranges", [[(0, 3)], [(3, 2)], [(1, 5), (5, 9)], [(5, 9), (1, 2)]])
def test_ranges_that_overlap_or_run_backwards_are_refused(ranges: list[tuple[int, int]]) -> None:
    with pytest.raises(MalformedMessage, match="ascending"):
        wire.decode_body(wire.encode_gap_body(wire.GapRecord(1, tuple(ranges), "quota", 0, 0)))


def test_a_reason_of_a_later_version_is_unspecified() -> None:
    body = report_pb2.ReportBody(gap=report_pb2.Gap(epoch=1, reason=77))  # type: ignore[arg-type]
    gap = wire.decode_body(body.SerializeToString()).gap
    assert gap is not None
    assert gap.reason == "unspecified"


def test_a_body_of_a_kind_of_a_later_version_is_refused_by_name() -> None:
    with pytest.raises(MalformedMessage, match="kind that this version does not know"):
        wire.decode_body(b"\x9a\x01\x02hi")


def read_everything(shape_bytes: bytes, body_bytes: bytes) -> None:
    """What a collector does with what it was sent."""
    try:
        shape = wire.decode_shape(shape_bytes)
        body = wire.decode_body(body_bytes)
        for run in body.runs:
            for found in wire.findings_of(shape, run):
                assert all(map(math.isfinite, found.metrics.values()))
    except MessageError as error:
        said = str(error)
    else:
        return
    assert 0 < len(said) < 1_000


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_rubbish_is_refused_as_such(shape: bytes, body: bytes) -> None:
    read_everything(shape, body)


@given(st.data())
@settings(max_examples=300)
def test_damaged_messages_are_read_or_refused(data: st.DataObject) -> None:
    encoded = encode(finding("/", free_bytes=1.0, used_ratio=0.5), finding("/home", {"fs": "ext4"}, free_bytes=2.0))
    whole = wire.encode_findings_body([encoded, encoded])
    read_everything(data.draw(damaged(encoded.shape)), data.draw(damaged(whole)))


@given(any_message(report_pb2.Shape.DESCRIPTOR), any_message(report_pb2.ReportBody.DESCRIPTOR))
@SLOW_TO_BUILD
def test_well_formed_messages_of_any_content_are_read_or_refused(
    shape: report_pb2.Shape, body: report_pb2.ReportBody
) -> None:
    read_everything(shape.SerializeToString(), body.SerializeToString())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_refused(value: float) -> None:
    encoded = encode(finding(free_bytes=1.0, used_ratio=value))
    with pytest.raises(MalformedMessage, match="not a finite number"):
        wire.decode_body(wire.encode_findings_body([encoded]))


def test_values_whose_sum_overflows_are_no_fault() -> None:
    encoded = encode(finding(a=1.7e308, b=1.7e308))
    (run,) = wire.decode_body(wire.encode_findings_body([encoded])).runs
    assert list(run.values) == [1.7e308, 1.7e308]


def test_a_shape_and_values_that_do_not_belong_together_are_refused() -> None:
    shape = wire.decode_shape(encode(finding(free_bytes=1.0)).shape)
    run = wire.Run(shape.id, 0, 0, array("d", [1.0, 2.0]))
    with pytest.raises(MalformedMessage, match="2 values for a shape of 1"):
        wire.findings_of(shape, run)


def part(**fields: object) -> report_pb2.FindingShape:
    message = report_pb2.FindingShape(item="/", code="ok")
    message.MergeFrom(report_pb2.FindingShape(**fields))  # type: ignore[arg-type]
    return message


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (shape_message(check="Bad Name"), "not a check name"),
        (shape_message(kind="../etc"), "not a check kind"),
        (shape_message(findings=[part(), part()]), "one item twice"),
        (shape_message(findings=[part(status=4)]), "status 4 is not one of"),
        (shape_message(findings=[part(code="x{__name__=~'.*'}")]), "not a code"),
        (shape_message(findings=[part(metrics=[0])]), "does not name"),
        (shape_message(metric_names=["a"], metric_types=[0], findings=[part(metrics=[0, 0])]), "to one twice"),
        (shape_message(metric_names=["a"]), "one type for every metric"),
        (shape_message(metric_names=['a"} 1\nfake'], metric_types=[0]), "not a metric name"),
        (shape_message(findings=[part(facts=[report_pb2.Fact(name="a")])]), "no value that can be read"),
        (shape_message(findings=[part(facts=[report_pb2.Fact(name="A b", text="x")])]), "not a fact name"),
        (shape_message(findings=[part(facts=[report_pb2.Fact(name="a", number=math.nan)])]), "no value"),
        (shape_message(findings=[part(breach=report_pb2.Breach(metric="a", limit=math.inf))]), "not a finite number"),
    ],
)
def test_each_thing_wrong_with_a_shape_is_said(message: report_pb2.Shape, said: str) -> None:
    with pytest.raises(MalformedMessage, match=said):
        decode_shape(message)


def test_a_shape_id_has_its_length() -> None:
    with pytest.raises(MalformedMessage, match="shape id of 3 bytes"):
        wire.decode_body(body_of(report_pb2.CheckRun(shape_id=b"abc")))


def with_findings(count: int) -> bytes:
    return shape_message(findings=[part(item=str(i)) for i in range(count)]).SerializeToString()


def with_metrics(count: int) -> bytes:
    return shape_message(metric_names=[f"m{i}" for i in range(count)], metric_types=[0] * count).SerializeToString()


def with_facts(count: int) -> bytes:
    facts = [report_pb2.Fact(name=f"f{i}", integer=i) for i in range(count)]
    return shape_message(findings=[part(facts=facts)]).SerializeToString()


def with_runs(count: int) -> bytes:
    return body_of(*(report_pb2.CheckRun(shape_id=bytes(wire.SHAPE_ID_BYTES)) for _ in range(count)))


def with_ranges(count: int) -> bytes:
    ranges = tuple((2 * i, 2 * i) for i in range(1, count + 1))
    return wire.encode_gap_body(wire.GapRecord(1, ranges, "quota", 0, 0))


def with_body_bytes(count: int) -> bytes:
    gap = wire.encode_gap_body(wire.GapRecord(1, (), "quota", 0, 0))
    unknown_field = b"\x82\x7d"  # field 2000, length-delimited
    for length_bytes in (1, 2, 3):
        rest = count - len(gap) - len(unknown_field) - length_bytes
        length = bytes([(rest >> (7 * i)) & 0x7F | (0x80 if i < length_bytes - 1 else 0) for i in range(length_bytes)])
        if rest >> (7 * length_bytes) == 0:
            return gap + unknown_field + length + bytes(rest)
    raise ValueError(count)


@pytest.mark.parametrize(
    ("decode", "build", "limit"),
    [
        (wire.decode_shape, with_findings, wire.MAX_FINDINGS),
        (wire.decode_shape, with_metrics, wire.MAX_METRICS),
        (wire.decode_shape, with_facts, wire.MAX_FACTS),
        (wire.decode_shape, lambda n: shape_message(check="c" * n).SerializeToString(), parts.MAX_NAME_CHARACTERS),
        (
            wire.decode_shape,
            lambda n: shape_message(target="t" * n).SerializeToString(),
            parts.MAX_ITEM_CHARACTERS,
        ),
        (
            wire.decode_shape,
            lambda n: shape_message(findings=[part(item="夫" * n)]).SerializeToString(),
            parts.MAX_ITEM_CHARACTERS,
        ),
        (
            wire.decode_shape,
            lambda n: shape_message(
                findings=[part(facts=[report_pb2.Fact(name="a", text="夫" * n)])]
            ).SerializeToString(),
            parts.MAX_FACT_CHARACTERS,
        ),
        (wire.decode_body, with_runs, wire.MAX_RUNS),
        (wire.decode_body, with_ranges, wire.MAX_GAP_RANGES),
        (wire.decode_body, with_body_bytes, wire.MAX_BODY_BYTES),
    ],
    ids=["findings", "metrics", "facts", "name", "target", "item", "fact", "runs", "ranges", "bytes"],
)
def test_a_limit_is_allowed_and_one_more_is_refused(
    decode: Callable[[bytes], object], build: Callable[[int], bytes], limit: int
) -> None:
    decode(build(limit))
    with pytest.raises(LimitExceeded, match="at most"):
        decode(build(limit + 1))


def test_a_shape_of_too_many_bytes_is_refused_before_it_is_read() -> None:
    with pytest.raises(LimitExceeded, match=f"at most {wire.MAX_SHAPE_BYTES}"):
        wire.decode_shape(b"\xff" * (wire.MAX_SHAPE_BYTES + 1))
