"""``manage.py seed``: sample posts and comments, and a user who may write. Does nothing twice."""

import datetime as dt
from pathlib import Path

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand
from django.db import transaction
from django.utils import timezone
from django.utils.text import slugify

from posts.models import Comment, Post, Tag

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
DAYS_BETWEEN = 17
COMMENTS = [
    (
        "the-slack-of-the-tide",
        "A neighbour",
        "The stick works. The dog did not let us finish the experiment.",
    ),
    ("the-slack-of-the-tide", "North pier", "At our end it is always ten minutes later than the table says."),
    (
        "a-map-drawn-by-walking",
        "Two boots",
        "Eleven metres in two kilometres! Mine was forty, and I had a compass.",
    ),
    (
        "the-night-the-lamps-went-out",
        "Room 14",
        "We heard that sound too, from the balcony. We may have made it.",
    ),
    ("counting-on-ice", "Former skater", "Number six is the one to remember."),
    ("reading-a-tide-table", "Wet knees", "I can confirm the third hour."),
    ("a-week-of-easterlies", "Town hall", "The hoopoe has been back since, on the same lawn."),
]


class Command(BaseCommand):
    help = 'Adds sample posts and, if nobody can write yet, the user "admin" with the password "admin".'

    @transaction.atomic
    def handle(self, **options):
        author = self._author()
        files = sorted(SAMPLES.glob("*.md"))
        added = sum(self._add(path, author, age) for age, path in enumerate(files))
        self.stdout.write(f"{added} posts added, {Post.objects.count()} there now.")

    def _author(self):
        users = get_user_model().objects
        author = users.filter(is_superuser=True).order_by("pk").first()
        if author is None:
            author = users.create_superuser("admin", "admin@localhost", "admin")
            self.stdout.write('User "admin" with the password "admin" added. An example only: change it.')
        return author

    def _add(self, path, author, age):
        """Add one file as a post, unless there is one of that name. True when it was added."""
        head, body = path.read_text(encoding="utf-8").split("\n\n", 1)
        fields = dict(line.split(": ", 1) for line in head.splitlines())
        slug = slugify(fields["title"])
        if Post.objects.filter(slug=slug).exists():
            return False
        published = timezone.now() - dt.timedelta(days=1 + age * DAYS_BETWEEN, hours=age * 5 % 11)
        post = Post.objects.create(
            title=fields["title"],
            slug=slug,
            summary=fields["summary"],
            cover=fields["cover"],
            body=body,
            author=author,
            status=Post.Status.PUBLISHED,
            published_at=published,
        )
        for name in fields["tags"].split(", "):
            tag, _ = Tag.objects.get_or_create(slug=slugify(name), defaults={"name": name})
            post.tags.add(tag)
        for about, commenter, text in COMMENTS:
            if about == slug:
                Comment.objects.create(post=post, name=commenter, body=text)
        return True
