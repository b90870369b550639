"""The pages that everybody sees."""

from django.conf import settings
from django.contrib import messages
from django.db import connection
from django.db.models.functions import TruncMonth
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_safe
from django.views.generic import ListView

from posts.forms import CommentForm, SearchForm
from posts.models import Post, Tag


class PostList(ListView):
    """The newest posts, page by page."""

    template_name = "posts/list.html"
    context_object_name = "posts"
    paginate_by = settings.POSTS_ON_A_PAGE

    def get_queryset(self):
        return Post.objects.published().with_comment_count().select_related("author").prefetch_related("tags")


class TagPosts(PostList):
    """The posts with one tag."""

    def get_queryset(self):
        self.tag = get_object_or_404(Tag, slug=self.kwargs["slug"])
        return super().get_queryset().filter(tags=self.tag)

    def get_context_data(self, **kwargs):
        return super().get_context_data(tag=self.tag, heading=f"Tagged “{self.tag}”", **kwargs)


class Search(PostList):
    """The posts that contain the words asked for."""

    template_name = "posts/search.html"

    def get_queryset(self):
        form = SearchForm(self.request.GET)
        self.words = form.cleaned_data["q"] if form.is_valid() else ""
        return super().get_queryset().search(self.words) if self.words else Post.objects.none()

    def get_context_data(self, **kwargs):
        return super().get_context_data(words=self.words, **kwargs)


@require_safe
def archive(request):
    """Every post, by month."""
    posts = (
        Post.objects.published()
        .annotate(month=TruncMonth("published_at"))
        .only("title", "slug", "published_at")
    )
    return render(request, "posts/archive.html", {"posts": posts})


def post(request, year, slug):
    """One post with its comments; takes a new comment."""
    found = get_object_or_404(
        Post.objects.published().select_related("author").prefetch_related("tags"),
        slug=slug,
        published_at__year=year,
    )
    form = CommentForm(request.POST or None)
    if request.method == "POST" and found.takes_comments and form.is_valid():
        comment = form.save(commit=False)
        comment.post = found
        comment.save()
        messages.success(request, "Thank you, your comment is here.")
        return redirect(f"{found.get_absolute_url()}#comment-{comment.pk}")
    around = Post.objects.published().only("title", "slug", "published_at")
    return render(
        request,
        "posts/post.html",
        {
            "post": found,
            "comments": found.comments.filter(approved=True),
            "form": form,
            "newer": around.filter(published_at__gt=found.published_at).last(),
            "older": around.filter(published_at__lt=found.published_at).first(),
        },
        status=422 if form.errors else 200,
    )


@require_safe
def about(request):
    return render(request, "posts/about.html")


@never_cache
@require_GET
def healthz(request):
    """Whether this worker can do its work: the database answers and has its tables."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM posts_post")
        (count,) = cursor.fetchone()
    return HttpResponse(f"ok, {count} posts\n", content_type="text/plain")
