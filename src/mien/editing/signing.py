"""Signing keys for edited pictures: the user's own, or one made for this installation."""

from __future__ import annotations

import datetime
import logging
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from mien.errors import ExtraMissing, MienError
from mien.io import atomic

SELF_MADE: Final = "mien self-made key (not a trusted identity)"


class ProvenanceError(MienError):
    """A manifest could not be written or read."""


@dataclass(frozen=True)
class Signer:
    """A certificate chain and its private key, both PEM, for ES256. `owner` describes their owner, `remedy` what to do
    if signing fails."""

    chain: bytes
    key: bytes
    owner: str
    remedy: str = "check the certificate, or pass --no-provenance"

    @classmethod
    def of_files(cls, chain: Path, key: Path) -> Signer:
        """The user's own certificate chain (leaf first) and private key, PEM files for ES256.

        Raises:
            ExtraMissing: `cryptography` is not installed.
            ProvenanceError: a file cannot be read, or the two do not form such a pair.
        """
        try:
            signer = cls(chain.read_bytes(), key.read_bytes(), "the certificate in " + chain.name)
        except OSError as problem:
            raise ProvenanceError(f"signing key: {problem}: check --certificate and --key") from None
        if wrong := _fault(signer.chain, signer.key):
            raise ProvenanceError(f"{chain} and {key}: {wrong}: check --certificate and --key")
        return signer

    @classmethod
    def of_install(cls, folder: Path | None = None) -> Signer:
        """The key of this installation, made at first use in the user's configuration folder.

        If it cannot be stored or read there (no home folder, or not writable), a key of this process is used, and a
        warning is logged once: like a stored one, it does not identify a person.

        Raises:
            ExtraMissing: `cryptography` is not installed.
            ProvenanceError: the stored key is damaged.
        """
        folder = folder or signing_folder()
        if folder is None:
            return _passing("there is no home folder to keep the signing key in")
        remedy = f"remove the folder {folder}, and mien makes a new key"
        try:
            try:
                signer = cls(*_pair_in(folder), SELF_MADE, remedy)
            except FileNotFoundError:
                _keep(folder, *_make_chain())
                signer = cls(*_pair_in(folder), SELF_MADE, remedy)
        except FileNotFoundError as problem:
            raise ProvenanceError(
                f"{problem.filename}: is missing beside the rest of the pair: {remedy}"
            ) from None
        except OSError as problem:
            return _passing(f"{folder}: the signing key cannot be kept or read here: {problem.strerror}")
        for name, data in (("chain.pem", signer.chain), ("key.pem", signer.key)):
            if (
                b"-----BEGIN " not in data or b"-----END " not in data
            ):  # `sign` checks the content if signing fails
                raise ProvenanceError(
                    f"{folder / name}: is {'incomplete' if data.strip() else 'empty'}: {remedy}"
                )
        return signer


def _make_chain() -> tuple[bytes, bytes]:
    """A chain of a leaf certificate and a root, leaf first, and the leaf's private key; the root's key is discarded."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    except ImportError:
        raise ExtraMissing("edit", "cryptography") from None
    start = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
    end = start + datetime.timedelta(days=3650)

    def name(words: str) -> x509.Name:
        parts = {NameOID.ORGANIZATION_NAME: SELF_MADE, NameOID.COMMON_NAME: words}
        return x509.Name([x509.NameAttribute(oid, text) for oid, text in parts.items()])

    def usage(**on: bool) -> x509.KeyUsage:
        every = (
            "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
            "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
        )  # fmt: skip
        return x509.KeyUsage(**{word: on.get(word, False) for word in every})

    root_key, leaf_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name, leaf_name = name("mien local root"), name("mien local signer")

    def certificate(subject: x509.Name, public: Any) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(root_name).public_key(public)
        builder = (
            builder.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(end)
        )
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
        return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False).add_extension(
            issuer, False
        )

    root = (
        certificate(root_name, root_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .add_extension(usage(key_cert_sign=True, crl_sign=True), True)
        .sign(root_key, hashes.SHA256())
    )
    leaf = (
        certificate(leaf_name, leaf_key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(usage(digital_signature=True), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
        .sign(root_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    key = leaf_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return leaf.public_bytes(pem) + root.public_bytes(pem), key


def signing_folder() -> Path | None:
    """The folder of this user's key; None without a home folder. An empty or relative variable counts as unset."""
    given = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    if not given.is_absolute():
        try:
            home = Path.home() if os.environ.get("HOME", "unset") else Path()
        except RuntimeError:  # neither HOME nor an entry in the user database
            home = Path()
        if not home.is_absolute():
            return None
        given = home / ".config"
    return given / "mien" / "signing"


def _pair_in(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "chain.pem").read_bytes(), (folder / "key.pem").read_bytes()


def _keep(folder: Path, chain: bytes, key: bytes) -> None:
    """Store a new pair in `folder`, atomically; a pair that another process stored meanwhile is kept.

    Raises:
        OSError: it cannot be written.
    """
    try:
        with atomic.folder(folder) as made:  # fails if the folder exists and is not empty
            made.chmod(0o700)
            for name, data in (("chain.pem", chain), ("key.pem", key)):
                # A private key is readable to its owner only, from the first byte on.
                with os.fdopen(
                    os.open(made / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
                ) as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
    except OSError:
        if not folder.is_dir():
            raise


@cache
def _passing(why: str) -> Signer:
    """A key that is not stored, the same for the whole process."""
    logging.getLogger("mien").warning("mien: %s: edits are signed with a key of this run only", why)
    return Signer(*_make_chain(), SELF_MADE)


def _fault(chain: bytes, key: bytes) -> str:
    """The problem of a PEM chain and key for ES256 as text; "" if there is none.

    Raises:
        ExtraMissing: `cryptography` is not installed.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509 import load_pem_x509_certificates
    except ImportError:
        raise ExtraMissing("edit", "cryptography") from None
    try:
        leaf = load_pem_x509_certificates(chain)[0].public_key()
    except (ValueError, IndexError):
        return "the certificate chain is empty, incomplete or not a PEM file"
    try:
        private = serialization.load_pem_private_key(key, password=None)
    except TypeError:
        return "the private key needs a passphrase, which mien does not support"
    except (ValueError, UnsupportedAlgorithm):
        return "the private key is empty, incomplete or not a PEM file"
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        return "the private key is not for ES256 (curve P-256)"
    return "" if private.public_key() == leaf else "the private key belongs to another certificate"
