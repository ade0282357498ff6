"""``lpref bench``: how fast the kernels and the training step of a backend are, and that they are the defined ones.

    kernels.py   the kernels: least bytes, time, share of the copy bandwidth or multiplications a second
    models.py    training steps of a spec: tokens a second
    timing.py    the clock of host and device
"""
