"""TLS to a broker: contexts from files, and what a failed handshake means."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

from ingest.mqtt.failures import LinkLost, MqttError, Refused
from ingest.mqtt.settings import SettingsError

_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED
_HOST_MISMATCH = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH

# Words in OpenSSL's reason by which the peer says that it does not like our certificate.
_OUR_CERTIFICATE = (
    "CERTIFICATE_REQUIRED",
    "BAD_CERTIFICATE",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_UNKNOWN",
    "UNSUPPORTED_CERTIFICATE",
    "ALERT_UNKNOWN_CA",
    "ALERT_HANDSHAKE_FAILURE",
    "ALERT_ACCESS_DENIED",
)


def tls_context(
    ca_file: str | None, cert_file: str | None, key_file: str | None, *, now: datetime
) -> ssl.SSLContext:
    """Return a context that checks the broker's certificate and name, and shows ours if given.

    *ca_file* None trusts the authorities of the system.  *now* (aware) is what our certificate's
    days are held against.  Raises `SettingsError` naming each file that is missing, is no PEM,
    does not fit its partner, or has run out.
    """
    mistakes = list(_file_mistakes(ca_file, cert_file, key_file))
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        raise SettingsError(f"ca_file: {ca_file} holds no certificate in PEM form") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert_file is not None and key_file is not None:
        _check_days(cert_file, now)
        try:
            # A key under a pass phrase would make OpenSSL ask the terminal.
            context.load_cert_chain(cert_file, key_file, password=lambda: b"")
        except ssl.SSLError as error:
            raise SettingsError(_pair_mistake(cert_file, key_file, error)) from error
    return context


def tls_failure(error: ssl.SSLError, where: str) -> MqttError:
    """Return what a TLS *error* with the broker at *where* means to us."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code == _EXPIRED:
            return Refused(f"the certificate of the broker at {where} has expired")
        if error.verify_code in _HOST_MISMATCH:
            return Refused(
                f"the certificate of the broker at {where} is for another name: "
                f"{error.verify_message}; look at broker.host"
            )
        return Refused(
            f"the certificate of the broker at {where} is not trusted: {error.verify_message}; "
            "expected one signed by the authority in broker.tls.ca_file"
        )
    reason = error.reason or str(error)
    if any(word in reason for word in _OUR_CERTIFICATE):
        return Refused(
            f"the broker at {where} did not take our certificate ({reason}); "
            "look at broker.tls.cert_file and broker.tls.key_file"
        )
    if "WRONG_VERSION_NUMBER" in reason or "RECORD_LAYER_FAILURE" in reason:
        return Refused(f"the broker at {where} does not speak TLS there ({reason})")
    return LinkLost(f"TLS with the broker at {where} failed: {reason}")


def _file_mistakes(*files: str | None) -> list[str]:
    names = ("ca_file", "cert_file", "key_file")
    found = []
    for name, file in zip(names, files, strict=True):
        if file is None:
            continue
        try:
            Path(file).read_bytes()
        except OSError as error:
            found.append(f"{name}: cannot read {file}: {error.strerror or error}")
    _, cert_file, key_file = files
    if cert_file is not None and key_file is None:
        found.append(f"key_file: got nothing, expected the key of {cert_file}")
    if key_file is not None and cert_file is None:
        found.append(f"cert_file: got nothing, expected the certificate of {key_file}")
    return found


def _pair_mistake(cert_file: str, key_file: str, error: ssl.SSLError) -> str:
    if "KEY_VALUES_MISMATCH" in (error.reason or ""):
        return f"key_file: {key_file} is not the key of {cert_file}"
    return (
        f"cert_file, key_file: {cert_file} and {key_file} are not a certificate and its key "
        f"in PEM form, without a pass phrase ({error.reason or error})"
    )


def _check_days(cert_file: str, now: datetime) -> None:
    text = Path(cert_file).read_text("ascii", "replace")
    begin, end = text.find(ssl.PEM_HEADER), text.find(ssl.PEM_FOOTER)
    if begin < 0 or end < begin:
        raise SettingsError(f"cert_file: {cert_file} holds no certificate in PEM form")
    try:
        der = ssl.PEM_cert_to_DER_cert(text[begin : end + len(ssl.PEM_FOOTER)])
        first, last = validity(der)
    except ValueError as error:
        raise SettingsError(f"cert_file: {cert_file} holds no readable certificate") from error
    if now > last:
        raise SettingsError(f"cert_file: {cert_file} expired at {last.isoformat()}")
    if now < first:
        raise SettingsError(f"cert_file: {cert_file} is valid only from {first.isoformat()}")


def validity(certificate: bytes) -> tuple[datetime, datetime]:
    """Return the first and the last instant at which an X.509 *certificate* (DER) is valid.

    The standard library reads this only of a peer in a handshake.  Raises ValueError for what is
    not a certificate.  RFC 5280, section 4.1: the first SEQUENCE of the inner one that holds two
    times is the validity.
    """
    fields = _parts(_parts(_value(certificate))[0][1])
    for tag, content in fields:
        if tag != 0x30:
            continue
        inner = _parts(content)
        if len(inner) == 2 and all(tag in (0x17, 0x18) for tag, _ in inner):
            return _instant(*inner[0]), _instant(*inner[1])
    raise ValueError("no validity in the certificate")


def _value(der: bytes) -> bytes:
    return _parts(der)[0][1]


def _parts(der: bytes) -> list[tuple[int, bytes]]:
    """Return the elements of *der* that stand side by side, as (tag, content)."""
    found, at = [], 0
    while at + 2 <= len(der):
        tag, size, at = der[at], der[at + 1], at + 2
        if size & 0x80:
            count = size & 0x7F
            size, at = int.from_bytes(der[at : at + count]), at + count
        if at + size > len(der):
            raise ValueError("the certificate is cut short")
        found.append((tag, der[at : at + size]))
        at += size
    if not found:
        raise ValueError("nothing where a part of a certificate should be")
    return found


def _instant(tag: int, content: bytes) -> datetime:
    text = content.decode("ascii")
    if tag == 0x17:
        # UTCTime has two digits of the year, 50 to 99 of the last century (RFC 5280, 4.1.2.5.1).
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
