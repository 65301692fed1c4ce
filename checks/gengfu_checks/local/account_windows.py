"""The local accounts of Windows: what to ask PowerShell, and what its answers mean.

Sources: Get-LocalUser and Get-LocalGroupMember (Microsoft Learn, module Microsoft.PowerShell.LocalAccounts), well-known
security identifiers (S-1-5-32-544 is the group of administrators in every language, -501 the guest).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gengfu_checks.local import account_judge as judged
from gengfu_checks.local.account_judge import Account, Policy, Rules
from gengfu_checks.model import Measurement

MAX_ACCOUNTS = 5_000
# Times as whole seconds since the epoch: PowerShell 5 has a form of its own for them in JSON.
_SECONDS = (
    "@{n='%(name)s';e={if($_.%(name)s){[long](($_.%(name)s.ToUniversalTime()-[datetime]'1970-01-01').TotalSeconds)}}}"
)
USERS_PIPELINE = (
    "Get-LocalUser | Select-Object Name,Enabled,@{n='SID';e={[string]$_.SID}},"
    + _SECONDS % {"name": "PasswordLastSet"}
    + ","
    + _SECONDS % {"name": "LastLogon"}
)
ADMINISTRATORS_PIPELINE = "Get-LocalGroupMember -SID 'S-1-5-32-544' | Select-Object Name"

_GUEST = "-501"
# The built-in administrator, the default account, and the one of Application Guard.
_BUILT_IN = ("-500", "-503", "-504")


def judge(
    users: Sequence[Mapping[str, Any]], members: Sequence[Mapping[str, Any]], rules: Rules, now_s: float
) -> list[Measurement]:
    """The items by the rows of both questions."""
    administrators = judged.account_names(members[:MAX_ACCOUNTS], "Name")
    accounts = []
    measurements = [judged.judge_administrators(administrators, (), rules)]
    for row in users[:MAX_ACCOUNTS]:
        name, sid, enabled = row.get("Name"), str(row.get("SID") or ""), row.get("Enabled")
        if not isinstance(name, str) or not isinstance(enabled, bool):
            continue
        if sid.endswith(_GUEST):
            measurements.append(judged.judge_guest(enabled))
        elif enabled:
            changed_s, login_s = (_time_s(row.get(key), now_s) for key in ("PasswordLastSet", "LastLogon"))
            accounts.append(Account(name, not sid.endswith(_BUILT_IN), "set", changed_s, login_s))
    measurements.append(judged.judge_passwords(accounts, Policy(), rules, now_s))
    measurements.append(judged.judge_inactive(accounts, rules, now_s))
    return measurements


def _time_s(value: Any, now_s: float) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and 0 < value <= now_s else None
