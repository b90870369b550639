"""Histories that once found a mistake, in the core or in the judge. Each is played in every run of the tests."""

KEPT = (
    *("15", "26", "38", "62", "65", "88", "117", "132", "164", "231", "450", "456", "483", "640", "652"),
    *("262", "280", "400", "1054", "1253", "1493", "6576d", "6679sd", "1717", "1787", "1996", "3065", "3079"),
    *("15d", "85d", "237d", "443sd"),
)
