"""One setting in the text of a file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.local.setting_text import Value, find_setting

# Written after sshd_config(5), login.defs(5) and apt.conf(5).
SSHD = """\
# PermitRootLogin yes
Include /etc/ssh/sshd_config.d/*.conf
permitrootlogin prohibit-password
PermitRootLogin yes
Ciphers=aes256-gcm@openssh.com   # the best
Match User backup
    PasswordAuthentication yes
"""
LOGIN = 'PASS_MAX_DAYS\t90\nENCRYPT_METHOD YESCRYPT\nBANNER "a # b" # c\n'
APT = 'APT::Periodic::Update-Package-Lists "1";\nAPT::Periodic::Unattended-Upgrade "1";\nA::B 5;\n'
INI = "top = 0\n[daemon]\n; AutomaticLogin = x\nAutomaticLoginEnable=true\nWaylandEnable: false\n[security]\nempty=\n"
JSON = '{"policies": [{"enabled": true, "days": 7}], "a": null, "deep": {"x": "y"}}'


@pytest.mark.parametrize(
    ("text", "form", "key", "options", "expected"),
    [
        (SSHD, "text", "PermitRootLogin", {"first": True}, "prohibit-password"),
        (SSHD, "text", "PermitRootLogin", {}, "yes"),
        (SSHD, "text", "PasswordAuthentication", {}, "yes"),
        (SSHD, "text", "PasswordAuthentication", {"stop_at": "Match"}, None),
        (SSHD, "text", "Ciphers", {}, "aes256-gcm@openssh.com"),
        (LOGIN, "text", "PASS_MAX_DAYS", {}, "90"),
        (LOGIN, "text", "BANNER", {}, "a # b"),
        (APT, "text", "APT::Periodic::Unattended-Upgrade", {}, "1"),
        (APT, "text", "a::b", {}, "5"),
        (INI, "ini", "AutomaticLoginEnable", {"section": "daemon"}, "true"),
        (INI, "ini", "waylandenable", {"section": "DAEMON"}, "false"),
        (INI, "ini", "AutomaticLogin", {"section": "daemon"}, None),
        (INI, "ini", "AutomaticLoginEnable", {"section": "security"}, None),
        (INI, "ini", "empty", {"section": "security"}, ""),
        (INI, "ini", "top", {}, "0"),
        (JSON, "json", "policies.0.enabled", {}, True),
        (JSON, "json", "policies.0.days", {}, 7),
        (JSON, "json", "policies.7.days", {}, None),
        (JSON, "json", "a", {}, None),
        (JSON, "json", "deep", {}, None),
        (JSON, "json", "deep.x", {}, "y"),
        ("", "text", "x", {}, None),
        ("alone", "text", "alone", {}, ""),
    ],
)
def test_settings(text: str, form: str, key: str, options: dict[str, object], expected: Value | None) -> None:
    found = find_setting(text, form, key, **options)  # type: ignore[arg-type]
    assert (found, type(found)) == (expected, type(expected))


def test_a_broken_json_text_is_refused() -> None:
    for text in ("{", "[" * 100_000, ""):
        with pytest.raises(ValueError, match=r"Expecting|nested"):
            find_setting(text, "json", "a")


@given(st.text(max_size=200), st.sampled_from(["text", "ini"]), st.text(max_size=5))
def test_any_text_can_be_searched(text: str, form: str, key: str) -> None:
    find_setting(text, form, key, section="a", stop_at="b")


def test_what_is_written_is_found() -> None:
    text = "".join(f"key{i} = value {i}\n" for i in range(20_000)) + "x" * 500_000
    assert find_setting(text, "text", "KEY19999") == "value 19999"
