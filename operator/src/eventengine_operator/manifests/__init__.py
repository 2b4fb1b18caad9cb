"""From frozen types to Kubernetes objects. Pure: same input, same bytes.

The pod template is a function of the EventEngine and the default image alone. It never
reads the live object, so neither the API server's defaulting nor an upgrade of the
operator (with an unchanged image) rolls anything out. A golden file holds it in place.
"""
