/* A flag that one thread has at a time, for which others wait awake at first: a thread that sleeps takes tens of
 * microseconds to wake up, which is as long as a part of a small fit.  Included once, by kernels.pyx.
 *
 * A thread that has ended a fit leaves the turn, and mostly begins the next fit soon: meanwhile it goes on in Python, so
 * that who takes the turn would wait for Python's lock, asleep.  Others take a turn that was left only after a while. */
#ifdef _WIN32
#include <windows.h>
static volatile LONG turn_taken;
static int turn_try(void) { return !turn_taken && InterlockedExchange(&turn_taken, 1) == 0; }
static void turn_rest(void) { YieldProcessor(); }
static void turn_give(void) { InterlockedExchange(&turn_taken, 0); }
static void turn_leave(void) { turn_give(); }
static int turn_left(void) { return 0; }
static int turn_try_left(void) { return 0; }
static long long turn_clock(void) { return 0; }
static void turn_yield(int asleep) { if (asleep) Sleep(1); else SwitchToThread(); }
#else
#include <sched.h>
#include <time.h>
enum { FREE, TAKEN, LEFT };
static int turn_taken;
static const char *turn_leaver;      /* who has left it, by the address of its `turn_me` */
static __thread char turn_me;
static int turn_from(int state)
{
    return __atomic_compare_exchange_n(&turn_taken, &state, TAKEN, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}
static int turn_left(void) { return __atomic_load_n(&turn_taken, __ATOMIC_ACQUIRE) == LEFT; }
static int turn_try_left(void) { return turn_from(LEFT); }
static int turn_try(void)
{
    if (turn_left()) return __atomic_load_n(&turn_leaver, __ATOMIC_RELAXED) == &turn_me && turn_from(LEFT);
    return __atomic_load_n(&turn_taken, __ATOMIC_RELAXED) == FREE && turn_from(FREE);
}
static void turn_leave(void)
{
    __atomic_store_n(&turn_leaver, &turn_me, __ATOMIC_RELAXED);
    __atomic_store_n(&turn_taken, LEFT, __ATOMIC_RELEASE);
}
/* Leaves what a core has to another thread that may share it. */
static void turn_rest(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}
static void turn_give(void) { __atomic_store_n(&turn_taken, FREE, __ATOMIC_RELEASE); }
static long long turn_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}
static void turn_yield(int asleep)
{
    const struct timespec pause = {0, 50000};
    if (asleep) nanosleep(&pause, NULL);
    else sched_yield();
}
#endif

/* Waits for the turn: some milliseconds awake, letting in threads that have something to do, and then asleep. */
static void turn_take(void)
{
    enum { TRIES = 16, YIELDS = 4096, WHILE = 60000 };  /* nanoseconds */
    long long since = 0;
    for (long i = 1; !turn_try(); i++) {
        turn_rest();
        if (i % TRIES) continue;
        turn_yield(i > (long)TRIES * YIELDS);
        if (!turn_left()) since = 0;
        else if (!since) since = turn_clock();
        else if (turn_clock() - since > WHILE && turn_try_left()) return;
    }
}
