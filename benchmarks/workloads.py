"""What is served: a bare function, and a page of the example blog with its database queries and templates."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Workload:
    """One application and the path that is asked of it."""

    name: str
    directory: Path
    wsgi: str
    path: str
    python: Path
    """The virtualenv that djsup runs it in; the others run it in their own."""


BARE = Workload("bare", ROOT / "benchmarks/apps", "bare:application", "/", ROOT / ".venv")
BLOG = Workload("blog", ROOT / "examples/blog", "blog.wsgi:application", "/", ROOT / "examples/blog/.venv")
WORKLOADS = (BARE, BLOG)
