"""Cents as people write them."""

from django import template

register = template.Library()


@register.filter
def euros(cents, sign="€"):
    """1290 becomes €12.90."""
    return f"{sign}{cents // 100:,}.{cents % 100:02}"
