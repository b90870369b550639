"""The address of a post's drawing."""

from django import template
from django.templatetags.static import static

register = template.Library()


@register.simple_tag
def cover(post):
    return static(f"posts/covers/{post.cover}.svg")
