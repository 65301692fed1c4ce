"""Antivirus products and what is wrong with them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gengfu_checks.local.windows_security import is_of_microsoft, is_outdated, products, state_of
from gengfu_checks.model import Fact, Measurement, Problem, Status

NONE = "antivirus.none"
OFF = "antivirus.off"
OUTDATED = "antivirus.outdated"
NO_SIGNATURES = "antivirus.no_signatures"
SIGNATURES_OLD = "antivirus.signatures_old"

MICROSOFT_DEFENDER = "Microsoft Defender"
_MAX_DAYS = 3650
"""Get-MpComputerStatus says 65535 or 4294967295 days for never."""


@dataclass(frozen=True, slots=True)
class Product:
    """One product. `state` is on, off, paused, expired, or "" where it is not meant to watch by itself.

    `outdated` is the product's own word. A `spare` one may be off while another is on.
    """

    name: str
    state: str
    outdated: bool = False
    signature_age_s: float | None = None
    has_signatures: bool = True
    spare: bool = False


def judge(found: Sequence[Product], *, wanted: bool, judged: bool) -> list[Measurement]:
    """The item "" with the number of products, and one item for each. Signatures count while a product is on.

    `wanted`: there has to be a product. `judged` is False where nothing is to be said of products that are off.
    """
    is_one_on = any(product.state == "on" for product in found)
    missing = Problem(Status.WARNING, NONE) if wanted and not found else None
    measurements = [Measurement("", {"products": float(len(found))}, problem=missing)]
    for product in found:
        metrics = {"protecting": float(product.state == "on")} if product.state else {}
        if product.signature_age_s is not None:
            metrics["signature_age_seconds"] = product.signature_age_s
        code = _code(product, is_one_on=is_one_on, judged=judged)
        facts: dict[str, Fact] = {"state": product.state} if code == OFF else {}
        problem = Problem(Status.WARNING, code, facts) if code else None
        counts = product.state in ("on", "")
        unjudged: frozenset[str] = frozenset() if counts else frozenset(("signature_age_seconds",))
        measurements.append(Measurement(product.name, metrics, problem=problem, unjudged=unjudged))
    return measurements


def _code(product: Product, *, is_one_on: bool, judged: bool) -> str:
    if product.state in ("off", "paused", "expired"):
        # A daemon without signatures does not even start.
        code = OFF if product.has_signatures else NO_SIGNATURES
        return "" if not judged or (product.spare and is_one_on) else code
    if not product.has_signatures:
        return NO_SIGNATURES
    return OUTDATED if product.outdated else ""


def registered(rows: Sequence[Mapping[str, Any]]) -> list[Product]:
    """The products that Windows Security Center knows; each is spare, since one switches off the other."""
    found = []
    for name, state in products(rows).items():
        shown = MICROSOFT_DEFENDER if is_of_microsoft(state) else name
        found.append(Product(shown, state_of(state), is_outdated(state), spare=True))
    return list({product.name: product for product in sorted(found, key=lambda p: p.state == "on")}.values())


def defender(rows: Sequence[Mapping[str, Any]]) -> Product | None:
    """Microsoft Defender by Get-MpComputerStatus; None for another answer. In a passive mode its state is ""."""
    row = rows[0] if rows else {}
    is_on, watches = row.get("AntivirusEnabled"), row.get("RealTimeProtectionEnabled")
    if not isinstance(is_on, bool) or not isinstance(watches, bool):
        return None
    mode = row.get("AMRunningMode")
    is_passive = isinstance(mode, str) and ("passive" in mode.lower() or "edr block" in mode.lower())
    state = "" if is_passive else "on" if is_on and watches else "off"
    days = row.get("AntivirusSignatureAge")
    known = isinstance(days, int) and not isinstance(days, bool) and 0 <= days <= _MAX_DAYS
    outdated = row.get("DefenderSignaturesOutOfDate") is True
    return Product(MICROSOFT_DEFENDER, state, outdated, days * 86400.0 if known and days is not None else None)


def with_details(found: Sequence[Product], details: Product) -> list[Product]:
    """The products with the age of Microsoft Defender's signatures, which Security Center does not know."""
    return [
        replace(product, signature_age_s=details.signature_age_s) if product.name == details.name else product
        for product in found
    ]
