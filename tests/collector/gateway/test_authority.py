"""The authority's folder: made once, private, renewed by itself, never made anew over an old one."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from machines import DAY_MS, first_certificate, issue

from gengfu_collector.errors import Refused, StoreError
from gengfu_collector.gateway.authority import Authority
from gengfu_collector.gateway.certificates import pin_of, uid_of

NOW_MS = 1_780_000_000_000
YEAR_MS = 365 * DAY_MS


def open_(data: Path, now_ms: int = NOW_MS, *names: str) -> Authority:
    return Authority.open(data, now_ms, names=names)


def server_of(data: Path) -> x509.Certificate:
    return first_certificate((data / "ca" / "server.pem").read_bytes())


def issuing_of(data: Path) -> x509.Certificate:
    return first_certificate((data / "ca" / "issuing.pem").read_bytes())


def roots_in(bundle: bytes) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(bundle)


def test_the_first_start_makes_private_files_and_the_next_one_finds_them(tmp_path: Path) -> None:
    first = open_(tmp_path)
    folder = tmp_path / "ca"
    assert folder.stat().st_mode & 0o777 == 0o700
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(files) == {"root-1.pem", "issuing.pem", "server.pem"}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())
    second = open_(tmp_path, NOW_MS + DAY_MS)
    assert (second.pin, second.bundle()) == (first.pin, first.bundle())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert pin_of(roots_in(first.bundle())[0]) == first.pin
    assert b"PRIVATE" not in first.bundle()


def test_a_folder_that_others_could_read_is_closed(tmp_path: Path) -> None:
    (tmp_path / "ca").mkdir(mode=0o755)
    open_(tmp_path)
    assert (tmp_path / "ca").stat().st_mode & 0o777 == 0o700


def test_serials_are_random_and_of_128_bits(tmp_path: Path) -> None:
    authority = open_(tmp_path)
    serials = {uid_of(issue(authority, "a", NOW_MS)[0]).serial for _ in range(50)}
    assert len(serials) == 50
    assert {len(serial) for serial in serials} == {32}


def test_the_server_certificate_is_renewed_past_half_of_its_life(tmp_path: Path) -> None:
    authority = open_(tmp_path)
    before = server_of(tmp_path)
    assert authority.renew(NOW_MS + 44 * DAY_MS) == ()
    assert authority.renew(NOW_MS + 46 * DAY_MS) == ("server",)
    assert server_of(tmp_path).serial_number != before.serial_number
    assert authority.renew(NOW_MS + 47 * DAY_MS) == ()
    assert authority.renew(NOW_MS + 92 * DAY_MS) == ("server",)


def test_the_issuing_authority_is_renewed_long_before_its_end(tmp_path: Path) -> None:
    authority = open_(tmp_path)
    before = issuing_of(tmp_path)
    later_ms = NOW_MS + 2 * YEAR_MS + 200 * DAY_MS
    assert authority.renew(later_ms) == ("issuing", "server")
    after = issuing_of(tmp_path)
    assert after.serial_number != before.serial_number
    assert before.not_valid_after_utc.timestamp() * 1000 - later_ms > 2 * YEAR_MS
    roots_in(authority.bundle())[0].public_key()
    after.verify_directly_issued_by(roots_in(authority.bundle())[0])
    server_of(tmp_path).verify_directly_issued_by(after)


def test_a_collector_that_was_off_for_a_year_starts_with_a_good_server_certificate(tmp_path: Path) -> None:
    open_(tmp_path)
    later_ms = NOW_MS + YEAR_MS
    open_(tmp_path, later_ms)
    assert server_of(tmp_path).not_valid_after_utc.timestamp() * 1000 > later_ms + 80 * DAY_MS


def test_a_certificate_made_under_a_clock_that_was_ahead_is_replaced(tmp_path: Path) -> None:
    authority = open_(tmp_path)
    authority.renew(NOW_MS + 60 * DAY_MS)
    assert authority.renew(NOW_MS) == ("server",)


def test_other_names_ask_for_another_server_certificate(tmp_path: Path) -> None:
    open_(tmp_path)
    before = server_of(tmp_path)
    open_(tmp_path, NOW_MS, "192.0.2.7")
    names = server_of(tmp_path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["gengfu-collector", "192.0.2.7"]
    assert server_of(tmp_path).serial_number != before.serial_number


def test_a_next_root_is_told_before_it_is_used(tmp_path: Path) -> None:
    authority = open_(tmp_path)
    first_pin, first_bundle = authority.pin, authority.bundle()
    with pytest.raises(Refused, match="no next root"):
        authority.use_next_root(NOW_MS)
    assert authority.prepare_next_root(NOW_MS) == "root-2"
    with pytest.raises(Refused, match="prepared already"):
        authority.prepare_next_root(NOW_MS)
    assert authority.pin == first_pin
    assert authority.bundle().startswith(first_bundle)
    roots = roots_in(authority.bundle())
    assert len(roots) == 2
    issuing_of(tmp_path).verify_directly_issued_by(roots[0])

    reopened = open_(tmp_path)
    assert (reopened.pin, reopened.bundle()) == (authority.pin, authority.bundle())
    assert reopened.use_next_root(NOW_MS + YEAR_MS) == "root-2"
    assert reopened.pin == pin_of(roots[1])
    issuing_of(tmp_path).verify_directly_issued_by(roots[1])
    again = open_(tmp_path, NOW_MS + YEAR_MS)
    assert (again.pin, again.bundle()) == (reopened.pin, reopened.bundle())
    assert again.prepare_next_root(NOW_MS + YEAR_MS) == "root-3"


@pytest.mark.parametrize("name", ["root-1.pem", "issuing.pem", "server.pem"])
@pytest.mark.parametrize("damage", [b"", b"rubbish", None])
def test_a_damaged_file_is_named_and_left_alone(tmp_path: Path, name: str, damage: bytes | None) -> None:
    open_(tmp_path)
    path = tmp_path / "ca" / name
    left = path.read_bytes()[:-60] if damage is None else damage
    path.write_bytes(left)
    with pytest.raises(StoreError, match=f"{name} is damaged"):
        open_(tmp_path)
    assert path.read_bytes() == left


def test_a_lost_root_is_not_replaced_by_a_new_one(tmp_path: Path) -> None:
    open_(tmp_path)
    (tmp_path / "ca" / "root-1.pem").unlink()
    with pytest.raises(StoreError, match="lost its root"):
        open_(tmp_path)
    assert not (tmp_path / "ca" / "root-1.pem").exists()


def test_an_issuing_authority_of_another_root_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        open_(tmp_path / name)
    (tmp_path / "one" / "ca" / "issuing.pem").write_bytes((tmp_path / "two" / "ca" / "issuing.pem").read_bytes())
    with pytest.raises(StoreError, match="signed by none of the roots"):
        open_(tmp_path / "one")


def test_a_key_that_does_not_fit_its_certificate_is_damage(tmp_path: Path) -> None:
    authority = open_(tmp_path)
    path = tmp_path / "ca" / "server.pem"
    _, key = issue(authority, "a", NOW_MS)
    path.write_bytes(key + path.read_bytes().partition(b"-----END PRIVATE KEY-----\n")[2])
    with pytest.raises(StoreError, match="damaged"):
        open_(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("a file")
    with pytest.raises(StoreError, match="cannot use the certificate authority"):
        open_(tmp_path)


def test_a_folder_that_cannot_be_written_leaves_what_there_was_in_use(tmp_path: Path) -> None:
    authority = open_(tmp_path)
    pin, bundle = authority.pin, authority.bundle()
    (tmp_path / "ca").rename(tmp_path / "away")
    with pytest.raises(StoreError, match=r"cannot write .*server.pem.*stays in use"):
        authority.renew(NOW_MS + 60 * DAY_MS)
    with pytest.raises(StoreError, match=r"root-2.pem"):
        authority.prepare_next_root(NOW_MS)
    assert (authority.pin, authority.bundle()) == (pin, bundle)
    assert uid_of(issue(authority, "a", NOW_MS)[0]).uid == "a"
    (tmp_path / "away").rename(tmp_path / "ca")
    assert authority.renew(NOW_MS + 60 * DAY_MS) == ("server",)


def test_what_a_crash_leaves_half_written_is_not_read(tmp_path: Path) -> None:
    first = open_(tmp_path)
    (tmp_path / "ca" / ".issuing.pem.x1y2").write_bytes(b"-----BEGIN PRIV")
    assert open_(tmp_path).pin == first.pin


@pytest.mark.parametrize(
    ("days_left", "threshold"), [(200, None), (180, None), (179, 180), (90, 180), (89, 90), (29, 30), (6, 7), (-1, 7)]
)
def test_the_root_warns_at_180_90_30_and_7_days(tmp_path: Path, days_left: int, threshold: int | None) -> None:
    authority = open_(tmp_path)
    now_ms = NOW_MS + 20 * YEAR_MS - days_left * DAY_MS
    warnings = {warning.certificate: warning for warning in authority.expiry_warnings(now_ms)}
    found = warnings.get("root-1")
    assert (found.threshold_days if found else None) == threshold
    if found:
        assert (found.days_left, found.not_after_ms) == (days_left, NOW_MS + 20 * YEAR_MS)


def test_a_healthy_authority_warns_of_nothing_and_a_neglected_one_of_its_server_certificate(tmp_path: Path) -> None:
    authority = open_(tmp_path)
    assert authority.expiry_warnings(NOW_MS) == []
    assert authority.expiry_warnings(NOW_MS + 45 * DAY_MS) == []
    late = authority.expiry_warnings(NOW_MS + 70 * DAY_MS)
    assert [(warning.certificate, warning.threshold_days) for warning in late] == [("server", 30)]
