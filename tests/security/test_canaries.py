"""Hostile texts through every field that an agent, a token, a profile or an argument has, into every output.

What a program reads must parse and hold nothing but what was put in; what a person reads must hold no character that a
terminal obeys. Each output must hold canaries, or it would prove nothing.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from canaries import CANARIES, LONE_SURROGATES, MUST_NOT_BE_READ_AS, assert_harmless, marks_in, parsed
from hostile_words import be_hostile, speak
from machinery import Collector, Site, constants, until
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_classic
from test_hostile_agents import PROFILE
from within import run_within

from gengfu_agent import cli as agent_cli
from gengfu_checks import guide
from gengfu_collector import cli as collector_cli
from gengfu_collector.errors import UsageError
from gengfu_collector.fleet.review import check_folder
from gengfu_collector.fleet.time_zone import time_zone

NOT_IN_NAMES = {
    "controls",
    "nul",
    "terminal",
    "bidi",
    "lines",
    "toml",
    "prometheus",
    "log",
    "formula_plus",
    "combining",
}
"""Canaries whose text changes where it comes in: of these, only the mark is looked for."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A collector to which every canary was said, by agents, on its command line and on its admin socket."""
    site = Site(tmp_path_factory.mktemp("canaries"))
    try:
        # What agents said stays on the pages after they have gone, however long the tests take.
        stays = constants("gengfu_collector.cli:main", "gengfu_collector.app.upkeep:DISCONNECTED_GRACE_S=100000.0")
        collector = site.collector(launcher=stays, inspection=PROFILE)
        collector.start()
        for name, text in CANARIES.items():
            asyncio.run(be_hostile(collector, name, text))
        until(lambda: len(collector.tickets(check="many")) == len(CANARIES), "each has a ticket")
        for ticket in collector.tickets(check="many"):
            speak(collector, ticket["number"], ticket["item"])
        yield collector
    finally:
        site.close()


@contextmanager
def locale(name: str) -> Iterator[None]:
    before = os.environ.get("LC_ALL")
    os.environ["LC_ALL"] = name
    try:
        yield
    finally:
        os.environ.pop("LC_ALL") if before is None else os.environ.update(LC_ALL=before)


