# A long pass calls this now and then, so that Python looks for Ctrl-C.

cdef int look_for_interrupt() except -1 nogil:
    with gil:
        return PyErr_CheckSignals()
