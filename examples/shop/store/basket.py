"""The basket: product ids and quantities in the session, looked up once a request."""

from dataclasses import dataclass

from django.conf import settings

from store.models import Category, Product

QUANTITY_MAX = 20
KEY = "basket"


@dataclass(frozen=True)
class Line:
    product: Product
    quantity: int

    @property
    def total_cents(self):
        return self.product.price_cents * self.quantity

    @property
    def available(self):
        return self.quantity <= self.product.stock


class Basket:
    def __init__(self, session):
        self._session = session
        self._lines = None

    def __len__(self):
        return sum(self._session.get(KEY, {}).values())

    @property
    def lines(self):
        """What is in it, without products that are no longer sold."""
        if self._lines is None:
            quantities = self._session.get(KEY, {})
            products = Product.objects.filter(pk__in=quantities, active=True) if quantities else []
            self._lines = [Line(product, quantities[str(product.pk)]) for product in products]
        return self._lines

    @property
    def goods_cents(self):
        return sum(line.total_cents for line in self.lines)

    @property
    def shipping_cents(self):
        return 0 if self.goods_cents >= settings.FREE_SHIPPING_FROM_CENTS else settings.SHIPPING_CENTS

    @property
    def total_cents(self):
        return self.goods_cents + self.shipping_cents

    @property
    def until_free_shipping_cents(self):
        return max(0, settings.FREE_SHIPPING_FROM_CENTS - self.goods_cents)

    @property
    def available(self):
        return all(line.available for line in self.lines)

    def put(self, product, quantity):
        """Have exactly so many of a product; 0 takes it out."""
        quantities = dict(self._session.get(KEY, {}))
        quantities[str(product.pk)] = max(0, min(quantity, QUANTITY_MAX))
        self._session[KEY] = {key: value for key, value in quantities.items() if value}
        self._lines = None

    def quantity(self, product):
        return self._session.get(KEY, {}).get(str(product.pk), 0)

    def clear(self):
        self._session.pop(KEY, None)
        self._lines = None


class BasketMiddleware:
    """Gives each request its basket."""

    def __init__(self, get_response):
        self._get_response = get_response

    def __call__(self, request):
        request.basket = Basket(request.session)
        return self._get_response(request)


def context(request):
    """What the head of every page shows: the basket and the kinds of wares."""
    return {"basket": getattr(request, "basket", None), "categories": Category.objects.all()}
