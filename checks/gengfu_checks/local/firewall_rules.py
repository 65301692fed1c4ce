"""Do the rules of the kernel's packet filter keep unwanted packets out? Pure functions on what nft and iptables print.

Sources: libnftables-json(5), iptables-save(8). Input counts as filtered when what no rule lets in is dropped: by the
policy of a chain at the hook `input`, or by a rule that drops everything (of an interface, or every new connection),
and no rule before that accepts everything. A rule against one address, port or broken connection, as fail2ban sets
them, is no such filter.
"""

from __future__ import annotations

import enum
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_TABLES = 16
IPV4, IPV6 = "IPv4", "IPv6"
FAMILIES = {"ip": frozenset((IPV4,)), "ip6": frozenset((IPV6,)), "inet": frozenset((IPV4, IPV6))}
"""The families of nft that see input, and the protocols in them."""

_NAME = re.compile(r"[A-Za-z0-9_./\\-]{1,128}")
# What a rule may ask for and still be one for everything: the interface, the family, or that a connection is new.
_WIDE_META = frozenset(("iif", "iifname", "iifgroup", "iiftype", "nfproto", "protocol"))
_WITHOUT_EFFECT = frozenset(("counter", "limit", "log", "nflog"))
_LEGACY_VERDICTS = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "drop", "RETURN": "return"}
_ADDRESS_TYPE = "addrtype"
_SIDES = ("left", "right")
_PROTOCOL = {"meta": {"key": "l4proto"}}
_IP_PROTOCOL = {"payload": {"protocol": "ip", "field": "protocol"}}
_VERDICTS = frozenset(("", "accept", "drop", "goto", "jump", "return"))
_COMMENT = {"type": "match", "name": "comment"}
_LEGACY_IDLE = (("-m", "comment"), ("-m", _ADDRESS_TYPE))
_MAX_DEPTH = 16
"""How deep the kernel lets chains call each other."""
_Rules = Mapping[str, Sequence[Sequence[Any]]]


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a chain at the hook `input`; `drops` when the policy of such a chain is to drop."""

    family: str
    name: str
    drops: bool

    @property
    def protocols(self) -> frozenset[str]:
        """The protocols that it sees."""
        return FAMILIES[self.family]


def input_tables(chains: Any) -> list[Table]:
    """The tables that filter input by the answer of `nft -j list chains`; other objects and forms are left out."""
    found: dict[tuple[str, str], bool] = {}
    for chain in _objects(chains, "chain"):
        if not _is_input(chain):
            continue
        key = (_text(chain, "family"), _text(chain, "table"))
        if key[0] in FAMILIES and _NAME.fullmatch(key[1]) and key[1][0] != "-":
            found[key] = found.get(key, False) or chain.get("policy") == "drop"
    return [Table(family, name, drops) for (family, name), drops in found.items()][:MAX_TABLES]


def table_refuses(listing: Any) -> bool:
    """Whether a table refuses what it does not let in, by the answer of `nft -j list table FAMILY NAME`."""
    chains = list(_objects(listing, "chain"))
    rules: dict[str, list[Sequence[Any]]] = {}
    for rule in _objects(listing, "rule"):
        expressions = rule.get("expr")
        rules.setdefault(_text(rule, "chain"), []).append(expressions if isinstance(expressions, list) else [])
    inputs = [chain for chain in chains if _is_input(chain)]
    return any(_refuses(_text(chain, "name"), rules, chain.get("policy") == "drop") for chain in inputs)


def is_listing(answer: Any) -> bool:
    """Whether an answer has the form of libnftables-json(5)."""
    return isinstance(answer, dict) and isinstance(answer.get("nftables"), list)


def is_saved(text: str) -> bool:
    """Whether a text is a whole table `filter` as iptables-save(8) writes it."""
    lines = text.splitlines()
    return "*filter" in lines and "COMMIT" in lines


def legacy_refuses(saved: str) -> bool:
    """Whether the table `filter` refuses what it does not let in, by the output of `iptables-legacy-save`."""
    rules: dict[str, list[Sequence[Any]]] = {}
    drops = False
    for line in saved.splitlines():
        words = _words(line)
        drops = drops or words[:2] == [":INPUT", "DROP"]
        if words[:1] == ["-A"] and len(words) > 2:
            rules.setdefault(words[1], []).append(_legacy_rule(words[2:]))
    return _refuses("INPUT", rules, drops)


def _legacy_rule(words: Sequence[str]) -> list[dict[str, Any]]:
    """A rule of iptables in the form of nft: only its interface and target are understood, all else is a condition."""
    expressions: list[dict[str, Any]] = []
    rest = iter(words)
    for word in rest:
        operator = "!=" if word == "!" else "=="
        option = next(rest, "") if word == "!" else word
        value = next(rest, "")
        if option in ("-j", "-g"):
            target = {"jump" if option == "-j" else "goto": {"target": value}}
            expressions.append({_LEGACY_VERDICTS[value]: None} if value in _LEGACY_VERDICTS else target)
        elif option == "-i":
            expressions.append({"match": {"op": operator, "left": {"meta": {"key": "iifname"}}, "right": value}})
        elif option == "-p" and operator == "==":
            expressions.append({"match": {"op": operator, "left": _PROTOCOL, "right": value}})
        elif (option, value) == ("--dst-type", "LOCAL"):
            expressions.append({"xt": {"type": "match", "name": _ADDRESS_TYPE}})
        elif (option, value) not in _LEGACY_IDLE and option not in ("--comment", "--reject-with"):
            return []
    return expressions


def _words(line: str) -> list[str]:
    if '"' not in line:  # nearly all; there may be ten thousands
        return line.split()
    try:
        return shlex.split(line)
    except ValueError:  # an open quote
        return []


class _Fate(enum.Enum):
    """What becomes of a packet that no narrower rule fits."""

    REFUSED = enum.auto()
    ACCEPTED = enum.auto()
    UNDECIDED = enum.auto()


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What a rule does: `drop`, `accept`, `return`, `jump` or `goto`; "" for what is none of these."""

    kind: str
    target: str = ""


