"""Which format a scraper is given, by its Accept header. Pure."""

from __future__ import annotations

from gengfu_collector.metrics.text import Format

_CLASSIC_RANGES = ("text/plain", "text/*", "*/*")


def choose_format(accept: str) -> Format:
    """OpenMetrics for who names it and likes it no less than plain text; classic text for everybody else."""
    openmetrics = 0.0
    classic: dict[str, float] = {}
    for part in accept.split(","):
        media, *rest = (piece.strip().lower() for piece in part.split(";"))
        parameters = dict(piece.split("=", 1) for piece in rest if "=" in piece)
        quality = parse_quality(parameters.get("q", "1"))
        if media == "application/openmetrics-text":
            if parameters.get("version", "1.0.0").strip('"') == "1.0.0":
                openmetrics = max(openmetrics, quality)
        elif media in _CLASSIC_RANGES:
            classic[media] = max(classic.get(media, 0.0), quality)
    # The most exact range that fits decides.
    plain = next((classic[media] for media in _CLASSIC_RANGES if media in classic), 0.0)
    return Format.OPENMETRICS if openmetrics > 0 and openmetrics >= plain else Format.CLASSIC


def parse_quality(text: str) -> float:
    """A q-value, 0 to 1; 0 for what is none."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0.0 <= value <= 1.0 else 0.0
