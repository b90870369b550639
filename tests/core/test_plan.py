from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from core.playbook import BLOG, OTHER
from djsup.core import plan
from djsup.core.model import (
    AccessSettings,
    Canary,
    CertificateFiles,
    Health,
    Isolation,
    Limits,
    Preload,
    ProgramSettings,
    ReloadPolicy,
    ScalingPolicy,
    SiteSettings,
    StaticFolder,
    TlsSettings,
    WorkerCount,
)
from djsup.core.plan import Change

OTHERWISE: dict[str, Any] = {
    "directory": "/srv/other",
    "python": "/usr/bin/python3.13",
    "listen": (OTHER,),
    "trusted_proxies": ("10.0.0.0/8",),
    "proxy_protocol": True,
    "wsgi": "other.wsgi:application",
    "settings": "other.settings",
    "env": (("DEBUG", "0"),),
    "user": "blog",
    "group": "blog",
    "isolation": Isolation(no_new_privs=True),
    "hosts": ("blog.example",),
    "default": True,
    "workers": WorkerCount(4, 4),
    "scaling": ScalingPolicy(down_after_s=300.0),
    "static": (StaticFolder("/static/", "/srv/blog/static"),),
    "threads": 8,
    "preload": Preload.NEVER,
    "limits": Limits(keepalive_s=1.0),
    "health": Health("/healthz"),
    "reload": ReloadPolicy(canary=Canary()),
    "programs": (ProgramSettings("celery", "celery worker"),),
    "tls": TlsSettings((), (CertificateFiles("/etc/blog.pem", "/etc/blog.key"),)),
    "shared": (OTHER,),
    "shared_tls": (OTHER,),
    "mount": "/blog",
    "queue": 10,
    "queue_timeout_s": 1.0,
    "access": AccessSettings("json"),
}


def test_every_field_of_a_site_has_an_entry() -> None:
    assert set(plan.SITE_FIELDS) == {each.name for each in fields(SiteSettings)}


def test_every_limit_has_an_entry() -> None:
    assert set(plan.LIMITS_FIELDS) == {each.name for each in fields(Limits)}


def test_every_field_is_changed_by_these_tests() -> None:
    assert set(OTHERWISE) | {"name"} == set(plan.SITE_FIELDS)


@pytest.mark.parametrize("field", sorted(OTHERWISE))
def test_changed_field_needs_what_the_table_says(field: str) -> None:
    found = plan.changes(BLOG, replace(BLOG, **{field: OTHERWISE[field]}))
    told = {Change.TELL_LIMITS} if field == "limits" else set()
    assert found == {plan.SITE_FIELDS[field]} | told
    in_processes = plan.SITE_FIELDS[field] in {Change.GENERATION, Change.LISTENERS}
    assert plan.needs_generation(found) is in_processes


@pytest.mark.parametrize("limit", sorted(plan.LIMITS_FIELDS))
def test_changed_limit_needs_what_the_table_says(limit: str) -> None:
    limits = replace(BLOG.limits, **{limit: 12345})
    assert plan.changes(BLOG, replace(BLOG, limits=limits)) == {Change.NOTHING, plan.LIMITS_FIELDS[limit]}
    assert plan.must_tell(BLOG.limits, limits) is (plan.LIMITS_FIELDS[limit] is Change.TELL_LIMITS)


def test_equal_tables_need_nothing() -> None:
    assert plan.changes(BLOG, replace(BLOG)) == frozenset()


def test_other_addresses_with_tls_need_a_generation() -> None:
    secured = replace(BLOG, tls=TlsSettings(BLOG.listen, ()))
    assert plan.needs_generation(plan.changes(BLOG, secured))
    assert plan.needs_generation(plan.changes(secured, BLOG))
