"""The pages of the shop."""

import csv
from pathlib import Path

from django.contrib import messages
from django.db import connection
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST, require_safe

from store import checkout as till
from store.forms import SORTS, CheckoutForm, FilterForm, QuantityForm
from store.models import Category, Order, Product
from store.templatetags.money import euros

CARE_GUIDE = Path(__file__).parent / "downloads" / "care-of-stoneware.txt"


@require_safe
def catalogue(request, slug=None):
    """All products, or those of one category, sorted and filtered."""
    category = get_object_or_404(Category, slug=slug) if slug else None
    products = Product.objects.filter(active=True).select_related("category")
    if category:
        products = products.filter(category=category)
    form = FilterForm(request.GET)
    if form.is_valid():
        products = products.order_by(*SORTS[form.cleaned_data["sort"]], "pk")
        if form.cleaned_data["in_stock"]:
            products = products.filter(stock__gt=0)
    return render(
        request,
        "store/catalogue.html",
        {"products": products, "category": category, "form": form},
    )


@require_safe
def product(request, slug):
    found = get_object_or_404(Product.objects.select_related("category"), slug=slug, active=True)
    others = Product.objects.filter(active=True, category=found.category).exclude(pk=found.pk)[:4]
    return render(
        request,
        "store/product.html",
        {"product": found, "others": others, "there": request.basket.quantity(found)},
    )


@require_POST
def add(request, slug):
    """One more into the basket, as far as there is one."""
    found = get_object_or_404(Product, slug=slug, active=True)
    wanted = request.basket.quantity(found) + 1
    if wanted > found.stock:
        messages.error(request, f"There are only {found.stock} of “{found}”.")
    else:
        request.basket.put(found, wanted)
        messages.success(request, f"“{found}” is in your basket.")
    return redirect("store:basket" if "now" in request.POST else found)


@require_http_methods(["GET", "HEAD", "POST"])
def basket(request):
    """Shows the basket; takes a new quantity for one product."""
    if request.method == "POST":
        found = get_object_or_404(Product, pk=request.POST.get("product") or 0)
        form = QuantityForm(request.POST)
        if form.is_valid():
            request.basket.put(found, form.cleaned_data["quantity"])
        else:
            messages.error(request, "A quantity is a number from 0 to 20.")
        return redirect("store:basket")
    return render(request, "store/basket.html")


@require_http_methods(["GET", "HEAD", "POST"])
def checkout(request):
    """Asks for the address and places the order."""
    if not request.basket.lines:
        messages.error(request, "Your basket is empty.")
        return redirect("store:basket")
    form = CheckoutForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            order = till.place(form.save(commit=False), request.basket)
        except till.SoldOut as sold_out:
            messages.error(
                request, f"Somebody was quicker: there is not enough of “{sold_out.product}” any more."
            )
            return redirect("store:basket")
        request.basket.clear()
        return redirect(order)
    return render(request, "store/checkout.html", {"form": form}, status=422 if form.errors else 200)


@never_cache
@require_safe
def order(request, reference):
    found = get_object_or_404(Order, reference=reference)
    return render(
        request, "store/order.html", {"order": found, "lines": found.lines.select_related("product")}
    )


@require_safe
def care_guide(request):
    """A file to download, sent by the server in its own way (wsgi.file_wrapper)."""
    return FileResponse(CARE_GUIDE.open("rb"), as_attachment=True, content_type="text/plain; charset=utf-8")


class Echo:
    """A file that gives back what is written to it, so that csv writes into a stream."""

    def write(self, value):
        return value


@require_safe
def price_list(request):
    """All products as CSV, streamed row by row."""
    writer = csv.writer(Echo())
    products = Product.objects.filter(active=True).select_related("category")

    def rows():
        yield writer.writerow(["Product", "Category", "Price in EUR", "In stock"])
        for each in products.iterator(chunk_size=100):
            yield writer.writerow(
                [each.name, each.category.name, euros(each.price_cents, sign=""), each.stock]
            )

    headers = {"Content-Disposition": 'attachment; filename="price-list.csv"'}
    return StreamingHttpResponse(rows(), content_type="text/csv; charset=utf-8", headers=headers)


@never_cache
@require_GET
def healthz(request):
    """Whether this worker can do its work: the database answers and has its tables."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM store_product")
        (count,) = cursor.fetchone()
    return HttpResponse(f"ok, {count} products\n", content_type="text/plain")
