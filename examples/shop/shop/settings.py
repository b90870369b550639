"""Settings of the shop. What differs from one machine to another comes from the environment.

DEBUG            1 or 0, default 0
SECRET_KEY       default: one that everybody can read here, good enough to look at an example
ALLOWED_HOSTS    separated by commas, default: names of this machine only
"""

import os
import sys
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

DEBUG = os.environ.get("DEBUG", "0") == "1"
SECRET_KEY = os.environ.get("SECRET_KEY", "another-example-key-that-is-public-and-protects-nothing")
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "localhost,.localhost,127.0.0.1,[::1]").split(",")

INSTALLED_APPS = [
    "store.apps.StoreConfig",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "store.basket.BasketMiddleware",
]

ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "store.basket.context",
            ],
            "string_if_invalid": "",
        },
    },
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": BASE_DIR / "db.sqlite3",
        "OPTIONS": {"timeout": 20},  # write-ahead logging: store/apps.py
    },
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# One cache for all workers, in a file: sessions are read from it and written through to the database.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": BASE_DIR / "media" / "cache",
    },
}
SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
SESSION_COOKIE_NAME = "shop_session"
CSRF_COOKIE_NAME = "shop_csrf"  # both example sites are 127.0.0.1 to a browser, which tells no ports apart
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"

LANGUAGE_CODE = "en-ie"
LANGUAGES = [
    ("en-ie", "English"),
    ("de", "Deutsch"),
]  # numbers and the admin; the shop's own words are English
TIME_ZONE = "Europe/Dublin"
USE_I18N = True
USE_TZ = True
USE_THOUSAND_SEPARATOR = True

# djsup serves static_collected (see config.example.toml), so no middleware does. `manage.py collectstatic` fills it:
# names with a hash, which may be cached for ever, and compressed forms, for which alone WhiteNoise is here.
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "static_collected"
if "collectstatic" in sys.argv or (STATIC_ROOT / "staticfiles.json").exists():
    STORAGES = {
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
        "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
    }

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {
        "django": {"handlers": ["console"], "level": "INFO"},
        "store": {"handlers": ["console"], "level": "INFO"},
    },
}

SHIPPING_CENTS = 590
FREE_SHIPPING_FROM_CENTS = 9000
