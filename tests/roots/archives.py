"""Where this machine's own apt gets its packages, and which releases are there. No address stands in the project."""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cached_property

DEBIAN_LABELS = ("Debian", "Debian-Security")
TIMEOUT_S = 30.0


class NotPossible(Exception):
    """Something that cannot be done on this machine, in a sentence for people."""


@dataclass(frozen=True)
class Archives:
    """Addresses, each with a slash at its end."""

    debian: str
    security: str

    @property
    def ubuntu(self) -> str:
        """A mirror of Debian often holds Ubuntu in the folder beside it."""
        return self.debian.rstrip("/").rpartition("/")[0] + "/ubuntu/"


@dataclass(frozen=True)
class System:
    """A release of Debian or Ubuntu."""

    release: str
    archives: Archives
    is_ubuntu: bool = False

    @property
    def main(self) -> str:
        """The archive that it is built from."""
        return self.archives.ubuntu if self.is_ubuntu else self.archives.debian

    @property
    def family_script(self) -> str:
        """What debootstrap calls the way to build a release that is newer than itself."""
        return "gutsy" if self.is_ubuntu else "sid"

    @cached_property
    def sources(self) -> str:
        """`sources.list` with everything that the mirror has of it: as released, corrected, secured."""
        components = "main universe" if self.is_ubuntu else "main"
        security = self.main if self.is_ubuntu else self.archives.security
        suites = ((self.main, self.release), (self.main, f"{self.release}-updates"))
        every = (*suites, (security, f"{self.release}-security"))
        return "".join(f"deb {uri} {suite} {components}\n" for uri, suite in every if has(uri, suite))

    @property
    def is_there(self) -> bool:
        """Whether the mirror has it."""
        return has(self.main, self.release)


def own_archives() -> Archives:
    """Those of this machine's apt. Raises NotPossible where it does not use Debian's."""
    argv = ["/usr/bin/apt-get", "indextargets", "--format", "$(LABEL)\t$(REPO_URI)", "Created-By: Packages"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotPossible(f"apt does not say where its packages come from: {error}") from error
    found: dict[str, str] = {}
    for line in done.stdout.splitlines():
        label, _, uri = line.partition("\t")
        found.setdefault(label, uri)
    if any(label not in found for label in DEBIAN_LABELS):
        raise NotPossible("apt here has no lists of Debian and its security archive: run apt-get update on a Debian")
    return Archives(*(found[label] for label in DEBIAN_LABELS))


def own_leniency() -> list[str]:
    """What this machine's apt lets pass of an old copy of an archive, as options for the apt of a root."""
    name = "Acquire::Check-Valid-Until"
    argv = ["/usr/bin/apt-config", "dump", "--format", "%v", name]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
    return ["-o", f"{name}={done.stdout}"] if done.stdout else []


def has(uri: str, suite: str) -> bool:
    """Whether an archive has this suite."""
    request = urllib.request.Request(f"{uri}dists/{suite}/InRelease", method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):
            return True
    except urllib.error.HTTPError:
        return False
    except OSError as error:
        raise NotPossible(f"the mirror of this machine's apt cannot be reached: {error}") from error
