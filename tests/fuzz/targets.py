"""Every parser of outside data, with what it may be fed and how it may refuse."""

from __future__ import annotations

import atexit
import importlib
import json
import shutil
import struct
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from google.protobuf.message import Message as AnyMessage
from inputs import TESTS, Inputs, recordings, samples_of, words_of
from surroundings import REQUESTS, a_spool, feed_http, feed_spool

from gengfu_agent.config import load_config as load_agent_config
from gengfu_agent.errors import AgentError
from gengfu_agent.plan import PLAN_FILE, Allowed, accept, load_plan
from gengfu_agent.status import STATUS_FILE, read_status
from gengfu_agent.uplink.ending import ending_of_drain
from gengfu_checks import registry
from gengfu_checks.errors import CheckError
from gengfu_checks.inventory import macos
from gengfu_checks.model import Finding, Status
from gengfu_collector import config
from gengfu_collector.errors import CollectorError
from gengfu_collector.fleet.inspection import load_inspection
from gengfu_collector.fleet.toml_lines import key_lines
from gengfu_collector.gateway import certificates
from gengfu_collector.gateway.admission import address_of as peer_address
from gengfu_collector.gateway.messages import read_hello
from gengfu_collector.gateway.session import ProtocolError, parse_up
from gengfu_collector.metrics.accept import choose_format
from gengfu_collector.metrics.discovery import address_of
from gengfu_collector.metrics.text import escape_label_value, label_name
from gengfu_proto.convert.plan import Plan, PlannedCheck, decode_plan, encode_plan
from gengfu_proto.convert.report import (
    GapRecord,
    decode_body,
    decode_shape,
    encode_findings_body,
    encode_gap_body,
    encode_run,
)
from gengfu_proto.errors import InvalidToken, MessageError
from gengfu_proto.text import clean
from gengfu_proto.token import format_token, parse_token
from gengfu_proto.v1 import plan_pb2, report_pb2, stream_pb2

Refusals = tuple[type[Exception], ...]
NOW_S = 1_700_000_000.0
PACKAGES = TESTS.parent


@dataclass(frozen=True)
class Target:
    """A parser. `make` makes an input that can be kept as bytes; `feed` gives it to the parser."""

    name: str
    feed: Callable[[bytes], object]
    make: Callable[[Inputs], bytes]
    refusals: Refusals
    samples: tuple[bytes, ...] = ()
    words: tuple[str, ...] = ()


def as_bytes(data: bytes) -> bytes:
    return data


def as_text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def as_lines(data: bytes) -> list[str]:
    return as_text(data).splitlines()


def as_raw_lines(data: bytes) -> list[bytes]:
    return data.splitlines()


