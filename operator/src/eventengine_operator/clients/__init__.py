"""The only code of the operator that talks to anything: the API server, and engines' telemetry.

Every call has a timeout, concurrency has a bound, and errors are translated once, here.
"""
