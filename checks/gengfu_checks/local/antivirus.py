"""Antivirus: is there one, does it watch, how old are its signatures.

Items are products, and "" for their number. Windows: the namespace root/SecurityCenter2 of Security Center, which only
workstations have, and Get-MpComputerStatus for Microsoft Defender. Linux: `antivirus_linux`. macOS: the age of
XProtect, which is always on; products of others are not seen there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from gengfu_checks.codes import CHECK_NEEDS_RIGHTS, CHECK_PROGRAM_FAILED
from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local import antivirus_linux
from gengfu_checks.local.antivirus_products import (
    MICROSOFT_DEFENDER,
    NO_SIGNATURES,
    NONE,
    OFF,
    OUTDATED,
    SIGNATURES_OLD,
    Product,
    defender,
    judge,
    registered,
    with_details,
)
from gengfu_checks.local.programs import failed
from gengfu_checks.local.small_file import unknown
from gengfu_checks.local.structured import powershell, powershell_rows
from gengfu_checks.local.windows_security import windows_kind
from gengfu_checks.model import (
    CheckKind,
    Context,
    ItemLimits,
    Measurement,
    Metric,
    Setting,
    SettingType,
    Threshold,
)

XPROTECT = "XProtect"
# The second is where macOS 15 and later keep what is in force.
XPROTECT_PLISTS = (
    Path("/Library/Apple/System/Library/CoreServices/XProtect.bundle/Contents/Info.plist"),
    Path("/var/protected/xprotect/XProtect.bundle/Contents/Info.plist"),
)
DAY_S = 86400.0

# https://learn.microsoft.com/powershell/module/defender/get-mpcomputerstatus
DEFENDER_PIPELINE = (
    "Get-MpComputerStatus | Select-Object AMRunningMode,AntivirusEnabled,RealTimeProtectionEnabled,"
    "AntivirusSignatureAge,DefenderSignaturesOutOfDate"
)
PRODUCTS_PIPELINE = (
    "Get-CimInstance -Namespace root/SecurityCenter2 -ClassName AntiVirusProduct"
    " | Select-Object displayName,productState"
)


def _windows(within_s: float) -> list[Product]:
    if windows_kind() != "workstation":
        return [_defender(within_s)]
    found = registered(powershell_rows(PRODUCTS_PIPELINE, within_s / 2))
    if any(product.name == MICROSOFT_DEFENDER and product.state == "on" for product in found):
        return with_details(found, _defender(within_s / 2))
    return found


def _defender(within_s: float) -> Product:
    found = defender(powershell_rows(DEFENDER_PIPELINE, within_s))
    if found is None:
        raise failed("Get-MpComputerStatus", "its answer does not say whether it protects")
    return found


def _mac(now_s: float) -> list[Product]:
    written = [path.stat().st_mtime for path in XPROTECT_PLISTS if path.is_file()]
    return [Product(XPROTECT, "", signature_age_s=max(0.0, now_s - max(written)))] if written else []


def measure(context: Context) -> Iterator[Measurement]:
    """Measure the products of this machine."""
    required = context.settings["required"]
    within_s = context.deadline_s * 0.9
    errors: list[CannotMeasure] = []
    try:
        if psutil.WINDOWS:
            found = _windows(within_s)
        elif psutil.MACOS:
            found = _mac(context.now())
        else:
            found, errors = antivirus_linux.installed(context.now(), within_s)
    except CannotMeasure as error:
        yield Measurement("", problem=unknown(error))
        return
    wanted = not errors and (required == "always" or (required == "windows" and psutil.WINDOWS))
    yield from judge(found, wanted=wanted, judged=required != "never")
    for each in errors:
        yield Measurement(each.item, problem=unknown(each))


def usable() -> str | None:
    """Linux, Windows and macOS."""
    if psutil.WINDOWS:
        return None if powershell() else "PowerShell is not on this machine"
    return None if psutil.LINUX or psutil.MACOS else f"not supported on {sys.platform}"


CHECK = CheckKind(
    name="antivirus",
    measure=measure,
    metrics=(
        Metric("products", "Antivirus products found"),
        Metric("protecting", "1 while the product watches, 0 while it does not"),
        Metric("signature_age_seconds", "Time since the product's signatures were made or installed"),
    ),
    codes=(NONE, OFF, OUTDATED, NO_SIGNATURES, CHECK_NEEDS_RIGHTS, CHECK_PROGRAM_FAILED),
    settings=(
        Setting(
            "required",
            SettingType.TEXT,
            "where a machine without antivirus is a problem; never also leaves alone products that are switched off",
            "windows",
            choices=("always", "windows", "never"),
        ),
    ),
    thresholds=(
        Threshold(
            "signature_age_seconds",
            SIGNATURES_OLD,
            warning=7 * DAY_S,
            critical=30 * DAY_S,
            items={XPROTECT: ItemLimits(warning=90 * DAY_S)},
        ),
    ),
    every_s=3600.0,
    timeout_s=60.0,
    usable=usable,
)
