"""From a valid configuration to settings: defaults filled in, and the rules that need more than one value.

Looks at the machine (folders, interpreters, users) and changes nothing on it. Every broken rule
becomes a problem; a key with a problem already gets no second one.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from djsup.config import access_format, dotenv, shared_addresses, static_folders
from djsup.config.find import default_runtime_dir
from djsup.config.forms import unix_path_problem
from djsup.config.isolation import IsolationRules
from djsup.config.problem import Problem, shown
from djsup.core.model import (
    DASHBOARD_USER,
    AccessSettings,
    Address,
    AddressKind,
    Canary,
    DashboardSettings,
    Health,
    Limits,
    LogSettings,
    Preload,
    ProgramReload,
    ProgramSettings,
    ReloadPolicy,
    ScalingPolicy,
    Settings,
    SiteName,
    SiteSettings,
    StaticFolder,
    TlsSettings,
)
from djsup.core.routes import normal

if TYPE_CHECKING:
    from djsup.config.documents import Documents
    from djsup.config.places import KeyPath
    from djsup.config.schema import (
        Configuration,
        DashboardTable,
        LimitsTable,
        ProgramTable,
        SiteLogTable,
        SiteTable,
        TlsTable,
    )

CONTROL_SOCKET = "control.sock"
DASHBOARD_PATHS = frozenset({"api", "static", "login", "logout", "metrics", "healthz"})
TOKEN_FILE = "djsup.token"  # noqa: S105 -- a file's name
VIRTUALENVS = (".venv", "venv")
NO_ACCESS_LOG = (
    "has no effect: an access log is a file that the workers write, and [log] names no directory for it"
)
KEPT_RUNNING = frozenset({"instances", "reload", "notify", "start_timeout", "watchdog"})
"""Keys of a program that mean nothing with a schedule."""
ENV_FILE_MAX_BYTES = 1024 * 1024


def settle(configuration: Configuration, documents: Documents) -> tuple[Settings, list[Problem]]:
    """The settings, and what the owner should know though they are valid.

    The settings are of use only when ``documents`` holds no problem afterwards.
    """
    settler = _Settler(configuration, documents)
    return settler.settings(), settler.warnings


class _Settler:
    def __init__(self, configuration: Configuration, documents: Documents) -> None:
        self.configuration = configuration
        self.documents = documents
        self.warnings: list[Problem] = []
        self.euid = os.geteuid()
        self.runtime_dir = ""
        self.routed = False
        """Whether the addresses at the top of the file are the router's."""
        self.shared_tls: tuple[Address, ...] = ()
        self._listened: dict[str, KeyPath] = {}  # address as text: the key that named it first

    def settings(self) -> Settings:
        configuration, documents = self.configuration, self.documents
        runtime_dir = default_runtime_dir(documents.environ)
        if configuration.runtime_dir is not None:
            runtime_dir = documents.absolute(("runtime_dir",), configuration.runtime_dir)
        too_long = unix_path_problem(f"{runtime_dir}/{CONTROL_SOCKET}")
        if too_long:
            self._wrong(("runtime_dir",), hint=too_long)
        self.runtime_dir = runtime_dir
        self.shared_tls = self._addresses(("tls_listen",), configuration.tls_listen)
        shared = self._shared_listen()
        settings = Settings(
            file=documents.file,
            runtime_dir=runtime_dir,
            sites=tuple(
                self._site(SiteName(name), table, shared) for name, table in configuration.sites.items()
            ),
            dashboard=self._dashboard(configuration.dashboard) if configuration.dashboard else None,
            log=self._log(),
            orphan_grace_s=configuration.orphan_grace,
            stop_delay_s=configuration.stop_delay,
            redirects=tuple(
                (self._host(("redirects", host), host), origin)
                for host, origin in configuration.redirects.items()
            ),
            acme_dir=self._acme_dir(configuration.acme_dir),
        )
        settings = shared_addresses.settle(settings, self.documents, self._wrong, self.warnings)
        self._keep_apart(settings)
        if not settings.sites and not documents.is_broken(("sites",)):
            self.warnings.append(Problem(file=documents.file, hint="no site is configured"))
        return settings

    def _wrong(self, path: KeyPath, **words: str | None) -> None:
        """Report a problem at a key, unless one is told of it already."""
        if not self.documents.is_broken(path):
            raw = self.documents.raw(path)
            if raw is not None:
                words.setdefault("found", shown(raw))
            self.documents.problems.append(self.documents.problem(path, **words))

    def _keep_apart(self, settings: Settings) -> None:
        """The dashboard may do what an operator may: no site should run as its user."""
        if settings.dashboard is None or self.euid != 0:
            return
        its_user = settings.dashboard.user or DASHBOARD_USER
        for site in settings.sites:
            if site.user == its_user:
                hint = (
                    f"{its_user} is the dashboard's user, too: the site can act as an operator; name another"
                )
                self.warnings.append(self.documents.problem(("sites", site.name, "user"), hint=hint))

    # --- addresses -----------------------------------------------------------------------------

    def _shared_listen(self) -> tuple[Address, ...]:
        """The addresses at the top of the file, for the sites without their own.

        A site that is alone there, with nothing that only a router can do, listens there by itself.
        """
        path: KeyPath = ("listen",)
        addresses = self._addresses(path, self.configuration.listen)
        without = [
            name
            for name, table in self.configuration.sites.items()
            if table.listen is None and not self.documents.is_broken(("sites", name, "listen"))
        ]
        if not addresses and not self.documents.is_broken(path):
            for name in [each for each in without if self.configuration.sites[each].tls is None]:
                self._wrong(
                    ("sites", name, "listen"),
                    hint='is missing: name an address, as listen = ["127.0.0.1:8001"], here or at the top '
                    "of the file",
                )
        elif addresses and not without and not self.documents.is_broken(("sites",)):
            hint = "has no effect: every site has a listen of its own"
            self.warnings.append(self.documents.problem(path, hint=hint))
        self.routed = len(without) > 1 or bool(
            self.configuration.redirects or self.configuration.acme_dir or self.shared_tls
        )
        return addresses

    def _addresses(self, path: KeyPath, found: list[Address]) -> tuple[Address, ...]:
        return tuple(self._address((*path, index), address) for index, address in enumerate(found))

    def _address(self, path: KeyPath, address: Address) -> Address:
        if address.kind is AddressKind.UNIX:
            address = Address(AddressKind.UNIX, self.documents.absolute(path, address.host))
            too_long = unix_path_problem(address.host)
            if too_long:
                self._wrong(path, hint=too_long)
        first = self._listened.setdefault(str(address), path)
        if first != path:
            problem = self.documents.problem(first)
            where = f"{problem.file}:{problem.line} ({problem.key})"
            self._wrong(path, hint=f"{address} is listened on twice: here and at {where}")
        return address

    # --- sites ---------------------------------------------------------------------------------

    def _site(self, name: SiteName, table: SiteTable, shared: tuple[Address, ...]) -> SiteSettings:
        path: KeyPath = ("sites", name)
        directory = self._directory((*path, "directory"), table.directory)
        if table.wsgi is None and table.settings is None and directory is not None:
            self._expect_manage_py(path, directory)
        listen, routed = ((), shared) if self.routed else (shared, ())
        if table.listen is not None:
            listen, routed = self._addresses((*path, "listen"), table.listen), ()
            if not listen and table.tls is None:
                self._wrong((*path, "listen"), hint="at least one address is needed, or no listen at all")
        self._identity(path, table.user, table.group)
        python = self._python((*path, "python"), table.python, directory)
        isolation = IsolationRules(self.documents, self._wrong, self.warnings, (*path, "isolation")).settle(
            table.isolation,
            table.user,
            {"directory": directory or "/", "python": python, "runtime_dir": self.runtime_dir},
        )
        if self.euid == 0 and table.user is None and not self.documents.is_broken((*path, "user")):
            hint = "is not set: the site runs as root; name a user who owns nothing but the site"
            self.warnings.append(self.documents.problem((*path, "user"), hint=hint))
        hosts = tuple(self._host((*path, "hosts", index), host) for index, host in enumerate(table.hosts))
        shared_tls = self.shared_tls if table.tls is not None and not table.tls.listen else ()
        tls = self._tls((*path, "tls"), table.tls, shared_tls, hosts) if table.tls is not None else None
        return SiteSettings(
            name=name,
            directory=directory or "",
            python=python,
            listen=listen if tls is None else (*listen, *tls.listen),
            trusted_proxies=self._trusted_proxies(path, table),
            proxy_protocol=table.proxy_protocol,
            wsgi=table.wsgi,
            settings=table.settings,
            env=tuple({**self._env_file((*path, "env_file"), table.env_file), **table.env}.items()),
            user=table.user,
            group=table.group,
            hosts=hosts,
            default=table.default,
            static=self._static(path, table, directory),
            workers=table.workers,
            scaling=self._scaling((*path, "scaling"), table),
            threads=table.threads,
            preload=Preload(str(table.preload).lower()),
            limits=self._limits((*path, "limits"), table.limits),
            health=Health(table.health.path, table.health.expect, table.health.host),
            reload=self._reload_policy((*path, "reload", "canary", "workers"), table),
            programs=tuple(
                self._program((*path, "programs", program), program, inner)
                for program, inner in table.programs.items()
            ),
            tls=tls,
            shared=(*routed, *shared_tls),
            shared_tls=shared_tls,
            mount=table.mount or "",
            queue=table.queue,
            queue_timeout_s=table.queue_timeout,
            access=self._access((*path, "log", "access"), table.log),
            isolation=isolation,
        )

    def _host(self, path: KeyPath, written: str) -> str:
        """A host's name, as clients ask for it."""
        host = normal(written)
        if not host.isascii():
            self._wrong(path, hint="cannot be written in ASCII (IDNA), so no client can ask for it")
        return host

    def _reload_policy(self, path: KeyPath, table: SiteTable) -> ReloadPolicy:
        """How new code takes over, and what is run before and after."""
        reload, canary = table.reload, table.reload.canary
        if canary is not None and canary.workers > reload.surge:
            hint = (
                f"is above surge ({reload.surge}): no worker of the old code goes before the verdict, so those on "
                f"trial come on top; set surge = {canary.workers}, or fewer workers here"
            )
            self._wrong(path, hint=hint)
        return ReloadPolicy(
            surge=reload.surge,
            keep_previous_s=reload.keep_previous,
            canary=Canary(
                canary.workers,
                canary.seconds,
                canary.max_error_rate,
                canary.max_slowdown,
                canary.min_requests,
            )
            if canary is not None
            else None,
            before=table.before_reload,
            after=table.after_reload,
            hook_timeout_s=table.hook_timeout,
        )

    def _access(self, path: KeyPath, table: SiteLogTable) -> AccessSettings:
        """What a site logs: its own word, else that of [log]."""
        log = self.configuration.log
        request_id = log.request_id if table.request_id is None else table.request_id
        written = table.access or log.access
        if table.access not in (None, "off") and log.directory is None:
            self.warnings.append(self.documents.problem(path, hint=NO_ACCESS_LOG))
        if log.directory is None:
            written = "off"
        pieces: tuple[str, ...] = ()
        if written not in ("json", "off"):
            pieces = access_format.parse(access_format.COMBINED if written == "combined" else written)
        return AccessSettings(
            format=written,
            pieces=pieces,
            exclude=tuple(log.access_exclude if table.access_exclude is None else table.access_exclude),
            request_id="respond" if request_id == "respond" else "on" if request_id else "off",
        )

    def _scaling(self, path: KeyPath, table: SiteTable) -> ScalingPolicy:
        """How it follows its load; what is written where there is nothing to follow is said to have no effect."""
        count, scaling = table.workers, table.scaling
        written = self.documents.raw(path)
        for key in written if isinstance(written, dict) else ():
            hint = ""
            if not count.scales:
                hint = f"has no effect: the number of workers is fixed ({count.least})"
            elif count.least and key != "down_after":
                hint = (
                    f"has no effect: the site always has {count.least} worker(s); it sleeps with min = 0 only"
                )
            if hint and key in type(scaling).model_fields:
                self.warnings.append(self.documents.problem((*path, key), hint=hint))
        return ScalingPolicy(
            down_after_s=scaling.down_after,
            sleep_after_s=scaling.sleep_after,
            hibernate_after_s=scaling.hibernate_after,
            start_asleep=scaling.start_asleep,
        )

    def _trusted_proxies(self, path: KeyPath, table: SiteTable) -> tuple[str, ...]:
        own = table.trusted_proxies
        networks = self.configuration.trusted_proxies if own is None else own
        where: KeyPath = ("trusted_proxies",) if own is None else (*path, "trusted_proxies")
        if table.proxy_protocol and not networks and not self.documents.is_broken(where):
            self._wrong(
                (*path, "proxy_protocol"),
                hint="needs trusted_proxies: a header from a proxy that is not in there is not read",
            )
        for index, network in enumerate(networks):
            if network.endswith("/0"):
                hint = "trusts every address: whoever reaches the site can say that he is somebody else"
                warning = self.documents.problem((*where, index), hint=hint)
                if warning not in self.warnings:  # sites share the networks at the top of the file
                    self.warnings.append(warning)
        return tuple(dict.fromkeys(networks))

    def _acme_dir(self, written: str | None) -> str | None:
        if written is None:
            return None
        folder = self.documents.absolute(("acme_dir",), written)
        if not Path(folder).is_dir():
            hint = f"{folder} is no folder yet; it is served once it is there"
            self.warnings.append(self.documents.problem(("acme_dir",), hint=hint))
        return folder

    def _tls(
        self, path: KeyPath, table: TlsTable, shared: tuple[Address, ...], hosts: tuple[str, ...]
    ) -> TlsSettings:
        from djsup.config.tls import TlsRules  # noqa: PLC0415 -- cryptography takes a tenth of a second

        listen = self._addresses((*path, "listen"), table.listen)
        return TlsRules(self.documents, self._wrong, self.warnings, path).settle(table, listen, shared, hosts)

    def _directory(self, path: KeyPath, value: str) -> str | None:
        directory = self.documents.absolute(path, value)
        if Path(directory).is_dir():
            return directory
        what = "is no folder" if Path(directory).exists() else "does not exist"
        self._wrong(path, hint=f"{directory} {what}")
        return None

    def _expect_manage_py(self, path: KeyPath, directory: str) -> None:
        broken = any(self.documents.is_broken((*path, key)) for key in ("wsgi", "settings"))
        if not broken and not Path(directory, "manage.py").is_file():
            self.documents.problems.append(
                self.documents.problem(
                    (*path, "wsgi"),
                    hint=f"is missing: {directory} holds no manage.py that names the settings; write wsgi = "
                    f'"{path[-1]}.wsgi:application", or mend directory',
                )
            )

    def _python(self, path: KeyPath, value: str | None, directory: str | None) -> str:
        if value is None:
            own = [Path(directory, name, "bin", "python") for name in VIRTUALENVS] if directory else []
            return next((str(each) for each in own if os.access(each, os.X_OK)), sys.executable)
        python = Path(self.documents.absolute(path, value))
        if python.is_dir():
            folder, python = python, python / "bin" / "python"
            if not python.exists():
                broken = python.is_symlink()
                why = f"{python} points to nothing" if broken else f"there is no {python}"
                self._wrong(path, hint=f"{folder} is no virtualenv that works: {why}")
        elif not python.exists():
            on_path = shutil.which(value) if "/" not in value else None
            instead = f'; for the one on PATH write "{on_path}"' if on_path else ""
            self._wrong(path, hint=f"{python} does not exist{instead}")
        if python.exists() and not os.access(python, os.X_OK):
            self._wrong(path, hint=f"{python} can't be executed")
        return str(python)

    def _env_file(self, path: KeyPath, value: str | None) -> dict[str, str]:
        if value is None:
            return {}
        file = self.documents.absolute(path, value)
        try:
            with Path(file).open("rb") as stream:
                content = stream.read(ENV_FILE_MAX_BYTES + 1)
            if len(content) > ENV_FILE_MAX_BYTES:
                self._wrong(path, hint=f"{file} is longer than {ENV_FILE_MAX_BYTES} bytes")
                return {}
            variables, mistakes = dotenv.parse(content.decode())
        except OSError as error:
            self._wrong(path, hint=f"cannot read {file}: {error.strerror}")
            return {}
        except UnicodeDecodeError:
            self._wrong(path, hint=f"{file} is no UTF-8")
            return {}
        for mistake in mistakes:
            self.documents.problems.append(Problem(file=file, line=mistake.line, hint=mistake.error))
        return variables

    def _static(self, path: KeyPath, table: SiteTable, directory: str | None) -> tuple[StaticFolder, ...]:
        """The folders of static files, if nothing else comes to light with them."""
        private = {"the configuration": self.documents.file, "the site's directory": directory or ""}
        if table.env_file is not None:
            private["env_file"] = self.documents.absolute((*path, "env_file"), table.env_file)
        if self.configuration.dashboard is not None:
            token_file = self.configuration.dashboard.token_file or TOKEN_FILE
            private["the dashboard's token_file"] = self.documents.absolute(
                ("dashboard", "token_file"), token_file
            )
            if (read_token_file := self.configuration.dashboard.read_token_file) is not None:
                private["the dashboard's read_token_file"] = self.documents.absolute(
                    ("dashboard", "read_token_file"), read_token_file
                )
        folders = []
        for prefix, written in table.static.items():
            key = (*path, "static", prefix)
            folder = replace(written, prefix=prefix, path=self.documents.absolute(key, written.path))
            folders.append(folder)
            mistake = static_folders.mistake(folder, private)
            if mistake is not None:
                self._wrong(key, hint=mistake)
            elif not Path(folder.path).exists() and not self.documents.is_broken(key):
                hint = f"{folder.path} does not exist yet; its files are served once it does"
                self.warnings.append(self.documents.problem(key, hint=hint))
        return tuple(folders)

    def _identity(self, path: KeyPath, user: str | None, group: str | None) -> None:
        """A user and a group exist, and djsup may become them."""
        if user is not None:
            try:
                uid = pwd.getpwnam(user).pw_uid
            except KeyError:
                self._wrong((*path, "user"), hint=f"there is no user {user} on this machine")
            else:
                if self.euid not in (0, uid):
                    self._not_root((*path, "user"))
        if group is not None:
            try:
                gid = grp.getgrnam(group).gr_gid
            except KeyError:
                self._wrong((*path, "group"), hint=f"there is no group {group} on this machine")
            else:
                if self.euid != 0 and gid != os.getegid():
                    self._not_root((*path, "group"))

    def _not_root(self, path: KeyPath) -> None:
        kind = path[-1]
        hint = f"only root can run a site as another {kind}, and djsup runs as uid {self.euid}"
        self._wrong(path, hint=f"{hint}; leave {kind} out or start djsup as root")

    def _limits(self, path: KeyPath, table: LimitsTable) -> Limits:
        if table.soft_timeout and table.soft_timeout >= table.request_timeout:
            self._wrong(
                (*path, "soft_timeout"),
                hint=f"comes too late: it must be shorter than request_timeout ({table.request_timeout:g} s)",
            )
        return Limits(
            request_timeout_s=table.request_timeout,
            soft_timeout_s=table.soft_timeout,
            max_timeout_s=table.max_timeout,
            boot_timeout_s=table.boot_timeout,
            drain_timeout_s=table.drain_timeout,
            stable_after_s=table.stable_after,
            max_requests=table.max_requests,
            max_memory_bytes=table.max_memory,
            max_lifetime_s=table.max_lifetime,
            max_body_bytes=table.max_body,
            max_header_bytes=table.max_header,
            keepalive_s=table.keepalive,
            header_timeout_s=table.header_timeout,
            body_timeout_s=table.body_timeout,
            write_timeout_s=table.write_timeout,
        )

    def _program(self, path: KeyPath, name: str, table: ProgramTable) -> ProgramSettings:
        self._identity(path, table.user, None)
        if table.schedule is not None:
            for key in KEPT_RUNNING & table.model_fields_set:
                self._wrong(
                    (*path, key), hint="is for a program that is kept running; this one has a schedule"
                )
        elif table.timeout:
            self._wrong((*path, "timeout"), hint="is for a program with a schedule")
        if table.schedule is None and not table.notify and "start_timeout" in table.model_fields_set:
            self._wrong((*path, "start_timeout"), hint="has no meaning without notify = true")
        return ProgramSettings(
            name=name,
            command=table.command,
            instances=table.instances,
            env=tuple(table.env.items()),
            user=table.user,
            stop_signal=table.stop_signal,
            stop_timeout_s=table.stop_timeout,
            reload=ProgramReload(table.reload),
            notify=table.notify,
            start_timeout_s=table.start_timeout,
            watchdog_s=table.watchdog,
            schedule=table.schedule,
            timeout_s=table.timeout,
        )

    # --- dashboard and log ---------------------------------------------------------------------

    def _dashboard(self, table: DashboardTable) -> DashboardSettings:
        path: KeyPath = ("dashboard", "token_file")
        token_file = self.documents.absolute(path, table.token_file or TOKEN_FILE)
        if Path(token_file).is_dir():
            self._wrong(path, hint=f"{token_file} is a folder")
        elif not Path(token_file).parent.is_dir():
            self._wrong(path, hint=f"the folder {Path(token_file).parent} does not exist")
        self._identity(("dashboard",), table.user, None)
        read_token_file = None
        if table.read_token_file is not None:
            path = ("dashboard", "read_token_file")
            read_token_file = self.documents.absolute(path, table.read_token_file)
            if Path(read_token_file).is_dir() or not Path(read_token_file).parent.is_dir():
                self._wrong(path, hint="is to be a file in a folder that exists")
            elif read_token_file == token_file:
                self._wrong(path, hint="is token_file, too: whoever may look could change everything")
        if table.prefix.split("/")[1] in DASHBOARD_PATHS:
            hint = 'is a path that the dashboard has itself; take another, as "/djsup"'
            self._wrong(("dashboard", "prefix"), hint=hint)
        proxies = table.trusted_proxies
        return DashboardSettings(
            listen=self._address(("dashboard", "listen"), table.listen),
            token_file=token_file,
            user=table.user,
            metrics_public=table.metrics_public,
            read_token_file=read_token_file,
            hosts=tuple(name.lower() for name in table.hosts),
            prefix=table.prefix.rstrip("/"),
            trusted_proxies=tuple(self.configuration.trusted_proxies if proxies is None else proxies),
        )

    def _log(self) -> LogSettings:
        table, path = self.configuration.log, ("log", "directory")
        directory = None
        if table.directory is not None:
            directory = self.documents.absolute(path, table.directory)
            if Path(directory).exists() and not Path(directory).is_dir():
                self._wrong(path, hint=f"{directory} is no folder")
        access: KeyPath = ("log", "access")
        if directory is None and self.documents.raw(access) not in (None, "off"):
            self.warnings.append(self.documents.problem(access, hint=NO_ACCESS_LOG))
        return LogSettings(format=table.format, directory=directory, access=table.access)
