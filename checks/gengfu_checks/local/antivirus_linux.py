"""Antivirus products on Linux: which are installed, whether they run, how old the signatures of ClamAV are.

Sources: the header of ClamAV's databases (manual "Creating signatures for ClamAV", CVD format), `mdatp health --output
json` (Microsoft Learn, Defender for Endpoint, health-status), install folders after each vendor's own documentation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local.antivirus_products import MICROSOFT_DEFENDER, Product
from gengfu_checks.local.programs import failed, find_program
from gengfu_checks.local.running_programs import Processes, running
from gengfu_checks.local.small_file import read_small
from gengfu_checks.local.structured import run_json

HEADER_BYTES = 512
MAX_AGE_S = 10 * 365 * 86400.0
"""Older than any update: a counter that was never set."""
_FIRST_CLAMAV_S = 1_009_843_200  # 2002
_CLOCK_SLACK_S = 2 * 86400

CLAMAV_FOLDER = Path("/var/lib/clamav")
_MAGIC = b"ClamAV-VDB"
_BUILD_TIME_FIELD = 8


@dataclass(frozen=True, slots=True)
class Agent:
    """A product known by a file of its own; it runs while a process of one of these names, or from its folder, does."""

    name: str
    marker: Path
    folder: str
    processes: tuple[str, ...]

    def runs(self, found: Processes) -> bool:
        """Whether anything of this product runs."""
        if any(name.startswith(wanted) for wanted in self.processes for name in found.names):
            return True
        return any(program.startswith(self.folder) for program in found.programs)


AGENTS = (
    Agent("CrowdStrike Falcon", Path("/opt/CrowdStrike/falconctl"), "/opt/CrowdStrike/", ("falcon-sensor",)),
    Agent("ESET Endpoint Antivirus", Path("/opt/eset/eea/bin/odscan"), "/opt/eset/eea/", ()),
    Agent("ESET Server Security", Path("/opt/eset/efs/bin/odscan"), "/opt/eset/efs/", ()),
    Agent("Huawei HSS", Path("/usr/local/hostguard/bin/hostguard"), "/usr/local/hostguard/", ("hostguard",)),
    Agent("Kaspersky Endpoint Security", Path("/opt/kaspersky/kesl/bin/kesl-control"), "/opt/kaspersky/kesl/", ()),
    Agent("QiAnXin", Path("/opt/qaxsafe"), "/opt/qaxsafe/", ("qaxsafed",)),
    Agent("SentinelOne", Path("/opt/sentinelone/bin/sentinelctl"), "/opt/sentinelone/", ("s1-agent",)),
    Agent("Sophos", Path("/opt/sophos-spl/bin/wdctl"), "/opt/sophos-spl/", ()),
    Agent("Trend Micro Deep Security", Path("/opt/ds_agent/ds_agent"), "/opt/ds_agent/", ("ds_agent",)),
)


def built_at(header: bytes, now_s: float) -> float | None:
    """When a database of ClamAV was built, in seconds since the epoch, by its first 512 bytes; None for no database."""
    fields = header[:HEADER_BYTES].split(b":")
    if fields[0] != _MAGIC or len(fields) <= _BUILD_TIME_FIELD:
        return None
    text = fields[_BUILD_TIME_FIELD].split(maxsplit=1)[:1]
    if not text or not text[0].isdigit() or len(text[0]) > 12:
        return None
    built_s = int(text[0])
    return float(built_s) if _FIRST_CLAMAV_S <= built_s <= now_s + _CLOCK_SLACK_S else None


def clamav(folder: Path, now_s: float, *, running: bool | None) -> Product:
    """ClamAV with the age of its daily signatures, or of the main ones where there are no daily ones.

    `running` is None without the daemon: then it only scans when somebody asks it to.
    """
    state = "" if running is None else "on" if running else "off"
    for database in ("daily", "main"):
        headers = (read_small(folder / f"{database}.{kind}", HEADER_BYTES) for kind in ("cld", "cvd"))
        built = [time_s for header in headers if header and (time_s := built_at(header, now_s)) is not None]
        if built:
            return Product("ClamAV", state, signature_age_s=max(0.0, now_s - max(built)), spare=True)
    return Product("ClamAV", state, has_signatures=False, spare=True)


def microsoft_defender(health: Any) -> Product | None:
    """The product by `mdatp health --output json`; None when the answer is not one. In passive mode its state is ""."""
    if not isinstance(health, dict):
        return None
    is_on = _value(health, "realTimeProtectionEnabled")
    if not isinstance(is_on, bool):
        return None
    is_passive = _value(health, "passiveModeEnabled") is True
    age_s = _minutes_s(_value(health, "definitionsUpdatedMinutesAgo"))
    return Product(MICROSOFT_DEFENDER, "on" if is_on else "" if is_passive else "off", signature_age_s=age_s)


def installed(
    now_s: float, within_s: float, agents: Iterable[Agent] = AGENTS
) -> tuple[list[Product], list[CannotMeasure]]:
    """The products on this machine, and what could not be asked, with the product as its item.

    Processes are looked at only where there is something to look for.
    """
    found = [agent for agent in agents if agent.marker.exists()]
    clamd, mdatp = find_program("clamd"), find_program("mdatp")
    processes = running() if found or clamd else Processes()
    products = [Product(agent.name, "on" if agent.runs(processes) else "off") for agent in found]
    errors = []
    if clamd or find_program("clamscan"):
        try:
            products.append(clamav(CLAMAV_FOLDER, now_s, running="clamd" in processes.names if clamd else None))
        except CannotMeasure as error:
            errors.append(CannotMeasure(error.code, error.facts, item="ClamAV"))
    if mdatp:
        try:
            products.append(_ask_mdatp(mdatp, within_s))
        except CannotMeasure as error:
            errors.append(CannotMeasure(error.code, error.facts, item=MICROSOFT_DEFENDER))
    return products, errors


def _ask_mdatp(mdatp: str, within_s: float) -> Product:
    found = microsoft_defender(run_json([mdatp, "health", "--output", "json"], within_s))
    if found is None:
        raise failed(mdatp, "its answer does not say whether it protects")
    return found


def _value(health: Mapping[str, Any], name: str) -> Any:
    """A value, which is wrapped in an object where an administrator may have set it."""
    value = health.get(name)
    return value.get("value") if isinstance(value, dict) else value


def _minutes_s(value: Any) -> float | None:
    text = value if isinstance(value, str) else str(value) if isinstance(value, int) else ""
    if not text.isascii() or not text.isdecimal() or len(text) > 12:
        return None
    age_s = int(text) * 60.0
    return age_s if age_s <= MAX_AGE_S else None
