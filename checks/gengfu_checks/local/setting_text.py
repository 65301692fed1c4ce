"""Finding one setting in the text of a configuration file. Pure; linear in the text.

- text: lines `key value`, `key = value`, `key: value`, as of sshd_config, login.defs, sysctl.conf or apt.conf
- ini: the same below a line `[section]`; without a section, what stands before the first one
- json: the key is a path of names and numbers parted by dots, `policies.0.enabled`
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

Value = str | int | float | bool

_COMMENT = ("#", ";", "//")
_AFTER_VALUE = re.compile(r"\s[#;]")
_PAIR = re.compile(r"([^\s=:]+(?::{2}[^\s=:]+)*)\s*(?:[=:]\s*|\s)(.*)")
_QUOTES = ('"', "'")


def find_setting(
    text: str, form: str, key: str, *, section: str | None = None, first: bool = False, stop_at: str | None = None
) -> Value | None:
    """The value that counts: the last one, or the `first`; None when the key is not set.

    Keys and sections are compared without regard to case, but for JSON. Lines from the first one on whose key is
    `stop_at` do not count (`Match` of sshd_config). Raises ValueError for a text that is not JSON.
    """
    if form == "json":
        return _in_json(text, key)
    wanted, found = key.casefold(), None
    for name, value in _pairs(text, section, stop_at, in_sections=form == "ini"):
        if name.casefold() == wanted:
            found = value
            if first:
                break
    return found


def _pairs(text: str, section: str | None, stop_at: str | None, *, in_sections: bool) -> Iterator[tuple[str, str]]:
    wanted, stop = (section or "").casefold(), (stop_at or "").casefold()
    here = ""
    for raw in text.split("\n"):
        line = raw.strip()
        if not line or line.startswith(_COMMENT):
            continue
        if in_sections and line.startswith("["):
            here = line[1:].partition("]")[0].strip().casefold()
            continue
        name, value = _pair(line)
        if stop and name.casefold() == stop:
            return
        if not in_sections or here == wanted:
            yield name, value


def _pair(line: str) -> tuple[str, str]:
    match = _PAIR.match(line)
    if match is None:
        return line.rstrip("=:;"), ""
    value = match[2].strip()
    if value[:1] in _QUOTES and value[:1] in value[1:]:
        return match[1], value[1:].partition(value[0])[0]
    comment = _AFTER_VALUE.search(value)
    value = value[: comment.start()] if comment else value
    return match[1], value.removesuffix(";").rstrip()


def _in_json(text: str, key: str) -> Value | None:
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    for part in key.split("."):
        if isinstance(found, dict):
            found = found.get(part)
        elif (
            isinstance(found, list) and part.isdecimal() and part.isascii() and len(part) < 7 and int(part) < len(found)
        ):
            found = found[int(part)]
        else:
            return None
    return found if isinstance(found, (str, int, float, bool)) else None
