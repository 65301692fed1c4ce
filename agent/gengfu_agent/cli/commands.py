"""The commands and their arguments."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, TypeAlias

from gengfu_agent import VERSION, cli
from gengfu_agent.cli.words import LANGUAGES, word
from gengfu_agent.errors import AgentError
from gengfu_checks.language import reader_language

_Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{cli.PROGRAM}: {' '.join(message.split())}; see {self.prog} --help\n")


def dispatch(arguments: Sequence[str]) -> int:
    """Parse the arguments and do it; wrong ones end the process with exit code 2, as argparse does."""
    parsed = _parser().parse_args(arguments)
    match parsed.command:
        case "enrol":
            return _enrol(parsed)
        case "run":
            return cli.run(parsed.state)
        case "status":
            from gengfu_agent.cli.show_status import status

            return status(parsed.state, as_json=parsed.json, language=parsed.language)
        case "checks":
            from gengfu_agent.cli.list_checks import list_checks

            return list_checks(parsed.state, as_json=parsed.json, language=parsed.language)
        case "inventory":
            from gengfu_agent.cli.show_inventory import show_inventory

            return show_inventory(as_json=parsed.json, language=parsed.language)
    from gengfu_agent.cli.run_check import run_check

    return run_check(parsed.kind, parsed.set, parsed.threshold, as_json=parsed.json, language=parsed.language)


def _enrol(parsed: argparse.Namespace) -> int:
    import asyncio

    from gengfu_agent import process

    process.prepare()
    cli.make_state_folder(parsed.state)
    if parsed.as_new:
        from gengfu_agent.as_new import enrol_as_new as enrol
    else:
        from gengfu_agent.enrolment import enrol
    try:
        enrolled = asyncio.run(enrol(parsed.collector, parsed.token, parsed.state))
    except OSError as error:  # of the network they are UplinkErrors by now
        raise AgentError(
            f"the state folder {parsed.state} cannot be written ({error.strerror or error}): make room there or give "
            "another folder with --state, then repeat this command; the token is still good for this machine"
        ) from error
    start = f"{cli.PROGRAM} run --state {parsed.state}"
    print(word("enrolled", reader_language(), enrolled.asset, enrolled.agent_id, start))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=cli.PROGRAM,
        description="The agent of Gengfu: inspects this machine and streams what it finds. 更夫代理：巡检本机并上报。",
    )
    parser.add_argument("--version", action="version", version=f"{cli.PROGRAM} {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    state = _Parser(add_help=False)
    state.add_argument(
        "--state",
        type=Path,
        default=cli.default_state(),
        metavar="DIR",
        help="folder of identity, spool and plan; default %(default)s, or $GENGFU_STATE 状态目录",
    )
    output = _Parser(add_help=False)
    output.add_argument("--json", action="store_true", help="for scripts 输出 JSON")
    output.add_argument(
        "--language",
        choices=LANGUAGES,
        default=reader_language(),
        metavar="LANGUAGE",
        help=f"{' or '.join(LANGUAGES)}; default: that of the locale 语言",
    )
    _add_enrol(commands, state)
    commands.add_parser("run", parents=[state], help="inspect and report until told to stop 运行代理")
    commands.add_parser("status", parents=[state, output], help="how the running agent is doing 查看运行状态")
    commands.add_parser("checks", parents=[state, output], help="what can be looked at on this machine 列出检查项")
    commands.add_parser(
        "inventory", parents=[state, output], help="hardware and software of this machine, here and now 本机软硬件清单"
    )
    _add_check(commands, state, output)
    return parser


def _add_enrol(commands: _Commands, state: _Parser) -> None:
    enrol = commands.add_parser("enrol", parents=[state], help="make this machine known to a collector 注册本机")
    enrol.add_argument(
        "--collector", required=True, metavar="HOST:PORT", help="the collector's address for enrolment 采集器注册地址"
    )
    enrol.add_argument("--token", required=True, help="as printed by gengfu-collector token create 注册令牌")
    enrol.add_argument(
        "--as-new",
        action="store_true",
        help="the folder came here with a copied disk: give this machine an identity of its own and drop the other's "
        "本机由克隆而来：放弃原身份，注册为新机器",
    )


def _add_check(commands: _Commands, *parents: _Parser) -> None:
    check = commands.add_parser(
        "check",
        parents=parents,
        help="run one check here and now, without a collector 立即执行一项检查",
        epilog="Exit code: 0 ok, 1 warning, 2 critical, 3 unknown. 退出码：0 正常，1 警告，2 严重，3 未知。",
    )
    check.add_argument("kind", metavar="KIND", help="see gengfu-agent checks 检查项")
    check.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the check 设置")
    check.add_argument(
        "--threshold",
        action="append",
        default=[],
        metavar="METRIC.LEVEL=NUMBER",
        help="a limit, like used_ratio.warning=0.9; false switches it off 阈值",
    )
