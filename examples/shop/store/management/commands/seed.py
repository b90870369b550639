"""``manage.py seed``: a stocked shop, and a user for its back office. Does nothing twice."""

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand
from django.db import transaction
from django.utils.text import slugify

from store.models import Category, Product

# name, category, shape, glaze, price in cents, stock, details, description
WARES = [
    (
        "Harbour mug",
        "Drinking",
        "mug",
        "cobalt",
        2400,
        18,
        "9 cm, 320 ml",
        "A wide handle for a whole hand, and a rim that is thin where the lip is. Heavy enough to stand on a deck.",
    ),
    (
        "Moss mug",
        "Drinking",
        "mug",
        "celadon",
        2400,
        12,
        "9 cm, 320 ml",
        "The same mug in celadon, which pools a darker green wherever the throwing lines are deep.",
    ),
    (
        "Ember cup",
        "Drinking",
        "mug",
        "ochre",
        1900,
        3,
        "7 cm, 180 ml",
        "For coffee as it is made in small kitchens. The ochre breaks to brown at the rim.",
    ),
    (
        "Long jug",
        "Drinking",
        "jug",
        "ash",
        5200,
        6,
        "22 cm, 1.2 l",
        "Pours without a drop, which took eleven tries. The lip is pulled with one wet finger.",
    ),
    (
        "Night teapot",
        "Drinking",
        "teapot",
        "iron",
        8900,
        4,
        "16 cm, 900 ml",
        "Iron glaze, near black, and a lid that stays on when the last cup is poured.",
    ),
    (
        "Garden teapot",
        "Drinking",
        "teapot",
        "celadon",
        8900,
        0,
        "16 cm, 900 ml",
        "The green sister of the night teapot. Its strainer is pierced by hand: sixty-one holes.",
    ),
    (
        "Breakfast bowl",
        "Eating",
        "bowl",
        "ash",
        2800,
        22,
        "15 cm, 600 ml",
        "Deep enough for oats, shallow enough for soup. Stacks to eight.",
    ),
    (
        "Rice bowl",
        "Eating",
        "bowl",
        "cobalt",
        2200,
        15,
        "12 cm, 350 ml",
        "Small, round, and with a foot that can be held when the rest is hot.",
    ),
    (
        "Serving bowl",
        "Eating",
        "bowl",
        "ochre",
        6400,
        5,
        "28 cm, 2.8 l",
        "For a salad and six people, or for one person and a great many cherries.",
    ),
    (
        "Dinner plate",
        "Eating",
        "plate",
        "ash",
        3200,
        30,
        "27 cm",
        "A flat middle, a low rim, and a few specks of iron that come out of the clay by themselves.",
    ),
    (
        "Side plate",
        "Eating",
        "plate",
        "celadon",
        2400,
        26,
        "20 cm",
        "For bread, cake, or whatever does not fit on the other one.",
    ),
    (
        "Night plate",
        "Eating",
        "plate",
        "iron",
        3400,
        9,
        "27 cm",
        "Dark ware makes bright food. Shows no scratches, having been made of them.",
    ),
    (
        "Reed vase",
        "Standing",
        "vase",
        "celadon",
        5800,
        7,
        "24 cm",
        "A narrow neck that holds three stems upright and lets a fourth one lean.",
    ),
    (
        "Storm vase",
        "Standing",
        "vase",
        "cobalt",
        6200,
        2,
        "26 cm",
        "Two glazes poured over each other in the wrong order. We have not been able to repeat it since the spring.",
    ),
    (
        "Window planter",
        "Standing",
        "planter",
        "clay",
        3900,
        14,
        "16 cm",
        "Bare clay, which breathes, with a glazed inside, which does not drip. A saucer belongs to it.",
    ),
    (
        "Iron planter",
        "Standing",
        "planter",
        "iron",
        4300,
        8,
        "18 cm",
        "For something with large leaves. The drainage hole is covered with a shard, as it always was.",
    ),
    (
        "Oil bottle",
        "Keeping",
        "bottle",
        "ochre",
        4100,
        10,
        "21 cm, 500 ml",
        "Keeps the light out. The cork is cork.",
    ),
    (
        "Vinegar bottle",
        "Keeping",
        "bottle",
        "iron",
        4100,
        0,
        "21 cm, 500 ml",
        "As the oil bottle, so that you never take the wrong one: this one is black.",
    ),
    (
        "Milk jug",
        "Keeping",
        "jug",
        "cobalt",
        3100,
        11,
        "12 cm, 400 ml",
        "Sits in the door of the refrigerator and pours with the left hand as well.",
    ),
]


class Command(BaseCommand):
    help = 'Fills the shelves and, if there is no back office yet, adds the user "admin" with the password "admin".'

    @transaction.atomic
    def handle(self, **options):
        users = get_user_model().objects
        if not users.filter(is_superuser=True).exists():
            users.create_superuser("admin", "admin@localhost", "admin")
            self.stdout.write('User "admin" with the password "admin" added. An example only: change it.')
        added = 0
        for name, category, shape, glaze, price_cents, stock, details, description in WARES:
            kind, _ = Category.objects.get_or_create(
                slug=slugify(category), defaults={"name": category, "position": Category.objects.count()}
            )
            _, created = Product.objects.get_or_create(
                slug=slugify(name),
                defaults={
                    "name": name,
                    "category": kind,
                    "shape": shape,
                    "glaze": glaze,
                    "price_cents": price_cents,
                    "stock": stock,
                    "details": details,
                    "description": description,
                },
            )
            added += created
        self.stdout.write(f"{added} wares added, {Product.objects.count()} on the shelf.")
