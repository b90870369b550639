"""The rules of the blog."""

import datetime as dt
from io import StringIO

from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.core.management import call_command
from django.test import TestCase
from django.urls import reverse
from django.utils import timezone

from posts.models import Comment, Post


class Seeded(TestCase):
    @classmethod
    def setUpTestData(cls):
        call_command("seed", stdout=StringIO())
        cls.newest = Post.objects.published().first()

    def setUp(self):
        cache.clear()


class Reading(Seeded):
    def test_every_public_page_answers(self):
        for name in (
            "posts:list",
            "posts:archive",
            "posts:about",
            "posts:search",
            "posts:feed",
            "sitemap",
            "healthz",
        ):
            with self.subTest(page=name):
                self.assertEqual(self.client.get(reverse(name)).status_code, 200)

    def test_list_is_paged(self):
        self.assertEqual(len(self.client.get("/").context["posts"]), 5)
        self.assertEqual(len(self.client.get("/?page=3").context["posts"]), 2)
        self.assertEqual(self.client.get("/?page=4").status_code, 404)

    def test_drafts_and_the_future_are_not_shown(self):
        Post.objects.filter(pk=self.newest.pk).update(status=Post.Status.DRAFT)
        self.assertEqual(self.client.get(self.newest.get_absolute_url()).status_code, 404)
        tomorrow = timezone.now() + dt.timedelta(days=1)
        Post.objects.filter(pk=self.newest.pk).update(status=Post.Status.PUBLISHED, published_at=tomorrow)
        self.assertNotContains(self.client.get("/"), self.newest.title)

    def test_markdown_becomes_html(self):
        self.assertContains(self.client.get(self.newest.get_absolute_url()), "<blockquote>")

    def test_tag_shows_its_posts_only(self):
        posts = self.client.get("/tags/tides/").context["posts"]
        self.assertEqual({post.slug for post in posts}, {"the-slack-of-the-tide", "reading-a-tide-table"})

    def test_search_needs_every_word(self):
        self.assertContains(self.client.get("/search/", {"q": "hoopoe lawn"}), "A week of easterlies")
        self.assertContains(self.client.get("/search/", {"q": "hoopoe zebra"}), "0 notes")

    def test_unknown_page_says_so_in_the_sites_own_words(self):
        self.assertContains(self.client.get("/nowhere/"), "The tide has taken this page", status_code=404)


class Commenting(Seeded):
    def send(self, **fields):
        data = {"name": "A reader", "email": "", "body": "Very true.", "website": "", **fields}
        return self.client.post(self.newest.get_absolute_url(), data)

    def test_comment_is_shown_after_a_redirect(self):
        before = self.newest.comments.count()
        response = self.send()
        self.assertEqual(response.status_code, 302)
        self.assertEqual(self.newest.comments.count(), before + 1)
        self.assertContains(self.client.get(self.newest.get_absolute_url()), "Very true.")

    def test_html_in_a_comment_is_shown_as_text(self):
        self.send(body="<script>alert(1)</script>")
        response = self.client.get(self.newest.get_absolute_url())
        self.assertNotContains(response, "<script>alert")
        self.assertContains(response, "&lt;script&gt;alert")

    def test_mistakes_are_named_and_nothing_is_kept(self):
        before = Comment.objects.count()
        for wrong in (
            {"name": ""},
            {"body": "x"},
            {"email": "no address"},
            {"website": "http://spam"},
            {"body": "http://a http://b http://c"},
        ):
            with self.subTest(wrong=wrong):
                self.assertEqual(self.send(**wrong).status_code, 422)
        self.assertEqual(Comment.objects.count(), before)

    def test_hidden_comment_is_not_shown(self):
        comment = Comment.objects.create(post=self.newest, name="Spam", body="Buy now", approved=False)
        self.assertNotContains(self.client.get(self.newest.get_absolute_url()), comment.body)


class Writing(Seeded):
    def setUp(self):
        super().setUp()
        self.client.force_login(get_user_model().objects.get(username="admin"))

    def test_admin_lists_filter_and_publish(self):
        Post.objects.filter(pk=self.newest.pk).update(status=Post.Status.DRAFT)
        page = reverse("admin:posts_post_changelist")
        self.assertContains(self.client.get(page, {"status__exact": "draft"}), self.newest.title)
        self.client.post(page, {"action": "publish", "_selected_action": [self.newest.pk]})
        self.newest.refresh_from_db()
        self.assertEqual(self.newest.status, Post.Status.PUBLISHED)

    def test_seed_does_nothing_twice(self):
        before = (Post.objects.count(), Comment.objects.count())
        call_command("seed", stdout=StringIO())
        self.assertEqual((Post.objects.count(), Comment.objects.count()), before)
