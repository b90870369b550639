"""Sources of small applications that the tests serve."""

ECHO = """
import json

def application(environ, start_response):
    body = environ["wsgi.input"].read()
    seen = {
        "method": environ["REQUEST_METHOD"], "path": environ["PATH_INFO"], "query": environ["QUERY_STRING"],
        "body": body.decode("latin-1"), "length": environ.get("CONTENT_LENGTH"),
        "headers": {key: value for key, value in environ.items() if key.startswith("HTTP_")},
    }
    data = json.dumps(seen).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("X-Application", "yes")])
    return [data]
"""

HELLO = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
"""
