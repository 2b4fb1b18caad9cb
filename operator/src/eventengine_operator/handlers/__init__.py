"""From watch events to keys, and from keys to reconciles. Thin: nothing is decided here."""
