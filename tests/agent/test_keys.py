"""Keys come from a helper process; the agent's own process never loads `cryptography`."""

from __future__ import annotations

import subprocess
import sys

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fake_collector import Authority, pem_of_key

from gengfu_agent import keys
from gengfu_agent.errors import KeysUnavailable


def test_a_key_its_request_and_its_signature_belong_together() -> None:
    pem = keys.new_key()
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.curve.name == "secp256r1"
    request = x509.load_der_x509_csr(keys.certificate_request_der(pem))
    assert request.is_signature_valid
    assert request.public_key() == key.public_key()
    assert list(request.subject) == []
    public_key = serialization.load_der_public_key(keys.public_key_der(pem))
    assert public_key == key.public_key()
    key.public_key().verify(keys.sign(pem, b"data"), b"data", ec.ECDSA(hashes.SHA256()))


def test_keys_are_never_the_same() -> None:
    assert keys.new_key() != keys.new_key()


def test_credentials_that_do_not_belong_together_are_named() -> None:
    authority, other = Authority(), Authority("other")
    key = ec.generate_private_key(ec.SECP256R1())
    pem, chain = pem_of_key(key), authority.agent_chain(key.public_key())
    facts = keys.check_credentials(pem, chain, authority.roots_pem + other.roots_pem)
    assert facts.agent_id == "agent-1"
    assert facts == keys.certificate_facts(chain)
    with pytest.raises(KeysUnavailable, match="another key"):
        keys.check_credentials(keys.new_key(), chain, authority.roots_pem)
    with pytest.raises(KeysUnavailable, match="does not lead to a root"):
        keys.check_credentials(pem, chain, other.roots_pem)
    with pytest.raises(KeysUnavailable):
        keys.check_credentials(pem, b"nonsense", authority.roots_pem)
    leaf = x509.load_pem_x509_certificates(chain)[0]
    foreign_issuer = leaf.public_bytes(serialization.Encoding.PEM) + other.roots_pem
    with pytest.raises(KeysUnavailable):
        keys.check_credentials(pem, foreign_issuer, other.roots_pem)


def test_roots_are_authorities_that_signed_themselves() -> None:
    authority = Authority()
    assert keys.check_roots(authority.roots_pem + Authority().roots_pem) == 2
    server_chain = authority.server_pair()[1]
    for wrong in (b"", b"nonsense", server_chain, authority.roots_pem * 17):
        with pytest.raises(KeysUnavailable):
            keys.check_roots(wrong)


def test_a_helper_that_cannot_start_is_an_error_with_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(KeysUnavailable, match="did not answer"):
        keys.new_key()


def test_the_agents_modules_do_not_load_what_is_heavy() -> None:
    code = (
        "from gengfu_agent import process; process.prepare()\n"
        "import gengfu_agent.uplink.uplink, gengfu_agent.enrolment, gengfu_agent.rounds, sys\n"
        "heavy = {'cryptography', 'ssl', 'OpenSSL', 'sqlalchemy', 'gengfu_collector', 'http.client'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
