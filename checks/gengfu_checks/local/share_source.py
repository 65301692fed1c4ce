"""Where a share comes from, without the name (and, in bad configurations, the password) of who mounted it."""

from __future__ import annotations


def without_user(source: str) -> str:
    """`wang@nas:/home` -> `nas:/home`, `https://wang:secret@dav.example/` -> `https://dav.example/`.

    Only an `@` before the first slash of the path parts a user from a host.
    """
    scheme, separator, rest = source.partition("://")
    if not separator:
        scheme, rest = "", source
    lead = "//" if not separator and rest.startswith("//") else ""
    host, slash, path = rest[len(lead) :].partition("/")
    return f"{scheme}{separator}{lead}{host.rpartition('@')[2]}{slash}{path}"
