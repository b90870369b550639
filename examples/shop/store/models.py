"""What is sold, and what was ordered. Money is whole cents of a euro."""

import secrets

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Sum
from django.urls import reverse


def new_reference():
    """An order's name in its address: nobody guesses another's."""
    return secrets.token_urlsafe(12)


class Category(models.Model):
    name = models.CharField(max_length=40, unique=True)
    slug = models.SlugField(max_length=40, unique=True)
    position = models.PositiveSmallIntegerField(default=0)

    class Meta:
        ordering = ["position", "name"]
        verbose_name_plural = "categories"

    def __str__(self):
        return self.name

    def get_absolute_url(self):
        return reverse("store:category", args=[self.slug])


class Shape(models.TextChoices):
    """The drawings in static/store/ware/; each takes its colour from the product's glaze."""

    MUG = "mug", "Mug"
    BOWL = "bowl", "Bowl"
    PLATE = "plate", "Plate"
    VASE = "vase", "Vase"
    TEAPOT = "teapot", "Teapot"
    JUG = "jug", "Jug"
    PLANTER = "planter", "Planter"
    BOTTLE = "bottle", "Bottle"


class Glaze(models.TextChoices):
    CLAY = "clay", "Bare clay"
    CELADON = "celadon", "Celadon"
    COBALT = "cobalt", "Cobalt"
    OCHRE = "ochre", "Ochre"
    ASH = "ash", "Ash white"
    IRON = "iron", "Iron black"


class Product(models.Model):
    name = models.CharField(max_length=80)
    slug = models.SlugField(max_length=80, unique=True)
    category = models.ForeignKey(Category, on_delete=models.PROTECT, related_name="products")
    description = models.TextField()
    details = models.CharField(max_length=120, help_text="Size and capacity.")
    shape = models.CharField(max_length=10, choices=Shape.choices)
    glaze = models.CharField(max_length=10, choices=Glaze.choices)
    price_cents = models.PositiveIntegerField(validators=[MinValueValidator(1)])
    stock = models.PositiveIntegerField(default=0)
    active = models.BooleanField(default=True, db_index=True)
    added_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["category__position", "name"]

    def __str__(self):
        return self.name

    def get_absolute_url(self):
        return reverse("store:product", args=[self.slug])


class Order(models.Model):
    class Status(models.TextChoices):
        NEW = "new", "New"
        SHIPPED = "shipped", "Shipped"
        CANCELLED = "cancelled", "Cancelled"

    reference = models.CharField(max_length=24, unique=True, default=new_reference, editable=False)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.NEW, db_index=True)
    name = models.CharField(max_length=80)
    email = models.EmailField()
    street = models.CharField(max_length=120)
    postcode = models.CharField(max_length=12)
    city = models.CharField(max_length=80)
    note = models.TextField(blank=True, max_length=500)
    shipping_cents = models.PositiveIntegerField()
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        ordering = ["-created_at", "-pk"]

    def __str__(self):
        return f"Order {self.pk}"

    def get_absolute_url(self):
        return reverse("store:order", args=[self.reference])

    @property
    def total_cents(self):
        lines = self.lines.aggregate(sum=Sum(F("price_cents") * F("quantity")))["sum"] or 0
        return lines + self.shipping_cents


class OrderLine(models.Model):
    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="lines")
    quantity = models.PositiveIntegerField(validators=[MinValueValidator(1)])
    price_cents = models.PositiveIntegerField(help_text="Of one, on the day of the order.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["order", "product"], name="one_line_a_product")]

    def __str__(self):
        return f"{self.quantity} x {self.product}"

    @property
    def total_cents(self):
        return self.price_cents * self.quantity
