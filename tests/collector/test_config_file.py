"""collector.toml, the environment and the command line: who wins, and how wrong values are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_collector.config import (
    Address,
    CollectorConfig,
    CommandLine,
    Limits,
    Listeners,
    Secret,
    default_data_folder,
    load_config,
    parse_address,
)
from gengfu_collector.errors import CollectorError, ConfigurationError, UsageError
from gengfu_proto.names import ENROL_PORT, HTTP_PORT, STREAM_PORT

NOTHING = CommandLine()
PASSWORD = "hunter2-Zq"


def write(data: Path, text: str, mode: int = 0o600) -> Path:
    path = data / "collector.toml"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def load(data: Path, text: str | None = None, **environment: str) -> CollectorConfig:
    if text is not None:
        write(data, text)
    return load_config(data, NOTHING, environment)


def test_no_file_is_needed(tmp_path: Path) -> None:
    config = load(tmp_path / "not-yet-there")
    assert [str(config.listen.http), str(config.listen.stream), str(config.listen.enrol)] == [
        f"127.0.0.1:{HTTP_PORT}",
        f"0.0.0.0:{STREAM_PORT}",
        f"0.0.0.0:{ENROL_PORT}",
    ]
    assert (config.inspection, config.database_url, config.log_level) == (None, None, "info")
    assert (config.report_days, config.certificate_days, config.limits) == (14, 30, Limits())


def test_an_empty_file_is_like_none(tmp_path: Path) -> None:
    empty, none = load(tmp_path, "# nothing\n"), load(tmp_path / "other")
    assert (empty.listen, empty.limits, empty.report_days) == (none.listen, none.limits, none.report_days)


FULL = """\
inspection = "rounds"
time_zone = "Asia/Shanghai"
log_level = "debug"
[listen]
http = "[::1]:9000"
stream = "collector.example.org:0"
enrol = "192.0.2.7:9002"
[database]
url = "postgresql://gengfu:hunter2-Zq@db.example.org:5433/gengfu?sslmode=verify-full"
[retention]
report_days = 90
[certificates]
agent_days = 7
[limits]
agents = 5
enrolments_per_minute = 6
"""


def test_every_key_is_taken(tmp_path: Path) -> None:
    (tmp_path / "rounds").mkdir()
    config = load(tmp_path, FULL)
    assert config.listen == Listeners(
        http=Address("::1", 9000), stream=Address("collector.example.org", 0), enrol=Address("192.0.2.7", 9002)
    )
    assert str(config.listen.http) == "[::1]:9000"
    assert config.inspection == tmp_path / "rounds"
    assert (config.report_days, config.certificate_days, config.limits) == (90, 7, Limits(5, 6))
    assert (config.log_level, str(config.zone)) == ("debug", "Asia/Shanghai")
    assert config.database_url is not None
    assert config.database_url.reveal() == (
        "postgresql+psycopg://gengfu:hunter2-Zq@db.example.org:5433/gengfu?sslmode=verify-full"
    )


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    for name in ("rounds", "others", "inspection"):
        (tmp_path / name).mkdir()
    write(tmp_path, FULL)
    options = CommandLine("0.0.0.0:1", "0.0.0.0:2", "0.0.0.0:3", tmp_path / "others", "error")
    config = load_config(tmp_path, options, {})
    assert config.listen == Listeners(Address("0.0.0.0", 1), Address("0.0.0.0", 2), Address("0.0.0.0", 3))
    assert (config.inspection, config.log_level) == (tmp_path / "others", "error")
    assert load_config(tmp_path, CommandLine(http="0.0.0.0:1"), {}).listen.enrol == Address("192.0.2.7", 9002)


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    text = '[database]\nurl = "sqlite:////a"\n'
    assert revealed(load(tmp_path, text)) == "sqlite:////a"
    assert revealed(load(tmp_path, text, GENGFU_DATABASE_URL="postgresql://h/n")) == "postgresql+psycopg://h/n"
    assert revealed(load(tmp_path, text, GENGFU_DATABASE_URL="")) == "sqlite:////a"


def revealed(config: CollectorConfig) -> str:
    assert config.database_url is not None
    return config.database_url.reveal()


def test_the_usual_inspection_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "inspection").mkdir()
    assert load(tmp_path).inspection == tmp_path / "inspection"


REFUSED = {
    "unknown key": ("\nlog_levle = 'info'\n", 2, ['did you mean "log_level"', "retention"]),
    "unknown listener": ("[listen]\nhtpp = 'a:1'\n", 2, ['did you mean "http"', "enrol"]),
    "unknown limit": ("[limits]\n\nagent = 3\n", 3, ['did you mean "agents"']),
    "unknown level": ("log_level = 'inf'\n", 1, ['did you mean "info"', "warning"]),
    "no port": ("[listen]\nhttp = '0.0.0.0'\n", 2, ["HOST:PORT"]),
    "no host": ("[listen]\nhttp = ':80'\n", 2, ["HOST:PORT"]),
    "port too large": ("[listen]\nhttp = 'a:65536'\n", 2, ["HOST:PORT"]),
    "bare IPv6": ("[listen]\nhttp = '::1:80'\n", 2, ["[::1]:8420"]),
    "listen is a text": ("listen = 'a:1'\n", 1, ["a table"]),
    "two doors at one place": ("[listen]\n\nhttp = 'a:1'\nenrol = 'a:1'\n", 4, ["different addresses or ports"]),
    "a door at a usual place": ("[listen]\nenrol = '127.0.0.1:8420'\n", 2, ["different addresses or ports"]),
    "no such folder": ("inspection = 'rounds'\n", 1, ["there is no folder", "rounds"]),
    "no such zone": ("time_zone = 'Mars/Base'\n", 1, ["Asia/Shanghai"]),
    "a zone outside": ("time_zone = '../../etc/passwd'\n", 1, ["not a time zone"]),
    "no days": ("[retention]\nreport_days = 0\n", 2, ["from 1 to 3650"]),
    "days as text": ("[certificates]\nagent_days = '30d'\n", 2, ["a whole number"]),
    "a list": ("[[limits]]\nagents = 3\n", 1, ["a table"]),
    "not TOML": ("[listen\n", 1, ["not TOML"]),
}


@pytest.mark.parametrize(("text", "line", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_with_file_line_and_what_is_allowed(tmp_path: Path, text: str, line: int, words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, text)
    message = str(refused.value)
    assert message.startswith(f"{tmp_path / 'collector.toml'}:{line}: "), message
    assert [word for word in words if word not in message] == [], message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (CommandLine(http="8420"), "--http: .*HOST:PORT"),
        (CommandLine(stream=""), "--stream: .*HOST:PORT"),
        (CommandLine(enrol="a b:1"), "--enrol: .*HOST:PORT"),
        (CommandLine(stream="a:1", enrol="a:1"), "--stream: http, stream and enrol must listen on different"),
        (CommandLine(enrol="127.0.0.1:8420"), "--enrol: http, stream and enrol must listen on different"),
        (CommandLine(log_level="loud"), "--log-level: .*allowed: debug"),
        (CommandLine(inspection=Path("/nowhere/at/all")), "--inspection: there is no folder"),
    ],
)
def test_wrong_options_are_named(tmp_path: Path, options: CommandLine, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_config(tmp_path, options, {})


URL = f"postgresql://gengfu:{PASSWORD}@db/gengfu"
BAD_URLS = [
    f"mysql://gengfu:{PASSWORD}@db/gengfu",
    f"postgresql+asyncpg://gengfu:{PASSWORD}@db/gengfu",
    f"postgresql://gengfu:{PASSWORD}@db:port/gengfu",
    PASSWORD,
    f"//{PASSWORD}",
]


@pytest.mark.parametrize("url", BAD_URLS)
@pytest.mark.parametrize("place", ["file", "environment"])
def test_a_wrong_database_is_refused_without_showing_it(tmp_path: Path, url: str, place: str) -> None:
    environment = {"GENGFU_DATABASE_URL": url} if place == "environment" else {}
    write(tmp_path, f'[database]\nurl = "{url}"\n' if place == "file" else "")
    with pytest.raises(UsageError) as refused:
        load(tmp_path, **environment)
    assert PASSWORD not in str(refused.value)
    assert "postgresql://" in str(refused.value)
    assert ("collector.toml:2" if place == "file" else "GENGFU_DATABASE_URL") in str(refused.value)


@pytest.mark.parametrize("value", [f'["{PASSWORD}"]', f'"\\u0000{PASSWORD}"', f'{{ a = "{PASSWORD}" }}'])
def test_an_ill_typed_database_is_not_shown_either(tmp_path: Path, value: str) -> None:
    with pytest.raises(UsageError) as refused:
        load(tmp_path, f"[database]\nurl = {value}\n")
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
def test_a_password_in_a_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    write(tmp_path, f'[database]\nurl = "{URL}"\n', mode)
    with pytest.raises(ConfigurationError, match=r"collector\.toml:2: .*chmod 600"):
        load(tmp_path)
    write(tmp_path, '[database]\nurl = "postgresql://db/gengfu"\n', mode)
    assert revealed(load(tmp_path)) == "postgresql+psycopg://db/gengfu"


def test_no_form_of_the_configuration_shows_the_password(tmp_path: Path) -> None:
    config = load(tmp_path, f'[database]\nurl = "{URL}"\n')
    assert PASSWORD in revealed(config)
    assert PASSWORD not in f"{config} {config!r} {config.database_url} {config.database_url!r} {[config.database_url]}"
    assert PASSWORD not in "%s %r" % (Secret(URL), Secret(URL))  # noqa: UP031


@given(st.text(alphabet="[]:.0123456789abcdefg-_ 世", max_size=20))
def test_an_address_comes_back_as_it_was_written(text: str) -> None:
    try:
        address = parse_address(text)
    except ValueError:
        return
    assert 0 <= address.port <= 65535
    assert parse_address(str(address)) == address
    assert str(address).rpartition(":")[0] == text.rpartition(":")[0]


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "collector.toml").mkdir()
    with pytest.raises(CollectorError, match=r"collector\.toml: cannot be read: Is a directory"):
        load(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"data folder .*: Not a directory"):
        load(tmp_path / "file")


def test_where_data_is_when_nobody_says(tmp_path: Path) -> None:
    system = tmp_path / "var"
    assert default_data_folder(tmp_path, system) == tmp_path / "gengfu-data"
    system.mkdir()
    assert default_data_folder(tmp_path, system) == system
    (tmp_path / "gengfu-data").mkdir()
    assert default_data_folder(tmp_path, system) == tmp_path / "gengfu-data"


def test_the_example_holds_the_defaults(tmp_path: Path, checkout: Path) -> None:
    text = (checkout / "collector/examples/collector.toml").read_text(encoding="utf-8")
    config, default = load(tmp_path, text), load(tmp_path / "other")
    for name in ("listen", "inspection", "database_url", "report_days", "certificate_days", "limits", "log_level"):
        assert getattr(config, name) == getattr(default, name)


def test_every_commented_line_of_the_example_works(tmp_path: Path, checkout: Path) -> None:
    text = (checkout / "collector/examples/collector.toml").read_text(encoding="utf-8")
    (tmp_path / "inspection").mkdir()
    lines = [line.removeprefix("# ") if " = " in line else line for line in text.splitlines()]
    config = load(tmp_path, "\n".join(lines))
    assert (str(config.zone), config.inspection) == ("Asia/Shanghai", tmp_path / "inspection")
    assert "PASSWORD" in revealed(config)
