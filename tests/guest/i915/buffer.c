/* Buffers: their memory, the ways to look at it, and what it should hold. */
#include "i915test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Far above any wait that ends well: the driver itself gives up a request after 20 s. */
#define PATIENCE_NANOSECONDS 60000000000

void buffer_create(struct buffer *buffer, uint64_t size, uint64_t gma)
{
    struct i915_gem_create create = { .size = size };
    must_call(I915_GEM_CREATE, &create, "create a buffer");
    *buffer = (struct buffer){ .handle = create.handle, .size = size, .gma = gma, .expected = calloc(1, size) };
    if (!buffer->expected) fail("no memory for a buffer of %lu bytes", size);
    buffer->cpu = buffer_map(buffer, I915_MAP_WB);
}

void buffer_fill(struct buffer *buffer)
{
    for (unsigned i = 0; i < buffer->size / 4; i++) buffer->cpu[i] = buffer->expected[i] = random64();
}

static volatile void *map_at(const struct buffer *buffer, uint64_t offset)
{
    void *map = device_map(offset, buffer->size);
    if (map == MAP_FAILED) fail("map a buffer of %lu bytes: %s", buffer->size, strerror(errno));
    return map;
}

volatile void *buffer_map(const struct buffer *buffer, enum i915_mapping kind)
{
    struct i915_gem_mmap_offset map = { .handle = buffer->handle, .flags = kind };
    must_call(I915_GEM_MMAP_OFFSET, &map, "find a mapping of a buffer");
    return map_at(buffer, map.offset);
}

static volatile void *old_gtt_map(const struct buffer *buffer)
{
    struct i915_gem_mmap_gtt map = { .handle = buffer->handle };
    must_call(I915_GEM_MMAP_GTT, &map, "find a mapping of a buffer through the aperture");
    return map_at(buffer, map.offset);
}

void buffer_unmap(const struct buffer *buffer, volatile void *map)
{
    munmap((void *)map, buffer->size);
}

void buffer_free(struct buffer *buffer)
{
    struct drm_gem_close close = { .handle = buffer->handle };
    buffer_unmap(buffer, buffer->cpu);
    free(buffer->expected);
    must_call(DRM_GEM_CLOSE, &close, "free a buffer");
    memset(buffer, 0, sizeof *buffer);
}

int buffer_is_busy(const struct buffer *buffer)
{
    struct i915_gem_busy busy = { .handle = buffer->handle };
    must_call(I915_GEM_BUSY, &busy, "ask whether a buffer is busy");
    return busy.busy != 0;
}

void buffer_wait(const struct buffer *buffer)
{
    struct i915_gem_wait wait = { .handle = buffer->handle, .timeout = PATIENCE_NANOSECONDS };
    int error = call(I915_GEM_WAIT, &wait);
    if (error == ETIME) fail("a buffer at 0x%lx is busy after 60 s", buffer->gma);
    if (error) fail("wait for a buffer at 0x%lx: %s", buffer->gma, strerror(error));
}

void buffer_read_in(const struct buffer *buffer, uint32_t domain)
{
    struct i915_gem_set_domain set = { .handle = buffer->handle, .read_domains = domain };
    must_call(I915_GEM_SET_DOMAIN, &set, "read a buffer");
}

void buffer_write_in(const struct buffer *buffer, uint32_t domain)
{
    struct i915_gem_set_domain set = { .handle = buffer->handle, .read_domains = domain, .write_domain = domain };
    must_call(I915_GEM_SET_DOMAIN, &set, "write a buffer");
}

/* By loads of 4 bytes: through the aperture, each one is an access of the device. */
static void compare(const struct buffer *buffer, const volatile uint32_t *found, const char *view, const char *name)
{
    for (unsigned i = 0; i < buffer->size / 4; i++)
        expect(found[i], buffer->expected[i], "%s: byte 0x%x of the buffer at 0x%lx, %s", name, i * 4, buffer->gma,
               view);
}

static void check_pread(const struct buffer *buffer, const char *name)
{
    uint32_t *bytes = malloc(buffer->size);
    struct i915_gem_pread read = { .handle = buffer->handle, .size = buffer->size, .data = (uintptr_t)bytes };
    if (!bytes) fail("no memory to read a buffer of %lu bytes", buffer->size);
    must_call(I915_GEM_PREAD, &read, "read a buffer");
    compare(buffer, bytes, "by pread", name);
    free(bytes);
}

static void check_map(const struct buffer *buffer, volatile void *map, uint32_t domain, const char *view,
                      const char *name)
{
    buffer_read_in(buffer, domain);
    compare(buffer, map, view, name);
    buffer_unmap(buffer, map);
}

void buffer_check(const struct buffer *buffer, enum view view, const char *name)
{
    buffer_wait(buffer);
    switch (view) {
    case VIEW_WC:
        check_map(buffer, buffer_map(buffer, I915_MAP_WC), I915_DOMAIN_WC, "by a WC mapping", name);
        break;
    case VIEW_PREAD:
        check_pread(buffer, name);
        break;
    case VIEW_GTT:
        check_map(buffer, buffer_map(buffer, I915_MAP_GTT), I915_DOMAIN_GTT, "through the aperture", name);
        break;
    case VIEW_OLD_GTT:
        check_map(buffer, old_gtt_map(buffer), I915_DOMAIN_GTT, "through the aperture", name);
        break;
    default:
        buffer_read_in(buffer, I915_DOMAIN_CPU);
        /* Quick where nothing is wrong, exact where something is. */
        if (memcmp((const void *)buffer->cpu, buffer->expected, buffer->size) == 0) break;
        compare(buffer, buffer->cpu, "by a WB mapping", name);
        fail("%s: the buffer at 0x%lx changes while nothing uses it", name, buffer->gma);
    }
}
