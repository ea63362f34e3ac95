/* A flag that one thread has at a time, for which others wait awake at first: a thread that sleeps takes tens of
 * microseconds to wake up, which is as long as a part of a small fit.  Included once, by kernels.pyx. */
#ifdef _WIN32
#include <windows.h>
static volatile LONG turn_taken;
static int turn_try(void) { return !turn_taken && InterlockedExchange(&turn_taken, 1) == 0; }
static void turn_rest(void) { YieldProcessor(); }
static void turn_give(void) { InterlockedExchange(&turn_taken, 0); }
static void turn_yield(int asleep) { if (asleep) Sleep(1); else SwitchToThread(); }
#else
#include <sched.h>
#include <time.h>
static int turn_taken;
static int turn_try(void)
{
    if (__atomic_load_n(&turn_taken, __ATOMIC_RELAXED)) return 0;
    return __atomic_exchange_n(&turn_taken, 1, __ATOMIC_ACQUIRE) == 0;
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
static void turn_give(void) { __atomic_store_n(&turn_taken, 0, __ATOMIC_RELEASE); }
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
    enum { TRIES = 16, YIELDS = 4096 };
    for (long i = 1; !turn_try(); i++) {
        turn_rest();
        if (i % TRIES == 0) turn_yield(i > (long)TRIES * YIELDS);
    }
}
