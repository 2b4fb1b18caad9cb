"""Who asks, and whether they may. Fails closed.

No credential, token or header value is ever logged. Trust in the front proxy's
headers comes from the peer's certificate alone, and that certificate is checked
here against the request-header CA, not against whatever the handshake accepted.
"""
