"""Caddy, 2.6 or newer: a whole Caddyfile. Caddy gets certificates by itself where the settings name none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djsup.core.model import AddressKind
from djsup.front.origin import A_MINUTE, CHANGE_ME, CONNECT_S, EACH_TIME, FOR_EVER, HASHED, UNTRUE

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
        # Caddy's own redirect goes to port 443, wherever it listens.
        ports = f"    http_port {front.http.port}\n    https_port {front.https.port}\n    auto_https disable_redirects\n"
    head = f"""\
# Caddy in front of djsup. Save it as /etc/caddy/Caddyfile; then: caddy validate --config FILE && systemctl reload caddy
# WebSockets are not supported by djsup (WSGI has none).
{{
{ports}    servers {{
        max_header_size {header}
        timeouts {{
            read_header {header_s:g}s
        }}
    }}
}}
"""
    return "\n".join([head, *_redirect(front), *(_site(each, front) for each in origins)])


def _redirect(front: Front) -> list[str]:
    if front.http is None or front.https is None:
        return []
    bind = "" if front.http.host == "*" else f"    bind {front.http.host}\n"
    return [
        f"http://:{front.http.port} {{\n{bind}    redir https://{{host}}{front.port_suffix}{{uri}} permanent\n}}\n"
    ]


def _site(origin: Origin, front: Front) -> str:
    limits = origin.limits
    where = front.https or front.http
    assert where is not None
    scheme = "https" if front.https is not None else "http"
    hosts = origin.hosts or ((f"{CHANGE_ME.lower()}.{origin.name}.invalid",) if scheme == "https" else ("",))
    names = ", ".join(f"{scheme}://{host}:{where.port}" for host in hosts)
    bind = "" if where.host == "*" else f"    bind {where.host}\n"
    tls = ""
    if scheme == "https" and origin.faces[0].certificate:
        # Of many Caddy takes the one that is for the name asked.
        tls = "".join(f'    tls "{face.certificate_path}" "{face.key_path}"\n' for face in origin.faces)
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
{bind}{tls}    # djsup answers 413 above max_body by itself: with request_body/max_size it would be 502.
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
    here = f"@file{_word(folder)}"
    hashed = f"@hashed{_word(folder)}"
    if folder.changes:
        more = f'        header {here} Cache-Control "{EACH_TIME}"\n'
        server = "hide .*"
    else:
        more = f"""\
        header {here} Cache-Control "{A_MINUTE}"
        header {here} Access-Control-Allow-Origin "*"
        # Files whose names have a hash never change (Django's ManifestStaticFilesStorage).
        {hashed} {{
            file
            path_regexp {HASHED}
        }}
        header {hashed} Cache-Control "{FOR_EVER}"
"""
        server = "hide .*\n            # FILE.br and FILE.gz beside FILE are sent to those who take them.\n            precompressed br gzip"
    return f"""
    # Caddy's user needs the right to read these. Caddy follows symbolic links, wherever they lead: leave none in here.
    handle_path {folder.prefix}* {{
        root * "{folder.path.rstrip("/")}"
        # Only what is there: "not found" must not be kept for ever.
        {here} file
        header {here} X-Content-Type-Options nosniff
{more}        file_server {{
            {server}
        }}
    }}
"""


def _word(folder: StaticFolder) -> str:
    return "".join(each if each.isalnum() else "_" for each in folder.prefix)
