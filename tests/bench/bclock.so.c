// SPDX-License-Identifier: GPL-2.0
/*
 * bclock: the clock of the programs that measure; LD_PRELOAD=bclock.so BCLOCK_HZ=N PROGRAM...
 *
 * perftest and sockperf count cycles. How many there are in a second each of them finds out when it starts, by looking
 * at cycle counter and clock in turn for a fraction of a second. Where something comes between the two looks (the host
 * takes the CPU away, or the clock is a system call of User Mode Linux), sockperf's figures are wrong by percents, and
 * perftest says "Correlation coefficient" and reports 0. Here the clock that they look at is the cycle counter itself,
 * by a rate that was found once for all programs, with care (bclock_hz()). In the rest of what they do it is the
 * same clock.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
#include <x86intrin.h>

#define SEC 1000000000LL
/* Of so many looks at clock and counter that one counts in which the least came between. */
#define LOOKS 1000

struct look {
	uint64_t cycles;
	int64_t ns;
};

static int64_t nanoseconds(clockid_t clock)
{
	struct timespec t;

	syscall(SYS_clock_gettime, clock, &t);
	return t.tv_sec * SEC + t.tv_nsec;
}

static struct look look(clockid_t clock)
{
	uint64_t least = UINT64_MAX;
	struct look best = { 0, 0 };

	for (int i = 0; i < LOOKS; i++) {
		uint64_t before = __rdtsc();
		int64_t ns = nanoseconds(clock);
		uint64_t took = __rdtsc() - before;

		if (took < least) {
			least = took;
			best = (struct look){ before + took / 2, ns };
		}
	}
	return best;
}

/* Cycles in a second, by the clock and so many seconds of it. */
double bclock_hz(double seconds)
{
	struct look a = look(CLOCK_MONOTONIC), b;

	usleep(seconds * 1e6);
	b = look(CLOCK_MONOTONIC);
	return (double)(b.cycles - a.cycles) * SEC / (b.ns - a.ns);
}

/* What that clock says now, by the counter. */
static struct timespec now(clockid_t clock)
{
	/* The clocks begin where the system's are when they are first asked for. */
	static struct look begin[CLOCK_MONOTONIC + 1];
	static double hz;
	struct look *from = &begin[clock];
	int64_t ns;

	if (!hz) {
		const char *s = getenv("BCLOCK_HZ");

		hz = s ? atof(s) : 0;
		if (hz <= 0)
			abort();
	}
	if (!from->cycles)
		*from = (struct look){ __rdtsc(), nanoseconds(clock) };
	ns = from->ns + (int64_t)((double)(int64_t)(__rdtsc() - from->cycles) * SEC / hz);
	return (struct timespec){ ns / SEC, ns % SEC };
}

int gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
	struct timespec t = now(CLOCK_REALTIME);

	(void)tz;
	tv->tv_sec = t.tv_sec;
	tv->tv_usec = t.tv_nsec / 1000;
	return 0;
}

int clock_gettime(clockid_t clock, struct timespec *t)
{
	if (clock != CLOCK_MONOTONIC)
		return syscall(SYS_clock_gettime, clock, t);
	*t = now(clock);
	return 0;
}
