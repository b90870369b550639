"""The back office: stock, prices, orders."""

import csv

from django.contrib import admin
from django.http import HttpResponse

from store import checkout
from store.models import Category, Order, OrderLine, Product
from store.templatetags.money import euros

admin.site.site_header = "Kilnside"
admin.site.site_title = "Kilnside"


class LowStock(admin.SimpleListFilter):
    title = "stock"
    parameter_name = "stock"

    def lookups(self, request, model_admin):
        return [("none", "Sold out"), ("low", "Fewer than 5")]

    def queryset(self, request, queryset):
        if self.value() == "none":
            return queryset.filter(stock=0)
        return queryset.filter(stock__lt=5) if self.value() == "low" else queryset


@admin.register(Category)
class CategoryAdmin(admin.ModelAdmin):
    list_display = ["name", "position"]
    list_editable = ["position"]
    prepopulated_fields = {"slug": ["name"]}


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    list_display = ["name", "category", "price", "stock", "active"]
    list_editable = ["stock", "active"]
    list_filter = [LowStock, "category", "glaze", "active"]
    list_select_related = ["category"]
    search_fields = ["name", "description"]
    prepopulated_fields = {"slug": ["name"]}

    @admin.display(ordering="price_cents")
    def price(self, product):
        return euros(product.price_cents)


class OrderLineInline(admin.TabularInline):
    model = OrderLine
    extra = 0
    can_delete = False
    readonly_fields = ["product", "quantity", "price_cents"]

    def has_add_permission(self, request, obj=None):
        return False


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    list_display = ["__str__", "name", "city", "status", "total", "created_at"]
    list_filter = ["status", "created_at"]
    date_hierarchy = "created_at"
    search_fields = ["name", "email", "reference"]
    readonly_fields = ["reference", "shipping_cents", "total", "created_at"]
    inlines = [OrderLineInline]
    actions = ["ship", "cancel", "export"]

    @admin.display
    def total(self, order):
        return euros(order.total_cents) if order.pk else ""

    @admin.action(description="Mark as shipped")
    def ship(self, request, queryset):
        count = queryset.filter(status=Order.Status.NEW).update(status=Order.Status.SHIPPED)
        self.message_user(request, f"{count} shipped.")

    @admin.action(description="Cancel, and put the goods back")
    def cancel(self, request, queryset):
        orders = list(queryset.filter(status=Order.Status.NEW))
        for order in orders:
            checkout.cancel(order)
        self.message_user(request, f"{len(orders)} cancelled.")

    @admin.action(description="Export as CSV")
    def export(self, request, queryset):
        response = HttpResponse(
            content_type="text/csv", headers={"Content-Disposition": 'attachment; filename="orders.csv"'}
        )
        writer = csv.writer(response)
        writer.writerow(["Order", "Date", "Status", "Name", "City", "Total in EUR"])
        for order in queryset:
            total = euros(order.total_cents, sign="")
            writer.writerow([order.pk, order.created_at.date(), order.status, order.name, order.city, total])
        return response
