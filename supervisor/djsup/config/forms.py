"""The forms that a single value may have: how it is read, what to call allowed, its JSON Schema.

A form stands in an annotation, ``Annotated[float, duration(0, DAY_S)]``, and makes pydantic read
the value through it. Numbers, durations, sizes, choices and texts are here, and the values with
a grammar of their own: addresses, numbers of workers and folders of static files.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticCustomError, core_schema

from djsup.config.problem import nearest
from djsup.core.model import Address, AddressKind, StaticFolder, WorkerCount

if TYPE_CHECKING:
    from collections.abc import Callable

MINUTE_S = 60.0
HOUR_S = 3600.0
DAY_S = 86400.0
KIB = 1024
MIB = 1024**2
GIB = 1024**3
TIB = 1024**4

WORKERS_MAX = 120
"""Fewer than a scoreboard's rows, so that a reload's surge and draining workers find room."""
UNIX_PATH_MAX = 107
"""Bytes of a Unix socket's path: sun_path without its last zero (unix(7))."""

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": MINUTE_S, "min": MINUTE_S, "h": HOUR_S, "d": DAY_S}
_UNITS_BYTES = {
    "": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": KIB, "MIB": MIB, "GIB": GIB, "TIB": TIB, "K": KIB, "M": MIB, "G": GIB, "T": TIB,
}  # fmt: skip
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*\Z", re.ASCII)
_PORT = re.compile(r"\d{1,5}\Z", re.ASCII)
_PORT_MAX = 65535
_ORIGIN = re.compile(r"https://[A-Za-z0-9.-]+(:[0-9]{1,5})?")
_NAME = re.compile(r"[A-Za-z0-9_.-]+\Z")
_VARIABLE = r".*\$\{"
"""Alternative of every pattern in the JSON Schema: a text that is still to be filled in."""


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """One form of a value."""

    read: Callable[[Any], Any]
    """Gives the value; raises ValueError when it has another form, with a hint or without text."""
    allowed: str
    schema: dict[str, Any]
    """JSON Schema of what may be written."""

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        """Have pydantic read the value through this form."""
        return core_schema.no_info_plain_validator_function(self._validate)

    def __get_pydantic_json_schema__(self, _core: Any, _handler: Any) -> dict[str, Any]:
        """What ``djsup schema`` shows."""
        return dict(self.schema)

    def _validate(self, value: Any) -> Any:
        try:
            return self.read(value)
        except ValueError as error:
            context = {"allowed": self.allowed, "hint": str(error)}
            raise PydanticCustomError("form", "{allowed}", context) from None


def whole(least: int, most: int) -> Form:
    """A whole number within bounds."""

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError
        return value

    return Form(
        read,
        f"a whole number from {least} to {most}",
        {"type": "integer", "minimum": least, "maximum": most},
    )


def number(least: float, most: float) -> Form:
    """A number within bounds."""

    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise ValueError
        return float(value)

    schema = {"type": "number", "minimum": least, "maximum": most}
    return Form(read, f"a number from {least:g} to {most:g}", schema)


