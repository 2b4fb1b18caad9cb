"""The only code that talks to the Kubernetes API, and only to read or to ask.

Its requests are lists, watches and the two reviews (TokenReview,
SubjectAccessReview). Nothing here knows what an engine is.
"""