def told_by(main: Callable[[], object], *words: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command."""
    done = run_within(main, *words)
    assert "Traceback" not in done.stderr, done.stderr
    for text in (done.stdout, done.stderr):
        assert_harmless(text, " ".join(words))
    return done.returncode, done.stdout, done.stderr


def command(house: Collector, *words: str) -> tuple[int, str, str]:
    return told_by(collector_cli.main, *words, "--data", str(house.data))


LISTINGS = (
    "token list",
    "asset list",
    "agent list",
    "ticket list",
    "fault list",
    "ledger dead-letters",
    "ledger verify",
    "status",
)


@pytest.mark.parametrize("words", LISTINGS)
def test_lists_on_a_terminal_and_as_json(house: Collector, words: str) -> None:
    code, text, _ = command(house, *words.split(), "--json")
    listed = parsed(text, words)
    assert code == 0
    for language in ("C.UTF-8", "zh_CN.UTF-8"):
        with locale(language):
            code, shown, _ = command(house, *words.split())
        assert code == 0
        if words not in ("ledger verify", "status"):
            assert len(marks_in(shown)) >= len(CANARIES) - 3, (words, set(CANARIES) - marks_in(shown))
    if isinstance(listed, list):
        assert marks_in(text) == set(CANARIES), set(CANARIES) - marks_in(text)
        assert all(MUST_NOT_BE_READ_AS not in row for row in listed)


def test_things_one_by_one(house: Collector) -> None:
    assets = [row["name"] for row in house.ask("asset.list")]
    agents = [row["id"] for row in house.ask("agent.list")]
    tickets = [row["number"] for row in house.ask("ticket.list")]
    seen: set[str] = set()
    for words in (
        *(("asset", "show", name) for name in assets),
        *(("agent", "show", name) for name in agents),
        *(("ticket", "show", number) for number in tickets),
    ):
        if words[2].startswith("-"):
            continue
        code, text, said = command(house, *words)
        assert code == 0, (words, said)
        seen |= marks_in(text)
        if words[0] == "ticket":
            code, text, _ = command(house, *words, "--json")
            assert isinstance(parsed(text, " ".join(words)), dict)
    assert seen >= set(CANARIES)


def with_argument(text: str) -> list[tuple[str, ...]]:
    """Commands with a text in them, where `--` ends the options."""
    return [
        ("ticket", "show", "--", text),
        ("ticket", "list", "--state", text),
        ("fault", "list", "--asset", text),
        ("agent", "block", "--", text),
        ("asset", "classify", "--", text, text),
        ("token", "create", "--ttl", text),
        ("token", "create", "--label", text),
        ("token", "create", "--label", f"{text}=x"),
        ("token", "revoke", "--", text),
        ("config", "diff", "--", text),
        ("--", text),
    ]


def test_arguments_come_back_harmless(house: Collector) -> None:
    """What nobody knows is told in one line; nothing in it is obeyed, and nothing is taken for an option's value."""
    texts = [text for text in (*CANARIES.values(), "\udcff\udc80 mark-surrogates", "x" * 100_000) if "\0" not in text]
    for number, text in enumerate(texts):
        # Each text in every third command, each command with every third text.
        for words in with_argument(text)[number % 3 :: 3]:
            before, options = (words[: words.index("--")], words[words.index("--") :]) if "--" in words else (words, ())
            code, _, said = told_by(collector_cli.main, *before, "--data", str(house.data), *options)
            assert code in (0, 1, 2), (words, said)
            assert said.count("\n") <= 1, said
            assert len(said) < 2_000 or "x" * 1_000 in said


def scraped(house: Collector, path: str, accept: str = "text/plain") -> tuple[int, Any, str]:
    url = f"http://127.0.0.1:{house.ports['http']}{path}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept}), timeout=20) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


@pytest.mark.parametrize("openmetrics", [False, True])
def test_pages_of_metrics(house: Collector, openmetrics: bool) -> None:
    accept = "application/openmetrics-text; version=1.0.0" if openmetrics else "text/plain"
    parse = parse_openmetrics if openmetrics else parse_classic
    names = [row["name"] for row in house.ask("asset.list")]
    paths = ["/metrics", *(f"/metrics/asset/{urllib.parse.quote(name, safe='')}" for name in names)]
    for path in paths:
        status, headers, text = scraped(house, path, accept)
        assert status == 200, path
        assert headers["x-content-type-options"] == "nosniff"
        assert not headers["content-type"].startswith("text/html")
        assert_harmless(text, path)
        families = list(parse(text))
        assert families
        for family in families:
            assert family.name.startswith(("gengfu_", "process_", "python_")), family.name
            for sample in family.samples:
                assert MUST_NOT_BE_READ_AS not in sample.labels
                assert all(re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", label) for label in sample.labels)
    _, _, text = scraped(house, "/metrics", accept)
    items = {s.labels.get("item", "") for family in parse(text) for s in family.samples}
    for name in CANARIES.keys() - NOT_IN_NAMES:
        assert CANARIES[name] in items, f"{name} comes out as it went in"
    assert set.union(*map(marks_in, items)) == set(CANARIES)


def test_targets_for_prometheus(house: Collector) -> None:
    _, _, text = scraped(house, "/sd/prometheus")
    groups: Any = parsed(text)
    assert {target for group in groups for target in group["targets"]} == {f"127.0.0.1:{house.ports['http']}"}
    assert all(re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", label) for group in groups for label in group["labels"])
    assert all(set(group) == {"targets", "labels"} for group in groups)
    assert set.union(*(marks_in(str(group["labels"])) for group in groups)) == set(CANARIES)


def test_pages_asked_for_with_hostile_words(house: Collector) -> None:
    for text in CANARIES.values():
        path = urllib.parse.quote(text, safe="")
        for url in (f"/metrics/asset/{path}", f"/{path}", f"/sd/prometheus?{path}", f"/metrics?{path}={path}"):
            status, headers, said = scraped(house, url)
            assert status in (200, 404), url
            assert "<script" not in said or headers["x-content-type-options"] == "nosniff"
            assert not headers["content-type"].startswith("text/html")
            assert_harmless(said, url)
    host = urllib.request.Request(
        f"http://127.0.0.1:{house.ports['http']}/sd/prometheus", headers={"Host": 'x","forged":"1'}
    )
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(host, timeout=20)


def test_the_log(house: Collector) -> None:
    text = house.log.read_text("utf-8")
    assert_harmless(text)
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(
        line["event"] != MUST_NOT_BE_READ_AS and set(line) >= {"time", "level", "event", "logger"} for line in lines
    )
    assert marks_in(text) == set(CANARIES)
    assert "Traceback" not in text


def test_texts_of_the_guide() -> None:
    for text in [*CANARIES.values(), LONE_SURROGATES, "x" * 1_000_000]:
        for code in [*guide.codes(), text]:
            article = guide.article(code)
            names = {name for part in (article.zh, article.en) for name in re.findall(r"\{([a-z0-9_]+)", part.summary)}
            for language in ("zh", "en", text):
                said = guide.summary(code, language, text, dict.fromkeys({*names, text}, text), {}, None, metric=text)
                assert_harmless(said, code)
                assert "\n" not in said
                assert len(said) <= 400


PLACES = ("name", "kind", "check name", "every", "setting", "label", "key", "window")


def an_inspection_file(place: str, text: str) -> str:
    """A file of the inspection folder with this text, written as TOML, in one place."""
    profile = {"name": '"x"'}
    check = {"kind": '"file_age"', "name": '"x"', "every": '"60s"', "set": '{ path = "/x" }'}
    match place:
        case "name":
            profile["name"] = text
        case "kind" | "every":
            check[place] = text
        case "check name":
            check["name"] = text
        case "setting":
            check["set"] = f"{{ path = {text} }}"
        case "label":
            profile["match"] = f"{{ labels = {{ site = {text} }} }}"
        case "key":
            profile[text] = "1"
        case "window":
            profile["absence"] = f"{{ after = {text}, expected = {text} }}"
    parts = ["[[profile]]", *_assigned(profile), "[[profile.check]]", *_assigned(check)]
    return "\n".join(parts) + "\n"


def _assigned(values: Mapping[str, str]) -> list[str]:
    return [f"{key} = {value}" for key, value in values.items()]


def test_files_of_the_inspection_folder(tmp_path: Path) -> None:
    """A text in every place of a profile: refused in one line or shown harmlessly."""
    refused = 0
    for number, text in enumerate(CANARIES.values()):
        escaped = re.sub(r"\\u(d[89ab]..)\\u(d[c-f]..)", _joined, json.dumps(text)).replace("\x7f", "\\u007f")
        for place in PLACES[number % 2 :: 2]:
            (tmp_path / "a.toml").write_text(an_inspection_file(place, escaped))
            try:
                review = check_folder(tmp_path, time_zone("UTC"))
            except UsageError as error:
                assert_harmless(str(error), place)
                refused += 1
                continue
            json.dumps(review.as_json()).encode()
            assert_harmless("".join(map(collector_cli_line, review.lines())), place)
    assert refused > 25


def _joined(found: re.Match[str]) -> str:
    high, low = (int(part, 16) for part in found.groups())
    return f"\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08x}"


def collector_cli_line(text: str) -> str:
    from gengfu_collector.cli import show

    output = io.StringIO()
    with redirect_stdout(output):
        show.line(text)
    return output.getvalue()


def test_what_an_agent_is_told_on_its_command_line(tmp_path: Path) -> None:
    state = tmp_path / "state"
    for text in [*CANARIES.values(), "\udcff\udc80"]:
        if "\0" in text:
            continue
        for words in (
            ("enrol", "--collector", text, "--token", text, "--state", str(state)),
            ("enrol", "--collector", "127.0.0.1:1", "--token", text, "--state", str(state)),
            ("check", text),
            ("check", "disk", "--set", text),
            ("check", "file_age", "--set", f"path=/{text}"),
            ("status", "--state", str(tmp_path / text.replace("/", "_")[:80])),
            (text,),
        ):
            code, _, said = told_by(agent_cli.main, *words)
            assert code != 0 or words[0] == "check", words
            assert said.count("\n") <= 3, said
