"""The description of the API that ``/api/openapi.json`` gives (OpenAPI 3.1).

Written by hand and kept true by a test that compares it with the routes.
"""

from __future__ import annotations

from typing import Any

_Json = dict[str, Any]


def _schema(name: str) -> _Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(text: str, schema: _Json, media: str = "application/json") -> _Json:
    return {"description": text, "content": {media: {"schema": schema}}}


def _object(required: _Json, **optional: _Json) -> _Json:
    return {"type": "object", "properties": {**required, **optional}, "required": list(required)}


def _list(items: _Json) -> _Json:
    return {"type": "array", "items": items}


_TEXT: _Json = {"type": "string"}
_NUMBER: _Json = {"type": "number"}
_WHOLE: _Json = {"type": "integer"}
_TRUTH: _Json = {"type": "boolean"}
_MAYBE_TEXT: _Json = {"type": ["string", "null"]}
_MAYBE_WHOLE: _Json = {"type": ["integer", "null"]}
_TIME: _Json = {"type": "string", "format": "date-time"}

_FAILED = {
    "401": _answer("No token and no session, or a wrong token.", _schema("Error")),
    "421": _answer("The Host header names something else.", _schema("Error")),
    "429": _answer("Too many wrong tokens came before.", _schema("Error")),
    "503": _answer("The daemon does not answer.", _schema("Error")),
    "504": _answer("The daemon did not answer in time.", _schema("Error")),
}
_FAILED_CHANGE = {
    **_FAILED,
    "403": _answer(
        "The header X-Djsup is missing, another site asked, or the token may only look.", _schema("Error")
    ),
    "409": _answer("It was tried and failed.", _schema("Error")),
    "422": _answer(
        "The configuration or the request is wrong; problems has every mistake.", _schema("Error")
    ),
}
_NO_SITE = {"404": _answer("There is no such site.", _schema("Error"))}
_UNFIT = {"422": _answer("The daemon cannot give that: too many points, or another step.", _schema("Error"))}
_BAD = {"400": _answer("A parameter or the body is malformed.", _schema("Error"))}

_SITE: _Json = {"name": "name", "in": "path", "required": True, "schema": _TEXT}
_LIMIT: _Json = {
    "name": "limit",
    "in": "query",
    "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 200},
}
_CHANGE: _Json = {
    "name": "X-Djsup",
    "in": "header",
    "required": True,
    "description": "A form cannot send it; every change needs it.",
    "schema": {"const": "1"},
}


def _whole(name: str, text: str, least: int, most: int, **more: Any) -> _Json:
    schema = {"type": "integer", "minimum": least, "maximum": most, **more}
    return {"name": name, "in": "query", "description": text, "schema": schema}


def _time(name: str, text: str) -> _Json:
    return _whole(name, text, 0, 2**33)


_FROM = _time("from", "Seconds since 1970; default: as far back as is kept, 15 minutes for a series.")
_TO = _time("to", "Seconds since 1970, not included; default: now.")
_STEP = _whole(
    "step",
    "Seconds of a point: 1 (kept for 15 minutes), 10 (24 hours) or a multiple of 60. Default: one that suits. "
    "At most 2,500 points are given at once.",
    1,
    24 * 3600,
)
_BEFORE = _whole("before", "Only what has a smaller id: the page before one that was given.", 1, 2**53)
_SLOT: _Json = {
    "name": "slot",
    "in": "path",
    "required": True,
    "schema": {"type": "integer", "minimum": 0, "maximum": 127},
}

