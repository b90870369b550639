"""What the small Django sites of the benchmarks have in common: their settings.

The middleware is startproject's, as far as it needs no database.
"""

SETTINGS = {
    "ALLOWED_HOSTS": ["127.0.0.1", "localhost"],
    "SECRET_KEY": "a benchmark keeps no secrets",
    "TEMPLATES": [{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    "MIDDLEWARE": [
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
}
