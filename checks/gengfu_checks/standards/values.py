"""Reading the values that stand in a rule or exception of a terminal standard; every refusal names the key. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

Value = str | int | float | bool

HIVES = {"HKLM": "HKEY_LOCAL_MACHINE", "HKU": "HKEY_USERS", "HKCR": "HKEY_CLASSES_ROOT"}

MAX_TEXT_CHARS = 200
MAX_REASON_CHARS = 300
MAX_LIST = 50
MAX_WEIGHT = 100.0

ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_SERVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_:.@\\ -]*")
_SYSCTL = re.compile(r"[A-Za-z0-9_-]+([./][A-Za-z0-9_*-]+)*")
_WILDCARD = re.compile(r"[*?\[]")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class RuleError(ValueError):
    """Something in a standard or an exception that cannot be used; `key` is the key that it is about."""

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True, slots=True)
class Reason:
    """A text for people, in both languages."""

    zh: str
    en: str


def require_known(table: Mapping[str, object], allowed: Sequence[str]) -> None:
    for key in table:
        if key not in allowed:
            near = _near(key, allowed)
            raise RuleError(f"unknown key {key[:MAX_TEXT_CHARS]!r}; allowed: {', '.join(allowed)}{near}", key)


def _near(word: str, allowed: Sequence[str]) -> str:
    from difflib import get_close_matches  # here: an agent gets rules without mistakes

    near = get_close_matches(word, allowed, n=1)
    return f' (did you mean "{near[0]}"?)' if near else ""


def needed(table: Mapping[str, object], key: str) -> object:
    if key not in table:
        raise RuleError(f"{key} is missing")
    return table[key]


def read_text(value: object, key: str, most: int = MAX_TEXT_CHARS) -> str:
    if not isinstance(value, str):
        raise RuleError(f'{key}: must be a text, between quotation marks like "1.0"', key)
    if not value.strip() or not value.isprintable() or len(value) > most:
        raise RuleError(f"{key}: must be a text of 1 to {most} characters without control characters", key)
    return value


def read_any_text(value: object, key: str) -> str:
    return "" if value == "" else read_text(value, key)


def read_texts(value: object, key: str) -> tuple[str, ...]:
    values = value if isinstance(value, (list, tuple)) else [value]
    if not 1 <= len(values) <= MAX_LIST:
        raise RuleError(f"{key}: 1 to {MAX_LIST} texts are needed, not {len(values)}", key)
    return tuple(read_text(part, key) for part in values)


def read_choice(value: object, key: str, allowed: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in allowed:
        word = str(value)[:60]
        raise RuleError(f"{key}: {word!r} is not one of {', '.join(allowed)}{_near(word, allowed)}", key)
    return value


def read_id(value: object, key: str) -> str:
    text = read_text(value, key)
    if ID.fullmatch(text) is None:
        raise RuleError(f"{key}: {text!r} is not an id: a-z, 0-9, ., _ and - are allowed, at most 63", key)
    return text


def read_reason(value: object, key: str) -> Reason:
    if isinstance(value, str):
        return Reason(read_text(value, key, MAX_REASON_CHARS), value)
    if not isinstance(value, Mapping) or set(value) != {"zh", "en"}:
        raise RuleError(f'{key}: write {{ zh = "…", en = "…" }}, or one text for both', key)
    return Reason(*(read_text(value[language], key, MAX_REASON_CHARS) for language in ("zh", "en")))


def is_of(path: str, system: str) -> bool:
    return (PureWindowsPath(path) if system == "windows" else PurePosixPath(path)).is_absolute()


def read_number(value: object, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise RuleError(f"{key}: must be a number", key)
    return float(value)


def read_weight(value: object, key: str) -> float:
    number = read_number(value, key)
    if not 0 < number <= MAX_WEIGHT:
        raise RuleError(f"{key}: must be more than 0 and at most {MAX_WEIGHT:g}", key)
    return number


def read_boolean(value: object, key: str) -> bool:
    if not isinstance(value, bool):
        raise RuleError(f"{key}: must be true or false", key)
    return value


def read_value(value: object, key: str) -> Value:
    if isinstance(value, str):
        return read_any_text(value, key)
    if isinstance(value, bool):
        return value
    if not isinstance(value, (int, float)):
        raise RuleError(f"{key}: must be a text, a number, true or false", key)
    return read_number(value, key)


def read_values(value: object, key: str) -> tuple[Value, ...]:
    values = value if isinstance(value, (list, tuple)) else [value]
    if not 1 <= len(values) <= MAX_LIST:
        raise RuleError(f"{key}: 1 to {MAX_LIST} values are needed, not {len(values)}", key)
    return tuple(read_value(part, key) for part in values)


def read_version(value: object, key: str) -> str:
    text = read_text(value, key)
    if not any(character.isdigit() for character in text):
        raise RuleError(f"{key}: {text!r} is no version: it has no digit", key)
    return text


def read_path(value: object, key: str) -> str:
    """An absolute path of Linux, macOS or Windows."""
    text = _absolute(value, key)
    if _WILDCARD.search(text.replace("[", "")):
        raise RuleError(f"{key}: * and ? are not allowed here; write the path of one file", key)
    return text


def _absolute(value: object, key: str) -> str:
    text = read_text(value, key)
    if not PurePosixPath(text).is_absolute() and not PureWindowsPath(text).is_absolute():
        raise RuleError(f"{key}: {text!r} is not an absolute path", key)
    if ".." in PurePosixPath(text.replace("\\", "/")).parts:
        raise RuleError(f"{key}: .. is not allowed in a path", key)
    return text


def read_paths(value: object, key: str) -> tuple[str, ...]:
    """Paths whose last part may be a glob."""
    paths = tuple(_absolute(part, key) for part in read_texts(value, key))
    for path in paths:
        folder = path.replace("\\", "/").rpartition("/")[0]
        if _WILDCARD.search(folder):
            raise RuleError(f"{key}: only the name of a file may be a glob, like /etc/ssh/sshd_config.d/*.conf", key)
    return paths


def read_services(value: object, key: str) -> tuple[str, ...]:
    names = read_texts(value, key)
    for name in names:
        if _SERVICE.fullmatch(name) is None:
            raise RuleError(f"{key}: {name!r} is not the name of a service", key)
    return names


def read_sysctl(value: object, key: str) -> str:
    text = read_text(value, key)
    if _SYSCTL.fullmatch(text) is None:
        raise RuleError(f"{key}: {text!r} is not a sysctl, like net.ipv4.ip_forward", key)
    return text


def read_registry_key(value: object, key: str) -> str:
    text = read_text(value, key)
    hive, _, rest = text.partition("\\")
    if hive not in HIVES or not rest:
        why = "; HKCU would be that of the agent's own account" if hive.upper() in ("HKCU", "HKEY_CURRENT_USER") else ""
        raise RuleError(f"{key}: begins with one of {', '.join(HIVES)}, like 'HKLM\\SOFTWARE\\Vendor'{why}", key)
    if rest.split("\\")[0].upper() in ("SAM", "SECURITY"):
        raise RuleError(f"{key}: secrets of Windows are not read", key)
    return text


def read_sha256(value: object, key: str) -> str:
    text = read_text(value, key).lower()
    if _SHA256.fullmatch(text) is None:
        raise RuleError(f"{key}: must be 64 hexadecimal digits", key)
    return text
