"""Networks and checkpoints of other libraries, in and out."""
