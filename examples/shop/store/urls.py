"""The addresses of the shop's pages."""

from django.urls import path

from store import views

app_name = "store"

urlpatterns = [
    path("", views.catalogue, name="catalogue"),
    path("kind/<slug:slug>/", views.catalogue, name="category"),
    path("ware/<slug:slug>/", views.product, name="product"),
    path("ware/<slug:slug>/add/", views.add, name="add"),
    path("basket/", views.basket, name="basket"),
    path("checkout/", views.checkout, name="checkout"),
    path("order/<str:reference>/", views.order, name="order"),
    path("care-of-stoneware.txt", views.care_guide, name="care_guide"),
    path("price-list.csv", views.price_list, name="price_list"),
    path("healthz", views.healthz, name="healthz"),
]
