"""The addresses of this site."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("store.urls")),
    path("admin/", admin.site.urls),
]
