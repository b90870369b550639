"""Find and load a site's application, warm Django up, and leave nothing open that a fork would share."""

import contextlib
import importlib
import os
import re
import sys
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, Optional, Tuple

from djsup_worker.boot import SiteError

Application = Callable[..., Iterable[bytes]]

MANAGE_PY_MAX_BYTES = 256 * 1024
SETTINGS_IN_MANAGE_PY = re.compile(
    r"""environ(?:\.setdefault\(|\[)\s*["']DJANGO_SETTINGS_MODULE["']\s*(?:,|\]\s*=)\s*["']([\w.]+)["']"""
)


@dataclass(frozen=True)
class Loaded:
    """A loaded application and what it came from."""

    application: Application
    wsgi: str
    """``module:callable``; empty when Django's own ``get_wsgi_application`` made it."""
    settings: str
    django: str
    """Django's version, empty when the application is not Django's."""


def load(directory: str, wsgi: Optional[str], settings: Optional[str]) -> Loaded:
    """Import the application; with Django, its URLconf and template engines too.

    What the configuration does not name is found as manage.py finds it: the settings from
    ``DJANGO_SETTINGS_MODULE`` of the environment or else of manage.py, the application from
    ``WSGI_APPLICATION`` of the settings.

    Raises:
        SiteError: nothing names the application, or what is named is not there or not callable.
        Exception: whatever the site's own code raises while it is imported.
    """
    settings = settings or os.environ.get("DJANGO_SETTINGS_MODULE") or settings_named_by_manage_py(directory)
    if settings:
        os.environ["DJANGO_SETTINGS_MODULE"] = settings
    if wsgi is None:
        if not settings:
            raise SiteError(
                "nothing names the application: no wsgi is set, and %s has no manage.py"
                " that names DJANGO_SETTINGS_MODULE" % directory
            )
        wsgi = _wsgi_of_settings()
    application = _import_application(wsgi) if wsgi else _django_application()
    django = ""
    if "django" in sys.modules and (settings or _configures_itself()):
        django = _warm_django()
    return Loaded(application, wsgi, settings or "", django)


def _configures_itself() -> bool:
    """Whether the site has called ``settings.configure`` instead of naming a module, and has URLs."""
    settings = getattr(sys.modules.get("django.conf"), "settings", None)
    return bool(getattr(settings, "configured", False)) and hasattr(settings, "ROOT_URLCONF")


def settings_named_by_manage_py(directory: str) -> Optional[str]:
    """The settings module that manage.py in this directory names; None: there is none, or it names none."""
    try:
        with open(os.path.join(directory, "manage.py"), encoding="utf-8", errors="replace") as file:
            found = SETTINGS_IN_MANAGE_PY.search(file.read(MANAGE_PY_MAX_BYTES))
    except OSError:
        return None
    return found.group(1) if found else None


def _wsgi_of_settings() -> str:
    settings = importlib.import_module("django.conf").settings
    dotted = settings.WSGI_APPLICATION
    if not dotted:
        return ""
    module, _, name = dotted.rpartition(".")
    return "%s:%s" % (module, name)


def _import_application(wsgi: str) -> Application:
    module_name, _, name = wsgi.partition(":")
    found: Any = importlib.import_module(module_name)
    for part in (name or "application").split("."):
        if not hasattr(found, part):
            raise SiteError('the module "%s" has no "%s"' % (module_name, name or "application"))
        found = getattr(found, part)
    if not callable(found):
        raise SiteError('"%s" is a %s, not a WSGI application' % (wsgi, type(found).__name__))
    application: Application = found
    return application


def _django_application() -> Application:
    application: Application = importlib.import_module("django.core.wsgi").get_wsgi_application()
    return application


def _warm_django() -> str:
    """Load what Django would load with its first request; gives its version."""
    django = importlib.import_module("django")
    if not importlib.import_module("django.apps").apps.ready:
        return str(django.get_version())
    _load_urls(importlib.import_module("django.urls").get_resolver())
    for engine in importlib.import_module("django.template").engines.all():
        # Each is made at its first use; a mistake in TEMPLATES raises here.
        for part in ("template_loaders", "template_context_processors"):
            getattr(getattr(engine, "engine", None), part, None)
    if "django.db.models" in sys.modules:
        importlib.import_module("django.db.models.sql.compiler")
        _load_databases(importlib.import_module("django.db").connections.databases.values())
    importlib.import_module("django.utils.translation").gettext("")  # the catalogue of LANGUAGE_CODE
    importlib.import_module("django.utils.formats").get_format("DATE_FORMAT")
    return str(django.get_version())


def _load_databases(databases: Iterable[Dict[str, Any]]) -> None:
    """Import what speaks to the databases. Nothing is connected, and a driver that is not there is missed when it is used."""
    load_backend = importlib.import_module("django.db.utils").load_backend
    for each in databases:
        with contextlib.suppress(Exception):
            load_backend(each["ENGINE"])


def _load_urls(resolver: Any) -> None:
    for pattern in resolver.url_patterns:  # imports the module of an include()
        if hasattr(pattern, "url_patterns"):
            _load_urls(pattern)
    resolver.reverse_dict  # noqa: B018  # builds the table that reverse() looks in


def close_connections() -> None:
    """Close the connections to databases and caches that the import opened: two processes cannot share one."""
    for module, name in (("django.db", "connections"), ("django.core.cache", "caches")):
        if module not in sys.modules:
            continue
        close_all = getattr(getattr(sys.modules[module], name, None), "close_all", None)
        if close_all is not None:
            try:
                close_all()
            except Exception as error:  # noqa: BLE001  # a site's own backend; what stays open is found later
                sys.stderr.write("closing django.%s: %r\n" % (name, error))


def origin(error: BaseException) -> Tuple[str, bool]:
    """One line that says what an exception is, and whether its traceback adds anything to it."""
    if isinstance(error, SiteError):
        return str(error), False
    return "%s: %s" % (type(error).__name__, error), True
