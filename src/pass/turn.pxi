# Small fits of several Python threads take turns with what needs Python; softmax_ext/_core/turns.py has more.

cdef extern from "turn.h" nogil:
    int turn_try() noexcept
    void turn_take() noexcept
    void turn_give() noexcept
    void turn_leave() noexcept


def take_turn():
    """Wait for the turn, and take it."""
    if not turn_try():
        with nogil:
            turn_take()


def leave_turn():
    """Give back the turn, which others take after a while if this thread does not take it again."""
    turn_leave()


def give_turn():
    """Give the turn at once; who forks gives that of the child's other threads, which are not there."""
    turn_give()
