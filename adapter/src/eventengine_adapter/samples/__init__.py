"""What the engines measured, and what may be said of it: pure, with time as an argument.

Nothing here reads a clock, opens a socket or knows of HTTP. Values are integers
of thousandths (millis) from the moment a snapshot is taken apart until they are
printed as Kubernetes quantities, so that no answer depends on rounding twice.
"""
