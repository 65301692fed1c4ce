"""Updates of Windows and macOS: what the system itself knows, without a search over the network.

Windows: one pipeline on the Windows Update Agent (Microsoft Learn: IUpdateSearcher with `Online` false, IUpdate,
IAutomaticUpdatesResults; times are in UTC). macOS: the property lists in which softwareupdate keeps the results of its
last search and the installer what it has installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gengfu_checks.local.structured import parse_plist, powershell_rows
from gengfu_checks.local.updates_state import MAX_PENDING, Pending, State
from gengfu_checks.local.utc_time import naive_utc_s, utc_s

# Optional, hidden and driver updates are left out. Times are UTC but do not say so; the format 's' is the same in every
# language and calendar.
PIPELINE = (
    "$r=(New-Object -ComObject Microsoft.Update.AutoUpdate).Results;"
    "[pscustomobject]@{Searched=if($r.LastSearchSuccessDate){$r.LastSearchSuccessDate.ToString('s')+'Z'};"
    "Installed=if($r.LastInstallationSuccessDate){$r.LastInstallationSuccessDate.ToString('s')+'Z'}};"
    "$s=(New-Object -ComObject Microsoft.Update.Session).CreateUpdateSearcher();$s.Online=$false;"
    "$s.Search(\"IsInstalled=0 and IsHidden=0 and BrowseOnly=0 and Type='Software'\").Updates|ForEach-Object{"
    "[pscustomobject]@{Title=$_.Title;Severity=$_.MsrcSeverity;"
    "Changed=if($_.LastDeploymentChangeTime){$_.LastDeploymentChangeTime.ToString('s')+'Z'};"
    "Categories=@($_.Categories|ForEach-Object{$_.CategoryID})-join ' '}}"
)
SOFTWARE_UPDATE = Path("/Library/Preferences/com.apple.SoftwareUpdate.plist")
INSTALL_HISTORY = Path("/Library/Receipts/InstallHistory.plist")
MAX_PLIST_BYTES = 16 * 1024 * 1024

# Update classifications: Security Updates, Critical Updates (Microsoft Learn, "Update Classification GUIDs").
_SECURITY_CATEGORIES = frozenset(
    ("0fa1201d-4330-4fa8-8ae9-b877473b6441", "e6cf1350-c01b-414d-a61f-263d14d133b4"),
)
_APPLE_INSTALLERS = frozenset(("softwareupdated", "softwareupdate", "macOS Installer", "OS X Installer"))


def windows_state(rows: Sequence[Mapping[str, Any]]) -> State:
    """What the rows of the pipeline say: first the dates of the last search and installation, then the updates."""
    dates = next((row for row in rows if "Searched" in row or "Installed" in row), {})
    updates = [row for row in rows if isinstance(row.get("Title"), str)]
    searched_at = utc_s(dates.get("Searched"))
    return State(
        "Windows Update",
        [_windows_update(row) for row in updates[:MAX_PENDING]],
        refreshed_at=searched_at,
        installed_at=utc_s(dates.get("Installed")),
        has_lists=searched_at is not None or bool(updates),
    )


def mac_state(software_update: Mapping[str, Any], history: Sequence[Any]) -> State:
    """What the two property lists say.

    The list of recommended updates may still hold what has been installed since, so its age is not told.
    """
    recommended = software_update.get("RecommendedUpdates")
    rows = recommended if isinstance(recommended, list) else []
    names = [str(row.get("Display Name", "?")) for row in rows if isinstance(row, dict)]
    dates = (software_update.get(key) for key in ("LastSuccessfulDate", "LastFullSuccessfulDate"))
    searched = [at for date in dates if (at := naive_utc_s(date)) is not None]
    installed = (
        naive_utc_s(row.get("date"))
        for row in history
        if isinstance(row, dict) and row.get("processName") in _APPLE_INSTALLERS
    )
    return State(
        "softwareupdate",
        [Pending(name) for name in names[:MAX_PENDING]],
        knows_security=False,
        dates_waiting=False,
        refreshed_at=max(searched, default=None),
        installed_at=max((at for at in installed if at is not None), default=None),
    )


def collect_windows(timeout_s: float) -> State:
    """Ask the Windows Update Agent; raises CannotMeasure."""
    return windows_state(powershell_rows(PIPELINE, timeout_s))


def collect_mac() -> State:
    """Read what softwareupdate and the installer have written; raises CannotMeasure for what is no property list."""
    software_update, history = (_read_plist(path) for path in (SOFTWARE_UPDATE, INSTALL_HISTORY))
    return mac_state(
        software_update if isinstance(software_update, dict) else {},
        history if isinstance(history, list) else [],
    )


def _read_plist(path: Path) -> Any:
    try:
        with path.open("rb") as stream:
            return parse_plist(str(path), stream.read(MAX_PLIST_BYTES))
    except FileNotFoundError:
        return None


def _windows_update(row: Mapping[str, Any]) -> Pending:
    categories = str(row.get("Categories") or "").lower().split()
    is_security = bool(row.get("Severity")) or not _SECURITY_CATEGORIES.isdisjoint(categories)
    return Pending(str(row["Title"]), is_security, utc_s(row.get("Changed")))
