"""Certificates and keys that cannot be used, each named."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from ingest.mqtt.settings import SettingsError
from ingest.mqtt.tls import tls_context, validity

NOW = datetime.now(UTC)


def mistake_of(ca: Path | None, cert: Path | None, key: Path | None, now: datetime = NOW) -> str:
    with pytest.raises(SettingsError) as caught:
        tls_context(*(str(file) if file else None for file in (ca, cert, key)), now=now)
    return str(caught.value)


def test_good_files_make_a_context_that_checks(certificates):
    trust = certificates()
    pair = trust.client("collector")
    context = tls_context(str(trust.authority), str(pair.certificate), str(pair.key), now=NOW)
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_without_files_the_system_is_trusted():
    assert tls_context(None, None, None, now=NOW).verify_mode is ssl.CERT_REQUIRED


def test_missing_files_are_all_named(tmp_path):
    files = [tmp_path / name for name in ("ca", "cert", "key")]
    text = mistake_of(*files)
    assert [line.split(":")[0] for line in text.splitlines()] == [
        "ca_file",
        "cert_file",
        "key_file",
    ]
    assert all(str(file) in text for file in files)
    assert "No such file" in text


def test_a_folder_is_no_file(tmp_path):
    assert "Is a directory" in mistake_of(tmp_path, None, None)


def test_an_authority_that_is_no_pem(tmp_path):
    file = tmp_path / "ca.pem"
    file.write_bytes(b"\x30\x82 not text at all")
    assert mistake_of(file, None, None) == f"ca_file: {file} holds no certificate in PEM form"


def test_a_certificate_that_is_no_pem(certificates, tmp_path):
    file = tmp_path / "cert.pem"
    file.write_text("-----BEGIN CERTIFICATE-----\nnonsense!\n-----END CERTIFICATE-----\n")
    pair = certificates().client("c")
    assert "cert_file" in mistake_of(None, file, pair.key)
    file.write_text("nothing of the kind")
    assert "no certificate in PEM form" in mistake_of(None, file, pair.key)


def test_one_without_the_other(certificates):
    pair = certificates().client("c")
    assert "key_file: got nothing, expected the key of" in mistake_of(None, pair.certificate, None)
    assert "cert_file: got nothing" in mistake_of(None, None, pair.key)


def test_a_key_of_another_certificate(certificates):
    trust = certificates()
    mine, yours = trust.client("mine"), trust.client("yours")
    text = mistake_of(None, mine.certificate, yours.key)
    assert text == f"key_file: {yours.key} is not the key of {mine.certificate}"


def test_a_key_that_is_no_key(certificates):
    pair = certificates().client("c")
    assert "are not a certificate and its key" in mistake_of(
        None, pair.certificate, pair.certificate
    )


def test_a_certificate_that_has_run_out(certificates):
    pair = certificates().client("c", valid_days=30)
    in_time = tls_context(None, str(pair.certificate), str(pair.key), now=NOW + timedelta(days=29))
    assert in_time
    text = mistake_of(None, pair.certificate, pair.key, NOW + timedelta(days=31))
    assert f"{pair.certificate} expired at" in text
    text = mistake_of(None, pair.certificate, pair.key, NOW - timedelta(days=9))
    assert "is valid only from" in text


def test_the_days_are_those_that_another_reader_finds(certificates):
    trust = certificates()
    for file in (trust.authority, trust.server.certificate, trust.client("c").certificate):
        pem = file.read_bytes()
        other = x509.load_pem_x509_certificate(pem)
        assert validity(ssl.PEM_cert_to_DER_cert(pem.decode())) == (
            other.not_valid_before_utc,
            other.not_valid_after_utc,
        )


@given(st.binary(max_size=200))
def test_junk_has_no_days(junk):
    with pytest.raises(ValueError):
        validity(junk)
