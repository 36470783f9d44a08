"""A certificate authority for one test, with a server and as many clients as it likes."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its key as PEM files."""

    certificate: Path
    key: Path


class Certificates:
    """Issues certificates into *folder*; the authority and the server's pair are made at once.

    The server's certificate names *host_names* and 127.0.0.1.  *valid_days* below 0 makes it one
    that has run out.
    """

    def __init__(
        self, folder: Path, *, host_names: tuple[str, ...] = ("localhost",), valid_days: int = 30
    ) -> None:
        self._folder = folder
        self._authority_key = ec.generate_private_key(ec.SECP256R1())
        self._authority_name = _name("test authority")
        now = datetime.datetime.now(datetime.UTC)
        authority = (
            _builder(self._authority_name, self._authority_name, self._authority_key, now, 30)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
            .sign(self._authority_key, hashes.SHA256())
        )
        self.authority = folder / "ca.pem"
        self.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
        addresses: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        addresses += [x509.DNSName(name) for name in host_names]
        self.server = self._issue(
            "server",
            "localhost",
            x509.SubjectAlternativeName(addresses),
            ExtendedKeyUsageOID.SERVER_AUTH,
            valid_days,
        )

    def client(self, name: str, *, valid_days: int = 30) -> KeyPair:
        """Issue a certificate whose common name is *name*."""
        return self._issue(
            f"client-{name}",
            name,
            x509.SubjectAlternativeName([x509.DNSName(name)]),
            ExtendedKeyUsageOID.CLIENT_AUTH,
            valid_days,
        )

    def client_context(self, pair: KeyPair | None = None) -> ssl.SSLContext:
        """Return a context that trusts this authority only, and shows *pair* when given."""
        context = ssl.create_default_context(cafile=str(self.authority))
        if pair is not None:
            context.load_cert_chain(pair.certificate, pair.key)
        return context

    def server_files(self) -> dict[str, bytes]:
        """Return what a server needs, by file name."""
        return {
            "ca.pem": self.authority.read_bytes(),
            "server.pem": self.server.certificate.read_bytes(),
            "server.key": self.server.key.read_bytes(),
        }

    def _issue(
        self,
        stem: str,
        common_name: str,
        alternatives: x509.SubjectAlternativeName,
        usage: x509.ObjectIdentifier,
        valid_days: int,
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(
            self._authority_key.public_key()
        )
        certificate = (
            _builder(_name(common_name), self._authority_name, key, now, valid_days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(alternatives, critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(identifier, critical=False)
            .sign(self._authority_key, hashes.SHA256())
        )
        pair = KeyPair(self._folder / f"{stem}.pem", self._folder / f"{stem}.key")
        pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        pair.key.chmod(0o600)
        return pair


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    valid_days: int,
) -> x509.CertificateBuilder:
    day = datetime.timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + min(valid_days, 0) * day - day)
        .not_valid_after(now + valid_days * day)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
