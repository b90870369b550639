"""nginx, 1.19.4 or newer: a file for /etc/nginx/conf.d/, inside ``http``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djsup.core.model import AddressKind
from djsup.front.origin import A_MINUTE, CONNECT_S, EACH_TIME, FOR_EVER, HASHED, UNTRUE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djsup.core.model import Address, StaticFolder
    from djsup.front.origin import Face, Front, Origin

CONNECTIONS = 64
"""Idle connections to a site that each nginx process keeps."""
HEAD = f"""\
# nginx in front of djsup. Save it as /etc/nginx/conf.d/djsup.conf; then: nginx -t && nginx -s reload
# WebSockets are not supported by djsup (WSGI has none): pass their paths to another server.

# Files whose names have a hash never change (Django's ManifestStaticFilesStorage).
map $uri $djsup_cache {{
    default                    "{A_MINUTE}";
    "~{HASHED}"  "{FOR_EVER}";
}}
"""


def text(origins: Sequence[Origin], front: Front) -> str:
    """The whole file."""
    # nginx reads a header before it knows the site, and takes the limits of the first: all have the widest.
    header_bytes = max(each.limits.max_header_bytes for each in origins)
    header_s = max(each.limits.header_timeout_s for each in origins)
    header = (
        f"    large_client_header_buffers 4 {header_bytes};\n    client_header_timeout {_ms(header_s)};\n"
    )
    parts = [HEAD, *(_site(each, front, header) for each in origins)]
    if not any(each.default for each in origins):
        parts.append(_nobody(front))
    return "\n".join(parts)


def _site(origin: Origin, front: Front, header: str) -> str:
    names = " ".join(origin.hosts) or "_"
    default = " default_server" if origin.default else ""
    server = f"unix:{origin.address.host}" if origin.address.kind is AddressKind.UNIX else str(origin.address)
    parts = [
        f"# Site {origin.name}\nupstream djsup_{origin.name} {{\n    server {server} max_fails=0;\n{_keep(origin)}}}\n"
    ]
    if front.http is not None and front.https is not None:
        parts.append(f"""\
server {{
    listen {_listen(front.http)}{default};
    server_name {names};
    return 301 https://$host{front.port_suffix}$request_uri;
}}
""")
    if front.https is None:
        assert front.http is not None
        parts.append(_server(origin, names, f"    listen {_listen(front.http)}{default};\n", header))
        return "\n".join(parts)
    for face in origin.faces:
        first = _https(face, front.https, default if face is origin.faces[0] else "")
        parts.append(_server(origin, " ".join(face.hosts) or "_", first, header))
    return "\n".join(parts)


def _https(face: Face, where: Address, default: str) -> str:
    mark = "" if face.certificate else "    # CHANGE both: djsup's configuration names no certificate.\n"
    # nginx 1.25.1 says that "http2 on;" is the new form; it still takes this one, which older ones need.
    return f"""\
    listen {_listen(where)} ssl http2{default};
{mark}    ssl_certificate     {_quoted(face.certificate_path)};
    ssl_certificate_key {_quoted(face.key_path)};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:djsup:10m;
"""


def _keep(origin: Origin) -> str:
    if not origin.idle_s:
        return "    # djsup's keepalive is too short to use a connection twice.\n"
    return f"""\
    # Shorter than djsup's keepalive ({origin.limits.keepalive_s:g} s), so that it is nginx that ends an idle connection: one
    # that djsup ended at the moment when nginx sends a request would fail that request.
    keepalive {CONNECTIONS};
    keepalive_timeout {origin.idle_s}s;
"""


def _server(origin: Origin, names: str, first: str, header: str) -> str:
    limits = origin.limits
    gone = "\n".join(f'        proxy_set_header {name} "";' for name in UNTRUE)
    health = ""
    if origin.health.path:
        health = f"    # For a load balancer in front of nginx: {origin.health.path} answers {origin.health.expect} when the site is well.\n"
    return f"""\
server {{
{first}    server_name {names};

    # As limits of djsup's: max_body, max_header (here for each field; djsup counts all), header_timeout, body_timeout,
    # write_timeout. Of max_header and header_timeout the widest of all sites.
    client_max_body_size {max(1, limits.max_body_bytes)};
{header}    client_body_timeout {_ms(limits.body_timeout_s)};
    send_timeout {_ms(limits.write_timeout_s)};
{health}{"".join(_static(each) for each in origin.static)}
    location / {{
        proxy_pass http://djsup_{origin.name};
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;

        # Who the client is, as nginx sees it: set, and not added to what the client says. djsup believes it where
        # trusted_proxies has {origin.peer or "the address of nginx"}.
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme;
{gone}

        # djsup ends what takes too long (request_timeout, max_timeout), and nginx waits until it has.
        proxy_connect_timeout {CONNECT_S}s;
        proxy_read_timeout {origin.answer_s}s;
        proxy_send_timeout {origin.answer_s}s;

        # djsup takes a body in full before it runs the request: nginx need not keep a copy on disk.
        proxy_request_buffering off;
        # Answers are buffered in memory only; one with "X-Accel-Buffering: no" is passed on piece by piece.
        proxy_buffer_size 32k;
        proxy_buffers 8 32k;
        proxy_max_temp_file_size 0;
        # Only what could not be sent is tried again, and never POST or PATCH.
        proxy_next_upstream error;
    }}
}}
"""


def _static(folder: StaticFolder) -> str:
    path = folder.path.rstrip("/")
    cache = f'"{EACH_TIME}"' if folder.changes else "$djsup_cache"
    more = ""
    if not folder.changes:
        more = """\
        add_header Access-Control-Allow-Origin "*";
        # FILE.gz beside FILE is sent to those who take it; for FILE.br nginx needs a module (brotli_static).
        gzip_static on;
        gzip_vary on;
"""
    return f"""
    # nginx's user needs the right to read these.
    location ^~ {folder.prefix} {{
        alias {_quoted(path + "/")};
        # No hidden files, and no symbolic link below the folder: it may lead anywhere. The folder itself may be one.
        if ($uri ~ "/\\.") {{
            return 404;
        }}
        disable_symlinks on from={_quoted(path)};
        add_header Cache-Control {cache};
        add_header X-Content-Type-Options nosniff;
{more}    }}
"""


def _nobody(front: Front) -> str:
    parts = []
    if front.http is not None:
        parts.append(f"server {{\n    listen {_listen(front.http)} default_server;\n    return 444;\n}}\n")
    if front.https is not None:
        parts.append(
            f"server {{\n    listen {_listen(front.https)} ssl http2 default_server;\n    ssl_reject_handshake on;\n}}\n"
        )
    return "# Names that no site has.\n" + "\n".join(parts)


def _listen(address: Address) -> str:
    return str(address.port) if address.host == "*" else str(address)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms"


def _quoted(path: str) -> str:
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
