"""Apache, 2.4 with the event MPM: a file for /etc/apache2/sites-available/."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from djsup.core.model import AddressKind
from djsup.front.origin import A_MINUTE, CONNECT_S, EACH_TIME, FOR_EVER, HASHED, UNTRUE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djsup.core.model import StaticFolder
    from djsup.front.origin import Face, Front, Origin

HEAD = """\
# Apache in front of djsup. Save it as /etc/apache2/sites-available/djsup.conf; then:
#   a2enmod alias headers http2 mime proxy proxy_http rewrite ssl && a2ensite djsup && apachectl configtest && systemctl restart apache2
# The first site of this file answers to names that no site has. WebSockets are not supported by djsup (WSGI has none).
"""


def text(origins: Sequence[Origin], front: Front) -> str:
    """The whole file."""
    first = sorted(origins, key=lambda each: not each.default)
    used = [each for each in (front.http, front.https) if each is not None]
    listen = "".join(f"{'# As in ports.conf: ' if each.host == '*' else ''}Listen {each}\n" for each in used)
    # Apache reads a header before it knows the site, and takes the limits of the first: all have the widest.
    header_bytes = max(each.limits.max_header_bytes for each in origins)
    header_s = max(each.limits.header_timeout_s for each in origins)
    return "\n".join([HEAD, listen, *(_site(each, front, header_bytes, header_s) for each in first)])


def _site(origin: Origin, front: Front, header_bytes: int, header_s: float) -> str:
    parts = [f"# Site {origin.name}"]
    if front.http is not None and front.https is not None:
        parts.append(f"""\
<VirtualHost {front.http}>
{_names(origin, origin.hosts)}    RewriteEngine On
    RewriteRule ^ https://%{{SERVER_NAME}}{front.port_suffix}%{{REQUEST_URI}} [R=301,L]
</VirtualHost>
""")
    body = _body(origin, header_bytes, header_s)
    if front.https is None:
        parts.append(f"<VirtualHost {front.http}>\n{_names(origin, origin.hosts)}{body}</VirtualHost>\n")
        return "\n".join(parts)
    for face in origin.faces:
        first = _names(origin, face.hosts) + _https(face)
        parts.append(f"<VirtualHost {front.https}>\n{first}{body}</VirtualHost>\n")
    return "\n".join(parts)


def _names(origin: Origin, hosts: tuple[str, ...]) -> str:
    plain = next((host for host in hosts if not host.startswith("*")), f"{origin.name}.invalid")
    return f"    ServerName {plain}\n" + (f"    ServerAlias {' '.join(hosts)}\n" if hosts else "")


def _https(face: Face) -> str:
    mark = "" if face.certificate else "    # CHANGE both: djsup's configuration names no certificate.\n"
    return f"""\
    Protocols h2 http/1.1
    SSLEngine On
    SSLProtocol -all +TLSv1.2 +TLSv1.3
{mark}    SSLCertificateFile "{face.certificate_path}"
    SSLCertificateKeyFile "{face.key_path}"
"""


def _body(origin: Origin, header_bytes: int, header_s: float) -> str:
    limits = origin.limits
    gone = "\n".join(f"    RequestHeader unset {name}" for name in UNTRUE)
    to = f"unix:{origin.address.host}|http://djsup-{origin.name}/"
    if origin.address.kind is not AddressKind.UNIX:
        to = f"http://{origin.address}/"
    reuse = f"enablereuse=on smax=0 ttl={origin.idle_s}" if origin.idle_s else "disablereuse=on"
    health = ""
    if origin.health.path:
        health = f"    # For a load balancer in front of Apache: {origin.health.path} answers {origin.health.expect} when the site is well.\n"
    return f"""\

    # As limits of djsup's: max_body, max_header (here for each field; djsup counts all), header_timeout, body_timeout. Of
    # max_header and header_timeout the widest of all sites.
    LimitRequestBody {max(1, limits.max_body_bytes)}
    LimitRequestFieldSize {header_bytes}
    LimitRequestLine {header_bytes}
    <IfModule reqtimeout_module>
        RequestReadTimeout header={math.ceil(header_s)} body={math.ceil(limits.body_timeout_s)},MinRate=240
    </IfModule>
{health}
    # Who the client is, as Apache sees it: set, and not added to what the client says. djsup believes it where
    # trusted_proxies has {origin.peer or "the address of Apache"}.
    ProxyRequests Off
    ProxyPreserveHost On
    ProxyAddHeaders Off
    RequestHeader set X-Forwarded-For "expr=%{{REMOTE_ADDR}}"
    RequestHeader set X-Forwarded-Proto "expr=%{{REQUEST_SCHEME}}"
{gone}
{"".join(_static(each) for each in origin.static)}
    # ttl is shorter than djsup's keepalive ({limits.keepalive_s:g} s), so that it is Apache that ends an idle connection: one
    # that djsup ended at the moment when Apache sends a request would fail that request. timeout is longer than djsup's
    # request_timeout and max_timeout: djsup ends what takes too long. retry=0: after a failure Apache asks again at
    # once, and does not answer 503 by itself for a minute. Paths are passed on as they came.
    AllowEncodedSlashes NoDecode
    ProxyPass "/" "{to}" nocanon {reuse} connectiontimeout={CONNECT_S} timeout={origin.answer_s} retry=0
"""


def _static(folder: StaticFolder) -> str:
    path = folder.path.rstrip("/")
    cache = f'        Header set Cache-Control "{EACH_TIME}"\n'
    if not folder.changes:
        cache = f"""\
        Header set Cache-Control "{A_MINUTE}"
        # Files whose names have a hash never change (Django's ManifestStaticFilesStorage).
        <FilesMatch "{HASHED}">
            Header set Cache-Control "{FOR_EVER}"
        </FilesMatch>
        Header set Access-Control-Allow-Origin "*"
"""
    return f"""
    # Apache's user needs the right to read these.
    ProxyPass "{folder.prefix}" "!"
    Alias "{folder.prefix}" "{path}/"
    <Directory "{path}">
        Require all granted
        AllowOverride None
        # Without FollowSymLinks: a symbolic link below the folder may lead anywhere. The folder itself may be one.
        Options None
        Header set X-Content-Type-Options nosniff
{cache}    </Directory>
    # No hidden files.
    <LocationMatch "^{re.escape(folder.prefix)}(.*/)?\\.">
        Require all denied
    </LocationMatch>
"""
