/*
 * Commands of the memory interface and the blitter, as Gen8 and Gen9 read them. An address takes two dwords; most
 * commands take it with its sign above bit 47, some have those bits reserved.
 */
#include "i915test.h"

#define GMA(gma) (uint32_t)canonical(gma), (uint32_t)(canonical(gma) >> 32)
#define GMA48(gma) (uint32_t)(gma), (uint32_t)((gma) >> 32)

#define MI(opcode) ((uint32_t)(opcode) << 23)
#define BLT(opcode) (2u << 29 | (uint32_t)(opcode) << 22)

enum {
    MI_ARB_CHECK = MI(0x05),
    MI_BATCH_BUFFER_END = MI(0x0a),
    MI_MATH = MI(0x1a),
    MI_SEMAPHORE_WAIT = MI(0x1c) | 2,
    MI_STORE_DATA_IMM = MI(0x20),
    MI_LOAD_REGISTER_IMM = MI(0x22) | 1,
    MI_STORE_REGISTER_MEM = MI(0x24) | 2,
    MI_FLUSH_DW = MI(0x26),
    MI_LOAD_REGISTER_MEM = MI(0x29) | 2,
    MI_LOAD_REGISTER_REG = MI(0x2a) | 1,
    MI_COPY_MEM_MEM = MI(0x2e) | 3,
    MI_ATOMIC = MI(0x2f),
    MI_BATCH_BUFFER_START = MI(0x31) | 1,
    MI_CONDITIONAL_BATCH_BUFFER_END = MI(0x36) | 2,
    PIPE_CONTROL = 0x7a000004,
    XY_FAST_COPY_BLT = BLT(0x42) | 8,
    XY_COLOR_BLT = BLT(0x50) | 5,
    XY_SRC_COPY_BLT = BLT(0x53) | 8,
};

#define STORE_QWORDS (1u << 21)
#define START_PPGTT (1u << 8)
#define START_PREDICATED (1u << 15)
#define START_SECOND_LEVEL (1u << 22)
#define WAIT_POLLING (1u << 15)
#define WAIT_COMPARISON(comparison) ((uint32_t)(comparison) << 12)
#define POST_SYNC_IMMEDIATE (1u << 14)
#define CONTROL_STALL (1u << 20)
#define CONTROL_FLUSH (1u << 7)
#define CONTROL_DATA_CACHE_FLUSH (1u << 5)
#define ATOMIC_OPCODE(opcode) ((uint32_t)(opcode) << 8)
#define ATOMIC_STALL (1u << 17)
#define ATOMIC_INLINE (1u << 18)
#define ATOMIC_QWORD (1u << 19 | ATOMIC_OPCODE(0x20))

#define ROP_COPY (0xccu << 16)
#define ROP_COLOUR (0xf0u << 16)
#define CHANNELS(channels) ((uint32_t)(channels) << 20)
#define CORNER(x, y) ((uint32_t)(y) << 16 | ((uint32_t)(x) & 0xffff))
#define PITCH(pitch) ((uint32_t)(pitch) & 0xffff)

void mi_noop(struct batch *batch)
{
    EMIT(batch, 0);
}

void mi_arbitration_check(struct batch *batch)
{
    EMIT(batch, MI_ARB_CHECK);
}

void mi_end(struct batch *batch)
{
    EMIT(batch, MI_BATCH_BUFFER_END);
}

void mi_store(struct batch *batch, uint64_t gma, uint32_t value)
{
    EMIT(batch, MI_STORE_DATA_IMM | 2, GMA(gma), value);
}

void mi_store_qword(struct batch *batch, uint64_t gma, uint64_t value)
{
    EMIT(batch, MI_STORE_DATA_IMM | STORE_QWORDS | 3, GMA(gma), (uint32_t)value, value >> 32);
}

void mi_store_many(struct batch *batch, uint64_t gma, const uint32_t *values, unsigned dwords, int as_qwords)
{
    EMIT(batch, MI_STORE_DATA_IMM | (as_qwords ? STORE_QWORDS : 0) | (1 + dwords), GMA(gma));
    emit(batch, values, dwords);
}

void mi_copy(struct batch *batch, uint64_t to, uint64_t from)
{
    EMIT(batch, MI_COPY_MEM_MEM, GMA(to), GMA(from));
}

void mi_load_register(struct batch *batch, uint32_t offset, uint32_t value)
{
    EMIT(batch, MI_LOAD_REGISTER_IMM, offset, value);
}

void mi_load_register_memory(struct batch *batch, uint32_t offset, uint64_t gma)
{
    EMIT(batch, MI_LOAD_REGISTER_MEM, offset, GMA(gma));
}

void mi_store_register(struct batch *batch, uint32_t offset, uint64_t gma)
{
    EMIT(batch, MI_STORE_REGISTER_MEM, offset, GMA(gma));
}

void mi_copy_register(struct batch *batch, uint32_t to, uint32_t from)
{
    EMIT(batch, MI_LOAD_REGISTER_REG, from, to);
}

