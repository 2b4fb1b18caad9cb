"""Deciding: what is declared against what exists, as a list of actions and a status. Pure.

Level-based: a decision depends on the present state alone, never on which event led
here, so that any event may be lost, doubled or late. Doing the same decision twice
changes nothing the second time.
"""