def _refuses(start: str, rules: _Rules, drops: bool) -> bool:
    """Whether a chain at the hook refuses a packet that no rule fits; `drops` is its policy."""
    fate = _fate(start, rules, {}, _MAX_DEPTH)
    return fate is _Fate.REFUSED or (drops and fate is _Fate.UNDECIDED)


def _fate(chain: str, rules: _Rules, known: dict[str, _Fate], depth: int) -> _Fate:
    """The fate in a chain, and in those that it sends packets to, in the order of the rules."""
    if chain in known or depth == 0:
        return known.get(chain, _Fate.UNDECIDED)
    known[chain] = _Fate.UNDECIDED  # a chain that calls itself
    for expressions in rules.get(chain, ()):
        is_for_all, verdicts = _wide_verdicts(expressions)
        for verdict in verdicts:
            fate = _fate_of(verdict, rules, known, depth)
            if fate is _Fate.REFUSED or (is_for_all and fate is _Fate.ACCEPTED):
                known[chain] = fate
                return fate
            if is_for_all and verdict.kind in ("return", "goto"):
                return _Fate.UNDECIDED
    return _Fate.UNDECIDED


def _fate_of(verdict: _Verdict, rules: _Rules, known: dict[str, _Fate], depth: int) -> _Fate:
    if verdict.kind == "drop":
        return _Fate.REFUSED
    if verdict.kind == "accept":
        return _Fate.ACCEPTED
    return _fate(verdict.target, rules, known, depth - 1) if verdict.target else _Fate.UNDECIDED


