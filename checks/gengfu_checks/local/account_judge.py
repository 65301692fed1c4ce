"""What is wrong with the accounts of a machine. Pure; the same for every system.

Facts name accounts and nothing else of people.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from gengfu_checks.local.plain_text import plain
from gengfu_checks.model import Fact, Measurement, Problem, Status

SECOND_ROOT = "accounts.second_root"
UNEXPECTED_ADMINISTRATOR = "accounts.unexpected_administrator"
EMPTY_PASSWORD = "accounts.empty_password"  # noqa: S105 - a code, not a password
PASSWORD_OLD = "accounts.password_old"  # noqa: S105
PASSWORD_POLICY = "accounts.password_policy"  # noqa: S105
INACTIVE = "accounts.inactive"
GUEST = "accounts.guest"
FAILED_LOGINS = "accounts.failed_logins"

MAX_NAMES = 12
MAX_NAME_CHARS = 64
DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Account:
    """An account with which somebody may log in. `credential` is set, empty, or "" where that is not known.

    `of_person` is False for those of the system itself, which nobody expects to log in. Times are seconds since the
    epoch, None for never or not known.
    """

    name: str
    of_person: bool
    credential: str = ""
    changed_s: float | None = None
    last_login_s: float | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings ask for; 0 and empty ask for nothing. Names are globs, without regard to case."""

    administrators: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    inactive_after_s: float = 0.0
    max_password_age_s: float = 0.0
    min_password_length: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """What the system asks of new passwords; None where it does not say."""

    max_days: int | None = None
    min_length: int | None = None


def judge_administrators(names: Collection[str], second_roots: Collection[str], rules: Rules) -> Measurement:
    """The item `administrators`: who has the rights, and who should not."""
    metrics = {"administrators": float(len(names))}
    facts: dict[str, Fact] = {"administrators": listed(names)} if names else {}
    if second_roots:
        problem = Problem(Status.CRITICAL, SECOND_ROOT, {"accounts": listed(second_roots)})
        return Measurement("administrators", metrics, facts, problem)
    expected = ("root", *rules.administrators)
    others = [name for name in names if not fits(name, expected)] if rules.administrators else []
    told = Problem(Status.WARNING, UNEXPECTED_ADMINISTRATOR, {"accounts": listed(others)}) if others else None
    return Measurement("administrators", metrics, facts, told)


def judge_passwords(accounts: Iterable[Account], policy: Policy, rules: Rules, now_s: float) -> Measurement:
    """The item `passwords`: empty ones first, then old ones, then what is asked of new ones."""
    looked_at = [account for account in accounts if not fits(account.name, rules.ignored)]
    empty = [account.name for account in looked_at if account.credential == "empty"]
    ages = {a.name: max(0.0, now_s - a.changed_s) for a in looked_at if a.credential == "set" and a.changed_s}
    metrics = {"accounts_with_password": float(sum(account.credential == "set" for account in looked_at))}
    if ages:
        metrics["oldest_password_age_seconds"] = max(ages.values())
    facts: dict[str, Fact] = {}
    if policy.max_days is not None:
        facts["max_days"] = policy.max_days
    if policy.min_length is not None:
        facts["min_length"] = policy.min_length
    limit_s = rules.max_password_age_s
    old = [name for name, age_s in ages.items() if limit_s and age_s > limit_s]
    problem = None
    if empty:
        problem = Problem(Status.CRITICAL, EMPTY_PASSWORD, {"accounts": listed(empty)})
    elif old:
        problem = Problem(Status.WARNING, PASSWORD_OLD, {"accounts": listed(old), "limit_days": limit_s / DAY_S})
    elif _is_weak(policy, rules):
        problem = Problem(Status.WARNING, PASSWORD_POLICY)
    return Measurement("passwords", metrics, facts, problem)


def _is_weak(policy: Policy, rules: Rules) -> bool:
    limit_s = rules.max_password_age_s
    lasts_too_long = bool(limit_s) and policy.max_days is not None and policy.max_days * DAY_S > limit_s
    return lasts_too_long or (policy.min_length is not None and policy.min_length < rules.min_password_length)


def judge_inactive(accounts: Iterable[Account], rules: Rules, now_s: float) -> Measurement:
    """The item `inactive`: accounts of people who did log in once, and not for a long time.

    One that never logged in is not told: it may be new, or one whose logins are not recorded.
    """
    limit_s = rules.inactive_after_s
    idle = [
        account.name
        for account in accounts
        if account.of_person
        and account.last_login_s is not None
        and limit_s
        and now_s - account.last_login_s > limit_s
        and not fits(account.name, rules.ignored)
    ]
    facts: dict[str, Fact] = {"accounts": listed(idle), "limit_days": limit_s / DAY_S}
    problem = Problem(Status.WARNING, INACTIVE, facts) if idle else None
    return Measurement("inactive", {"inactive_accounts": float(len(idle))}, problem=problem)


def judge_guest(enabled: bool) -> Measurement:
    """The item `guest`."""
    problem = Problem(Status.WARNING, GUEST) if enabled else None
    return Measurement("guest", {"guest_enabled": float(enabled)}, problem=problem)


def failed_logins(total: int, before: int | None) -> Measurement:
    """The item `failed_logins`; `before` is the total of the last run. A file that was begun anew counts from 0."""
    metrics = {"failed_logins_total": float(total)}
    if before is not None:
        metrics["recent_failed_logins"] = float(total - before if total >= before else total)
    return Measurement("failed_logins", metrics)


def fits(name: str, patterns: Sequence[str]) -> bool:
    r"""Whether an account is named: as a whole (`HOST\ann`, `EXAMPLE\Domain Admins`) or by what follows its domain."""
    lower = name.lower()
    short = lower.rpartition("\\")[2]
    return any(fnmatchcase(lower, p.lower()) or fnmatchcase(short, p.lower()) for p in patterns)


def listed(names: Collection[str]) -> str:
    """Some of the names, sorted, and how many more there are."""
    shown = ", ".join(plain(name, MAX_NAME_CHARS) for name in sorted(names)[:MAX_NAMES])
    return shown if len(names) <= MAX_NAMES else f"{shown} (+{len(names) - MAX_NAMES})"


def account_names(rows: Iterable[Mapping[str, object]], key: str) -> list[str]:
    """The texts of one property in rows of objects."""
    return [value for row in rows if isinstance(value := row.get(key), str) and value]
