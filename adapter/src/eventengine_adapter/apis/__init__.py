"""What the adapter says on the wire: paths, documents, errors.

Nothing here does I/O. A module turns data into the JSON of one API; `routing`
is the only place that reads a path, for serving and for authorisation alike.
"""