def yes_no() -> Form:
    """True or false."""

    def read(value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError  # noqa: TRY004 -- pydantic's validators speak ValueError
        return value

    return Form(read, "true or false", {"type": "boolean"})


def choice(*values: str | bool) -> Form:
    """One of a few values."""

    def read(value: Any) -> str | bool:
        # 1 == True in Python, and not in TOML
        found = next((each for each in values if each == value and type(each) is type(value)), None)
        if found is None:
            near = nearest(value, [str(each) for each in values]) if isinstance(value, str) else None
            raise ValueError(f"did you mean {_toml(near, values)}?" if near else "")
        return found

    listed = [_toml(str(each), values) for each in values]
    allowed = listed[0] if len(listed) == 1 else ", ".join(listed[:-1]) + " or " + listed[-1]
    return Form(read, allowed, {"enum": list(values)})


def _toml(name: str, values: tuple[str | bool, ...]) -> str:
    return f'"{name}"' if name in values else name.lower()


def text(allowed: str, pattern: str = r"(?s).+", hint: Callable[[str], str] = lambda _value: "") -> Form:
    """A text that matches a pattern from its first to its last character, without a zero byte."""
    compiled = re.compile(pattern)

    def read(value: Any) -> str:
        if not isinstance(value, str) or "\0" in value:
            raise ValueError
        if not compiled.fullmatch(value):
            raise ValueError(hint(value))
        return value

    schema: dict[str, Any] = {"type": "string", "minLength": 1}
    if not pattern.startswith("(?s)"):
        schema["pattern"] = f"^(?:{pattern})$|{_VARIABLE}"
    return Form(read, allowed, schema)


def environment_value() -> Form:
    """The text of an environment variable; it may be empty."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or "\0" in value:
            raise ValueError("an environment holds texts only: put the value in quotes")
        return value

    return Form(read, 'a text in quotes, as "0"', {"type": "string"})


# --- durations and sizes -----------------------------------------------------------------------


def duration(least_s: float, most_s: float) -> Form:
    """A duration in seconds: a number, or a text with a unit."""

    def read(value: Any) -> float:
        seconds = _quantity(value, _UNITS_S, "s")
        if not least_s <= seconds <= most_s:
            raise ValueError
        return seconds

    allowed = f'seconds or a text as "30s", "5m", "1h", from {_seconds(least_s)} to {_seconds(most_s)}'
    pattern = rf"^\s*\d+(\.\d+)?\s*({'|'.join(_UNITS_S)})?\s*$|{_VARIABLE}"
    return Form(
        read,
        allowed,
        {
            "anyOf": [
                {"type": "number", "minimum": least_s, "maximum": most_s},
                {"type": "string", "pattern": pattern},
            ]
        },
    )


def size(least_bytes: int, most_bytes: int) -> Form:
    """A size in bytes: a whole number, or a text with a unit."""

    def read(value: Any) -> int:
        if isinstance(value, float):
            raise ValueError("half a byte is none")  # noqa: TRY004 -- pydantic's validators speak ValueError
        size_bytes = int(_quantity(value, _UNITS_BYTES, ""))
        if not least_bytes <= size_bytes <= most_bytes:
            raise ValueError
        return size_bytes

    allowed = f'bytes or a text as "512MiB", "1GB", from {_bytes(least_bytes)} to {_bytes(most_bytes)}'
    pattern = rf"^\s*\d+(\.\d+)?\s*([kKmMgGtT]?[iI]?[bB]?)\s*$|{_VARIABLE}"
    return Form(
        read,
        allowed,
        {
            "anyOf": [
                {"type": "integer", "minimum": least_bytes, "maximum": most_bytes},
                {"type": "string", "pattern": pattern},
            ]
        },
    )


def _quantity(value: Any, units: dict[str, Any], default: str) -> float:
    if isinstance(value, bool):
        raise ValueError  # noqa: TRY004 -- pydantic's validators speak ValueError
    if isinstance(value, int | float):
        if not math.isfinite(value):
            raise ValueError
        return float(value)
    match = _QUANTITY.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError
    unit = match[2] or default
    factor = units.get(unit.lower() if units is _UNITS_S else unit.upper())
    if factor is None:
        known = ", ".join(name for name in units if name)
        raise ValueError(f'unknown unit "{unit}"; known: {known}')
    return float(match[1]) * float(factor)


def _seconds(seconds: float) -> str:
    for unit, factor in (("d", DAY_S), ("h", HOUR_S), ("m", MINUTE_S)):
        if seconds >= factor and seconds % factor == 0:
            return f"{seconds / factor:g}{unit}"
    return f"{seconds:g}s" if seconds else "0"


def _bytes(count: int) -> str:
    for unit, factor in (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if count >= factor and count % factor == 0:
            return f"{count // factor}{unit}"
    return str(count)


def resource_limit() -> Form:
    """A limit of setrlimit(2): a number, a size, or none (-1)."""
    sized = size(0, TIB)

    def read(value: Any) -> int:
        return -1 if value == "unlimited" else int(sized.read(value))

    alternatives = [*sized.schema["anyOf"], {"const": "unlimited"}]
    return Form(read, 'a whole number, a size as "512MiB", or "unlimited"', {"anyOf": alternatives})


# --- addresses ---------------------------------------------------------------------------------


def address(*, tcp_only: bool = False) -> Form:
    """Where to listen."""
    examples = '"127.0.0.1:8000", "[::1]:8000"'
    if not tcp_only:
        examples += ', "unix:/run/site.sock" or "fd:NAME"'

    def read(value: Any) -> Address:
        if not isinstance(value, str):
            raise ValueError("an address is a text: put it in quotes")  # noqa: TRY004 -- as above
        found = parse_address(value)
        if tcp_only and found.kind is not AddressKind.TCP:
            raise ValueError("only a host and a port can be listened on here")
        return found

    return Form(read, f"an address as {examples}", {"type": "string", "minLength": 1})


def parse_address(value: str) -> Address:
    """An address as the configuration writes it. The path of a Unix socket is left as it is.

    Raises:
        ValueError: it is none; the text says why.
    """
    scheme, separator, rest = value.partition(":")
    if separator and scheme == "unix":
        if not rest or "\0" in rest:
            raise ValueError('the path is missing behind "unix:"')
        return Address(AddressKind.UNIX, rest)
    if separator and scheme == "fd":
        if not _NAME.match(rest):
            raise ValueError('a name of letters, digits, "_", "." and "-" belongs behind "fd:"')
        return Address(AddressKind.FD, rest)
    host, separator, port = value.rpartition(":")
    if not separator or value.endswith("]"):
        missing = "host is" if _PORT.match(value) else "port is"
        example = f"127.0.0.1:{value}" if _PORT.match(value) else f"{value}:8000"
        raise ValueError(f'the {missing} missing; as "{example}"')
    if not _PORT.match(port) or not 1 <= int(port) <= _PORT_MAX:
        raise ValueError(f'"{port}" is no port; ports go from 1 to {_PORT_MAX}')
    return Address(AddressKind.TCP, _host(host, port), int(port))


def _host(host: str, port: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise ValueError(f'"{host[1:-1]}" is no IPv6 address') from None
    if ":" in host:
        raise ValueError(f'an IPv6 address stands in brackets; as "[{host}]:{port}"')
    if host == "localhost":
        return "127.0.0.1"
    if host in ("", "*"):
        raise ValueError(f'for every IPv4 address of this machine write "0.0.0.0:{port}"')
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        raise ValueError(f'"{host}" is no IP address; names are not looked up') from None


def network() -> Form:
    """An IP network, an address as the network that is only it, or ``unix``."""

    def read(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("a network is a text: put it in quotes")  # noqa: TRY004 -- as above
        if value == "unix":
            return value
        try:
            return str(ipaddress.ip_network(value))
        except ValueError:
            pass
        try:
            meant = ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise ValueError(f'"{value}" is no IP network; names are not looked up') from None
        raise ValueError(f'the network that holds {value.partition("/")[0]} is "{meant}"')

    return Form(
        read,
        'an address or network as "10.0.0.7", "10.0.0.0/8", "fd00::/8", or "unix"',
        {"type": "string", "minLength": 1},
    )


def https_redirect() -> Form:
    """Whether plain http is sent on, and where to."""

    def read(value: Any) -> bool | str:
        if not isinstance(value, bool) and not (isinstance(value, str) and _ORIGIN.fullmatch(value)):
            raise ValueError
        return value

    allowed = 'true, false, or an address without a path as "https://www.example.com"'
    schema = {
        "anyOf": [{"type": "boolean"}, {"type": "string", "pattern": f"^{_ORIGIN.pattern}$|{_VARIABLE}"}]
    }
    return Form(read, allowed, schema)


def unix_path_problem(path: str) -> str | None:
    """Why a Unix socket can't have this path; None when it can."""
    length = len(os.fsencode(path))
    if length <= UNIX_PATH_MAX:
        return None
    return f"{path} is {length} bytes long, and a Unix socket's path has at most {UNIX_PATH_MAX}"


# --- workers -----------------------------------------------------------------------------------


def worker_count() -> Form:
    """How many workers: a number, one a core, or between two bounds."""
    least, most = whole(0, WORKERS_MAX), whole(1, WORKERS_MAX)

    def read(value: Any) -> WorkerCount:
        if value == "auto":
            cores = min(len(os.sched_getaffinity(0)), WORKERS_MAX)
            return WorkerCount(cores, cores)
        if not isinstance(value, dict):
            count = most.read(value)
            return WorkerCount(count, count)
        for key in value:
            if key not in ("min", "max"):
                near = nearest(key, ("min", "max"))
                raise ValueError(
                    f'unknown key "{key}"; did you mean "{near}"?' if near else f'unknown key "{key}"'
                )
        if "max" not in value:
            raise ValueError('"max" is missing')
        bounds = WorkerCount(least.read(value.get("min", 0)), most.read(value["max"]))
        if bounds.least > bounds.most:
            raise ValueError("min is greater than max")
        return bounds

    schema = {
        "anyOf": [
            most.schema,
            {"const": "auto"},
            {
                "type": "object",
                "properties": {"min": least.schema, "max": most.schema},
                "required": ["max"],
                "additionalProperties": False,
            },
        ]
    }
    allowed = f'a whole number from 1 to {WORKERS_MAX}, "auto", or {{ min = 0, max = 8 }}'
    return Form(read, allowed, schema)


# --- static files ------------------------------------------------------------------------------


def static_folder() -> Form:
    """A folder of files: its path, or a table that also says whether its files change. Has no prefix yet."""
    path, changes = text("a path"), yes_no()

    def read(value: Any) -> StaticFolder:
        if not isinstance(value, dict):
            value = {"path": value}
        for key in value:
            if key not in ("path", "changes"):
                near = nearest(key, ("path", "changes"))
                raise ValueError(
                    f'unknown key "{key}"; did you mean "{near}"?' if near else f'unknown key "{key}"'
                )
        if "path" not in value:
            raise ValueError('"path" is missing')
        return StaticFolder("", path.read(value["path"]), changes.read(value.get("changes", False)))

    schema = {
        "anyOf": [
            path.schema,
            {
                "type": "object",
                "properties": {"path": path.schema, "changes": changes.schema},
                "required": ["path"],
                "additionalProperties": False,
            },
        ]
    }
    return Form(read, 'a path in quotes, or { path = "media", changes = true }', schema)
