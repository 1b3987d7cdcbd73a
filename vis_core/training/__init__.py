"""Training: one loop for every system, with or without Ray.

A system brings a `Recipe` (network, losses, defaults); `recipes` lists them. `job` is what a job
file says, `loop` is the training itself, `loading` feeds it, `checkpoint` makes it exact to resume.
"""
