"""What stands beside every page: tags and the newest comments. The template caches the outcome."""

from django import template
from django.db.models import Count, Q

from posts.models import Comment, Post, Tag

register = template.Library()


@register.inclusion_tag("posts/_sidebar.html")
def sidebar():
    published = Post.objects.published()
    counted = Tag.objects.annotate(count=Count("posts", filter=Q(posts__in=published)))
    comments = Comment.objects.filter(approved=True, post__in=published).select_related("post")
    return {"tags": counted.filter(count__gt=0), "comments": comments.order_by("-created_at", "-pk")[:4]}
