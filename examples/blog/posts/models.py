"""Posts, their tags and the comments of their readers."""

import datetime as dt

import markdown
from django.conf import settings
from django.core.cache import cache
from django.db import models
from django.db.models import Count, Q
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.safestring import mark_safe

WORDS_A_MINUTE = 220


class Cover(models.TextChoices):
    """The drawings in static/posts/covers/."""

    SHORE = "shore", "Shore"
    HILLS = "hills", "Hills"
    NIGHT = "night", "Night"
    FOREST = "forest", "Forest"
    DUNES = "dunes", "Dunes"
    ICE = "ice", "Ice"


class Tag(models.Model):
    name = models.CharField(max_length=40, unique=True)
    slug = models.SlugField(max_length=40, unique=True)

    class Meta:
        ordering = ["name"]

    def __str__(self):
        return self.name

    def get_absolute_url(self):
        return reverse("posts:tag", args=[self.slug])


class PostQuerySet(models.QuerySet):
    def published(self):
        """What everybody may read now."""
        return self.filter(status=Post.Status.PUBLISHED, published_at__lte=timezone.now())

    def with_comment_count(self):
        """Each post with ``comment_count``, the number of its comments that are shown."""
        shown = Count("comments", filter=Q(comments__approved=True), distinct=True)
        return self.annotate(comment_count=shown).order_by(
            "-published_at", "-pk"
        )  # grouping forgets the order

    def search(self, words):
        """Posts in which every word occurs, in title, summary, text or a tag."""
        found = self
        for word in words.split()[:8]:
            found = found.filter(
                Q(title__icontains=word)
                | Q(summary__icontains=word)
                | Q(body__icontains=word)
                | Q(tags__name__icontains=word)
            )
        return found.distinct()


class Post(models.Model):
    class Status(models.TextChoices):
        DRAFT = "draft", "Draft"
        PUBLISHED = "published", "Published"

    title = models.CharField(max_length=120)
    slug = models.SlugField(max_length=120, unique=True)
    summary = models.CharField(max_length=240, help_text="One or two sentences, shown in lists and feeds.")
    body = models.TextField(help_text="Markdown.")
    cover = models.CharField(max_length=12, choices=Cover.choices, default=Cover.SHORE)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="posts")
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.DRAFT, db_index=True)
    published_at = models.DateTimeField(default=timezone.now, db_index=True)
    changed_at = models.DateTimeField(auto_now=True)
    tags = models.ManyToManyField(Tag, related_name="posts", blank=True)

    objects = PostQuerySet.as_manager()

    class Meta:
        ordering = ["-published_at", "-pk"]

    def __str__(self):
        return self.title

    def get_absolute_url(self):
        return reverse("posts:post", args=[timezone.localtime(self.published_at).year, self.slug])

    @cached_property
    def html(self):
        """The text as HTML, made once a change. Its writers have an account, so their Markdown is trusted."""
        key = f"html:{self.pk}:{self.changed_at.timestamp()}"
        return mark_safe(cache.get_or_set(key, self._make_html, timeout=3600))

    def _make_html(self):
        return markdown.markdown(self.body, extensions=["smarty", "fenced_code"])

    @property
    def minutes(self):
        """About how long it takes to read, in minutes."""
        return max(1, round(len(self.body.split()) / WORDS_A_MINUTE))

    @property
    def takes_comments(self):
        open_for = dt.timedelta(days=settings.COMMENTS_CLOSE_AFTER_DAYS)
        return timezone.now() - self.published_at < open_for


class Comment(models.Model):
    post = models.ForeignKey(Post, on_delete=models.CASCADE, related_name="comments")
    name = models.CharField(max_length=60)
    email = models.EmailField(blank=True, help_text="Not shown.")
    body = models.TextField(max_length=2000)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)
    approved = models.BooleanField(default=True)

    class Meta:
        ordering = ["created_at", "pk"]

    def __str__(self):
        return f"{self.name} on {self.post}"
