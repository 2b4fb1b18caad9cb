"""What the API server returns, read once into frozen types. Pure: no I/O, no clock, no decisions.

Every reader takes a plain object and either returns a type or collects faults
with their path; nothing here raises for what a user may write.
"""
