"""Everything that a collector can say to an agent, for the worse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from inputs import Inputs

from gengfu_checks import registry
from gengfu_checks.errors import CheckError
from gengfu_checks.model import SettingType
from gengfu_proto.v1 import plan_pb2, report_pb2, stream_pb2


class Hostility:
    """Everything that a collector can say, for the worse."""

    def __init__(self, target: Path, seed: int) -> None:
        self.random = Random(seed)
        self.mark = target / "written"
        self.texts = (
            f"; touch {self.mark} #",
            f"$(touch {self.mark})",
            f"`touch {self.mark}`",
            f"|touch {self.mark}",
            f"\ntouch {self.mark}\n",
            f"--output={self.mark}",
            f"-o{self.mark}",
            str(self.mark),
            f"/../../../..{self.mark}",
            "/etc/shadow",
            "/proc/self/mem",
            "/dev/zero",
            "/dev/stdin",
            "/**",
            "/",
            "*" * 200,
            "(a+)+$",
            "a{1000}{1000}",
            "(" * 500,
            "\\\\host\\share",
            "http://127.0.0.1:1/x",
            "-rf",
            "",
            "x" * 1_000,
        )

    def setting(self) -> plan_pb2.SettingValue:
        random = self.random
        match random.randrange(6):
            case 0:
                return plan_pb2.SettingValue(integer=random.choice((0, -1, 1, 2**31, 2**62, -(2**62))))
            case 1:
                return plan_pb2.SettingValue(number=random.choice((0.0, -1.0, 1e308, 1e-300, 5e-324)))
            case 2:
                return plan_pb2.SettingValue(boolean=random.random() < 0.5)
            case 3:
                texts = [random.choice(self.texts)[:300] for _ in range(random.choice((1, 1, 5, 20)))]
                return plan_pb2.SettingValue(text_list=plan_pb2.TextList(texts=texts))
            case _:
                return plan_pb2.SettingValue(text=random.choice(self.texts))

    def fitting(self, type_: SettingType) -> plan_pb2.SettingValue:
        """One that a setting of this type may take, more often than not."""
        for _ in range(20):
            value = self.setting()
            kind = value.WhichOneof("value")
            wanted = {
                SettingType.TEXT: "text",
                SettingType.TEXT_LIST: "text_list",
                SettingType.BOOLEAN: "boolean",
                SettingType.INTEGER: "integer",
                SettingType.NUMBER: "number",
            }.get(type_, "number")
            if kind == wanted:
                return value
        return self.setting()

    def checks(self, count: int) -> Iterator[plan_pb2.PlannedCheck]:
        """Of every kind in turn, with settings that fit, as often and as long as may be."""
        kinds = []
        for name in registry.names():
            try:
                kinds.append(registry.load(name))
            except CheckError:
                continue
        for number in range(count):
            kind = kinds[number % len(kinds)]
            settings = {
                setting.name: self.fitting(setting.type)
                for setting in kind.settings
                if self.random.random() < (0.0 if number < len(kinds) else 0.7)
            }
            yield plan_pb2.PlannedCheck(
                name=f"c{number}",
                kind=kind.name,
                every_ms=self.random.choice((1_000, 1_000, 1_000, 1_000, 2**40, 2**64 - 1)),
                timeout_ms=self.random.choice((1, 1_000, 2**63, 2**64 - 1)),
                settings=settings,
                thresholds=[{"metric": "used_ratio", "code": "a.b", "warning": -1e308, "items": [{"item": "*" * 50}]}],
                target=self.random.choice(("", *self.texts))[:200],
            )

    def plan(self, checks: int) -> plan_pb2.Plan:
        """As many of these checks as a message holds."""
        made = plan_pb2.Plan(flush_after_ms=self.random.choice((0, 1, 100)))
        size = 0
        for check in self.checks(checks):
            size += check.ByteSize() + 8
            if size < 500_000:
                made.checks.append(check)
        return made

    def unrunnable(self) -> Iterator[plan_pb2.Plan]:
        """Plans that are refused as a whole or in every part."""
        for kind in ("shell", "command", "../../x", "os", "sh", "python", "gengfu_checks", "x" * 5_000, "\0", ""):
            yield plan_pb2.Plan(checks=[{"name": "x", "kind": kind, "every_ms": 1_000, "timeout_ms": 1_000}])
        for every_ms, timeout_ms in ((0, 1), (1, 0), (0, 0), (999, 2**64 - 1)):
            yield plan_pb2.Plan(checks=[{"name": "x", "kind": "cpu", "every_ms": every_ms, "timeout_ms": timeout_ms}])
        yield plan_pb2.Plan(checks=[{"name": "x", "kind": "cpu", "every_ms": 1_000, "timeout_ms": 9}] * 600)
        yield plan_pb2.Plan(checks=[{"name": "x" * 300_000, "kind": "cpu", "every_ms": 1_000, "timeout_ms": 9}])
        yield plan_pb2.Plan(version="x" * 500_000, flush_after_ms=2**64 - 1, inventory_every_ms=1)

    def messages(self) -> Iterator[stream_pb2.Down]:
        """Everything that is no plan: the numbers at their ends, the texts hostile."""
        inputs = Inputs(self.random, [], self.texts)
        for _ in range(150):
            down = stream_pb2.Down.FromString(inputs.message(stream_pb2.Down))
            if down.WhichOneof("message") not in ("drain", "welcome", "plan"):
                yield down
        for _ in range(50):
            yield stream_pb2.Down(inventory_request=stream_pb2.InventoryRequest())
            yield stream_pb2.Down(credit=stream_pb2.Credit(live=2**32 - 1, backlog=2**32 - 1))
            yield stream_pb2.Down(patrol_order=plan_pb2.PatrolOrder(checks=list(self.checks(20)), questions=self.texts))
            yield stream_pb2.Down(certificate=stream_pb2.Certificate(certificate_pem=b"-----BEGIN x-----" * 1_000))
            yield stream_pb2.Down(authority=stream_pb2.Authority(roots_pem=b"-----BEGIN CERTIFICATE-----\nAAAA\n"))
            ranges = [report_pb2.SeqRange(first=0, last=2**64 - 1)]
            yield stream_pb2.Down(
                acknowledgement=stream_pb2.Acknowledgement(epoch=99, accepted=ranges, renumber=[2**63])
            )
