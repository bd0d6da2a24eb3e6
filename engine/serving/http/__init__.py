"""The service as an ASGI app: bodies to queries, guards around it, routes and their document."""
