"""An agent, a person and a script that say a hostile text wherever a text may be said."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from canaries import CANARIES, LONE_SURROGATES, marks_in
from intruder import Card, Intruder, a_report, enrol
from machinery import Collector

from gengfu_collector.errors import CollectorError
from gengfu_proto.convert.report import shape_id_of
from gengfu_proto.v1 import report_pb2, stream_pb2


def a_shape(text: str, number: int) -> report_pb2.Shape:
    """A critical finding with this text wherever any text may stand."""
    facts = [
        report_pb2.Fact(name=name, text=text) for name in ("mount", "fs_type", "reason_zh", "reason_en", "title_zh")
    ]
    return report_pb2.Shape(
        check="many",
        kind="file_age",
        every_ms=60_000,
        target=text,
        metric_names=["used_ratio"],
        metric_types=[report_pb2.METRIC_TYPE_GAUGE],
        findings=[
            report_pb2.FindingShape(
                item=text,
                status=report_pb2.STATUS_CRITICAL,
                code=("disk.nearly_full", "of.third_party")[number % 2],
                facts=facts,
                metrics=[0],
            )
        ],
    )


def broken_shapes(text: str) -> Iterator[report_pb2.Shape]:
    """The text where only a name may stand: each makes a dead letter."""
    for path in ("check", "kind", "metric_names", "code", "fact", "breach"):
        shape = a_shape("x", 0)
        finding = shape.findings[0]
        match path:
            case "check" | "kind":
                setattr(shape, path, text)
            case "metric_names":
                shape.metric_names[0] = text
            case "code":
                finding.code = text
            case "fact":
                finding.facts[0].name = text
            case "breach":
                finding.breach.metric = text
        yield shape


async def report(one: Intruder, shape: report_pb2.Shape) -> stream_pb2.Acknowledgement:
    data = shape.SerializeToString()
    run = report_pb2.CheckRun(shape_id=shape_id_of(data), measured_at_ms=round(time.time() * 1000), values=[0.99])
    body = report_pb2.ReportBody(findings=report_pb2.Findings(runs=[run]))
    return await one.report(body.SerializeToString(), [data])


async def other_bodies(one: Intruder, text: str) -> None:
    """Every string of every other kind of message."""
    fact = report_pb2.Fact(name=text[:64], text=text)
    bodies = [
        report_pb2.ReportBody(
            patrol_record=report_pb2.PatrolRecord(
                patrol=text,
                round=text,
                order_id=text,
                reason=text,
                answers=[report_pb2.ChecklistAnswer(question=text, answer=text, person=text)],
            )
        ),
        report_pb2.ReportBody(
            inventory=report_pb2.Inventory(
                full=True,
                generation=1,
                entries=[report_pb2.InventoryEntry(key=text, category="software", facts=[fact])],
                removed_keys=[text],
            )
        ),
        report_pb2.ReportBody(
            trap=report_pb2.Trap(
                source=text, trap_oid=text, bindings=[report_pb2.VariableBinding(oid=text, value=text.encode())]
            )
        ),
    ]
    for body in bodies:
        await one.report(body.SerializeToString())
    await one.send(plan_applied={"version": text[:64], "refused": [{"name": text, "reason": text}]})


async def be_hostile(collector: Collector, name: str, text: str) -> None:
    card: Card = await enrol(
        collector,
        text,
        text,
        agent_version=text[:64],
        platform=text[:64],
        former_agent_id="",
        former_session=text.encode(),
    )
    async with Intruder(collector, card) as one:
        await one.hello(
            hostname=text,
            machine_id=text,
            boot_id=text,
            agent_version=text[:64],
            platform=text[:64],
            plan_version=text[:64],
            instance=text.encode()[:16],
        )
        assert (await report(one, a_shape(text, len(name)))).accepted, name
        await other_bodies(one, text)
        for shape in broken_shapes(text):
            await report(one, shape)
        await one.is_heard()
        await one.send_bytes(a_report(2**63, text.encode()))
        await one.read_until("drain")


def speak(collector: Collector, number: str, text: str) -> None:
    """What engineers and scripts may say; refusals are answers, too."""
    asked: list[tuple[str, dict[str, Any]]] = [
        ("ticket.comment", {"number": number, "text": text}),
        ("token.create", {"uses": 1, "ttl_s": 60, "asset_class": "terminal", "labels": {"site": text[-100:]}}),
        ("asset.rename", {"name": text, "new_name": text}),
        *(("ticket.show", {"number": said}) for said in (text, LONE_SURROGATES)),
        *(("agent.show", {"uid": said}) for said in (text, LONE_SURROGATES)),
        *(("ticket.comment", {"number": number, "text": said}) for said in (LONE_SURROGATES, "x" * 200_000)),
        (LONE_SURROGATES, {text: text}),
    ]
    for operation, arguments in asked:
        with suppress(CollectorError):
            collector.ask(operation, **arguments)
    text_of_label = CANARIES.get(marks_in(text).pop(), text)[-100:]
    with suppress(CollectorError):
        collector.ask("asset.label", name=asset_of(collector, number), labels={"site": text_of_label, "x" + text: text})
    with suppress(CollectorError):
        collector.ask("asset.label", name=asset_of(collector, number), labels={"site": text_of_label})


def asset_of(collector: Collector, number: str) -> str:
    return str(collector.ask("ticket.show", number=number)["asset"])
