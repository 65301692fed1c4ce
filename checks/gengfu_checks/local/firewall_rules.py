"""Do the rules of the kernel's packet filter keep unwanted packets out? Pure functions on what nft and iptables print.

Sources: libnftables-json(5), iptables-save(8). Input counts as filtered when what no rule lets in is dropped: by the
policy of a chain at the hook `input`, or by a rule that drops everything (of an interface, or every new connection). A
rule against one address, port or broken connection, as fail2ban sets them, is no such filter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
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
_REFUSALS = ("DROP", "REJECT")
_REFUSED = "refused!"  # no chain can have this name


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
    if any(chain.get("policy") == "drop" for chain in inputs):
        return True
    return _refuses((_text(chain, "name") for chain in inputs), rules)


def legacy_refuses(saved: str) -> bool:
    """Whether the table `filter` refuses what it does not let in, by the output of `iptables-legacy-save`."""
    rules: dict[str, list[Sequence[Any]]] = {}
    for line in saved.splitlines():
        words = line.split()
        if words[:1] == [":INPUT"] and words[1:2] == ["DROP"]:
            return True
        if words[:1] == ["-A"] and len(words) > 2:
            rules.setdefault(words[1], []).append(_legacy_rule(words[2:]))
    return _refuses(["INPUT"], rules)


def _legacy_rule(words: Sequence[str]) -> list[dict[str, Any]]:
    """A rule of iptables in the form of nft: only its interface and target are understood, all else is a condition."""
    expressions: list[dict[str, Any]] = []
    rest = iter(words)
    for word in rest:
        operator = "!=" if word == "!" else "=="
        option = next(rest, "") if word == "!" else word
        value = next(rest, "")
        if option in ("-j", "-g"):
            expressions.append({"drop": None} if value in _REFUSALS else {"jump": {"target": value}})
        elif option == "-i":
            expressions.append({"match": {"op": operator, "left": {"meta": {"key": "iifname"}}, "right": value}})
        elif option != "--reject-with":
            return []
    return expressions


def _refuses(starts: Iterable[str], rules: Mapping[str, Sequence[Sequence[Any]]]) -> bool:
    """Whether a packet that no rule fits is refused in these chains, or in those that it is sent to from them."""
    todo = list(starts)
    seen = set(todo)
    while todo:
        for expressions in rules.get(todo.pop(), ()):
            verdict = _wide_verdict(expressions)
            if verdict == _REFUSED:
                return True
            if verdict and verdict not in seen:
                seen.add(verdict)
                todo.append(verdict)
    return False


def _wide_verdict(expressions: Sequence[Any]) -> str:
    """What a rule does with every packet: refuse it, send it to the chain of this name, or "" (it has a condition)."""
    for expression in expressions:
        if not isinstance(expression, dict) or len(expression) != 1:
            return ""
        kind, value = next(iter(expression.items()))
        if kind in ("drop", "reject"):
            return _REFUSED
        if kind == "xt" and isinstance(value, dict):
            return _REFUSED if value.get("type") == "target" and value.get("name") in _REFUSALS else ""
        if kind in ("jump", "goto") and isinstance(value, dict):
            return _text(value, "target")
        if kind not in _WITHOUT_EFFECT and not (kind == "match" and _is_wide(value)):
            return ""
    return ""


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
