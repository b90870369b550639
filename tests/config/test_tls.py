"""``[sites.NAME.tls]``: what it becomes, and every mistake in it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization

from authority import Authority
from djsup.core.model import Address, AddressKind, CertificateFiles, SiteName, TlsSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from authority import PairFiles
    from djsup.config import Loaded, Problem

TLS = """
[sites.blog]
directory = "blog"
python = "/usr/bin/env"
{site}
[sites.blog.tls]
listen = ["0.0.0.0:443"]
certificate = "site.pem"
key = "site.key"
{tls}
"""


def https(port: int = 443) -> Address:
    return Address(AddressKind.TCP, "0.0.0.0", port)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def pair(authority: Authority, folder: Path) -> PairFiles:
    return authority.issue(folder, "blog.example.com", "*.example.org")


def tls_of(loaded: Loaded) -> TlsSettings:
    site = loaded.settings.site(SiteName("blog"))
    assert site is not None
    assert site.tls is not None
    return site.tls


def warned(loaded: Loaded, key: str) -> str:
    return " ".join(each.hint or "" for each in loaded.warnings if each.key == f"sites.blog.tls.{key}")


def test_every_key_arrives(
    load: Callable[[str], Loaded], authority: Authority, pair: PairFiles, folder: Path, not_root: int
) -> None:
    other = authority.issue(folder, "shop.example", file="other")
    more = '[[sites.blog.tls.certificates]]\ncertificate = "other.pem"\nkey = "other.key"'
    loaded = load(
        TLS.format(
            site='listen = ["0.0.0.0:80"]',
            tls=f'redirect = true\nhsts = "max-age=9; includeSubDomains"\n{more}',
        )
    )
    assert loaded.warnings == ()
    assert tls_of(loaded) == TlsSettings(
        listen=(https(),),
        certificates=(
            CertificateFiles(str(pair.certificate), str(pair.key)),
            CertificateFiles(str(other.certificate), str(other.key)),
        ),
        redirect="https://{host}",
        hsts="max-age=9; includeSubDomains",
    )
    (site,) = loaded.settings.sites
    assert site.listen == (https(80), https()), "the site's addresses are all of them"
    assert site.tls_listen == (https(),)


@pytest.mark.parametrize("listen", ["", "listen = []"])
def test_a_site_may_have_no_address_but_those_with_tls(
    load: Callable[[str], Loaded], pair: PairFiles, listen: str
) -> None:
    (site,) = load(TLS.format(site=listen, tls="")).settings.sites
    assert site.listen == (https(),)
    assert site.tls == TlsSettings((https(),), (CertificateFiles(str(pair.certificate), str(pair.key)),))


@pytest.mark.parametrize(
    ("written", "port", "origin"),
    [
        ("false", 443, ""),
        ("true", 443, "https://{host}"),
        ("true", 8443, "https://{host}:8443"),
        ('"https://www.example.com"', 8443, "https://www.example.com"),
    ],
)
def test_a_redirect_goes_to_the_port_that_speaks_tls_or_where_it_is_told(
    load: Callable[[str], Loaded], pair: PairFiles, written: str, port: int, origin: str
) -> None:
    text = TLS.format(site="", tls=f"redirect = {written}").replace(":443", f":{port}")
    assert tls_of(load(text)).redirect == origin


@pytest.mark.parametrize(
    ("spoil", "key", "hint"),
    [
        (
            lambda pair, _other: pair.certificate.unlink(),
            "certificate",
            "cannot read {pair.certificate}: No such file",
        ),
        (lambda pair, _other: pair.key.unlink(), "key", "cannot read {pair.key}: No such file"),
        (lambda pair, _other: pair.certificate.write_text("x"), "certificate", "holds no certificate in PEM"),
        (lambda pair, _other: pair.key.write_text("x"), "key", "holds no private key in PEM"),
        (
            lambda pair, other: pair.key.write_bytes(other.key.read_bytes()),
            "key",
            "the key in {pair.key} does not match the certificate in {pair.certificate}",
        ),
        (
            lambda pair, other: pair.certificate.write_bytes(
                other.certificate.read_bytes() + pair.certificate.read_bytes()
            ),
            "key",
            "the certificate itself comes first in the file",
        ),
        (lambda pair, _other: pair.certificate.write_bytes(b"x" * 300_000), "certificate", "is longer than"),
    ],
)
def test_a_pair_of_no_use_is_a_mistake_at_its_key(
    problems: Callable[[str], list[Problem]],
    authority: Authority,
    pair: PairFiles,
    folder: Path,
    spoil: Callable[[PairFiles, PairFiles], object],
    key: str,
    hint: str,
) -> None:
    spoil(pair, authority.issue(folder, "other.example", file="other"))
    (problem,) = problems(TLS.format(site="", tls=""))
    assert problem.key == f"sites.blog.tls.{key}"
    assert problem.line is not None
    assert problem.found == f'"site.{"pem" if key == "certificate" else "key"}"'
    assert hint.format(pair=pair) in str(problem.hint)


def test_a_key_with_a_password_is_a_mistake(
    problems: Callable[[str], list[Problem]], pair: PairFiles
) -> None:
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    form = serialization.PrivateFormat.PKCS8
    pair.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, locked))
    (problem,) = problems(TLS.format(site="", tls=""))
    assert "has a password" in str(problem.hint)


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        (TLS.replace('listen = ["0.0.0.0:443"]\n', ""), "listen", "is missing"),
        (TLS.replace('key = "site.key"\n', ""), "key", "is missing"),
        (
            TLS.replace("{tls}", "redirect = 301"),
            "redirect",
            "allowed: true, false, or an address without a path",
        ),
        (TLS.replace("{tls}", 'redirect = "https://a/b"'), "redirect", "an address without a path"),
        (TLS.replace("{tls}", 'hsts = "a year"'), "hsts", "max-age=31536000; includeSubDomains"),
        (TLS.replace("{tls}", 'certificat = "x"'), "certificat", 'did you mean "certificate"?'),
        (
            TLS.replace("{tls}", '[[sites.blog.tls.certificates]]\ncertificate = "site.pem"\nkeys = "x"'),
            "certificates[0].keys",
            'did you mean "key"?',
        ),
        (
            TLS.replace(
                "{tls}", '[[sites.blog.tls.certificates]]\ncertificate = "site.pem"\nkey = "none.key"'
            ),
            "certificates[0].key",
            "none.key: No such file",
        ),
        (TLS.replace("{site}", 'listen = ["0.0.0.0:443"]'), "listen[0]", "is listened on twice"),
    ],
)
def test_other_mistakes_are_told_at_their_key(
    problems: Callable[[str], list[Problem]], pair: PairFiles, text: str, key: str, words: str
) -> None:
    found = {each.key: str(each) for each in problems(text.replace("{site}", "").replace("{tls}", ""))}
    assert f"sites.blog.tls.{key}" in found
    assert words in found[f"sites.blog.tls.{key}"]


def test_an_expired_certificate_is_warned_of(
    load: Callable[[str], Loaded], authority: Authority, folder: Path
) -> None:
    now = datetime.now(UTC)
    authority.issue(folder, "a", not_before=now - timedelta(days=9), not_after=now - timedelta(days=1))
    assert re.search(
        r"has expired on \d{4}-\d\d-\d\d", warned(load(TLS.format(site="", tls="")), "certificate")
    )
    authority.issue(folder, "a", not_before=now + timedelta(days=1), not_after=now + timedelta(days=9))
    assert "is valid from" in warned(load(TLS.format(site="", tls="")), "certificate")


def test_a_key_that_every_user_can_read_is_warned_of(load: Callable[[str], Loaded], pair: PairFiles) -> None:
    assert warned(load(TLS.format(site="", tls="")), "key") == ""
    pair.key.chmod(0o644)
    assert f"chmod o= {pair.key}" in warned(load(TLS.format(site="", tls="")), "key")


def test_a_host_without_a_certificate_is_warned_of(load: Callable[[str], Loaded], pair: PairFiles) -> None:
    hosts = 'hosts = ["blog.example.com", "www.example.org", "*.example.org", "a.b.example.org"]'
    text = warned(load(TLS.format(site=hosts, tls="")), "certificate")
    assert text.endswith("no certificate of this site is for a.b.example.org")
