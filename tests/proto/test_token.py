"""The enrolment token survives its round trip, and what is wrong with a bad one is named without telling the secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_proto.errors import InvalidToken
from gengfu_proto.names import agent_id_of, agent_uri
from gengfu_proto.token import TOKEN_CHARACTERS, format_token, parse_token, secret_text

SECRET = bytes(range(20))
PIN = bytes(range(32))
TOKEN = format_token(SECRET, PIN)


@given(st.binary(min_size=20, max_size=20), st.binary(min_size=32, max_size=32))
def test_round_trip(secret: bytes, pin: bytes) -> None:
    line = format_token(secret, pin)
    token = parse_token(f"  {line}\n")
    assert (token.secret, token.pin) == (secret_text(secret), pin)
    assert len(line) == TOKEN_CHARACTERS
    assert len(line.split()) == 1


@given(st.integers(min_value=8, max_value=TOKEN_CHARACTERS - 1), st.sampled_from("abcXYZ0129_-.é"))
def test_every_single_wrong_character_is_named_as_a_copying_error(position: int, character: str) -> None:
    changed = TOKEN[:position] + character + TOKEN[position + 1 :]
    if changed == TOKEN:
        return
    with pytest.raises(InvalidToken, match="copying error"):
        parse_token(changed)


@given(st.integers(min_value=8, max_value=TOKEN_CHARACTERS - 1))
def test_a_cut_off_token_is_named_as_such(length: int) -> None:
    with pytest.raises(InvalidToken, match="cut off"):
        parse_token(TOKEN[:length])


@pytest.mark.parametrize("text", ["", "gengfu", "gengfu2" + TOKEN[7:], "eyJhbGciOi.x.y"])
def test_something_else_is_not_a_token(text: str) -> None:
    with pytest.raises(InvalidToken, match="not an enrolment token"):
        parse_token(text)


def test_a_doubled_paste_is_too_long() -> None:
    with pytest.raises(InvalidToken, match="too long"):
        parse_token(TOKEN + TOKEN)


@given(st.text(max_size=200))
def test_any_text_is_refused_cleanly(text: str) -> None:
    for line in (text, "gengfu1." + text):
        with pytest.raises(InvalidToken):
            parse_token(line)


def test_no_text_shows_the_secret() -> None:
    secret = secret_text(SECRET)
    assert secret not in repr(parse_token(TOKEN))
    with pytest.raises(InvalidToken) as caught:
        parse_token(TOKEN[:-1] + "!")
    assert secret not in str(caught.value)


def test_agent_names() -> None:
    assert agent_id_of(agent_uri("a1b2-c3")) == "a1b2-c3"
    for uri in (
        "gengfu://agent/",
        "gengfu://agent/A",
        "gengfu://agent/a/b",
        "https://agent/a",
        "a1b2",
        "gengfu://agent/a\n",
    ):
        assert agent_id_of(uri) is None
    with pytest.raises(ValueError, match="not an agent id"):
        agent_uri("../x")
