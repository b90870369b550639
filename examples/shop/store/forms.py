"""What customers send."""

import re

from django import forms

from store.basket import QUANTITY_MAX
from store.models import Order

SORTS = {
    "": ["category__position", "name"],
    "price": ["price_cents"],
    "-price": ["-price_cents"],
    "new": ["-pk"],
}


class FilterForm(forms.Form):
    sort = forms.ChoiceField(
        required=False,
        choices=[("", "By kind"), ("price", "Lowest price"), ("-price", "Highest price"), ("new", "Newest")],
    )
    in_stock = forms.BooleanField(required=False, label="In stock only")


class QuantityForm(forms.Form):
    quantity = forms.IntegerField(min_value=0, max_value=QUANTITY_MAX)


class CheckoutForm(forms.ModelForm):
    class Meta:
        model = Order
        fields = ["name", "email", "street", "postcode", "city", "note"]
        labels = {"email": "E-mail", "note": "Anything we should know?"}
        widgets = {
            "name": forms.TextInput(attrs={"autocomplete": "name"}),
            "email": forms.EmailInput(attrs={"autocomplete": "email"}),
            "street": forms.TextInput(attrs={"autocomplete": "street-address"}),
            "postcode": forms.TextInput(attrs={"autocomplete": "postal-code"}),
            "city": forms.TextInput(attrs={"autocomplete": "address-level2"}),
            "note": forms.Textarea(attrs={"rows": 2}),
        }

    def clean_postcode(self):
        postcode = self.cleaned_data["postcode"].upper().strip()
        if not re.fullmatch(r"[A-Z0-9][A-Z0-9 -]{2,11}", postcode):
            raise forms.ValidationError("A postcode has letters, digits and perhaps a space.")
        return postcode