_POINTS: _Json = {"type": "array", "items": {"type": ["number", "null"]}}
"""One number a point; null where nothing was measured (no daemon, no worker, no request for a percentile)."""
_SERIES_HEAD: _Json = {
    "site": {"type": "string"},
    "step_s": {"type": "integer"},
    "from": {"type": "integer", "description": "When the first point begins, in seconds since 1970."},
    "to": {"type": "integer", "description": "As asked for; the last point begins before it."},
    "t": {
        "type": "array",
        "items": {"type": "integer"},
        "description": "When each point begins, in seconds since 1970; every list below is as long.",
    },
}
_SERIES: _Json = _object(
    {
        **_SERIES_HEAD,
        "requests_per_s": _POINTS,
        "errors_per_s": {**_POINTS, "description": "Answers 5xx."},
        "client_errors_per_s": {**_POINTS, "description": "Answers 4xx."},
        "p50_ms": {**_POINTS, "description": "Percentiles of all answers of the point, exact to 5 %."},
        "p95_ms": _POINTS,
        "p99_ms": _POINTS,
        "busy": {**_POINTS, "description": "Threads that run a request: a mean of one look a second."},
        "threads": {**_POINTS, "description": "Threads that could."},
        "workers": {**_POINTS, "description": "Workers that serve."},
        "connections": _POINTS,
        "queue": {
            **_POINTS,
            "description": "Connections that no worker has accepted yet: the most at one look.",
        },
        "memory_bytes": {**_POINTS, "description": "PSS of all workers, each measured every 30 s."},
        "private_bytes": _POINTS,
        "cpu_percent": {**_POINTS, "description": "Of one core, all workers together."},
        "descriptors": {**_POINTS, "description": "Open files of all workers."},
        "os_threads": {
            **_POINTS,
            "description": "Threads of all workers, also those that serve no requests.",
        },
    },
)
_WORKER_SERIES: _Json = _object(
    {
        **_SERIES_HEAD,
        "slot": _WHOLE,
        "pid": {
            **_MAYBE_WHOLE,
            "description": "The slot's last worker; null: it has had none for 15 minutes.",
        },
        "requests_per_s": _POINTS,
        "busy": _POINTS,
        "connections": _POINTS,
        "memory_bytes": _POINTS,
        "private_bytes": _POINTS,
        "cpu_percent": _POINTS,
        "descriptors": _POINTS,
        "os_threads": _POINTS,
    },
)
_SPARKS: _Json = _object(
    {
        "step_s": _WHOLE,
        "from": {
            **_WHOLE,
            "description": "When the first point of every list begins, in seconds since 1970.",
        },
        "to": _WHOLE,
        "sites": {
            "type": "object",
            "description": "By name.",
            "additionalProperties": _object({"requests_per_s": _POINTS, "errors_per_s": _POINTS}),
        },
    },
)
_DEPLOYS: _Json = _object(
    {
        "deploys": _list(
            _object(
                {
                    "id": _WHOLE,
                    "site": _TEXT,
                    "generation": _MAYBE_WHOLE,
                    "started_at": _TIME,
                    "duration_s": _NUMBER,
                    "result": {"enum": ["done", "rolled-back", "superseded"]},
                    "error": _MAYBE_TEXT,
                    "traceback": {**_TEXT, "description": "Empty where there is none; its last 8 KiB."},
                    "by": _TEXT,
                },
            ),
        ),
        "more": {**_TRUTH, "description": "Whether there are earlier ones: ask with before = the last id."},
    },
)

_NOTED: _Json = _list(
    _object(
        {
            "at": {**_TIME, "description": "When it had ended."},
            "method": _TEXT,
            "path": {**_TEXT, "description": "Without its query; a long one is cut."},
            "status": {**_WHOLE, "description": "0: its client was gone before there was an answer."},
            "duration_ms": _NUMBER,
            "slot": _WHOLE,
            "pid": _WHOLE,
        },
    ),
)
_REQUESTS: _Json = _object(
    {
        "failed": _NOTED,
        "slowest": _NOTED,
        "slow_ms": {**_NUMBER, "description": "What took longer is slow."},
    },
)
_DAEMON: _Json = _object(
    {
        "pid": _WHOLE,
        "started_at": _TIME,
        "uptime_s": _NUMBER,
        "user": _TEXT,
        "runtime_dir": _TEXT,
        "config": _TEXT,
        "memory_bytes": _WHOLE,
        "cpu_percent": _NUMBER,
        "versions": {
            "type": "object",
            "description": "Of djsup and what it runs on, by name.",
            "additionalProperties": _TEXT,
        },
        "listeners": _list(
            _object(
                {
                    "address": _TEXT,
                    "bound": _TRUTH,
                    "waiting": {**_WHOLE, "description": "Connections that nobody has accepted yet."},
                    "used_by": {**_list(_TEXT), "description": "Sites; dashboard is the dashboard."},
                },
            ),
        ),
        "configuration": {
            "type": "object",
            "description": "Every setting with its default filled in, by the names that the daemon uses.",
        },
    },
)