void mi_load_register64(struct batch *batch, uint32_t offset, uint64_t value)
{
    EMIT(batch, MI_LOAD_REGISTER_IMM + 2, offset, (uint32_t)value, offset + 4, value >> 32);
}

void mi_store_register64(struct batch *batch, uint32_t offset, uint64_t gma)
{
    mi_store_register(batch, offset, gma);
    mi_store_register(batch, offset + 4, gma + 4);
}

void mi_jump(struct batch *batch, uint64_t gma)
{
    EMIT(batch, MI_BATCH_BUFFER_START | START_PPGTT, GMA(gma));
}

void mi_call(struct batch *batch, uint64_t gma)
{
    EMIT(batch, MI_BATCH_BUFFER_START | START_PPGTT | START_SECOND_LEVEL, GMA(gma));
}

void mi_jump_if(struct batch *batch, uint64_t gma)
{
    EMIT(batch, MI_BATCH_BUFFER_START | START_PPGTT | START_PREDICATED, GMA(gma));
}

void mi_end_unless_above(struct batch *batch, uint32_t flags, uint64_t gma, uint32_t value)
{
    EMIT(batch, MI_CONDITIONAL_BATCH_BUFFER_END | flags, value, GMA(gma));
}

void mi_wait(struct batch *batch, enum comparison comparison, uint64_t gma, uint32_t value)
{
    EMIT(batch, MI_SEMAPHORE_WAIT | WAIT_POLLING | WAIT_COMPARISON(comparison), value, GMA(gma));
}

void settle(struct batch *batch, enum engine engine)
{
    if (engine == RCS) EMIT(batch, PIPE_CONTROL, CONTROL_STALL | CONTROL_FLUSH | CONTROL_DATA_CACHE_FLUSH, 0, 0, 0, 0);
    else EMIT(batch, MI_FLUSH_DW | 2, 0, 0, 0);
}

void post_sync_qword(struct batch *batch, enum engine engine, uint64_t gma, uint64_t value)
{
    if (engine == RCS)
        EMIT(batch, PIPE_CONTROL, CONTROL_STALL | POST_SYNC_IMMEDIATE, GMA48(gma), (uint32_t)value, value >> 32);
    else
        EMIT(batch, MI_FLUSH_DW | POST_SYNC_IMMEDIATE | 3, GMA48(gma), (uint32_t)value, value >> 32);
}

void mi_math(struct batch *batch, const uint32_t *instructions, unsigned count)
{
    EMIT(batch, MI_MATH | (count - 1));
    emit(batch, instructions, count);
}

void mi_atomic(struct batch *batch, enum atomic_opcode opcode, int is_qword, uint32_t flags, uint64_t gma,
               uint64_t first, uint64_t second)
{
    uint32_t header = MI_ATOMIC | ATOMIC_STALL | (flags & ATOMIC_RETURN) | ATOMIC_OPCODE(opcode) |
                      (is_qword ? ATOMIC_QWORD : 0);
    if (flags & ATOMIC_REGISTERS) EMIT(batch, header | 1, GMA48(gma));
    else EMIT(batch, header | ATOMIC_INLINE | 9, GMA48(gma), (uint32_t)first, (uint32_t)second,
              first >> 32, second >> 32, 0, 0, 0, 0);
}

static uint32_t colour_depth(unsigned bytes)
{
    return (bytes == 4 ? 3u : bytes == 2 ? 1u : 0u) << 24;
}

void blt_fill(struct batch *batch, unsigned bytes, unsigned channels, uint64_t gma, int pitch, struct box box,
              uint32_t colour)
{
    EMIT(batch, XY_COLOR_BLT | CHANNELS(channels), colour_depth(bytes) | ROP_COLOUR | PITCH(pitch),
         CORNER(box.x1, box.y1), CORNER(box.x2, box.y2), GMA48(gma), colour);
}

void blt_copy(struct batch *batch, unsigned bytes, unsigned channels, uint64_t to, int to_pitch, struct box box,
              uint64_t from, int from_pitch, int from_x, int from_y)
{
    EMIT(batch, XY_SRC_COPY_BLT | CHANNELS(channels), colour_depth(bytes) | ROP_COPY | PITCH(to_pitch),
         CORNER(box.x1, box.y1), CORNER(box.x2, box.y2), GMA48(to), CORNER(from_x, from_y), PITCH(from_pitch),
         GMA48(from));
}

void blt_fast_copy(struct batch *batch, unsigned bytes, uint64_t to, int to_pitch, struct box box, uint64_t from,
                   int from_pitch, int from_x, int from_y)
{
    EMIT(batch, XY_FAST_COPY_BLT, colour_depth(bytes) | PITCH(to_pitch), CORNER(box.x1, box.y1), CORNER(box.x2, box.y2),
         GMA48(to), CORNER(from_x, from_y), PITCH(from_pitch), GMA48(from));
}
