"""External metrics that are another adapter's: asked of it on behalf of a caller who may read them.

Pure, but for `asking`, which holds the connections.
"""
