"""What readers send: comments and searches."""

import re

from django import forms

from posts.models import Comment

LINKS_MAX = 2


class CommentForm(forms.ModelForm):
    website = forms.CharField(
        required=False,
        label="Leave this empty",
        widget=forms.TextInput(attrs={"tabindex": "-1", "autocomplete": "off"}),
    )
    """People don't see this field; programs that fill in every field do."""

    class Meta:
        model = Comment
        fields = ["name", "email", "body"]
        labels = {"name": "Your name", "email": "E-mail", "body": "Comment"}
        widgets = {
            "name": forms.TextInput(attrs={"autocomplete": "name"}),
            "email": forms.EmailInput(attrs={"autocomplete": "email"}),
            "body": forms.Textarea(attrs={"rows": 5, "maxlength": 2000}),
        }

    def clean_website(self):
        if self.cleaned_data["website"]:
            raise forms.ValidationError("This field is meant to stay empty.")
        return ""

    def clean_body(self):
        body = self.cleaned_data["body"].strip()
        if len(body) < 3:
            raise forms.ValidationError("That is a little short.")
        if len(re.findall(r"https?://", body)) > LINKS_MAX:
            raise forms.ValidationError(f"At most {LINKS_MAX} links, please.")
        return body


class SearchForm(forms.Form):
    q = forms.CharField(max_length=80, required=False, strip=True)