def as_json(data: bytes) -> Any:
    """What `structured` would hand on: a document that is none is its business."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def as_rows(data: bytes) -> list[dict[str, Any]]:
    found = as_json(data)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def as_row(data: bytes) -> dict[str, Any]:
    found = as_json(data)
    return found if isinstance(found, dict) else {}


FORMS: Mapping[str, tuple[Callable[[bytes], Any], Callable[[Inputs], bytes]]] = {
    "bytes": (as_bytes, Inputs.data),
    "text": (as_text, Inputs.data),
    "lines": (as_lines, Inputs.data),
    "raw_lines": (as_raw_lines, Inputs.data),
    "any": (as_json, lambda inputs: json.dumps(inputs.value()).encode()),
    "rows": (as_rows, lambda inputs: json.dumps(inputs.rows()).encode()),
    "row": (as_row, lambda inputs: json.dumps(inputs.table()).encode()),
}

# Module below gengfu_checks, function, form of the hostile argument (and its position), the other arguments, folders of
# recordings.
_CHECKS: tuple[tuple[str, str, str, tuple[Any, ...], tuple[str, ...]], ...] = (
    ("local.mount_table", "parse_mountinfo", "bytes", (), ("proc",)),
    ("local.mount_table", "parse_fstab", "bytes", (), ()),
    ("local.gateway", "parse_arp", "text", (), ("proc",)),
    ("local.os_service", "parse_show", "text", (), ("systemctl",)),
    ("local.os_service", "parse_list", "text", (), ("systemctl",)),
    ("local.updates_apt", "parse_simulation", "text", (), ("apt",)),
    ("local.updates_rpm", "parse_check_update", "text", (), ("dnf",)),
    ("local.updates_rpm", "parse_advisories", "text", (), ("dnf",)),
    ("local.updates_rpm", "parse_issue_days", "text", (), ("dnf",)),
    ("local.updates_desktop", "windows_state", "rows", (), ()),
    ("local.icmp_echo", "parse_ping", "text", (), ()),
    ("local.icmp_echo", "decode_reply", "bytes", (b"x" * 16,), ()),
    ("local.dns_query", "decode_reply", "bytes", (7, b"\x01a\0\0\x01\0\x01"), ()),
    ("local.ipp", "decode_answer", "bytes", (), ()),
    ("local.name_servers", "parse_resolv_conf", "text", (), ()),
    ("local.name_servers", "parse_windows", "rows", (), ()),
    ("local.account_files", "parse_passwd", "text", (), ()),
    ("local.account_files", "parse_shadow", "text", (), ()),
    ("local.account_files", "parse_group", "text", (), ()),
    ("local.account_files", "sudoers", "text", (), ()),
    ("local.boot_time", "parse_blame", "text", (), ()),
    ("local.boot_time", "parse_jobs", "text", (), ()),
    ("local.boot_time", "judge_event", "row", (), ()),
    ("local.wifi_linux", "parse_wireless", "text", (), ()),
    ("local.wifi_macos", "stations_of", "any", (), ()),
    ("local.wifi_windows", "parse_interfaces", "bytes", (), ()),
    ("local.wifi_windows", "parse_connection", "bytes:1", ("wlan",), ()),
    ("local.listening", "ports_in", "bytes", (), ()),
    ("local.login_records", "wtmp_logins", "bytes", (NOW_S,), ()),
    ("local.cron_mail", "cron_mail_times", "bytes", (), ()),
    ("local.certificate_file", "certificates_in", "bytes", (), ()),
    ("local.certificates", "windows_certificates", "rows", (), ()),
    ("local.baseline_probe", "parse_launchctl", "text", (), ()),
    ("local.sshd_settings", "effective", "text", (), ()),
    ("local.event_log_journal", "entry_of", "row", (), ()),
    ("local.event_log_files", "entry_of", "text", (NOW_S,), ()),
    ("local.event_log_windows", "entry_of", "row", (), ()),
    ("local.disk_health_smart", "report_of", "any", (), ()),
    ("local.disk_health_smart", "metrics_of", "row", (), ()),
    ("local.disk_health_smart", "problem_of", "row", (), ()),
    ("local.disk_health_smart", "self_tests", "row", (), ()),
    ("local.disk_health_elsewhere", "windows_measurements", "rows", (), ()),
    ("local.disk_encryption", "bitlocker_volumes", "rows", (("C:",),), ()),
    ("local.raid", "windows_measurements", "rows", (), ()),
    ("local.printer_queue_windows", "spooler_of", "rows", (), ()),
    ("local.scheduled_windows", "jobs_of", "rows", (NOW_S,), ()),
    ("local.firewall_rules", "table_refuses", "any", (), ()),
    ("local.network_share_windows", "mappings", "rows", (), ()),
    ("local.power_plan", "windows_measurement", "bytes", (), ()),
    ("local.antivirus_products", "registered", "rows", (), ()),
    ("local.antivirus_products", "defender", "rows", (), ()),
    ("local.antivirus_linux", "microsoft_defender", "any", (), ()),
    ("local.antivirus_linux", "built_at", "bytes", (NOW_S,), ()),
    ("local.windows_security", "products", "rows", (), ()),
    ("local.battery_elsewhere", "windows_batteries", "any", (), ()),
    ("local.battery_elsewhere", "macos_batteries", "any", (), ()),
    ("local.utc_time", "utc_s", "any", (), ()),
    ("local.utc_time", "naive_utc_s", "any", (), ()),
    ("local.containers", "container_of", "row", (), ()),
    ("local.firewall", "judge_profiles", "rows", ((), True), ()),
    ("local.firewall", "judge_mac", "text", (True,), ()),
    ("local.disk_encryption", "filevault", "text", (), ()),
    ("local.disk_health", "targets_of", "any", (("a",),), ()),
    ("local.account_judge", "account_names", "rows", ("Name",), ()),
    ("local.event_log_journal", "time_of", "row", (), ()),
    ("local.file_age", "parse_path", "text", (), ()),
    ("settings", "parse_duration_s", "any", (), ()),
    ("inventory.edid", "monitor", "bytes", ("HDMI-1",), ()),
    ("inventory.smbios", "memory_modules", "bytes", (), ()),
    ("inventory.printers", "of_printers_conf", "lines", (), ()),
    ("inventory.printers", "of_lpstat", "lines", (), ()),
    ("inventory.macos", "rows_of", "any", (), ()),
    ("inventory.windows", "machine", "rows", (), ()),
    ("inventory.windows", "processors", "rows", (), ()),
    ("inventory.windows", "memory", "rows", (), ()),
    ("inventory.windows", "disks", "rows", (), ()),
    ("inventory.windows", "nics", "rows", (), ()),
    ("inventory.windows", "monitors", "rows", (), ()),
    ("inventory.windows", "printers", "rows", (), ()),
    ("inventory.windows", "operating_system", "rows", (), ()),
    ("software", "parse_dpkg", "raw_lines", (lambda _name: None,), ()),
    ("software", "parse_rpm", "text", (), ()),
)
_MORE_REFUSALS: Mapping[str, Refusals] = {
    "certificate_file.certificates_in": (ValueError,),
    "ipp.decode_answer": (ValueError,),
    # Of a call into the system, which tells the length of what it gives.
    "wifi_windows.parse_interfaces": (struct.error,),
    "wifi_windows.parse_connection": (struct.error,),
}
_KEYWORDS: Mapping[str, Mapping[str, Any]] = {"wtmp_logins": {"wide": True}}


def of_checks() -> Iterator[Target]:
    """The parsers of what systems and their programs say."""
    for module_name, function_name, form, more, folders in _CHECKS:
        module = importlib.import_module(f"gengfu_checks.{module_name}")
        function = partial(getattr(module, function_name), **_KEYWORDS.get(function_name, {}))
        path = Path(str(module.__file__))
        form, _, position = form.partition(":")
        read, make = FORMS[form]
        name = f"{path.stem}.{function_name}"
        yield Target(
            name,
            partial(_call, function, read, more, int(position or 0)),
            make,
            (CheckError, *_MORE_REFUSALS.get(name, ())),
            (*recordings(folders), *samples_of(path.stem)),
            tuple(words_of(path)),
        )


def _call(
    function: Callable[..., Any], read: Callable[[bytes], Any], more: tuple[Any, ...], position: int, data: bytes
) -> object:
    found = function(*more[:position], read(data), *more[position:])
    return list(found) if isinstance(found, Iterator) else found


def of_wire() -> Iterator[Target]:
    """What comes from the other end of the wire, on either side."""
    messages: tuple[tuple[str, type[AnyMessage], Callable[[bytes], object]], ...] = (
        ("wire.up", stream_pb2.Up, _up),
        ("wire.shape", report_pb2.Shape, decode_shape),
        ("wire.body", report_pb2.ReportBody, decode_body),
        ("wire.plan", plan_pb2.Plan, _plan),
        ("wire.down", stream_pb2.Down, _down),
    )
    words = (
        "disk",
        "file_age",
        "path",
        "used_ratio",
        "disk.nearly_full",
        "ok",
        "free_bytes",
        "cpu",
        "machine/",
        "software",
    )
    for name, kind, feed in messages:
        yield Target(
            name, feed, partial(_message, kind), (MessageError, ProtocolError, DecodeError), _good(kind), words
        )
    good = format_token(b"s" * 20, b"p" * 32).encode()
    yield Target("token", lambda data: parse_token(as_text(data)), Inputs.data, (InvalidToken,), (good,))
    yield Target("text.clean", lambda data: _cleaned(as_text(data)), Inputs.data, ())


def _good(kind: type[AnyMessage]) -> tuple[bytes, ...]:
    """Messages that are accepted, and those of this kind that the tests of compatibility keep."""
    findings = [
        Finding("disk", f"/{n}", Status(n % 4), "disk.nearly_full", {"a": n}, {"used_ratio": n / 4}, NOW_S)
        for n in range(4)
    ]
    run = encode_run("disk", "disk", 60.0, findings, {}, 0.01)
    body = encode_findings_body([run])
    report = report_pb2.Report(epoch=1, seq=1, body=body, shapes=[run.shape], lane=report_pb2.LANE_LIVE)
    hello = stream_pb2.Hello(
        protocol=1, next_seq=9, epoch=1, hostname="x", held=[{"epoch": 1, "ranges": [{"first": 1, "last": 2}]}]
    )
    disk = PlannedCheck("disk", "disk", 60.0, 10.0, settings={"skip": ["/x"]})
    made: Mapping[Any, list[bytes]] = {
        report_pb2.Shape: [run.shape],
        report_pb2.ReportBody: [body, encode_gap_body(GapRecord(1, ((1, 2), (5, 9)), "quota", 1, 2))],
        stream_pb2.Up: [
            stream_pb2.Up(report=report).SerializeToString(),
            stream_pb2.Up(hello=hello).SerializeToString(),
        ],
        plan_pb2.Plan: [encode_plan(Plan((disk,), flush_after_s=5.0))],
    }
    kept = [path.read_bytes() for path in (TESTS / "proto" / "kept").rglob(f"{kind.DESCRIPTOR.name}*.bin")]
    return (*made.get(kind, []), *kept)


def _message(kind: type[AnyMessage], inputs: Inputs) -> bytes:
    return inputs.message(kind) if inputs.is_turn(3) else inputs.data()


def _up(data: bytes) -> None:
    up = parse_up(data)
    if up.WhichOneof("message") == "hello":
        read_hello(up.hello)
    for shape in up.report.shapes:
        _either(lambda shape=shape: decode_shape(shape))  # type: ignore[misc]
    _either(lambda: decode_body(up.report.body))


def _either(work: Callable[[], object]) -> None:
    try:
        work()
    except MessageError:
        return


def _plan(data: bytes) -> None:
    accept(decode_plan(data), registry, Allowed())


def _down(data: bytes) -> None:
    down = stream_pb2.Down.FromString(data)
    ending = ending_of_drain(down.drain)
    assert clean(ending.reason, len(ending.reason), "reason") == ending.reason


def _cleaned(text: str) -> None:
    found = clean(text, len(text), "text")
    assert clean(found, len(found), "text") == found
    label = escape_label_value(text)
    assert "\n" not in label
    assert label_name(text).isidentifier()


def of_certificates() -> Iterator[Target]:
    """What a machine without a certificate, or with any, shows."""
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    root = certificates.root_certificate(key, 1, 7, round(NOW_S * 1000))
    pem = certificates.to_pem([root.certificate])
    csr = (TESTS / "fuzz" / "kept" / "request.der").read_bytes()
    refusals = (CollectorError, MessageError)
    yield Target("certificate.request", certificates.read_csr, Inputs.data, refusals, (csr,))
    yield Target("certificate.key", certificates.read_public_key, Inputs.data, refusals, (csr[40:140], csr))
    yield Target("certificate.of_agent", certificates.uid_of, Inputs.data, refusals, (pem,))


def of_files() -> Iterator[Target]:
    """Files that people write, and files of our own that a disk has damaged."""
    folder = Path(tempfile.mkdtemp(prefix="gengfu-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    built_in = PACKAGES / "collector" / "gengfu_collector" / "fleet"
    profiles = tuple(path.read_bytes() for path in built_in.glob("builtin/*.toml"))
    words = (
        "profile",
        "check",
        "kind",
        "every",
        "set",
        "absence",
        "after",
        "match",
        "class",
        "labels",
        "standard",
        "[[",
        "]]",
    )
    no_files = (CollectorError, CheckError)
    yield Target("toml.inspection", partial(_inspection, folder), Inputs.data, no_files, profiles, words)
    yield Target(
        "toml.lines", lambda data: _lines(as_text(data)), Inputs.data, (tomllib.TOMLDecodeError,), profiles, words
    )
    collector = b'zone = "Asia/Shanghai"\n[listen]\nhttp = "127.0.0.1:8420"\n[limits]\nagents = 100\n[store]\nurl = "sqlite:///x"\n'
    yield Target("toml.collector", partial(_collector_file, folder), Inputs.data, no_files, (collector,), words)
    agent = b'deny = ["process"]\n[checks]\nallow = ["disk"]\n[spool]\nmax_mib = 64\n'
    yield Target("toml.agent", partial(_agent_file, folder), Inputs.data, (AgentError,), (agent,), words)
    status = json.dumps({"version": "1", "pid": 1, "started_at": 1.0, "asset": "x", "written_at": 2.0}).encode()
    yield Target("agent.status", partial(_status_file, folder), Inputs.data, (), (status,), ("connection", "spool"))
    yield Target("agent.spool", feed_spool, Inputs.data, (AgentError,), (a_spool(),))
    yield Target("agent.plan", partial(_plan_file, folder), Inputs.data, (AgentError,), (b"\x0a\x04disk",))


def _lines(text: str) -> None:
    tomllib.loads(text)
    key_lines(text)


def _inspection(folder: Path, data: bytes) -> None:
    made = folder / "inspection"
    made.mkdir(exist_ok=True)
    (made / "a.toml").write_bytes(data)
    load_inspection(made)


def _collector_file(folder: Path, data: bytes) -> None:
    (folder / "collector.toml").write_bytes(data)
    config.load_config(folder, config.CommandLine(), {})


def _agent_file(folder: Path, data: bytes) -> None:
    (folder / "agent.toml").write_bytes(data)
    load_agent_config(folder)


def _status_file(folder: Path, data: bytes) -> None:
    (folder / STATUS_FILE).write_bytes(data)
    read_status(folder)


def _plan_file(folder: Path, data: bytes) -> None:
    (folder / PLAN_FILE).write_bytes(data)
    load_plan(folder)


def of_http() -> Iterator[Target]:
    """Words of a request."""
    yield Target(
        "http.host", lambda data: address_of(as_text(data)), Inputs.data, (), (b"[::1]:8420", b"host.example:80")
    )
    accept_header = b"application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    yield Target("http.accept", lambda data: choose_format(as_text(data)), Inputs.data, (), (accept_header,))
    peers = (b"ipv4:127.0.0.1:80", b"ipv6:%5B::1%5D:80", b"unix:x")
    yield Target("http.request", feed_http, Inputs.data, (), REQUESTS)
    yield Target("grpc.peer", lambda data: peer_address(as_text(data)), Inputs.data, (), peers)


def of_macos() -> Iterator[Target]:
    """The report of system_profiler, with everything that is made of it."""
    path = Path(str(macos.__file__))
    parts = (macos.machine, macos.processors, macos.memory, macos.disks, macos.nics, macos.monitors, macos.printers)

    def feed(data: bytes) -> None:
        rows = macos.rows_of(as_json(data))
        for part in (*parts, macos.operating_system):
            list(part(rows))

    yield Target("macos.report", feed, FORMS["any"][1], (CheckError,), (), tuple(words_of(path)))


def all_targets() -> list[Target]:
    """Every target there is."""
    return [*of_wire(), *of_certificates(), *of_files(), *of_http(), *of_checks(), *of_macos()]
