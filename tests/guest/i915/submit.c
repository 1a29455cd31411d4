/* Batches, and how they get to an engine. */
#include "i915test.h"

#include <string.h>

#define MAX_OBJECTS 40

void batch_create(struct batch *batch, uint64_t size, uint64_t gma)
{
    buffer_create(&batch->buffer, size, gma);
    batch->length = 0;
}

void batch_free(struct batch *batch)
{
    buffer_free(&batch->buffer);
}

void batch_start(struct batch *batch)
{
    buffer_wait(&batch->buffer);
    batch->length = 0;
}

void emit(struct batch *batch, const uint32_t *dwords, unsigned count)
{
    if (batch->length + count > batch->buffer.size / 4) fail("a batch of %lu bytes is full", batch->buffer.size);
    for (unsigned i = 0; i < count; i++) batch->buffer.cpu[batch->length++] = dwords[i];
}

uint64_t canonical(uint64_t gma)
{
    return (uint64_t)((int64_t)(gma << 16) >> 16);
}

void submit(uint32_t context, enum engine engine, const struct batch *batch, struct buffer *const *buffers,
            unsigned count, enum order order)
{
    static const uint64_t ring[ENGINES] = { I915_EXEC_RENDER, I915_EXEC_BLT, I915_EXEC_BSD, I915_EXEC_VEBOX };
    struct i915_exec_object object[MAX_OBJECTS] = { 0 };
    struct i915_execbuffer exec = {
        .objects = (uintptr_t)object, .count = count + 1, .context = context,
        .flags = ring[engine] | I915_EXEC_NO_RELOC | I915_EXEC_BATCH_FIRST,
    };
    if (count + 1 > MAX_OBJECTS) fail("%u buffers are too many for one submission", count);
    for (unsigned i = 0; i <= count; i++) {
        const struct buffer *buffer = i == 0 ? &batch->buffer : buffers[i - 1];
        object[i].handle = buffer->handle;
        object[i].offset = canonical(buffer->gma);
        object[i].flags = EXEC_OBJECT_PINNED | EXEC_OBJECT_SUPPORTS_48B_ADDRESS | (i == 0 ? 0 : order);
    }
    int error = call(I915_GEM_EXECBUFFER, &exec);
    if (error) fail("submit a batch of %u dwords at 0x%lx to %s: %s", batch->length, batch->buffer.gma,
                    engine_name[engine], strerror(error));
}
