"""HAProxy, 2.6 or newer, in HTTP mode: a whole haproxy.cfg. Static files are served by djsup, since HAProxy serves none."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from djsup.core.model import AddressKind
from djsup.front.origin import CONNECT_S, UNTRUE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djsup.front.origin import Face, Front, Origin

BUFFER_LEAST = 16384
BUFFER_SPARE = 8192
"""Beside a client's header section: what HAProxy adds to it."""


def text(origins: Sequence[Origin], front: Front) -> str:
    """The whole file."""
    header = max(each.limits.max_header_bytes for each in origins)
    longest = max(each.answer_s for each in origins)
    request_s = max(each.limits.header_timeout_s for each in origins)
    parts = [
        f"""\
# HAProxy in front of djsup. Save it as /etc/haproxy/haproxy.cfg; then: haproxy -c -f FILE && systemctl reload haproxy
# WebSockets are not supported by djsup (WSGI has none).

global
    # As max_header of djsup's, and room for what is added.
    tune.bufsize {max(BUFFER_LEAST, header + BUFFER_SPARE)}
    ssl-default-bind-options ssl-min-ver TLSv1.2

defaults
    mode http
    timeout connect {CONNECT_S}s
    timeout http-request {math.ceil(request_s)}s
    # Longer than djsup's request_timeout and max_timeout: djsup ends what takes too long, and says so.
    timeout client {longest}s
    timeout server {longest}s
    timeout http-keep-alive 15s
    # A node whose workers are all busy answers its health path late, and is none the worse for it.
    timeout check {CONNECT_S}s
    # Tried again is only what cannot have been run, or may be run twice (see the backends ..._read).
    retries 3
    option redispatch 1
"""
    ]
    if front.http is not None and front.https is not None:
        where = f"code 301 location https://%[req.hdr(host),host_only]{front.port_suffix}%[pathq]"
        parts.append(f"frontend http\n    bind {front.http}\n    http-request redirect {where}\n")
    parts.append(_frontend(origins, front))
    parts += [_backends(each) for each in origins]
    return "\n".join(parts)


def _frontend(origins: Sequence[Origin], front: Front) -> str:
    where = front.https or front.http
    assert where is not None
    lines = []
    bind = f"    bind {where}"
    if front.https is not None:
        lines.append("    # A certificate with its key in one file: cat CERTIFICATE KEY > FILE")
        faces = [face for each in origins for face in each.faces]
        for face in faces:
            if face.certificate is None:
                lines.append(
                    f"    # CHANGE {face.certificate_path}: djsup's configuration names no certificate."
                )
            else:
                lines.append(f"    #   cat {face.certificate_path} {face.key_path} > {_combined(face)}")
        lines.append(
            "    # Of many HAProxy shows the one that is for the name asked, and the first where none is."
        )
        bind += " ssl alpn h2,http/1.1 " + " ".join(f"crt {_combined(face)}" for face in faces)
    lines += [
        bind,
        "    # Who the client is, as HAProxy sees it: set, and not added to what the client says (as forwardfor does).",
        "    # djsup believes it where trusted_proxies has "
        + ", ".join(dict.fromkeys(_peer(each) for each in origins))
        + ".",
        "    http-request set-header X-Forwarded-For %[src]",
        "    http-request set-header X-Forwarded-Proto https if { ssl_fc }",
        "    http-request set-header X-Forwarded-Proto http unless { ssl_fc }",
        *(f"    http-request del-header {name}" for name in UNTRUE),
        "    acl safe method GET HEAD OPTIONS",
    ]
    for each in origins:
        for host in each.hosts:
            match = f"-m end -i {host[1:]}" if host.startswith("*") else f"-m str -i {host}"
            lines.append(f"    acl to_{each.name} req.hdr(host),host_only {match}")
        if each.hosts:
            lines.append(f"    use_backend {each.name}_read if to_{each.name} safe")
            lines.append(f"    use_backend {each.name}_write if to_{each.name}")
    default = next((each for each in origins if each.default), None)
    if default is None:
        lines.append("    # Names that no site has get 503.")
    else:
        lines += [f"    use_backend {default.name}_read if safe", f"    default_backend {default.name}_write"]
    return "frontend djsup\n" + "\n".join(lines) + "\n"


def _backends(origin: Origin) -> str:
    limits = origin.limits
    address = (
        f"unix@{origin.address.host}" if origin.address.kind is AddressKind.UNIX else str(origin.address)
    )
    health, check, track = "", "", ""
    if origin.health.path:
        health = f"""\
    option httpchk
    http-check send meth GET uri {origin.health.path} ver HTTP/1.1 hdr Host {origin.health_host}
    http-check expect status {origin.health.expect}
"""
        check, track = (
            " check inter 2s fastinter 500ms fall 3 rise 1",
            f" track {origin.name}_read/{origin.name}",
        )
    reuse = "http-reuse safe" if origin.idle_s else "option http-server-close"
    purge = f" pool-purge-delay {origin.idle_s}s" if origin.idle_s else ""
    return f"""\
# Site {origin.name}; djsup answers 413 above max_body by itself, as HAProxy cannot in the middle of a body.

# What may be asked twice. Idle connections are kept; HAProxy gives most of them up within some seconds, but
# not surely before djsup does (keepalive, {limits.keepalive_s:g} s). A request that met such an end is sent once more.
backend {origin.name}_read
    {reuse}
    retry-on conn-failure empty-response
{health}    server {origin.name} {address}{check}{purge}

# The rest (POST ...) must not be sent twice. So it never gets a connection that has been idle: a new one each.
backend {origin.name}_write
    http-reuse never
    option http-server-close
    retry-on conn-failure
    server {origin.name} {address}{track}
"""


def _combined(face: Face) -> str:
    return f"/etc/haproxy/certs/{face.file}.pem" if face.certificate else face.certificate_path


def _peer(origin: Origin) -> str:
    return origin.peer or "the address of HAProxy"
