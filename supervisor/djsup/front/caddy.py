"""Caddy, 2.6 or newer: a whole Caddyfile. Caddy gets certificates by itself where the settings name none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djsup.core.model import AddressKind
from djsup.front.origin import CHANGE_ME, CONNECT_S, UNTRUE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djsup.core.model import StaticFolder
    from djsup.front.origin import Front, Origin


def text(origins: Sequence[Origin], front: Front) -> str:
    """The whole file."""
    header = max(each.limits.max_header_bytes for each in origins)
    header_s = max(each.limits.header_timeout_s for each in origins)
    ports = ""
    if front.http is not None and front.https is not None:
        ports = f"    http_port {front.http.port}\n    https_port {front.https.port}\n"
    head = f"""\
# Caddy in front of djsup. Save it as /etc/caddy/Caddyfile; then: caddy validate --config FILE && systemctl reload caddy
# Caddy sends plain http on to https by itself. WebSockets are not supported by djsup (WSGI has none).
{{
{ports}    servers {{
        max_header_size {header}
        timeouts {{
            read_header {header_s:g}s
        }}
    }}
}}
"""
    return "\n".join([head, *(_site(each, front) for each in origins)])


def _site(origin: Origin, front: Front) -> str:
    limits = origin.limits
    where = front.https or front.http
    assert where is not None
    scheme = "https" if front.https is not None else "http"
    hosts = origin.hosts or ((f"{CHANGE_ME.lower()}.{origin.name}.invalid",) if scheme == "https" else ("",))
    names = ", ".join(f"{scheme}://{host}:{where.port}" for host in hosts)
    bind = "" if where.host == "*" else f"    bind {where.host}\n"
    tls = ""
    if scheme == "https" and origin.certificate:
        tls = f'    tls "{origin.certificate.certificate}" "{origin.certificate.key}"\n'
    elif scheme == "https":
        tls = "    # Caddy gets the certificate by itself (ACME). Else: tls CERTIFICATE KEY\n"
    address = (
        f"unix/{origin.address.host}" if origin.address.kind is AddressKind.UNIX else str(origin.address)
    )
    gone = "\n".join(f"            header_up -{name}" for name in UNTRUE)
    health = ""
    if origin.health.path:
        health = f"""\
            health_uri {origin.health.path}
            health_status {origin.health.expect}
            health_interval 5s
            health_headers {{
                Host {origin.health_host}
            }}
"""
    keep = f"keepalive {origin.idle_s}s" if origin.idle_s else "keepalive off"
    return f"""\
# Site {origin.name}
{names} {{
{bind}{tls}    # As max_body of djsup's.
    request_body {{
        max_size {max(1, limits.max_body_bytes)}
    }}
{"".join(_static(each) for each in origin.static)}
    handle {{
        reverse_proxy {address} {{
            # Who the client is, as Caddy sees it: set, and not added to what the client says. djsup believes it where
            # trusted_proxies has {origin.peer or "the address of Caddy"}.
            header_up X-Forwarded-For {{remote_host}}
            header_up X-Forwarded-Proto {{scheme}}
{gone}
{health}            transport http {{
                # Shorter than djsup's keepalive ({limits.keepalive_s:g} s), so that it is Caddy that ends an idle connection: one
                # that djsup ended at the moment when Caddy sends a request would fail that request. Go repeats only
                # requests that may be run twice.
                {keep}
                dial_timeout {CONNECT_S}s
                # Longer than djsup's request_timeout and max_timeout: djsup ends what takes too long.
                response_header_timeout {origin.answer_s}s
            }}
        }}
    }}
}}
"""


def _static(folder: StaticFolder) -> str:
    cache = (
        '        header Cache-Control "public, max-age=0"\n'
        if folder.changes
        else f"""\
        @hashed{_word(folder)} path_regexp \\.[0-9a-f]{{12}}\\.[^/]+$
        header Cache-Control "public, max-age=60"
        header @hashed{_word(folder)} Cache-Control "public, max-age=315360000, immutable"
"""
    )
    return f"""
    # Caddy's user needs the right to read these.
    handle_path {folder.prefix}* {{
        root * "{folder.path.rstrip("/")}"
{cache}        file_server {{
            hide .*
        }}
    }}
"""


def _word(folder: StaticFolder) -> str:
    return "".join(each if each.isalnum() else "_" for each in folder.prefix)
