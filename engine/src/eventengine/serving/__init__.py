"""What an engine serves of itself over HTTP."""
