"""The performer: turns each action of the core into system calls, and what comes of it into events.

Holds what the operating system gave us (sockets, channels, pidfds, pipes, shared memory) and decides
nothing. Whatever happens is put into the one queue of events; nothing here waits.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, assert_never

from djsup import jails, launch, own_processes, turns
from djsup.bequest import Holdings, ProcessHeld
from djsup.core import actions, events
from djsup.core.actions import Action, Level, NoticeKind
from djsup.core.estate import Stage, TemplateLeft, WorkerLeft
from djsup.core.model import (
    KEEPER,
    ROUTER,
    Generation,
    Pid,
    ProcId,
    ProgramSettings,
    SiteName,
    SiteSettings,
)
from djsup.doorkeeper import Doorkeeper
from djsup.keeper import letters
from djsup.keeper.letters import Farewell
from djsup.keeper_line import KeeperLine
from djsup.keyring import Keyring
from djsup.router_line import EARLIER, RouterLine
from djsup.shell import (
    access_logs,
    channels,
    handovers,
    logs,
    notifications,
    processes,
    samples,
    shipment,
    sockets,
    stack_files,
    watches,
)
from djsup.shell.runtime import RuntimeUnusable
from djsup.stack_dump import WAIT_S, StackDump
from djsup.turns import Turn
from djsup_worker import messages
from djsup_worker.stacks import TRACE_SIGNAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from djsup.core.estate import Estate
    from djsup.core.events import Event, Exit
    from djsup.core.model import DashboardSettings, Settings
    from djsup.program_adoption import HelperLeft
    from djsup.shell.control import Peer
    from djsup.shell.history import History
    from djsup.shell.runtime import RuntimeDirectory

STACKS_SIGNAL = signal.SIGRTMIN + 3
"""The signal on which a worker that does not hear writes the stacks of its threads (faulthandler)."""

MESSAGES_AT_ONCE = 32
BAD_MESSAGES_SAID = 5
STANDS_BACK_SHARE = 1 / 2
"""How long code that is loaded leaves the processors to others, as a part of the time that it may take."""
FORKED_STANDS_BACK_S = 5.0
"""As long as a worker does that was forked beside those of another generation."""
PATIENCE_S, PATIENCE_SHARE = 1.0, 1 / 8
"""How long it may be kept from one meanwhile, at most: on a machine that is never idle what stands back comes to little."""


PRINTED = {
    NoticeKind.WORKER_DIED,
    NoticeKind.REQUEST_OVERDUE,
    NoticeKind.PROGRAM_DIED,
    NoticeKind.PROGRAM_FINISHED,
}
"""Notices whose details are what a process has printed."""


@dataclass(slots=True)
class Process:
    """A process asked for: what the operating system gave us for it."""

    proc: ProcId
    site: SiteName
    generation: Generation
    slot: int | None
    """A worker's row; None for a template and the dashboard."""
    capture: logs.Capture
    channel: socket.socket | None = None
    notifications: notifications.Notifications | None = None
    """Where a program says that it is ready."""
    pid: Pid | None = None
    kill_when_known: str | None = None
    ready: bool = False
    boots: bool = False
    """Whether it was run on the worker's folder: a template, or a worker that loads the site by itself."""
    spoke: bool = False
    """Whether it has said anything: so it is the worker, and no longer the stage before it."""
    stacks: StackDump | None = None
    """The dump of its stacks that was asked for last."""
    adopted: bool = False
    """An earlier daemon has started it."""
    new_limits: messages.NewLimits | None = None
    """What it is told when it calls."""
    heir: Generation | None = None
    """Who gets the connections of one that drains."""
    bad_messages: int = 0
    """How much it has sent that is no message, or none that it may send."""
    tls: bool = False
    """Whether it, or a worker forked from it, has listeners that speak TLS."""
    router: int = 0
    """The number of the router that it has a line to, or had one last; 0: none, EARLIER: of another program's, if any."""
    drained: bool = False
    """Whether it has said that it has finished all that it had."""
    revision: int = messages.REVISION
    """Which it speaks; 0: that is not known."""
    farewell: Farewell | None = None
    """How the keeper ends a program if nobody adopts it; None: it ends with the daemon."""

    def kept_fds(self) -> dict[str, int]:
        """What the keeper gets of a program."""
        found = self.capture.ends()
        if self.notifications is not None:
            found[letters.NOTIFY] = self.notifications.fileno()
        return found


