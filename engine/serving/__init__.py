"""Serves indexes over HTTP: `hficma serve`.

    options      what a service is told when it starts
    live_index   an open index, and the change to a newer state of it without a dropped request
    lanes        bounded queues, each with a thread that answers what waits in batches
    service      indexes and lanes together: search, embed, explain, look up, change
    metrics      what `/metrics` shows
    http/        the service as an ASGI app: reading requests, guarding them, the OpenAPI document
    web/         the page, as files that are served as they are
    server       the process: uvicorn with limits on slow clients, workers, a clean end

Needs the extra `[serve]`. Nothing here imports torch.
"""
