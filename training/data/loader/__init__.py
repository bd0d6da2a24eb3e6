"""Photos of batches, read and cropped by other processes while the model learns from those before.

`batches` says what a batch is, in a worker; `workers` how many of them there are, and what they may
take of shared memory; `loader` runs them; `limits` says which photos are read so, and which from a
cache on disk.
"""