_RELOADED: _Json = _object(
    {
        "sites": _list(
            _object(
                {
                    "name": _TEXT,
                    "result": {"enum": ["done", "rolled-back", "superseded", "started", "asleep", "stopped"]},
                },
                generation=_MAYBE_WHOLE,
                error=_MAYBE_TEXT,
                details=_MAYBE_TEXT,
                duration_s={"type": ["number", "null"]},
            ),
        ),
    },
)
_EVENT: _Json = _object(
    {
        "id": _WHOLE,
        "at": _TIME,
        "kind": _TEXT,
        "level": {"enum": ["info", "warning", "error"]},
        "text": _TEXT,
    },
    site=_MAYBE_TEXT,
    generation=_MAYBE_WHOLE,
    pid=_MAYBE_WHOLE,
    details=_MAYBE_TEXT,
    by=_MAYBE_TEXT,
)
_LOG_LINE: _Json = _object(
    {"at": _TIME, "site": _TEXT, "stream": {"enum": ["stdout", "stderr"]}, "text": _TEXT},
    slot=_MAYBE_WHOLE,
    program=_MAYBE_TEXT,
    pid=_MAYBE_WHOLE,
)
_WORKER: _Json = _object(
    {
        "slot": _WHOLE,
        "pid": _MAYBE_WHOLE,
        "generation": _WHOLE,
        "state": {"enum": ["booting", "idle", "busy", "draining", "overdue", "gone"]},
        "requests": _WHOLE,
        "threads": _WHOLE,
        "busy": _WHOLE,
        "connections": _WHOLE,
        "rss_bytes": _WHOLE,
        "pss_bytes": _WHOLE,
        "cpu_percent": _NUMBER,
        "started_at": _TIME,
        "uptime_s": _NUMBER,
        "current": _list(_object({"method": _TEXT, "path": _TEXT, "age_s": _NUMBER})),
    },
)
_STACKS: _Json = _object(
    {
        "site": _TEXT,
        "threads": _WHOLE,
        "processes": _list(
            _object(
                {
                    "slot": _MAYBE_WHOLE,
                    "pid": _WHOLE,
                    "generation": _WHOLE,
                    "threads": _WHOLE,
                    "asked_by": {"enum": ["message", "signal"]},
                    "error": _MAYBE_TEXT,
                },
            ),
        ),
        "places": _list(
            _object(
                {
                    "idle": _MAYBE_TEXT,
                    "frames": _list(_object({"file": _TEXT, "line": _WHOLE, "function": _TEXT})),
                    "threads": _list(
                        _object(
                            {
                                "slot": _MAYBE_WHOLE,
                                "pid": _WHOLE,
                                "ident": _WHOLE,
                                "request": {
                                    "type": ["object", "null"],
                                    "properties": {"method": _TEXT, "path": _TEXT, "age_s": _NUMBER},
                                },
                            },
                        ),
                    ),
                },
            ),
        ),
    },
)
_PROFILE: _Json = _object(
    {
        "site": _TEXT,
        "seconds": _NUMBER,
        "rate": _NUMBER,
        "native": _TRUTH,
        "rounds": _WHOLE,
        "samples": _WHOLE,
        "idle": _WHOLE,
        "lost": _WHOLE,
        "processes": _list(
            _object({"slot": _MAYBE_WHOLE, "pid": _WHOLE, "rounds": _WHOLE, "error": _MAYBE_TEXT})
        ),
        "frames": {**_list({"type": "array"}), "description": "[file, line, function] each."},
        "stacks": {
            **_list({"type": "array"}),
            "description": "[count, [index of a frame, ...]] each, the outermost call first.",
        },
    },
)
_MAYBE_MS: _Json = {"type": ["number", "null"]}
_STATUS: _Json = _object(
    {
        "daemon": _object(
            {
                "pid": _WHOLE,
                "version": _TEXT,
                "started_at": _TIME,
                "uptime_s": _NUMBER,
                "config": _TEXT,
                "dashboard": _MAYBE_TEXT,
            },
        ),
        "sites": _list(
            _object(
                {
                    "name": _TEXT,
                    "state": {
                        "enum": [
                            "starting",
                            "serving",
                            "degraded",
                            "reloading",
                            "sleeping",
                            "backing-off",
                            "failed",
                            "stopping",
                            "stopped",
                        ],
                    },
                    "generation": _WHOLE,
                    "listen": _list(_TEXT),
                    "tls_listen": _list(_TEXT),
                    "shared": _list(_TEXT),
                    "mount": _TEXT,
                    "queue": _object(
                        {"waiting": _WHOLE, "waited": _WHOLE, "waited_s": _NUMBER, "turned_away": _WHOLE}
                    ),
                    "hosts": _list(_TEXT),
                    "error": _MAYBE_TEXT,
                    "stopped_by": {
                        **_MAYBE_TEXT,
                        "description": "Who has stopped this site, so that it stays so; null: nobody.",
                    },
                    "requests": _WHOLE,
                    "requests_per_s": _NUMBER,
                    "latency_ms": _object({"p50": _MAYBE_MS, "p95": _MAYBE_MS, "p99": _MAYBE_MS}),
                    "status": _object({"2xx": _WHOLE, "3xx": _WHOLE, "4xx": _WHOLE, "5xx": _WHOLE}),
                    "memory_bytes": _WHOLE,
                    "cpu_percent": _NUMBER,
                    "workers": _list(_schema("Worker")),
                    "programs": _list(
                        _object(
                            {
                                "name": _TEXT,
                                "instance": _WHOLE,
                                "pid": _MAYBE_WHOLE,
                                "state": {
                                    "enum": ["starting", "running", "stopping", "backing-off", "waiting"]
                                },
                                "uptime_s": _NUMBER,
                            },
                            status_text=_TEXT,
                            next_try_s={"type": ["number", "null"]},
                            schedule=_MAYBE_TEXT,
                            next_run_at={"type": ["string", "null"], "format": "date-time"},
                            runs=_WHOLE,
                            last_well={"type": ["boolean", "null"]},
                            last_result=_MAYBE_TEXT,
                        ),
                    ),
                },
                last_reload={
                    "type": ["object", "null"],
                    "properties": {
                        "generation": _WHOLE,
                        "result": {"enum": ["done", "rolled-back", "running"]},
                        "error": _MAYBE_TEXT,
                        "details": _TEXT,
                        "started_at": _TIME,
                        "duration_s": _NUMBER,
                        "by": _TEXT,
                        "phase": _TEXT,
                        "canary": _TEXT,
                    },
                },
                previous_generation=_WHOLE,
                previous_kept_s={"type": ["number", "null"]},
                workers_asked=_WHOLE,
                workers_min=_WHOLE,
                workers_max=_WHOLE,
                workers_why=_TEXT,
                notes=_list(_TEXT),
                next_try_s={"type": ["number", "null"]},
                failures_in_row=_WHOLE,
                python=_TEXT,
                django=_TEXT,
                templates=_list(
                    _object({"pid": _MAYBE_WHOLE, "generation": _WHOLE, "state": _TEXT, "pss_bytes": _WHOLE}),
                ),
            ),
        ),
    },
)