class Performer:
    """Performs actions. ``tell`` puts an event into the daemon's queue."""

    def __init__(
        self,
        runtime: RuntimeDirectory,
        tell: Callable[[Event], None],
        log: logs.Logs,
        history: History,
        inherited: Iterable[tuple[str, socket.socket]] = (),
    ) -> None:
        self.roster: dict[ProcId, Process] = {}
        self.scoreboards: dict[SiteName, samples.Scoreboard] = {}
        self.stack_files: dict[SiteName, stack_files.StackFile] = {}
        self.retired: Callable[[Process], None] = lambda _process: None
        """Called when a worker is gone, before its row may be used again."""
        self.listeners = sockets.Listeners(inherited)
        self.processes = processes.Processes(self._read_all_channels)
        self.dashboard: DashboardSettings | None = None
        self.dashboard_pid: Pid | None = None
        self.doorkeeper = Doorkeeper(self.say)
        self.orphan_grace_s = 60.0
        self._leaving_until = 0.0
        self.quitting = False
        self.keyring = Keyring(self.say, self._give_certificates_again)
        self.access = access_logs.AccessLogs(self._say_of_access)
        self._surroundings = jails.OwnSurroundings()
        self._watches = watches.Watches(lambda address: tell(events.ConnectionWaiting(address)))
        self.handovers = handovers.Handovers()
        self.router = RouterLine(runtime.router, self.listeners, tell)
        self.keeper = KeeperLine()
        self._runtime = runtime
        self._tell = tell
        self._log = log
        self._history = history
        try:
            shipment.lay_out(runtime.worker)
        except OSError as error:
            raise RuntimeUnusable(
                f"{runtime.worker}: what workers run cannot be written there: {error.strerror}; "
                "make room, or give djsup another runtime_dir"
            ) from error

    # --- one action ---------------------------------------------------------------------------

    def perform(self, action: Action) -> None:
        """Do what one action says."""
        match action:
            case actions.BindListener(address):
                try:
                    self.listeners.bind(address)
                except sockets.CannotListen as error:
                    self._tell(events.ListenerFailed(address, str(error)))
                else:
                    self.router.bound(address)
                    self._tell(events.ListenerBound(address))
            case actions.CloseListener(address):
                self._watches.drop(address)
                self.listeners.close(address)
                self.router.bound(address)
            case actions.WatchListener(address):
                self._watches.watch(address, self.listeners.socket(address))
            case actions.UnwatchListener(address):
                self._watches.drop(address)
            case actions.CloseRoute(name):
                self.router.close_route(name)
            case actions.OpenRoute(name):
                self.router.open_route(name)
            case actions.StartTemplate(proc, generation, site):
                self._boot(proc, generation, None, site)
            case actions.BootWorker(proc, generation, slot, site):
                self._boot(proc, generation, slot, site)
            case actions.ForkWorker():
                self._fork(action)
            case actions.DrainWorker():
                self._drain(action)
            case actions.TellLimits(proc, limits):
                self._send(proc, messages.NewLimits(asdict(limits)))
            case actions.KillProcess(proc, name):
                self._kill(proc, name)
            case actions.DumpStacks():
                self._dump_stacks(action)
            case actions.ForgetGeneration(name, generation):
                self.handovers.forget(name, generation)
                if all(each.site != name for each in self.roster.values()):
                    self._forget_scoreboard(name)  # a site that sleeps cold needs none
            case actions.ForgetSite(name):
                self.router.forget(name)
                self._log.forget(name)
                self.keyring.forget(name)
                self.access.forget(name)
                self._surroundings.forget(name)
                self._forget_scoreboard(name)
                if file := self.stack_files.pop(name, None):
                    file.close()
            case actions.Publish():
                self._publish(action)
            case actions.StartProgram(proc, site, generation, program, instance):
                self._start_program(proc, site, generation, program, instance)
            case actions.RunHook(proc, site, generation, name, command):
                self._start_program(proc, site, generation, ProgramSettings(name, command), None)
            case actions.StartDashboard(proc):
                self._start_dashboard(proc)
            case actions.StartRouter(proc):
                self._start_router(proc)
            case actions.StartKeeper(proc):
                self._start_keeper(proc)
            case actions.Quit():
                self.quitting = True
            case _:
                assert_never(action)

    def say(
        self,
        kind: str,
        text: str,
        level: Level = Level.INFO,
        site: SiteName | None = None,
        details: str = "",
        by: str = "",
    ) -> None:
        """Something that the core does not know of, for the log and the history."""
        self._log.say(text, level.value, details, by=by)
        self._history.add(kind, text, level=level.value, site=site, details=details, by=by)

    def close(self) -> None:
        """Give everything back at the end."""
        self.listeners.close_all()
        self._surroundings.forget_all()
        self.router.close()
        self.router.take_vault(None)
        if self.quitting:
            self._runtime.router.unlink(missing_ok=True)
            self._runtime.keeper.unlink(missing_ok=True)

    def may_use_dashboard_socket(self, peer: Peer) -> bool:
        """Whether a peer of the dashboard's control socket is the dashboard that we run."""
        return self.dashboard_pid is not None and peer.pid == self.dashboard_pid

    # --- starting -----------------------------------------------------------------------------

    def _serving(self, site: SiteName) -> Iterator[Process]:
        """The workers of a site that serve."""
        return (each for each in self.roster.values() if each.site == site and each.ready)

    def _standing_back(
        self, command: processes.Command, site: SiteSettings, timeout_s: float
    ) -> processes.Command:
        """A command that computes for long: while its site is served it leaves the processors to others at first."""
        is_served = any(self._serving(site.name))
        return replace(
            command,
            turn=Turn.LONG,
            stands_back_s=timeout_s * STANDS_BACK_SHARE if is_served else 0.0,
            patience_s=min(PATIENCE_S, timeout_s * PATIENCE_SHARE),
        )

    def _boot(self, proc: ProcId, generation: Generation, slot: int | None, site: SiteSettings) -> None:
        """Run the site's interpreter on the worker's folder, and tell it what it is to be."""
        capture = logs.Capture(self._log, site.name, slot)
        process = Process(proc, site.name, generation, slot, capture, tls=_speaks_tls(site), boots=True)
        try:
            board, stacks = self._scoreboard(site.name), self._stack_file(site.name)
            fds = [board.fd, self.handovers.receiving_end(site.name, generation)]
            fds += [self.handovers.sending_end(site.name, generation), stacks.fd]
            process.channel, theirs = channels.open_pair()
        except OSError as error:
            self._tell(events.SpawnFailed(proc, f"no descriptors for it: {error}"))
            return

        @contextmanager
        def command(out: int, err: int) -> Iterator[processes.Command]:
            fd, home = theirs.fileno(), self._runtime.worker
            found = jails.command_of(site, home, fd, generation, out, err, self._surroundings)
            yield self._standing_back(found, site, site.limits.boot_timeout_s)

        with theirs:
            if not self._run(process, command):
                return
        fds += capture.readers()
        fds += [self.listeners.fileno(address) for address in site.listen]
        self._send(proc, self._boot_message(generation, slot, site), fds)
        self._give_certificates(process)
        self._begin_access(process)

    def _run(
        self, process: Process, command: Callable[[int, int], AbstractContextManager[processes.Command]]
    ) -> bool:
        """Run a process, and tell what comes of it. ``command`` gets the ends that it prints to. Gives whether it runs."""
        proc, capture = process.proc, process.capture
        try:
            out, err = capture.open()
        except OSError as error:
            self._cannot_run(process, f"no descriptors for it: {error}")
            return False
        try:
            with command(out, err) as ready:
                process.pid = capture.pid = self.processes.run(ready, partial(self._ended, process))
        except (processes.CannotRun, OSError) as error:
            self._cannot_run(process, str(error))
            return False
        finally:
            os.close(out)
            os.close(err)
        self.roster[proc] = process
        if process.channel is not None:
            self._enrol(process, process.channel)
        if process.notifications is not None:
            process.notifications.pid = process.pid
        self._tell(events.ProcessStarted(proc, process.pid))
        return True

    def _cannot_run(self, process: Process, error: str) -> None:
        """Tell, and give back what is the daemon's of what was opened for it."""
        if process.farewell is not None:
            self.keeper.gone(process.proc)
        self._close_channel(process)
        self._close_notifications(process)
        self._close_capture(process)
        self._tell(events.SpawnFailed(process.proc, error))

    def _boot_message(self, generation: Generation, slot: int | None, site: SiteSettings) -> messages.Boot:
        own_name = next((host for host in site.hosts if not host.startswith("*")), "localhost")
        return messages.Boot(
            role="template" if slot is None else "worker",
            site=site.name,
            generation=generation,
            slot=-1 if slot is None else slot,
            directory=site.directory,
            wsgi=site.wsgi,
            settings=site.settings,
            threads=site.threads,
            limits=asdict(site.limits),
            health_path=site.health.path,
            health_expect=site.health.expect,
            health_host=site.health.host or own_name,
            listeners=[str(address) for address in site.listen],
            orphan_grace_s=self.orphan_grace_s,
            home=str(self._runtime.home),
            trusted_proxies=list(site.trusted_proxies),
            proxy_protocol=site.proxy_protocol,
            static={each.prefix: {"path": each.path, "changes": each.changes} for each in site.static},
            tls_listeners=[str(address) for address in (*site.tls_listen, *site.shared_tls)],
            hosts=list(site.hosts),
            mount=site.mount.encode().decode("latin-1"),
        )

    def _give_certificates(self, process: Process) -> None:
        """Send a worker what it shows to clients that come by TLS; a template needs no key."""
        if process.tls and process.slot is not None and process.pid is not None:
            self.keyring.give(process.site, lambda message, fds: self._send(process.proc, message, fds))

    def _give_certificates_again(self, site: SiteName) -> None:
        for process in list(self.roster.values()):
            if process.site == site:
                self._give_certificates(process)

    def _scoreboard(self, site: SiteName) -> samples.Scoreboard:
        if site not in self.scoreboards:
            self.scoreboards[site] = samples.Scoreboard(site)
        return self.scoreboards[site]

    def _stack_file(self, site: SiteName) -> stack_files.StackFile:
        if site not in self.stack_files:
            self.stack_files[site] = stack_files.StackFile(site)
        return self.stack_files[site]

    def _forget_scoreboard(self, site: SiteName) -> None:
        if board := self.scoreboards.pop(site, None):
            board.close()

    def _fork(self, action: actions.ForkWorker) -> None:
        """Have a template fork: the worker's end of its channel and pipes travel with the wish.

        Whatever becomes of the wish, the far end of the channel is closed in the end: a worker that
        never says hello is told of by the end of its channel, and by nothing else.
        """
        capture = logs.Capture(self._log, action.site, action.slot)
        template = self.roster.get(action.template)
        tls = template is not None and template.tls
        process = Process(action.proc, action.site, action.generation, action.slot, capture, tls=tls)
        if template is not None:
            process.revision = template.revision
        with ExitStack() as given:
            try:
                process.channel, theirs = channels.open_pair()
                given.enter_context(theirs)
                out, err = capture.open()
            except OSError as error:
                self._cannot_run(process, f"no descriptors for it: {error}")
                return
            self._enrol(process, process.channel)
            self._begin_access(process)
            fork = messages.Fork(action.proc, action.slot)
            self._send(action.template, fork, [theirs.fileno(), out, err, *capture.readers()])
            os.close(out)
            os.close(err)

    def _start_program(
        self,
        proc: ProcId,
        site: SiteSettings,
        generation: Generation,
        program: ProgramSettings,
        instance: int | None,
    ) -> None:
        """Run a program, or with no instance a command before or after a reload."""
        label = program.name if instance is None else f"{program.name}/{instance}"
        ends = instance is None or program.schedule is not None
        capture = logs.Capture(self._log, site.name, None, label, keep_all=ends)
        process = Process(proc, site.name, generation, None, capture)

        @contextmanager
        def command(out: int, err: int) -> Iterator[processes.Command]:
            address = None
            if program.notify or program.watchdog_s:
                process.notifications = self._notifications(proc, launch.identity(site, program).uid)
                address = process.notifications.address
            command = launch.command(site, program, instance, out, err, address)
            if instance is not None and self._is_kept(process, program):
                command = replace(command, orphan_signal=None, announcement=self.keeper.announcement(proc))
            if instance is None:
                command = self._standing_back(command, site, site.reload.hook_timeout_s)
            yield jails.isolated(command, site, self._runtime.worker, self._surroundings)

        self._run(process, command)

    def _notifications(
        self, proc: ProcId, uid: int | None, fd: int | None = None
    ) -> notifications.Notifications:
        found = notifications.Notifications(
            self._runtime.notify / str(proc),
            uid,
            lambda word: self._tell(events.ProgramSaid(proc, word.ready, word.alive, word.status)),
            fd,
        )
        asyncio.get_running_loop().add_reader(found.fileno(), found.read)
        return found

    # --- djsup's own processes ----------------------------------------------------------------

    def _own(self, proc: ProcId, name: str, owner: SiteName) -> Process:
        return Process(proc, owner, Generation(0), None, logs.Capture(self._log, SiteName(name), None))

    def _start_dashboard(self, proc: ProcId) -> None:
        process = self._own(proc, "dashboard", SiteName("dashboard"))
        control = self._runtime.dashboard_control
        command = partial(own_processes.dashboard, self.dashboard, control, self.listeners, self.doorkeeper)
        if self._run(process, command):
            self.dashboard_pid = process.pid

    def _start_router(self, proc: ProcId) -> None:
        process = self._own(proc, "router", ROUTER)
        if not self._run(process, partial(own_processes.router, self.router, self.orphan_grace_s)):
            self.router.close()
            return
        self.connect_to_router(anew=True)
        self.router.tell_alive([_name(each) for each in self.roster.values() if each.slot is not None])

    def connect_to_router(self, *, anew: bool = False) -> None:
        """Give every worker that serves a shared address its line to the router that runs.

        If that runs ``anew``, to those, too, that may still have a connection of the one before.
        """
        for process in list(self.roster.values()):
            self._connect_to_router(process, anew=anew)

    def _connect_to_router(self, process: Process, *, anew: bool = False) -> None:
        if process.slot is None or not process.ready or process.channel is None:
            return
        if process.revision != messages.REVISION:  # the router would not understand it
            return
        if process.router == self.router.number:
            return
        if not self.router.routes(process.site) and not (anew and process.router):
            return
        line = self.router.connect(process.site, _name(process))
        if line is not None:
            process.router = self.router.number
            self._send(process.proc, messages.Route(alone=not self.router.has_elder), [line.fileno()])
            line.close()

    def _start_keeper(self, proc: ProcId) -> None:
        process = self._own(proc, "keeper", KEEPER)
        command = partial(own_processes.keeper, self._runtime.keeper, process, self.orphan_grace_s)
        if not self._run(process, command):
            return
        self._open_keeper(process)
        with self.keeper.patience():
            for each in self.roster.values():
                if each.farewell is not None and each.pid is not None:
                    pidfd, _, _ = self.processes.held(each.pid)
                    fds = {**each.kept_fds(), letters.PIDFD: pidfd}
                    self.keeper.keep(each.proc, each.farewell, fds, each.pid)

    def _open_keeper(self, process: Process) -> None:
        assert process.channel is not None
        assert process.pid is not None
        self.keeper.open(process.channel, partial(self.processes.kill, process.pid, "SIGKILL"))

    def _is_kept(self, process: Process, program: ProgramSettings) -> bool:
        """Have a program kept that is about to be run, if it is to outlive us and there is a keeper."""
        farewell = _farewell(program)
        if self.orphan_grace_s > 0 and self.keeper.keep(process.proc, farewell, process.kept_fds()):
            process.farewell = farewell
        return process.farewell is not None

    def tell_keeper(self, settings: Settings) -> None:
        """From now on programs outlive us as these settings say, and are ended as they do."""
        self.orphan_grace_s = settings.orphan_grace_s
        self.keeper.grace(settings.orphan_grace_s)
        known = {(site.name, each.name): each for site in settings.sites for each in site.programs}
        for process in self.roster.values():
            program = known.get((process.site, (process.capture.program or "").partition("/")[0]))
            if process.farewell is None or program is None:
                continue
            if process.farewell != (farewell := _farewell(program)):
                process.farewell = farewell
                self.keeper.change(process.proc, farewell)

    # --- running ------------------------------------------------------------------------------

    def _drain(self, action: actions.DrainWorker) -> None:
        process = self.roster.get(action.proc)
        if process is None:
            return
        fds = []
        if action.handover_to is not None:
            self.handovers.succeed(process.site, process.generation, action.handover_to)
            fds.append(self.handovers.sending_end(process.site, action.handover_to))
            self._redirect(process, action.handover_to)
        process.heir = action.handover_to
        self._send(action.proc, messages.Drain(action.timeout_s), fds)
        self._look_for_deserted(process.site, process.generation)

    def _look_for_deserted(self, site: SiteName, generation: Generation) -> None:
        """When the last worker of a generation goes, one that is led there may not have read yet that it is led on."""
        if self.handovers.has_heir(site, generation) and not any(
            each.heir in {None, generation}
            for each in self.roster.values()
            if each.slot is not None and (each.site, each.generation) == (site, generation)
        ):
            self.handovers.desert(site, generation)

    def _redirect(self, leaving: Process, heir: Generation) -> None:
        """Before one leaves: whoever drains yet, and was to hand over to its generation, hands over to its heir.

        Else the connection of a client that is slow across two reloads would reach a socket that nobody reads.
        """
        if leaving.generation == heir:
            return
        for each in self.roster.values():
            if each.site == leaving.site and each.heir == leaving.generation:
                each.heir = heir
                again = messages.Drain(0.0)  # its deadline stands
                self._send(each.proc, again, [self.handovers.sending_end(each.site, heir)])

    def lead_on(self, left: Estate) -> None:
        """An earlier daemon led connections on, and nobody knows whose to whom: all go to who serves now.

        So does what lies in the socket of a generation that has no workers any more.
        """
        name, heir = left.settings.name, left.serving
        if heir is None:
            return
        for each in left.generations:
            if (name, each.number) in self.handovers:
                self.handovers.succeed(name, each.number, heir)
        serves = any(each.generation == heir for each in left.workers if each.stage is not Stage.LEAVING)
        for worker in left.workers:
            process = self.roster.get(worker.proc)
            if serves and process is not None and worker.stage is Stage.LEAVING:
                process.heir = heir
                self._lead_on(process, worker.limits.drain_timeout_s)
        for each in left.generations:
            self._look_for_deserted(name, each.number)

    def _lead_on(self, orphan: Process, timeout_s: float) -> None:
        """Tell one that leaves who comes after it: it has its time for that if it had not heard that it is to go."""
        if orphan.heir is not None and (orphan.site, orphan.heir) in self.handovers:
            outlet = self.handovers.sending_end(orphan.site, orphan.heir)
            self._send(orphan.proc, messages.Drain(timeout_s), [outlet])

    def _dump_stacks(self, action: actions.DumpStacks) -> None:
        process = self.roster.get(action.proc)
        if process is None or process.pid is None:
            self._publish(action.notice)
            return
        pid = process.pid
        process.stacks = StackDump(
            process.capture,
            lambda found: self._publish(replace(action.notice, details=found)),
            lambda: self.processes.send_number(pid, STACKS_SIGNAL),
        )
        self._send(process.proc, messages.Stacks(time.monotonic_ns() + int(WAIT_S * 1e9)))

    def _kill(self, proc: ProcId, name: str) -> None:
        process = self.roster.get(proc)
        if process is None:
            return
        if process.site == ROUTER:
            self.router.end()
        if process.pid is None:
            process.kill_when_known = name
        else:
            self.processes.kill(process.pid, name)

    def ask_for_stacks(self, proc: ProcId, until_ns: int, pipe: int) -> None:
        """Have a worker or template write the stacks of its threads to a pipe."""
        self._send(proc, messages.Stacks(until_ns), [pipe])

    def signal_for_stacks(self, pid: Pid) -> None:
        """Have a process that does not answer write the stacks of its threads into the file of its site."""
        self.processes.send_number(pid, TRACE_SIGNAL)

    def ask_for_profile(self, proc: ProcId, seconds: float, rate: float, pipe: int) -> None:
        """Have a worker look where its threads are, and write what it saw to a pipe."""
        self._send(proc, messages.Profile(seconds, rate), [pipe])

    def _kept_for_later(self, process: Process, message: messages.Message) -> None:
        """An adopted worker that has not called yet is too busy to hear; a signal it hears as soon as it can."""
        if isinstance(message, messages.Drain) and process.pid is not None:
            self.processes.kill(process.pid, "SIGTERM")
        elif isinstance(message, messages.NewLimits):
            process.new_limits = message

    def tell_access(self, sites: list[SiteName]) -> None:
        """Tell the running workers of these sites how they log, and hand them the files that are open now."""
        for process in self.roster.values():
            if process.site in sites and process.slot is not None:
                self._send(process.proc, *self.access.news(process.site))

    def announce_stop(self, for_s: float) -> None:
        """From now on, for this time at most, every worker's health path says that everything is going to stop."""
        self._leaving_until = time.monotonic() + for_s
        for process in self.roster.values():
            if process.ready and process.slot is not None:
                self._say_leaving(process)

    def _say_leaving(self, process: Process) -> None:
        left_s = self._leaving_until - time.monotonic()
        if left_s > 0:
            self._send(process.proc, messages.Leaving(left_s))

    def _begin_access(self, process: Process) -> None:
        """Before a worker serves: so it logs its first request."""
        told = None if process.slot is None else self.access.message(process.site)
        if told is not None:
            self._send(process.proc, *told)

    def _say_of_access(self, site: SiteName, text: str, well: bool) -> None:
        self.say("access-log", text, Level.INFO if well else Level.ERROR, site)

    def _send(self, proc: ProcId, message: messages.Message, fds: list[int] | None = None) -> None:
        """Send a message; a process that does not take it is dead or stuck, which is told elsewhere."""
        process = self.roster.get(proc)
        if process is None:
            return
        if process.channel is None:
            self._kept_for_later(process, message)
            return
        try:
            messages.send(process.channel, message, fds or ())
        except BlockingIOError:
            text = f'site "{process.site}": pid {process.pid} reads no messages'
            self.say("channel-full", text, Level.WARNING, process.site)
        except OSError:
            pass  # its end is on the way: the channel's end or the pidfd tells

    def _enrol(self, process: Process, channel: socket.socket) -> None:
        self.roster[process.proc] = process
        process.channel = channel
        asyncio.get_running_loop().add_reader(channel, self._read_channel, process)

    def _read_all_channels(self) -> None:
        """Before strangers are reaped: a worker that died at once may have said hello."""
        for process in list(self.roster.values()):
            self._read_channel(process)

    def _read_channel(self, process: Process) -> None:
        for _ in range(
            MESSAGES_AT_ONCE
        ):  # the rest is for the next turn: one site's babble must not keep others waiting
            if process.channel is None:
                return
            try:
                received = channels.receive(process.channel)
            except BlockingIOError:
                return
            except OSError:
                received = None
            except messages.BadMessage as error:
                self._say_of_bad_message(process, f"pid {process.pid} sent what is no message: {error}")
                continue
            if received is None:
                self._channel_ended(process)
                return
            self._heard(process, received)

    def _channel_ended(self, process: Process) -> None:
        self._close_channel(process)
        if process.pid is None:
            self._close_capture(process)
            del self.roster[process.proc]
            self._tell(events.SpawnFailed(process.proc, "the worker was gone before it said hello"))

    def _heard(self, process: Process, received: channels.Received) -> None:
        """Turn one message into an event, if its sender is whom it should be."""
        proc = process.proc
        process.spoke = True
        if isinstance(received.message, messages.Hello) and process.pid is None:
            self._greet(process, received.pid)
            return
        if received.pid != process.pid:
            self._say_of_bad_message(
                process, f"pid {received.pid} speaks on the channel of pid {process.pid}"
            )
            return
        match received.message:
            case messages.Loaded() as loaded if process.slot is None:
                self._tell(
                    events.TemplateLoaded(
                        proc, loaded.boot_s, loaded.python, loaded.django, tuple(loaded.unsafe[:20])
                    )
                )
            case messages.LoadFailed(error, traceback) if process.slot is None:
                self._tell(events.TemplateFailed(proc, error, traceback))
            case messages.LoadFailed(error, traceback) | messages.Unhealthy(error, traceback):
                self._tell(events.WorkerFailed(proc, error, traceback))
            case messages.ForkFailed(other, error) if process.slot is None:
                # The channel's end tells of the worker that never was; this says why.
                text = f'site "{process.site}": the template could not fork worker {other}: {error}'
                self.say("fork-failed", text, Level.ERROR, process.site)
            case messages.Ready() if process.ready and not process.adopted:
                self._say_of_bad_message(process, f"pid {process.pid} says once more that it is ready")
            case messages.Ready():
                if not process.ready:  # an adopted one says it once more
                    self._tell(events.WorkerReady(proc))
                process.ready = True
                self.processes.come_forward(received.pid)  # and the template with it, which has loaded for it
                turns.take(received.pid, Turn.SHORT)
                self._say_leaving(process)
                self._connect_to_router(process)
            case messages.Drained(handed_over, closed, cut):
                text = (
                    f'site "{process.site}": worker {process.slot} drained: {handed_over} connections handed over, '
                    f"{closed} closed, {cut} requests cut"
                )
                level = Level.WARNING if cut else Level.INFO
                process.drained = not cut
                self._history.add("drained", text, level=level.value, site=process.site, pid=process.pid)
            case messages.TimedOut() as timed_out:
                self._say_of_timeout(process, timed_out)
            case messages.AccessLogTrouble(error, dropped):
                self.access.trouble(process.site, proc, error, dropped)
            case _:
                pass  # a worker's Loaded is followed by its Ready; the rest only the daemon says

    def _say_of_bad_message(self, process: Process, what: str) -> None:
        """Some times for each process: what a site writes must not push all else out of log and history."""
        process.bad_messages += 1
        if process.bad_messages <= BAD_MESSAGES_SAID:
            last = "; no more is said of it" if process.bad_messages == BAD_MESSAGES_SAID else ""
            text = f'site "{process.site}": {what[:500]}{last}'
            self.say("bad-message", text, Level.WARNING, process.site)

    def _say_of_timeout(self, process: Process, told: messages.TimedOut) -> None:
        """A soft timeout, for the history: the worker has written it to the site's log itself."""
        text = (
            f'site "{process.site}": worker {process.slot} has run {told.request} for {told.age_s:.1f} s, longer '
            f"than soft_timeout; it was {told.outcome}"
        )
        self._history.add(
            "request-timeout",
            text[:1000],
            level="warning",
            site=process.site,
            generation=process.generation,
            pid=process.pid,
            details=told.traceback,
        )

    def _greet(self, process: Process, pid: Pid) -> None:
        """A forked worker said hello: the kernel told its pid, so watch over it and let it go on."""
        try:
            if not self.processes.adopt(pid, lambda end: self._ended(process, end)):
                return  # gone already: the channel's end tells
        except OSError:  # no descriptor is left to watch over it
            self._channel_ended(process)
            return
        process.pid = process.capture.pid = pid
        if any(each.generation != process.generation for each in self._serving(process.site)):
            self.processes.stand_back(pid, FORKED_STANDS_BACK_S, PATIENCE_S)
        self._tell(events.ProcessStarted(process.proc, pid))
        if process.kill_when_known is not None:
            self.processes.kill(pid, process.kill_when_known)
        self._send(process.proc, messages.Welcome())
        self._give_certificates(process)

    # --- adopting -----------------------------------------------------------------------------

    def adopt_scoreboard(self, site: SiteName, fd: int) -> bool:
        """Take over the shared memory that an orphan has handed in; False: it is none, or not needed."""
        if site in self.scoreboards:
            return False
        try:
            self.scoreboards[site] = samples.Scoreboard(site, fd)
        except ValueError:
            return False
        return True

    def adopt_stacks(self, site: SiteName, fd: int) -> bool:
        """Take over the file that a site's processes write their stacks to; False: it is none, or not needed."""
        if site in self.stack_files:
            return False
        try:
            self.stack_files[site] = stack_files.StackFile(site, fd)
        except ValueError:
            return False
        return True

    def reunite(
        self, left: TemplateLeft | WorkerLeft, site: SiteSettings, channel: socket.socket, revision: int
    ) -> None:
        """An orphan has called: this is its channel, and it gets pipes to print to."""
        process = self._adopted(left, site)
        process.revision = revision
        out, err = process.capture.open()
        self._enrol(process, channel)
        self._send(process.proc, messages.Adopt(), [out, err, *process.capture.readers()])
        os.close(out)
        os.close(err)
        if process.new_limits is not None:
            self._send(process.proc, process.new_limits)
        if isinstance(left, WorkerLeft):
            self._lead_on(process, left.limits.drain_timeout_s)
        self._give_certificates(process)
        self._begin_access(process)

    def take_over(self, left: TemplateLeft | WorkerLeft, site: SiteSettings, pidfd: int) -> None:
        """Watch over an orphan from now on, called or not. The pidfd is ours then."""
        process = self._adopted(left, site)
        self.processes.watch(left.pid, pidfd, lambda end: self._ended(process, end))

    def adopt_program(self, left: HelperLeft, kept: letters.Kept | None, pidfd: int) -> None:
        """Watch over a program that another daemon has started, with what its keeper has given; it is ours then."""
        proc, pid = left.proc, left.pid
        fds = {} if kept is None else kept.fds
        held = logs.Held(
            left.label,
            left.settings.schedule is not None,
            fds.get(letters.STDOUT),
            fds.get(letters.STDERR),
            "",
            "",
            (),
        )
        capture = logs.Capture.resume(self._log, left.site, None, pid, held)
        process = Process(proc, left.site, left.generation, None, capture, pid=pid)
        process.adopted, process.farewell = True, _farewell(left.settings)
        self.roster[proc] = process
        if kept is not None:
            if letters.NOTIFY in fds:
                process.notifications = self._notifications(proc, None, fds[letters.NOTIFY])
                process.notifications.pid = pid
            capture.recall("stdout", kept.take_text(letters.STDOUT), kept.lost.get(letters.STDOUT, 0))
            capture.recall("stderr", kept.take_text(letters.STDERR), kept.lost.get(letters.STDERR, 0))
            if kept.ready or kept.alive or kept.status is not None:
                self._tell(events.ProgramSaid(proc, kept.ready, kept.alive, kept.status))
        self.processes.go_on(pid, (pidfd, True, False), lambda end: self._ended(process, end))

    def give_up(self, proc: ProcId) -> None:
        """An orphan that has called is gone before it could be taken over."""
        process = self.roster.pop(proc, None)
        if process is not None:
            self._close_channel(process)
            self._close_capture(process)

    def _adopted(self, left: TemplateLeft | WorkerLeft, site: SiteSettings) -> Process:
        if left.proc not in self.roster:
            worker = left if isinstance(left, WorkerLeft) else None
            slot = None if worker is None else worker.slot
            capture = logs.Capture(self._log, site.name, slot)
            capture.pid = left.pid
            process = Process(left.proc, site.name, left.generation, slot, capture, pid=left.pid)
            process.adopted = True
            process.ready = worker is not None and worker.stage is not Stage.BOOTING
            process.router, process.revision = EARLIER, 0
            process.tls = _speaks_tls(site)
            self.roster[left.proc] = process
        return self.roster[left.proc]

    # --- another program of this process ------------------------------------------------------

    def holdings(self) -> Holdings:
        """What the program gets that replaces this one."""
        listeners, named = self.listeners.held()
        return Holdings(
            # One that has not said hello is left alone: its channel ends, and so does it.
            # The router is replaced, as one that died is: it serves on until the next has its listeners.
            tuple(
                self._held(each, each.pid)
                for each in self.roster.values()
                if each.pid is not None and each.site != ROUTER
            ),
            tuple(listeners),
            tuple(named),
            tuple(self.handovers.held()),
            tuple((name, board.fd) for name, board in self.scoreboards.items()),
            tuple((name, file.fd) for name, file in self.stack_files.items()),
            self._surroundings.made(),
            self.dashboard_pid,
            tuple(self.handovers.heirs),
            None if self.router.vault is None else self.router.vault.fileno(),
        )

    def _held(self, process: Process, pid: Pid) -> ProcessHeld:
        pidfd, with_group, killed_by_us = self.processes.held(pid)
        channel, words = process.channel, process.notifications
        return ProcessHeld(
            process.proc,
            process.site,
            process.generation,
            process.slot,
            pid,
            pidfd,
            with_group,
            killed_by_us,
            process.capture.held(),
            None if channel is None else channel.fileno(),
            None if words is None else words.fileno(),
            process.ready,
            process.boots,
            process.spoke,
            process.adopted,
            process.tls,
            process.heir,
            process.farewell,
            process.revision,
        )

    def go_on(self, holdings: Holdings) -> None:
        """Take over what the program had that ran before in this process."""
        self.listeners.take_over(holdings.listeners)
        for name, generation, intake, outlet in holdings.handovers:
            ends = socket.socket(fileno=intake), socket.socket(fileno=outlet)
            self.handovers.adopt(name, generation, *ends)
        for name, fd in holdings.scoreboards:
            self.adopt_scoreboard(name, fd)
        for name, fd in holdings.stacks:
            self.adopt_stacks(name, fd)
        self._surroundings.take_over(holdings.private_folders)
        self.dashboard_pid = holdings.dashboard_pid
        if holdings.vault is not None:
            self.router.take_vault(socket.socket(fileno=holdings.vault))
        for held in holdings.processes:
            self._go_on_with(held)
        for name, generation, heir in holdings.heirs:
            self.handovers.succeed(name, generation, heir)
            self._look_for_deserted(name, generation)

    def _go_on_with(self, held: ProcessHeld) -> None:
        proc = held.proc
        capture = logs.Capture.resume(self._log, held.site, held.slot, held.pid, held.capture)
        process = Process(proc, held.site, held.generation, held.slot, capture, pid=held.pid)
        process.ready, process.boots, process.spoke = held.ready, held.boots, held.spoke
        process.adopted, process.tls, process.heir = held.adopted, held.tls, held.heir
        process.farewell = held.farewell
        process.router, process.revision = EARLIER, held.revision
        self.roster[proc] = process
        if held.channel is not None:
            channel = socket.socket(fileno=held.channel)
            channel.setblocking(False)
            self._enrol(process, channel)
            if process.site == KEEPER:
                self._open_keeper(process)
            self._give_certificates(process)  # they may have been renewed in between
        if held.notifications is not None:
            process.notifications = self._notifications(proc, None, held.notifications)
            process.notifications.pid = held.pid
        self.processes.go_on(
            held.pid,
            (held.pidfd, held.with_group, held.killed_by_us),
            lambda end: self._ended(process, end),
        )

    # --- ending -------------------------------------------------------------------------------

    def _ended(self, process: Process, end: Exit) -> None:
        """A process is gone: hear its last words before its end is told."""
        self._read_channel(process)
        self._close_channel(process)
        self._close_notifications(process)
        process.capture.finish()
        if process.stacks is not None:
            process.stacks.finish()
        self.retired(process)
        self.access.gone(process.site, process.proc)
        self.roster.pop(process.proc, None)
        self._look_for_deserted(process.site, process.generation)
        if process.pid is not None and process.pid == self.dashboard_pid:
            self.dashboard_pid = None
        if process.site == ROUTER:
            self.router.close()
        elif process.router:
            self.router.tell_gone(_name(process), drained=process.drained)
        if process.site == KEEPER:
            self.keeper.close()
        if process.farewell is not None:
            self.keeper.gone(process.proc)
        if end.status == jails.FAILED and process.boots and not process.spoke:
            said = process.capture.last_stderr
            error = said[-1].removeprefix("djsup: ") if said else "its isolation cannot be had"
            failed = events.TemplateFailed if process.slot is None else events.WorkerFailed
            self._tell(failed(process.proc, error))
        self._tell(
            events.ProcessExited(process.proc, replace(end, stderr=tuple(process.capture.last_stderr)))
        )

    def _close_channel(self, process: Process) -> None:
        if process.channel is not None:
            asyncio.get_running_loop().remove_reader(process.channel)
            process.channel.close()
            process.channel = None

    @staticmethod
    def _close_notifications(process: Process) -> None:
        if process.notifications is not None:
            asyncio.get_running_loop().remove_reader(process.notifications.fileno())
            process.notifications.read()
            process.notifications.close()
            process.notifications = None

    def _close_capture(self, process: Process) -> None:
        for stream in ("stdout", "stderr"):
            with suppress(KeyError):
                process.capture.close(stream)

    # --- telling ------------------------------------------------------------------------------

    def _publish(self, notice: actions.Publish) -> None:
        process = self.roster.get(notice.proc) if notice.proc is not None else None
        pid = process.pid if process is not None else None
        self._history.add(
            notice.kind.value,
            notice.text,
            level=notice.level.value,
            site=notice.site,
            generation=notice.generation,
            pid=pid,
            by=notice.by,
            details=notice.details,
        )
        # What stands in the log already, line by line as it was printed, is not said again.
        details = "" if notice.kind in PRINTED else notice.details
        self._log.say(notice.text, notice.level.value, details, by=notice.by)


def _farewell(program: ProgramSettings) -> Farewell:
    return Farewell(f"SIG{program.stop_signal}", program.stop_timeout_s)


def _name(worker: Process) -> int:
    """A number that is this worker's alone: a daemon that is started anew may give the same names to others."""
    return (worker.pid or 0) << 32 | worker.proc


def _speaks_tls(site: SiteSettings) -> bool:
    return bool(site.tls_listen or site.shared_tls)
