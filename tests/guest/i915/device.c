/* The render node, its engines and its contexts. */
#include "i915test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NODE "/dev/dri/renderD128"
#define NODE_CARDS "/sys/class/drm/renderD128/device/drm"

const char *const engine_name[ENGINES] = { "rcs0", "bcs0", "vcs0", "vecs0" };
int generation;

static const uint32_t engine_base[ENGINES] = { 0x2000, 0x22000, 0x12000, 0x1a000 };
static int node = -1;

int call(unsigned long request, void *argument)
{
    int result;
    do result = ioctl(node, request, argument);
    while (result != 0 && (errno == EINTR || errno == EAGAIN));
    return result == 0 ? 0 : errno;
}

void must_call(unsigned long request, void *argument, const char *what)
{
    int error = call(request, argument);
    if (error) fail("%s: %s", what, strerror(error));
}

void device_open(void)
{
    if (node >= 0) close(node);
    node = open(NODE, O_RDWR | O_CLOEXEC);
    if (node < 0) fail("%s: %s", NODE, strerror(errno));
    generation = (device_parameter(I915_CHIPSET_ID) & 0xff00) == 0x1600 ? 8 : 9;
    /* With a shared last level cache, no mapping needs a flush between processor and engines. */
    expect(device_parameter(I915_HAS_LLC), 1, "I915_PARAM_HAS_LLC");
}

void *device_map(uint64_t offset, uint64_t size)
{
    return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, node, offset);
}

int device_card(void)
{
    int card = -1;
    DIR *folder = opendir(NODE_CARDS);
    for (struct dirent *entry; folder && (entry = readdir(folder)); ) sscanf(entry->d_name, "card%d", &card);
    if (folder) closedir(folder);
    if (card < 0) fail("no card in %s: is /sys mounted?", NODE_CARDS);
    return card;
}

int device_parameter(enum i915_parameter parameter)
{
    int value = 0;
    struct i915_getparam argument = { .parameter = parameter, .value = &value };
    return call(I915_GETPARAM, &argument) == 0 ? value : -1;
}

int engine_is_parsed(enum engine engine)
{
    return engine == BCS && generation == 9;
}

int engine_has_registers(enum engine engine)
{
    return engine == RCS || generation >= 9;
}

uint32_t engine_register(enum engine engine, unsigned index)
{
    return engine_base[engine] + 0x600 + 8 * index;
}

static uint32_t create_context(struct i915_context_create create)
{
    must_call(I915_CONTEXT_CREATE, &create, "create a context");
    return create.context;
}

uint32_t context_create(void)
{
    return create_context((struct i915_context_create){ 0 });
}

uint32_t context_create_in(uint32_t vm)
{
    struct i915_context_create_parameter space = { .parameter = { .parameter = I915_CONTEXT_VM, .value = vm } };
    return create_context((struct i915_context_create){
        .flags = I915_CONTEXT_CREATE_USE_EXTENSIONS, .extensions = (uintptr_t)&space });
}

void context_destroy(uint32_t context)
{
    struct i915_context_destroy destroy = { .context = context };
    must_call(I915_CONTEXT_DESTROY, &destroy, "destroy a context");
}

uint32_t vm_create(void)
{
    struct i915_vm vm = { 0 };
    must_call(I915_VM_CREATE, &vm, "create an address space");
    return vm.id;
}
