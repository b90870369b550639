"""The addresses of the blog's pages."""

from django.urls import path

from posts import views
from posts.feeds import PostFeed

app_name = "posts"

urlpatterns = [
    path("", views.PostList.as_view(), name="list"),
    path("archive/", views.archive, name="archive"),
    path("search/", views.Search.as_view(), name="search"),
    path("about/", views.about, name="about"),
    path("feed/", PostFeed(), name="feed"),
    path("tags/<slug:slug>/", views.TagPosts.as_view(), name="tag"),
    path("<int:year>/<slug:slug>/", views.post, name="post"),
]