def _wide_verdicts(expressions: Sequence[Any]) -> tuple[bool, list[_Verdict]]:
    """What a rule does with packets of every kind, and whether with all of them; nothing when it has a condition.

    One that is for an interface, or limited in number, is wide enough to refuse and not to accept; one for all of TCP
    is wide enough to accept. One that asks for a kind of address counts when it lets packets return: ufw does so with
    those for this machine before it drops others.
    """
    is_for_all, counts = True, _VERDICTS
    for expression in expressions:
        if not isinstance(expression, dict) or len(expression) != 1:
            return False, []
        kind, value = next(iter(expression.items()))
        if kind == "vmap":
            return False, _mapped(value)
        verdict = _verdict(kind, value)
        if verdict is not None:
            return is_for_all, [verdict] if verdict.kind in counts else []
        if _asks_for_address_type(kind, value):
            counts = counts & {"return"}
        elif _asks_for_tcp(kind, value):
            counts = counts & {"accept"}
        elif kind == "match" and _is_wide(value):
            is_for_all = is_for_all and "ct" in value["left"]
        elif kind in _WITHOUT_EFFECT or (kind == "xt" and value == _COMMENT):
            is_for_all = is_for_all and kind != "limit"
        else:
            return False, []
    return False, []


def _asks_for_address_type(kind: str, value: Any) -> bool:
    if kind == "xt":
        return isinstance(value, dict) and value.get("name") == _ADDRESS_TYPE
    left = value.get("left") if kind == "match" and isinstance(value, dict) else None
    return isinstance(left, dict) and "fib" in left and value.get("right") == "local"


def _asks_for_tcp(kind: str, value: Any) -> bool:
    left, right = (value.get(side) if kind == "match" and isinstance(value, dict) else None for side in _SIDES)
    listed = right.get("set") if isinstance(right, dict) else [right]
    is_protocol = left in (_PROTOCOL, _IP_PROTOCOL) and value.get("op") == "=="
    return is_protocol and isinstance(listed, list) and "tcp" in listed


def _verdict(kind: str, value: Any) -> _Verdict | None:
    if kind == "xt" and isinstance(value, dict) and value.get("type") == "target":
        return _Verdict(_LEGACY_VERDICTS.get(_text(value, "name"), ""))
    if kind in ("jump", "goto") and isinstance(value, dict):
        return _Verdict(kind, _text(value, "target"))
    return _Verdict("drop" if kind == "reject" else kind) if kind in ("drop", "reject", "accept", "return") else None


def _mapped(vmap: Any) -> list[_Verdict]:
    """What a map does with packets of every kind: `ct state vmap { new : jump in }`, `iifname vmap { eth0 : drop }`."""
    data = vmap.get("data") if isinstance(vmap, dict) else None
    pairs = data.get("set") if isinstance(data, dict) else None
    verdicts = []
    for pair in pairs if isinstance(pairs, list) else []:
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[1], dict) or len(pair[1]) != 1:
            continue
        verdict = _verdict(*next(iter(pair[1].items())))
        if verdict is not None and _is_wide({"op": "==", "left": vmap.get("key"), "right": pair[0]}):
            verdicts.append(verdict)
    return verdicts


def _is_wide(match: Any) -> bool:
    if not isinstance(match, dict) or not isinstance(match.get("left"), dict):
        return False
    meta, connection = match["left"].get("meta"), match["left"].get("ct")
    is_negated, right = match.get("op") == "!=", match.get("right")
    if isinstance(meta, dict):
        return meta.get("key") in _WIDE_META and (is_negated or right != "lo")
    states = right if isinstance(right, list) else [right]
    is_of_state = isinstance(connection, dict) and connection.get("key") == "state"
    return is_of_state and not is_negated and "new" in states


def _is_input(chain: Mapping[str, Any]) -> bool:
    return chain.get("hook") == "input" and chain.get("type") == "filter" and chain.get("family") in FAMILIES


def _objects(answer: Any, kind: str) -> list[dict[str, Any]]:
    listed = answer.get("nftables") if isinstance(answer, dict) else None
    if not isinstance(listed, list):
        return []
    wrapped = (entry.get(kind) for entry in listed if isinstance(entry, dict))
    return [entry for entry in wrapped if isinstance(entry, dict)]


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) else ""
