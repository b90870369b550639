"""What a reload would change, and what that costs: named as in the file, secrets hidden, no setting left out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args, get_origin

import pytest

from core.playbook import BLOG, OTHER, SHOP, settings
from core.test_plan import OTHERWISE
from djsup.config import schema
from djsup.core import plan
from djsup.core.difference import Cost, Difference, between, cost_of, to_json
from djsup.core.model import DashboardSettings, ProgramSettings, ReloadPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator


def keys(table: type[schema.Table], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every setting of the schema; ``*`` stands for a name."""
    for name, field in table.model_fields.items():
        inner = [each for each in _types(field.annotation) if isinstance(each, type)]
        tables = [each for each in inner if issubclass(each, schema.Table)]
        named = get_origin(field.annotation) in (dict, list)
        if not tables:
            yield (*path, name)
        for each in tables:
            yield from keys(each, (*path, name, "*") if named else (*path, name))


def _types(annotation: Any) -> Iterator[Any]:
    inner = get_args(annotation)
    if not inner:
        yield annotation
    for each in inner:
        yield from _types(each)


KEYS = list(keys(schema.Configuration))


def test_the_walk_over_the_schema_finds_settings_of_every_depth() -> None:
    assert ("orphan_grace",) in KEYS
    assert ("sites", "*", "limits", "max_body") in KEYS
    assert ("sites", "*", "programs", "*", "command") in KEYS
    assert ("sites", "*", "reload", "canary", "min_requests") in KEYS


@pytest.mark.parametrize("key", KEYS, ids=".".join)
def test_every_setting_has_a_cost(key: tuple[str, ...]) -> None:
    assert isinstance(cost_of(key), Cost)


@pytest.mark.parametrize("field", sorted({*OTHERWISE} - {"shared"}))
def test_a_difference_costs_what_the_plan_needs(field: str) -> None:
    new = replace(BLOG, **{field: OTHERWISE[field]})
    (site,) = between(settings(BLOG), settings(new), frozenset()).sites
    assert site.differences
    needed = plan.needs_generation(plan.changes(BLOG, new))
    assert site.loads is needed
    assert {each.cost in (Cost.GENERATION, Cost.LISTENER) for each in site.differences} == {needed}


@pytest.mark.parametrize("limit", sorted(plan.LIMITS_FIELDS))
def test_limits_have_the_names_of_the_file(limit: str) -> None:
    new = replace(BLOG, limits=replace(BLOG.limits, **{limit: 12345}))
    (difference,) = between(settings(BLOG), settings(new), frozenset()).sites[0].differences
    key = difference.setting
    assert ("sites", "*", *key.split(".")) in KEYS
    told = plan.LIMITS_FIELDS[limit] is plan.Change.TELL_LIMITS
    assert difference.cost is (Cost.TOLD if told else Cost.NOTHING)


def test_values_of_the_environment_are_hidden() -> None:
    old = replace(BLOG, env=(("PASSWORD", "swordfish"), ("GONE", "tuna")))
    program = ProgramSettings("mail", "mail", env=(("TOKEN", "herring"),))
    new = replace(BLOG, env=(("PASSWORD", "haddock"), ("ADDED", "cod")), programs=(program,))
    forecast = between(settings(old), settings(new), frozenset())
    shown = str(to_json(forecast))
    assert not any(fish in shown for fish in ("swordfish", "tuna", "herring", "haddock", "cod'"))
    found = {each.setting: (each.before, each.after) for each in forecast.sites[0].differences}
    assert found["env.PASSWORD"] == ("(hidden)", "(hidden)")
    assert found["env.ADDED"] == ("not set", "(hidden)")
    assert found["env.GONE"] == ("(hidden)", "not set")
    assert found["programs.mail.env.TOKEN"] == ("not set", "(hidden)")


def test_sites_come_and_go_and_the_code_of_those_asked_for_is_loaded() -> None:
    forecast = between(settings(BLOG, SHOP), settings(replace(BLOG, threads=8)), None)
    assert [(each.name, each.does, each.loads) for each in forecast.sites] == [
        ("blog", "stays", True),
        ("shop", "removed", False),
    ]
    assert forecast.sites[0].differences == (Difference("threads", "4", "8", Cost.GENERATION),)
    (blog, shop) = between(settings(BLOG), settings(BLOG, SHOP), frozenset()).sites
    assert (blog.loads, shop.does) == (False, "added")


def test_programs_that_follow_new_code_are_named() -> None:
    blog = replace(
        BLOG, programs=(ProgramSettings("celery", "celery"), ProgramSettings("cron", "x", schedule="@daily"))
    )
    assert between(settings(blog), settings(blog), None).sites[0].restarts == ("celery",)
    assert between(settings(blog), settings(blog), frozenset()).sites[0].restarts == ()


def test_what_belongs_to_no_site_differs_too() -> None:
    old = settings(BLOG)
    new = replace(old, runtime_dir="/run/other", dashboard=DashboardSettings(OTHER, "/token"))
    found = {each.setting: each.cost for each in between(old, new, None).rest}
    assert found["runtime_dir"] is Cost.DAEMON
    assert found["dashboard.listen"] is Cost.DASHBOARD


def test_what_sites_share_differs_at_the_top_of_the_file_and_loads_no_code() -> None:
    old = settings(BLOG, SHOP)
    sites = tuple(replace(each, shared=(OTHER,), shared_tls=(OTHER,)) for each in old.sites)
    shared = replace(old, sites=sites, shared=(OTHER, *BLOG.listen), shared_tls=(OTHER,))
    forecast = between(old, shared, frozenset())
    assert forecast.rest == (
        Difference("listen", "not set", str(BLOG.listen[0]), Cost.TOLD),
        Difference("tls_listen", "not set", str(OTHER), Cost.GENERATION),
    )
    for each in forecast.sites:
        assert each.loads
        assert each.differences == (Difference("tls_listen", "not set", str(OTHER), Cost.GENERATION),)
    plain = replace(shared, shared=(OTHER,), sites=sites)
    assert not any(each.loads or each.differences for each in between(shared, plain, frozenset()).sites)


def test_what_the_router_answers_by_itself_differs() -> None:
    old = settings(BLOG)
    new = replace(old, redirects=(("old.example", "https://new.example"),), acme_dir="/srv/acme")
    assert between(old, new, None).rest == (
        Difference("redirects", "not set", "old.example to https://new.example", Cost.TOLD),
        Difference("acme_dir", "not set", "/srv/acme", Cost.TOLD),
    )


@pytest.mark.parametrize("field", sorted(OTHERWISE))
def test_differences_have_the_names_of_the_file(field: str) -> None:
    new = replace(BLOG, **{field: OTHERWISE[field]})
    for each in between(settings(BLOG), settings(new), frozenset()).sites[0].differences:
        parts = each.setting.split(".")
        path = ("sites", "*", *(["env"] if parts[0] == "env" else parts))
        if parts[0] == "programs":
            path = ("sites", "*", "programs", "*", *parts[2:])
        assert any(key[: len(path)] == path or key == tuple(parts) for key in KEYS), each


def test_what_a_failed_reload_left_behind_still_differs() -> None:
    wanted = replace(BLOG, threads=8, reload=ReloadPolicy(surge=2))
    assert plan.in_force(BLOG, wanted) == replace(BLOG, reload=ReloadPolicy(surge=2))
