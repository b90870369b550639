"""Turning a basket into an order, all of it or nothing."""

from django.db import transaction
from django.db.models import F

from store.models import OrderLine, Product


class SoldOut(Exception):
    """Somebody was quicker: there is not enough of ``product`` any more."""

    def __init__(self, product):
        super().__init__(str(product))
        self.product = product


@transaction.atomic
def place(order, basket):
    """Save an order with the basket's lines and take them from the stock.

    Raises:
        SoldOut: nothing was saved.
    """
    order.shipping_cents = basket.shipping_cents
    order.save()
    for line in basket.lines:
        enough = Product.objects.filter(pk=line.product.pk, active=True, stock__gte=line.quantity)
        if not enough.update(stock=F("stock") - line.quantity):
            raise SoldOut(line.product)
        OrderLine.objects.create(
            order=order, product=line.product, quantity=line.quantity, price_cents=line.product.price_cents
        )
    return order


@transaction.atomic
def cancel(order):
    """Cancel a new order and put its goods back into the stock."""
    for line in order.lines.all():
        Product.objects.filter(pk=line.product_id).update(stock=F("stock") + line.quantity)
    order.status = order.Status.CANCELLED
    order.save(update_fields=["status"])
