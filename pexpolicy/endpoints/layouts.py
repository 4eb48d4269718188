"""The layouts of a conference; the published lists differ, so an unusual one only warns."""

from __future__ import annotations

CORE_LAYOUTS = frozenset(
    (
        "one_main_zero_pips",
        "one_main_seven_pips",
        "one_main_twentyone_pips",
        "two_mains_twentyone_pips",
        "four_mains_zero_pips",
        "nine_mains_zero_pips",
        "sixteen_mains_zero_pips",
        "twentyfive_mains_zero_pips",
        "five_mains_seven_pips",
        "one_main_thirtythree_pips",
    )
)
"""Layouts on which at least three sources agree."""
OTHER_LAYOUTS = (
    "one_main_one_pip",
    "one_main_nine_around",
    "one_main_twelve_around",
    "two_mains_eight_around",
    "teams",
    "teams_focus",
    "one_main_twentyone_around",
    "one_main_twelve_pips",
    "four_mains_eight_pips",
    "two_mains_zero_pips",
    "three_mains_zero_pips",
)
"""Layouts that one or two sources list: sent, with a warning."""
