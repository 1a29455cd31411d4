/* Addresses for buffers that move about. */
#include "i915test.h"

#define END (1ull << 48)
#define CROWD 8

/*
 * An address anywhere, so that most have each of their tables for themselves; or one of a few, from which buffers
 * drive each other away. The last page stays free: a streamer may fetch beyond its batch.
 */
uint64_t random_gma(uint64_t size)
{
    static const uint64_t crowd[CROWD] = {
        0x000000200000, 0x0000002ff000, 0x000040000000, 0x0123401ff000,
        0x012340200000, 0x7fffff000000, 0x800000001000, 0xffffff000000,
    };
    if (random_below(3) == 0) return crowd[random_below(CROWD)];
    uint64_t gma = random64() >> 16 & ~(uint64_t)(PAGE - 1), last = END - size - PAGE;
    return gma < PAGE ? PAGE : gma > last ? last : gma;
}

int buffers_overlap(const struct buffer *one, const struct buffer *other)
{
    return one->gma < other->gma + other->size && other->gma < one->gma + one->size;
}
