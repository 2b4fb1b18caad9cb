"""The validating webhook: says no to an EventEngine before it is stored, or warns of what it would lead to.

A process of its own, beside the operator: it holds no Lease, writes nothing and may be missing. What it refuses is what
`resources.engines` finds wrong, which the operator reports all the same once the object is stored.
"""
