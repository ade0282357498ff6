"""CUDA C++ kernels, compiled by NVRTC and run through CuPy; importing this package needs neither.

    core/*.h       the arithmetic, host-compilable
    kernels/*.cu   the kernels, one file an operation
    nvrtc          the compiler; device: the GPU, modules, what is missing and how to get it
    cast, quantize the public entries: casts and block quantizers of CuPy arrays, with the bits of `lpref.ref`
"""
