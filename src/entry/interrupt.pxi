# Where a long pass lets Python look for Ctrl-C.

cdef int look_for_interrupt() except -1 nogil:
    with gil:
        return PyErr_CheckSignals()
