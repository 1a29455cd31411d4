/*
 * The part of the kernel's i915 interface that these tests use. Written out here since Debian's linux-libc-dev has
 * none of the DRM headers; numbers and layouts are the kernel's ABI and cannot change.
 */
#ifndef UAPI_H
#define UAPI_H

#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>

#define DRM_IOWR(number, type) _IOWR('d', number, type)
#define DRM_IOW(number, type) _IOW('d', number, type)
#define DRM_IOR(number, type) _IOR('d', number, type)

struct drm_version {
    int major, minor, patch;
    size_t name_length;
    char *name;
    size_t date_length;
    char *date;
    size_t description_length;
    char *description;
};
#define DRM_VERSION DRM_IOWR(0x00, struct drm_version)

struct drm_gem_close { uint32_t handle, pad; };
#define DRM_GEM_CLOSE DRM_IOW(0x09, struct drm_gem_close)

struct i915_getparam { int32_t parameter; int *value; };
#define I915_GETPARAM DRM_IOWR(0x46, struct i915_getparam)
enum i915_parameter {
    I915_CHIPSET_ID = 4,
    I915_FENCES_AVAILABLE = 6,
    I915_HAS_LLC = 17,
    I915_ALIASING_PPGTT = 18,
    I915_CMD_PARSER_VERSION = 28,
    I915_REVISION = 32,
    I915_HAS_GPU_RESET = 35,
    I915_HAS_EXEC_SOFTPIN = 37,
    I915_MMAP_GTT_VERSION = 40,
    I915_HAS_SCHEDULER = 41,
    I915_HAS_CONTEXT_ISOLATION = 50,
    I915_CS_TIMESTAMP_FREQUENCY = 51,
};

struct i915_gem_busy { uint32_t handle, busy; };
#define I915_GEM_BUSY DRM_IOWR(0x57, struct i915_gem_busy)

struct i915_gem_create { uint64_t size; uint32_t handle, pad; };
#define I915_GEM_CREATE DRM_IOWR(0x5b, struct i915_gem_create)

struct i915_gem_pread { uint32_t handle, pad; uint64_t offset, size, data; };
#define I915_GEM_PREAD DRM_IOW(0x5c, struct i915_gem_pread)

struct i915_gem_set_domain { uint32_t handle, read_domains, write_domain; };
#define I915_GEM_SET_DOMAIN DRM_IOW(0x5f, struct i915_gem_set_domain)
enum { I915_DOMAIN_CPU = 0x01, I915_DOMAIN_GTT = 0x40, I915_DOMAIN_WC = 0x80 };

struct i915_gem_aperture { uint64_t size, available; };
#define I915_GEM_GET_APERTURE DRM_IOR(0x63, struct i915_gem_aperture)

/* One number, two commands: the size of the argument tells the older from the newer. */
struct i915_gem_mmap_gtt { uint32_t handle, pad; uint64_t offset; };
#define I915_GEM_MMAP_GTT DRM_IOWR(0x64, struct i915_gem_mmap_gtt)
struct i915_gem_mmap_offset { uint32_t handle, pad; uint64_t offset, flags, extensions; };
#define I915_GEM_MMAP_OFFSET DRM_IOWR(0x64, struct i915_gem_mmap_offset)
enum i915_mapping { I915_MAP_GTT, I915_MAP_WC, I915_MAP_WB };

struct i915_exec_object {
    uint32_t handle, relocation_count;
    uint64_t relocations, alignment, offset, flags, reserved[2];
};
enum {
    EXEC_OBJECT_WRITE = 0x04,
    EXEC_OBJECT_SUPPORTS_48B_ADDRESS = 0x08,
    EXEC_OBJECT_PINNED = 0x10,
    EXEC_OBJECT_ASYNC = 0x40,
};
struct i915_execbuffer {
    uint64_t objects;
    uint32_t count, batch_start, batch_length, dr1, dr4, cliprect_count;
    uint64_t cliprects, flags, context, reserved;
};
#define I915_GEM_EXECBUFFER DRM_IOW(0x69, struct i915_execbuffer)
enum {
    I915_EXEC_RENDER = 1,
    I915_EXEC_BSD = 2,
    I915_EXEC_BLT = 3,
    I915_EXEC_VEBOX = 4,
    I915_EXEC_NO_RELOC = 1 << 11,
    I915_EXEC_BATCH_FIRST = 1 << 18,
};

struct i915_gem_wait { uint32_t handle, flags; int64_t timeout; };
#define I915_GEM_WAIT DRM_IOWR(0x6c, struct i915_gem_wait)

struct i915_context_parameter { uint32_t context, size; uint64_t parameter, value; };
#define I915_CONTEXT_GETPARAM DRM_IOWR(0x74, struct i915_context_parameter)
enum { I915_CONTEXT_GTT_SIZE = 3, I915_CONTEXT_VM = 9 };

struct i915_extension { uint64_t next; uint32_t name, flags, reserved[4]; };
struct i915_context_create_parameter { struct i915_extension base; struct i915_context_parameter parameter; };
struct i915_context_create { uint32_t context, flags; uint64_t extensions; };
#define I915_CONTEXT_CREATE DRM_IOWR(0x6d, struct i915_context_create)
enum { I915_CONTEXT_CREATE_USE_EXTENSIONS = 1 };

struct i915_context_destroy { uint32_t context, pad; };
#define I915_CONTEXT_DESTROY DRM_IOW(0x6e, struct i915_context_destroy)

struct i915_reset_stats { uint32_t context, flags, reset_count, batch_active, batch_pending, pad; };
#define I915_GET_RESET_STATS DRM_IOWR(0x72, struct i915_reset_stats)

struct i915_vm { uint64_t extensions; uint32_t flags, id; };
#define I915_VM_CREATE DRM_IOWR(0x7a, struct i915_vm)

struct i915_query_item { uint64_t query; int32_t length; uint32_t flags; uint64_t data; };
struct i915_query { uint32_t count, flags; uint64_t items; };
#define I915_QUERY DRM_IOWR(0x79, struct i915_query)
enum { I915_QUERY_ENGINES = 2 };
struct i915_engine {
    uint16_t class, instance;
    uint32_t reserved0;
    uint64_t flags, capabilities;
    uint16_t logical_instance, reserved1[3];
    uint64_t reserved2[3];
};
struct i915_engines { uint32_t count, reserved[3]; struct i915_engine engine[]; };

#endif
