# Small fits of several Python threads take turns with what needs Python; softmax_ext/_core/turns.py has more.

cdef extern from "turn.h" nogil:
    int turn_try() noexcept
    void turn_take() noexcept
    void turn_give() noexcept


def take_turn():
    """Wait for the turn, and take it."""
    if not turn_try():
        with nogil:
            turn_take()


def give_turn():
    """Give the turn to who waits for it; who forks gives that of the child's other threads, which are not there."""
    turn_give()
