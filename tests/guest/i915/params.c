/* params: what the driver says about itself and the device. */
#include "i915test.h"

#include <stdlib.h>

static const struct { enum i915_parameter number; const char *name; } parameters[] = {
    { I915_CHIPSET_ID, "chipset id" },
    { I915_REVISION, "revision" },
    { I915_CS_TIMESTAMP_FREQUENCY, "command streamer timestamp frequency" },
    { I915_HAS_SCHEDULER, "scheduler" },
    { I915_HAS_GPU_RESET, "reset" },
    { I915_ALIASING_PPGTT, "ppgtt" },
    { I915_HAS_CONTEXT_ISOLATION, "context isolation" },
    { I915_FENCES_AVAILABLE, "fences" },
    { I915_CMD_PARSER_VERSION, "command parser" },
    { I915_MMAP_GTT_VERSION, "aperture mapping" },
    { I915_HAS_LLC, "llc" },
    { I915_HAS_EXEC_SOFTPIN, "softpin" },
};

static void show_version(void)
{
    char name[32] = "", date[32] = "";
    struct drm_version version = {
        .name = name, .name_length = sizeof name - 1, .date = date, .date_length = sizeof date - 1,
    };
    must_call(DRM_VERSION, &version, "ask for the version");
    fact("driver %s %d.%d.%d of %s", name, version.major, version.minor, version.patch, date);
}

static void show_space(void)
{
    struct i915_gem_aperture aperture;
    struct i915_context_parameter size = { .parameter = I915_CONTEXT_GTT_SIZE };
    must_call(I915_GEM_GET_APERTURE, &aperture, "ask for the aperture");
    must_call(I915_CONTEXT_GETPARAM, &size, "ask for the address space");
    fact("global address space 0x%lx, available 0x%lx", aperture.size, aperture.available);
    fact("address space of a context 0x%lx", size.value);
    expect(size.value, 1ull << 48, "the address space of a context");
}

static unsigned show_engines(void)
{
    struct i915_query_item item = { .query = I915_QUERY_ENGINES };
    struct i915_query query = { .count = 1, .items = (uintptr_t)&item };
    must_call(I915_QUERY, &query, "ask for the size of the list of engines");
    if (item.length <= 0) fail("the list of engines: error %d", item.length);
    struct i915_engines *engines = calloc(1, item.length);
    item.data = (uintptr_t)engines;
    must_call(I915_QUERY, &query, "ask for the list of engines");
    unsigned count = engines->count;
    for (unsigned i = 0; i < count; i++)
        fact("engine of class %u, instance %u", engines->engine[i].class, engines->engine[i].instance);
    /* Render, copy, video, video enhancement: classes 0 to 3, each once, whatever the order. */
    unsigned classes = 0;
    for (unsigned i = 0; i < count; i++) {
        expect(engines->engine[i].instance, 0, "the instance of engine %u", i);
        classes |= 1u << engines->engine[i].class;
    }
    expect(count, ENGINES, "the number of engines");
    expect(classes, 0xf, "the set of engine classes");
    free(engines);
    return count;
}

/* params: prints and checks them. */
void test_params(char **word)
{
    (void)word;
    show_version();
    for (unsigned i = 0; i < COUNT(parameters); i++) {
        int value = device_parameter(parameters[i].number);
        fact("%s: %d (0x%x)", parameters[i].name, value, value);
    }
    show_space();
    passed("params: Gen%d, %u engines", generation, show_engines());
}
