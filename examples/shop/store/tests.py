"""The rules of the shop."""

from io import StringIO

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import TestCase, override_settings
from django.urls import reverse

from store import checkout
from store.models import Order, Product

ADDRESS = {
    "name": "A customer",
    "email": "c@example.org",
    "street": "1 Quay",
    "postcode": "d02 xy45",
    "city": "Dublin",
}


@override_settings(CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}})
class Stocked(TestCase):
    @classmethod
    def setUpTestData(cls):
        call_command("seed", stdout=StringIO())
        cls.mug = Product.objects.get(slug="harbour-mug")

    def put(self, quantity):
        return self.client.post(reverse("store:basket"), {"product": self.mug.pk, "quantity": quantity})


class Looking(Stocked):
    def test_every_public_page_answers(self):
        for name in ("catalogue", "basket", "care_guide", "price_list", "healthz"):
            with self.subTest(page=name):
                self.assertEqual(self.client.get(reverse(f"store:{name}")).status_code, 200)
        self.assertContains(self.client.get(self.mug.get_absolute_url()), "€24.00")

    def test_kind_filter_and_order(self):
        standing = self.client.get("/kind/standing/", {"sort": "price"}).context["products"]
        self.assertEqual(standing[0].slug, "window-planter")
        self.assertEqual({product.category.slug for product in standing}, {"standing"})
        self.assertNotContains(self.client.get("/", {"in_stock": "on"}), "Garden teapot")

    def test_withdrawn_product_is_gone(self):
        Product.objects.filter(pk=self.mug.pk).update(active=False)
        self.assertContains(self.client.get(self.mug.get_absolute_url()), "not on the shelf", status_code=404)

    def test_care_guide_is_sent_as_a_file(self):
        response = self.client.get(reverse("store:care_guide"))
        self.assertIn("attachment", response["Content-Disposition"])
        self.assertIn(b"Care of stoneware", b"".join(response.streaming_content))

    def test_price_list_is_csv_with_a_row_a_product(self):
        rows = b"".join(self.client.get(reverse("store:price_list")).streaming_content).splitlines()
        self.assertEqual(len(rows), 1 + Product.objects.count())
        self.assertIn(b"Harbour mug,Drinking,24.00,18", rows)


class Buying(Stocked):
    def test_basket_keeps_what_was_added_and_limits_it(self):
        self.client.post(reverse("store:add", args=[self.mug.slug]))
        self.client.post(reverse("store:add", args=[self.mug.slug]))
        self.assertContains(self.client.get(reverse("store:basket")), "€48.00")
        self.put(21)
        self.assertContains(self.client.get(reverse("store:basket")), "€48.00")
        self.put(0)
        self.assertContains(self.client.get(reverse("store:basket")), "It is empty")

    def test_sold_out_product_cannot_be_added(self):
        self.client.post(reverse("store:add", args=["garden-teapot"]))
        self.assertContains(self.client.get(reverse("store:basket")), "It is empty")

    def test_order_takes_the_stock_and_empties_the_basket(self):
        self.put(3)
        response = self.client.post(reverse("store:checkout"), ADDRESS)
        order = Order.objects.get()
        self.assertRedirects(response, order.get_absolute_url())
        self.assertEqual((order.postcode, order.total_cents), ("D02 XY45", 3 * 2400 + 590))
        self.mug.refresh_from_db()
        self.assertEqual(self.mug.stock, 15)
        self.assertContains(self.client.get(reverse("store:basket")), "It is empty")

    def test_sold_out_at_the_till_saves_nothing(self):
        self.put(3)
        Product.objects.filter(pk=self.mug.pk).update(stock=2)
        self.client.post(reverse("store:checkout"), ADDRESS)
        self.assertEqual(Order.objects.count(), 0)
        self.mug.refresh_from_db()
        self.assertEqual(self.mug.stock, 2)

    def test_wrong_address_is_named_and_orders_nothing(self):
        self.put(1)
        for field, value in (("email", "nobody"), ("postcode", "!"), ("name", "")):
            with self.subTest(field=field):
                response = self.client.post(reverse("store:checkout"), {**ADDRESS, field: value})
                self.assertEqual(response.status_code, 422)
        self.assertEqual(Order.objects.count(), 0)

    def test_shipping_is_free_above_the_limit(self):
        self.put(4)
        self.client.post(reverse("store:checkout"), ADDRESS)
        self.assertEqual(Order.objects.get().shipping_cents, 0)

    def test_cancelled_order_gives_the_goods_back(self):
        self.put(3)
        self.client.post(reverse("store:checkout"), ADDRESS)
        checkout.cancel(Order.objects.get())
        self.mug.refresh_from_db()
        self.assertEqual(self.mug.stock, 18)


class BackOffice(Stocked):
    def setUp(self):
        self.put(2)
        self.client.post(reverse("store:checkout"), ADDRESS)
        self.client.force_login(get_user_model().objects.get(username="admin"))

    def act(self, action):
        page = reverse("admin:store_order_changelist")
        return self.client.post(page, {"action": action, "_selected_action": [Order.objects.get().pk]})

    def test_orders_are_shipped_and_not_cancelled_afterwards(self):
        self.act("ship")
        self.act("cancel")
        self.assertEqual(Order.objects.get().status, Order.Status.SHIPPED)

    def test_orders_are_exported(self):
        self.assertContains(self.act("export"), "A customer,Dublin,53.90")

    def test_low_stock_is_found(self):
        page = self.client.get(reverse("admin:store_product_changelist"), {"stock": "none"})
        self.assertContains(page, "Garden teapot")
        self.assertNotContains(page, "Harbour mug")

    def test_order_page_shows_its_lines(self):
        page = self.client.get(reverse("admin:store_order_change", args=[Order.objects.get().pk]))
        self.assertContains(page, "Harbour mug")