_DIFFERENCE = _object({"setting": _TEXT, "before": _TEXT, "after": _TEXT, "cost": _TEXT})
_PLANNED = _object(
    {
        "name": _TEXT,
        "does": {"enum": ["added", "removed", "stays"]},
        "loads_code": {"type": "boolean"},
        "differences": _list(_DIFFERENCE),
        "restarts": _list(_TEXT),
    }
)


def _get(text: str, done: _Json, *parameters: _Json, **failed: _Json) -> _Json:
    return {"get": {"summary": text, "parameters": list(parameters), "responses": {"200": done, **failed}}}


def _post(
    text: str,
    done: _Json,
    *parameters: _Json,
    body: _Json | None = None,
    **failed: _Json,
) -> _Json:
    operation: _Json = {
        "summary": text,
        "parameters": [_CHANGE, *parameters],
        "responses": {"200": done, **_FAILED_CHANGE, **failed},
    }
    if body is not None:
        operation["requestBody"] = {
            "required": bool(body.get("required")),
            "content": {"application/json": {"schema": body}},
        }
    return {"post": operation}


_PUBLIC: _Json = {"security": []}

DOCUMENT: _Json = {
    "openapi": "3.1.0",
    "info": {
        "title": "djsup",
        "version": "1",
        "description": "What the control socket offers, as HTTP. Errors are JSON objects with the key error.",
    },
    "security": [{"token": []}, {"session": []}],
    "paths": {
        "/healthz": {
            "get": {
                "summary": "Whether every site serves",
                **_PUBLIC,
                "responses": {
                    "200": _answer("Every site serves.", _schema("Health")),
                    "503": _answer(
                        "Some do not: their names. Or the daemon does not answer.", _schema("Health")
                    ),
                },
            },
        },
        "/metrics": _get(
            "The figures for Prometheus",
            _answer(
                "OpenMetrics; the older text format where only text/plain is accepted. "
                "No token is needed with [dashboard] metrics_public.",
                _TEXT,
                "application/openmetrics-text",
            ),
            **_FAILED,
        ),
        "/api/session": {
            "get": {
                "summary": "Whether the cookie is a session",
                **_PUBLIC,
                "responses": {
                    "200": _answer("Yes or no.", _object({"logged_in": _TRUTH, "may_change": _TRUTH}))
                },
            },
        },
        "/api/openapi.json": _get("This document", _answer("OpenAPI 3.1.", {"type": "object"}), **_FAILED),
        "/api/status": _get(
            "Daemon, sites, workers, now", _answer("The fleet.", _schema("Status")), **_FAILED
        ),
        "/api/daemon": _get(
            "The daemon's versions, its listeners, and the configuration that it goes by",
            _answer(
                "Values of environment variables, passwords in commands and URLs are replaced by ***.",
                _schema("Daemon"),
            ),
            **_FAILED,
        ),
        "/api/events": _get(
            "A stream of pictures and events",
            _answer(
                "Server-sent events: link (whether the daemon answers), snapshot (about once a second, a Status), "
                "event (an Event; the last 200 first), progress (of a running action).",
                _TEXT,
                "text/event-stream",
            ),
            **_FAILED,
        ),
        "/api/history": _get(
            "The last events, oldest first; with before, from or to also those that only the archive has",
            _answer("Events.", _object({"events": _list(_schema("Event"))})),
            _LIMIT,
            _BEFORE,
            _FROM,
            _TO,
            {"name": "site", "in": "query", "schema": _TEXT},
            **_FAILED,
            **_BAD,
            **_NO_SITE,
        ),
        "/api/plan": _get(
            "What a reload of everything would change, and what that costs",
            _answer("Each site, and each setting that differs from what runs.", _schema("Plan")),
            **_FAILED,
        ),
        "/api/series": _get(
            "The last minutes of every site, coarse: for a line beside each name",
            _answer("Lists by site.", _schema("Sparks")),
            _whole("minutes", "How many; about 30 points are given.", 1, 60, default=15),
            **_FAILED,
            **_BAD,
        ),
        "/api/sites/{name}/series": _get(
            "What was measured of a site: one list a figure",
            _answer("Lists.", _schema("Series")),
            _SITE,
            _FROM,
            _TO,
            _STEP,
            **_FAILED,
            **_BAD,
            **_NO_SITE,
            **_UNFIT,
        ),
        "/api/sites/{name}/workers/{slot}/series": _get(
            "What was measured of the workers of a slot, second by second, for 15 minutes",
            _answer("Lists.", _schema("WorkerSeries")),
            _SITE,
            _SLOT,
            _FROM,
            _TO,
            **_FAILED,
            **_BAD,
            **_NO_SITE,
            **_UNFIT,
        ),
        "/api/sites/{name}/requests": _get(
            "The requests of a site that failed (5xx), newest first, and that were slow, slowest first",
            _answer("Of the last 200 of both together.", _schema("Requests")),
            _SITE,
            _LIMIT,
            **_FAILED,
            **_BAD,
            **_NO_SITE,
        ),
        "/api/sites/{name}/deploys": _get(
            "The reloads and rollbacks of a site that are over, newest first; the last 100 are kept",
            _answer("Deploys.", _schema("Deploys")),
            _SITE,
            _LIMIT,
            _BEFORE,
            _FROM,
            _TO,
            **_FAILED,
            **_BAD,
            **_NO_SITE,
            **_UNFIT,
        ),
        "/api/reload": _post(
            "Read the configuration again and load every site's code anew",
            _answer(
                "How each reload went; one that was rolled back is not an HTTP error.", _schema("Reloaded")
            ),
        ),
        "/api/sites/{name}/reload": _post(
            "Load a site's code anew beside the old, change over, or roll back",
            _answer("How it went; one that was rolled back is not an HTTP error.", _schema("Reloaded")),
            _SITE,
            body=_object({}, canary_s={"type": "number", "minimum": 0, "maximum": 86_400}),
            **_BAD,
            **_NO_SITE,
        ),
        "/api/sites/{name}/rollback": _post(
            "Bring the code back that served before the last reload, from its template",
            _answer("How it went.", _schema("Reloaded")),
            _SITE,
            **_NO_SITE,
        ),
        "/api/sites/{name}/restart": _post(
            "Stop and start a site",
            _answer("The site's state afterwards.", _object({"site": _TEXT, "state": _TEXT})),
            _SITE,
            **_NO_SITE,
        ),
        "/api/sites/{name}/stop": _post(
            "Stop a site until it is started: requests that run are finished, connections are refused",
            _answer("How it is, once it has ended.", _schema("Ordered")),
            _SITE,
            body=_object({}, now={**_TRUTH, "description": "Do not wait for requests; default: false."}),
            **_BAD,
            **_NO_SITE,
        ),
        "/api/sites/{name}/start": _post(
            "Start a site that was stopped",
            _answer("How it is, once it serves or has failed.", _schema("Ordered")),
            _SITE,
            **_NO_SITE,
        ),
        "/api/sites/{name}/scale": _post(
            "Set the number of a site's workers until the configuration changes",
            _answer("The number asked for now.", _object({"site": _TEXT, "workers": _WHOLE})),
            _SITE,
            body=_object(
                {
                    "workers": {
                        "oneOf": [
                            {"type": "integer", "minimum": 1, "maximum": 128},
                            {"type": "string", "pattern": "^[+-][0-9]{1,3}$"},
                        ],
                    },
                },
            ),
            **_NO_SITE,
            **_BAD,
        ),
        "/api/sites/{name}/profile": _post(
            "Look for some seconds where a site's threads spend their time",
            _answer(
                "The stacks that were seen, and how often; idle threads are left out.", _schema("Profile")
            ),
            _SITE,
            body=_object({"seconds": {"type": "number", "minimum": 1, "maximum": 120}}),
            **_NO_SITE,
            **_BAD,
        ),
        "/api/sites/{name}/stacks": _get(
            "Where every thread of a site is, now; threads at the same place are put together",
            _answer("Processes and places.", _schema("Stacks")),
            _SITE,
            **_FAILED,
            **_NO_SITE,
        ),
        "/api/sites/{name}/logs": _get(
            "The last lines of a site's log",
            {
                "description": "Lines, oldest first; with follow=1 the last 500 and what comes, as events named log.",
                "content": {
                    "application/json": {"schema": _object({"lines": _list(_schema("LogLine"))})},
                    "text/event-stream": {"schema": _TEXT},
                },
            },
            _SITE,
            _LIMIT,
            {"name": "follow", "in": "query", "schema": {"const": "1"}},
            **_FAILED,
            **_BAD,
            **_NO_SITE,
        ),
    },
    "components": {
        "securitySchemes": {
            "token": {"type": "http", "scheme": "bearer"},
            "session": {
                "type": "apiKey",
                "in": "cookie",
                "name": "djsup_session_PORT",
                "description": "Made by the login page; PORT is the dashboard's.",
            },
        },
        "schemas": {
            "Status": _STATUS,
            "Worker": _WORKER,
            "Event": _EVENT,
            "LogLine": _LOG_LINE,
            "Daemon": _DAEMON,
            "Series": _SERIES,
            "WorkerSeries": _WORKER_SERIES,
            "Sparks": _SPARKS,
            "Deploys": _DEPLOYS,
            "Requests": _REQUESTS,
            "Reloaded": _RELOADED,
            "Plan": _object({"sites": _list(_PLANNED), "daemon": _list(_DIFFERENCE)}),
            "Ordered": _object(
                {
                    "name": _TEXT,
                    "state": _TEXT,
                    "changed": {**_TRUTH, "description": "false: it was so before."},
                    "error": {**_MAYBE_TEXT, "description": "Why it is not as asked, null when it is."},
                }
            ),
            "Stacks": _STACKS,
            "Profile": _PROFILE,
            "Health": _object(
                {"status": {"enum": ["ok", "failing", "unknown"]}}, sites=_list(_TEXT), error=_TEXT
            ),
            "Error": _object({"error": _TEXT}, problems=_list(_TEXT)),
        },
    },
}
