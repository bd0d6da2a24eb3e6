"""The same index and the same answers over several machines, or several GPUs, by Ray.

    options        what a cluster is told
    session        connecting to Ray, once in a process
    placement      which shard server holds which shards, and which of them answers
    shard_server   an actor: some shards of an index, searched and scored where they lie
    server_group   the actors of one index: starting, asking, missing and following them
    search         the merge: two rounds, and the certificate over all shards
    engine         ClusterEngine, with Engine's face
    duplicates     ids that stand in several shards-to-be
    shard_builder  an actor that encodes and writes shards
    build          build_index_on_ray: Ray Data over the shards-to-be, one manifest
    object_store   publishing a finished index to an object store, and fetching it

Needs the extra `[cluster]`. Ray's processes trust each other: whoever reaches its ports runs code.
"""
