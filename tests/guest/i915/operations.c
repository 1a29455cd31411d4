/* Commands together with what they do to a buffer: each emits the one and does the other to what it should hold. */
#include "i915test.h"

#include <string.h>

static uint64_t place_gma(const struct buffer *buffer, unsigned place)
{
    return buffer->gma + 4ull * place;
}

static void set_expected64(struct buffer *buffer, unsigned place, uint64_t value)
{
    buffer->expected[place] = value;
    buffer->expected[place + 1] = value >> 32;
}

void do_store(struct batch *batch, struct buffer *to, unsigned place, uint32_t value)
{
    mi_store(batch, place_gma(to, place), value);
    to->expected[place] = value;
}

void do_store_qword(struct batch *batch, struct buffer *to, unsigned place, uint64_t value)
{
    mi_store_qword(batch, place_gma(to, place), value);
    set_expected64(to, place, value);
}

void do_store_many(struct batch *batch, struct buffer *to, unsigned place, unsigned dwords, int as_qwords)
{
    for (unsigned i = 0; i < dwords; i++) to->expected[place + i] = random64();
    mi_store_many(batch, place_gma(to, place), to->expected + place, dwords, as_qwords);
}

void do_post_sync(struct batch *batch, enum engine engine, struct buffer *to, unsigned place, uint64_t value)
{
    post_sync_qword(batch, engine, place_gma(to, place), value);
    set_expected64(to, place, value);
}

void do_copy(struct batch *batch, struct buffer *to, unsigned place, const struct buffer *from, unsigned from_place)
{
    mi_copy(batch, place_gma(to, place), place_gma(from, from_place));
    to->expected[place] = from->expected[from_place];
}

void do_copy_through(struct batch *batch, enum engine engine, struct buffer *to, unsigned place,
                     const struct buffer *from, unsigned from_place)
{
    mi_load_register_memory(batch, engine_register(engine, 15), place_gma(from, from_place));
    mi_store_register(batch, engine_register(engine, 15), place_gma(to, place));
    to->expected[place] = from->expected[from_place];
}

static uint64_t atomic_result(enum atomic_opcode opcode, uint64_t old, int64_t old_signed, uint64_t first,
                              int64_t first_signed, uint64_t second)
{
    switch (opcode) {
    case ATOMIC_AND: return old & first;
    case ATOMIC_OR: return old | first;
    case ATOMIC_XOR: return old ^ first;
    case ATOMIC_MOVE: return first;
    case ATOMIC_INC: return old + 1;
    case ATOMIC_DEC: return old - 1;
    case ATOMIC_ADD: return old + first;
    case ATOMIC_SUB: return old - first;
    case ATOMIC_RSUB: return first - old;
    case ATOMIC_IMAX: return old_signed > first_signed ? old : first;
    case ATOMIC_IMIN: return old_signed < first_signed ? old : first;
    case ATOMIC_UMAX: return old > first ? old : first;
    case ATOMIC_UMIN: return old < first ? old : first;
    case ATOMIC_CMPWR: return old == first ? second : old;
    default: fail("no atomic operation %u", opcode);
    }
}

uint64_t do_atomic(struct batch *batch, enum atomic_opcode opcode, int is_qword, uint32_t flags, struct buffer *to,
                   unsigned place, uint64_t first, uint64_t second)
{
    uint64_t old = to->expected[place];
    if (opcode == ATOMIC_INC || opcode == ATOMIC_DEC) first = 0; /* what an operation does not use has to be 0 */
    if (opcode != ATOMIC_CMPWR) second = 0;
    if (!is_qword) {
        first = (uint32_t)first;
        second = (uint32_t)second;
    }
    mi_atomic(batch, opcode, is_qword, flags, place_gma(to, place), first, second);
    if (is_qword) {
        old |= (uint64_t)to->expected[place + 1] << 32;
        set_expected64(to, place, atomic_result(opcode, old, old, first, first, second));
    } else {
        to->expected[place] = atomic_result(opcode, old, (int32_t)old, first, (int32_t)first, second);
    }
    return old;
}

/* Where a pixel is in what a buffer should hold. */
static uint8_t *pixel(struct surface surface, unsigned bytes, int x, int y)
{
    return (uint8_t *)surface.buffer->expected + surface.offset + (int64_t)y * surface.pitch + x * (int)bytes;
}

static void set_pixel(uint8_t *to, const uint8_t *from, unsigned bytes, unsigned channels)
{
    if (bytes != 4 || channels == (CHANNEL_RGB | CHANNEL_ALPHA)) memcpy(to, from, bytes);
    else if (channels == CHANNEL_RGB) memcpy(to, from, 3);
    else to[3] = from[3];
}

void do_fill(struct batch *batch, unsigned bytes, unsigned channels, struct surface to, struct box box, uint32_t colour)
{
    blt_fill(batch, bytes, channels, to.buffer->gma + to.offset, to.pitch, box, colour);
    for (int y = box.y1; y < box.y2; y++)
        for (int x = box.x1; x < box.x2; x++) set_pixel(pixel(to, bytes, x, y), (uint8_t *)&colour, bytes, channels);
}

void do_blit(struct batch *batch, enum copy kind, unsigned bytes, unsigned channels, struct surface to, struct box box,
             struct surface from, int from_x, int from_y)
{
    uint64_t to_gma = to.buffer->gma + to.offset, from_gma = from.buffer->gma + from.offset;
    if (kind == FAST_COPY) {
        channels = CHANNEL_RGB | CHANNEL_ALPHA; /* it knows nothing else */
        blt_fast_copy(batch, bytes, to_gma, to.pitch, box, from_gma, from.pitch, from_x, from_y);
    } else {
        blt_copy(batch, bytes, channels, to_gma, to.pitch, box, from_gma, from.pitch, from_x, from_y);
    }
    for (int y = box.y1; y < box.y2; y++)
        for (int x = box.x1; x < box.x2; x++)
            set_pixel(pixel(to, bytes, x, y), pixel(from, bytes, from_x + x - box.x1, from_y + y - box.y1), bytes,
                      channels);
}
