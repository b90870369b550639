"""For feed readers and search engines."""

from django.contrib.sitemaps import Sitemap
from django.contrib.syndication.views import Feed
from django.urls import reverse_lazy
from django.utils.feedgenerator import Atom1Feed

from posts.models import Post


class PostFeed(Feed):
    feed_type = Atom1Feed
    title = "Tidewater"
    subtitle = "Notes from the edge of the land"
    link = reverse_lazy("posts:list")

    def items(self):
        return Post.objects.published().select_related("author").prefetch_related("tags")[:20]

    def item_description(self, item):
        return item.html

    def item_pubdate(self, item):
        return item.published_at

    def item_updateddate(self, item):
        return item.changed_at

    def item_categories(self, item):
        return [tag.name for tag in item.tags.all()]


class PostSitemap(Sitemap):
    changefreq = "monthly"
    protocol = "http"

    def items(self):
        return Post.objects.published()

    def lastmod(self, item):
        return item.changed_at
