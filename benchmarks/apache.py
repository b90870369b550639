"""mod_wsgi on Apache: a whole private configuration on a high port; the machine's own Apache is not touched.

mod_wsgi is built from PyPI against Debian's Apache, so that it runs the same Python as the others (Debian's own
module is bound to Debian's). As mod_wsgi's documentation advises, the application runs in daemon processes of its own,
with the workers and threads of the others, behind one event-driven Apache process that holds the connections.
"""

import os
import subprocess
from pathlib import Path

from tools import debian

from benchmarks.launch import Launch
from benchmarks.workloads import STATIC_FOLDER, STATIC_URL

CONNECTIONS = 64
"""How many Apache holds: more than any workload opens."""
MODULES = ("mpm_event", "authz_core", "mime", "alias")
NOBODY = "65534"


def command(launch: Launch) -> list[str]:
    """Write the configuration, and say how Apache is started with it."""
    config = launch.folder / "httpd.conf"
    config.write_text(_config(launch))
    (launch.folder / "mime.types").write_text("text/css css\n")
    httpd = debian.find("apache2")
    assert httpd is not None, "Server.install has looked for it"
    return [*_not_as_root(), httpd, "-f", str(config), "-DFOREGROUND"]


def _not_as_root() -> list[str]:
    """Apache refuses to serve as root, and nobody may not read root's files: so nobody gets leave to, here only."""
    if os.geteuid() != 0:
        return []
    leave = "+dac_override,+dac_read_search"
    who = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return ["setpriv", *who, f"--inh-caps={leave}", f"--ambient-caps={leave}"]


def _config(launch: Launch) -> str:
    folder, directory = launch.folder, launch.application.directory
    module, _, variable = launch.application.wsgi.partition(":")
    script = folder / "application.wsgi"
    script.write_text(f"from {module} import {variable} as application\n")
    home = launch.environment
    modules = MODULES if launch.tls is None else (*MODULES, "ssl")
    loaded = "\n".join(f"LoadModule {each}_module {_modules_folder()}/mod_{each}.so" for each in modules)
    tls = ""
    if launch.tls is not None:
        tls = f"""
SSLEngine On
SSLCertificateFile {launch.tls.certificate}
SSLCertificateKeyFile {launch.tls.key}
SSLSessionCache none
"""
    return f"""
ServerRoot {folder}
DefaultRuntimeDir {folder}
ServerName localhost
PidFile {folder}/httpd.pid
ErrorLog /dev/stderr
LogLevel error
Listen {launch.address}
{loaded}
LoadModule wsgi_module {_wsgi_module(launch)}

StartServers 1
ServerLimit 1
ThreadLimit {CONNECTIONS}
ThreadsPerChild {CONNECTIONS}
MaxRequestWorkers {CONNECTIONS}
MinSpareThreads 1
MaxSpareThreads {CONNECTIONS}
KeepAlive On
KeepAliveTimeout 15
MaxKeepAliveRequests 0
{tls}
TypesConfig {folder}/mime.types
<Directory />
    Require all granted
</Directory>
Alias {STATIC_URL}/ {STATIC_FOLDER}/

WSGISocketPrefix {folder}/wsgi
WSGIPythonHome {home}
WSGIRestrictEmbedded On
WSGIDaemonProcess bench processes={launch.workers} threads={launch.threads} home={directory} python-path={directory}
WSGIScriptAlias / {script} process-group=bench application-group=%{{GLOBAL}}
"""


def _modules_folder() -> str:
    """Where Apache has its own modules."""
    asked = subprocess.run(["apxs", "-q", "LIBEXECDIR"], capture_output=True, text=True, check=True)
    return asked.stdout.strip()


def _wsgi_module(launch: Launch) -> str:
    """Where pip has put mod_wsgi."""
    found = sorted((launch.environment / "lib").glob("python3.*/site-packages/mod_wsgi/server/mod_wsgi*.so"))
    return str(Path(found[-1]))
