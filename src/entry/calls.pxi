# Calls that are prepared with Python's lock and made without it: one, or several one after the other. Small fits meet
# at them: to leave the lock, and the turn to use it, once for eight fits takes less time than for each.

cdef class Call:
    """A call whose arguments have been read."""

    cdef Call after         # the next one of several

    def use(self, space):
        """Take a work space; only those that need one do."""

    cdef int run(self) except -1 nogil:
        """Do it."""
        return 0


def run_calls(
    calls,                  # a sequence of different calls
    bint turn,              # whether this thread has the turn, and leaves it to others meanwhile
):
    """Run calls in their order."""
    cdef Call call, first = None
    cdef bint away = False
    cdef fexcept_t flags
    for call in reversed(calls):
        call.after, first = first, call
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    try:
        with nogil:
            if turn:
                turn_give()
                away = True
            run_all(first)
            if turn:
                turn_take()  # before Python's lock, which another thread may have while it has the turn
                away = False
    finally:
        if away:
            with nogil:
                turn_take()
        fesetexceptflag(&flags, FE_ALL_EXCEPT)
        for call in calls:
            call.after = None


cdef int run_all(Call call) except -1 nogil:
    """Run a call and those after it: by recursion, since a variable for an object needs Python's lock."""
    if call is not None:
        call.run()
        run_all(call.after)
    return 0
