/* Random numbers, by splitmix64. */
#include "i915test.h"

static uint64_t state;

void seed_random(uint64_t seed)
{
    state = seed;
}

uint64_t random64(void)
{
    uint64_t mix = state += 0x9e3779b97f4a7c15;
    mix = (mix ^ mix >> 30) * 0xbf58476d1ce4e5b9;
    mix = (mix ^ mix >> 27) * 0x94d049bb133111eb;
    return mix ^ mix >> 31;
}

unsigned random_below(unsigned limit)
{
    return (random64() >> 32) % limit;
}
