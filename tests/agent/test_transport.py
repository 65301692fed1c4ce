"""Addresses, and what gRPC's errors mean for people."""

from __future__ import annotations

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_agent.errors import BrokenProtocol, Refused, Unreachable, Untrusted, WrongClock
from gengfu_agent.transport import host_of, meaning, with_port


@pytest.mark.parametrize(
    ("address", "full", "host"),
    [
        ("collector", "collector:8422", "collector"),
        ("collector:1", "collector:1", "collector"),
        ("10.0.0.1", "10.0.0.1:8422", "10.0.0.1"),
        ("[::1]", "[::1]:8422", "::1"),
        ("[::1]:5", "[::1]:5", "::1"),
        ("fe80::1", "[fe80::1]:8422", "fe80::1"),
    ],
)
def test_addresses(address: str, full: str, host: str) -> None:
    assert with_port(address, 8422) == full
    assert host_of(full) == host


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        full = with_port(text, 8422)
    except ValueError:
        return
    host, _, port = full.rpartition(":")
    assert host
    assert 0 < int(port) < 65_536


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Connection refused", Unreachable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", Unreachable),
        (
            grpc.StatusCode.UNAVAILABLE,
            "Tls handshake failed: CERTIFICATE_VERIFY_FAILED: certificate has expired",
            WrongClock,
        ),
        (grpc.StatusCode.UNAVAILABLE, "Tls handshake failed: X: certificate is not yet valid", WrongClock),
        (grpc.StatusCode.UNAVAILABLE, "Tls handshake failed: CERTIFICATE_VERIFY_FAILED", Untrusted),
        (grpc.StatusCode.UNAVAILABLE, "Hostname Verification Check failed.", Untrusted),
        (grpc.StatusCode.PERMISSION_DENIED, "blocked", Refused),
        (grpc.StatusCode.UNIMPLEMENTED, "Method not found!", BrokenProtocol),
        (grpc.StatusCode.INTERNAL, "x", BrokenProtocol),
    ],
)
def test_meaning(code: grpc.StatusCode, details: str, kind: type[Exception]) -> None:
    assert type(meaning(code, details, "host:1", "now")) is kind


def test_what_grpc_wraps_around_a_reason_is_left_out() -> None:
    wrapping = "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.1:8421: "
    for reason in ("Failed to connect to remote host: Connection refused", "Connection refused"):
        error = meaning(grpc.StatusCode.UNAVAILABLE, wrapping + reason, "host:1", "now")
        assert str(error) == "no connection to the collector at host:1: Connection refused"


@given(st.sampled_from(grpc.StatusCode), st.text(max_size=6_000))
def test_hostile_details_stay_one_short_line(code: grpc.StatusCode, details: str) -> None:
    text = str(meaning(code, details, "host:1", "now"))
    assert len(text) < 500
    assert len(text.splitlines()) == 1
    assert "\x1b" not in text
