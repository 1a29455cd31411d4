/*
 * Tests of the i915 driver and its device from user space, with no library but libc. The nouns:
 *
 *   engine    one of the four command streamers of a GT2 device
 *   context   an address space and its registers, known by the kernel's number
 *   buffer    memory that the engines and this program share; it knows what it should hold
 *   batch     a buffer full of commands
 *
 * A command comes in two layers: mi_… and blt_… only emit it (commands.c); do_… emits it and does the same to what
 * the buffer should hold (operations.c). A buffer that holds anything else ends the program: fail().
 */
#ifndef I915TEST_H
#define I915TEST_H

#include "uapi.h"

#define PAGE 4096u
#define COUNT(array) (sizeof(array) / sizeof *(array))

/* report.c: what this program says. Each prints one line; fail ends the program. */
void fact(const char *format, ...) __attribute__((format(printf, 1, 2)));
void passed(const char *format, ...) __attribute__((format(printf, 1, 2)));
void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* Fails unless found is as expected; the text names the thing. */
void expect(uint64_t found, uint64_t expected, const char *format, ...) __attribute__((format(printf, 3, 4)));
uint64_t milliseconds(void);
void sleep_milliseconds(unsigned time);

/* random.c: numbers that are the same in each run with the same seed. */
void seed_random(uint64_t seed);
uint64_t random64(void);
unsigned random_below(unsigned limit);

/* device.c */
enum engine { RCS, BCS, VCS, VECS, ENGINES };
extern const char *const engine_name[ENGINES];
extern int generation; /* 8 or 9 */
void device_open(void);
int device_card(void); /* the device's number as a card: N of /sys/class/drm/cardN */
int device_parameter(enum i915_parameter parameter);
/* An ioctl: 0, or the error's number; must_call fails with the given words on an error. */
int call(unsigned long request, void *argument);
void must_call(unsigned long request, void *argument, const char *what);
void *device_map(uint64_t offset, uint64_t size); /* MAP_FAILED and errno where it cannot */
/* Blitter batches go through the kernel's command parser on Gen9, which runs a copy and knows no second batch. */
int engine_is_parsed(enum engine engine);
int engine_has_registers(enum engine engine); /* general purpose registers that a user's batch may use */
uint32_t engine_register(enum engine engine, unsigned index); /* the offset of such a register, of 64 bits */

uint32_t context_create(void);              /* with an address space of its own */
uint32_t context_create_in(uint32_t vm);    /* in a shared one */
void context_destroy(uint32_t context);
uint32_t vm_create(void);

/* buffer.c */
struct buffer {
    uint32_t handle;
    uint64_t size, gma;           /* its graphics address: 48 bits, where the next submission puts it */
    volatile uint32_t *cpu;       /* a write-back mapping */
    uint32_t *expected;           /* what it should hold */
};
void buffer_create(struct buffer *buffer, uint64_t size, uint64_t gma); /* all zeroes */
void buffer_fill(struct buffer *buffer);                                /* at random */
volatile void *buffer_map(const struct buffer *buffer, enum i915_mapping kind);
void buffer_unmap(const struct buffer *buffer, volatile void *map);
void buffer_free(struct buffer *buffer);
int buffer_is_busy(const struct buffer *buffer);
void buffer_wait(const struct buffer *buffer); /* until no engine uses it */
/* Waits too, and prepares it for the processor's reads, or writes, by a mapping of that domain. */
void buffer_read_in(const struct buffer *buffer, uint32_t domain);
void buffer_write_in(const struct buffer *buffer, uint32_t domain);
/* The ways to look at a whole buffer; each waits for it and fails unless it holds what it should. */
enum view { VIEW_WB, VIEW_WC, VIEW_PREAD, VIEW_GTT, VIEW_OLD_GTT, VIEWS };
void buffer_check(const struct buffer *buffer, enum view view, const char *name);

/* addresses.c */
uint64_t random_gma(uint64_t size);
int buffers_overlap(const struct buffer *one, const struct buffer *other);

/* submit.c */
struct batch { struct buffer buffer; unsigned length; };
void batch_create(struct batch *batch, uint64_t size, uint64_t gma);
void batch_free(struct batch *batch);
void batch_start(struct batch *batch); /* empties it, once no engine uses it */
void emit(struct batch *batch, const uint32_t *dwords, unsigned count);
#define EMIT(batch, ...) \
    emit(batch, (uint32_t[]){ __VA_ARGS__ }, sizeof(uint32_t[]){ __VA_ARGS__ } / sizeof(uint32_t))
/*
 * Has the engine run the batch, with buffers at their addresses. ORDERED: after all that used them before, whatever
 * the engine. UNORDERED: only after what this context had this engine do.
 */
enum order { ORDERED = EXEC_OBJECT_WRITE, UNORDERED = EXEC_OBJECT_WRITE | EXEC_OBJECT_ASYNC };
void submit(uint32_t context, enum engine engine, const struct batch *batch, struct buffer *const *buffers,
            unsigned count, enum order order);
uint64_t canonical(uint64_t gma); /* bit 47 in all the bits above it */

/* commands.c: the encodings of Gen8 and Gen9. */
void mi_noop(struct batch *batch);
void mi_arbitration_check(struct batch *batch);
void mi_end(struct batch *batch);
void mi_store(struct batch *batch, uint64_t gma, uint32_t value);
void mi_store_qword(struct batch *batch, uint64_t gma, uint64_t value);
void mi_store_many(struct batch *batch, uint64_t gma, const uint32_t *values, unsigned dwords, int as_qwords);
void mi_copy(struct batch *batch, uint64_t to, uint64_t from);
void mi_load_register(struct batch *batch, uint32_t offset, uint32_t value);
void mi_load_register_memory(struct batch *batch, uint32_t offset, uint64_t gma);
void mi_store_register(struct batch *batch, uint32_t offset, uint64_t gma);
void mi_copy_register(struct batch *batch, uint32_t to, uint32_t from);
void mi_load_register64(struct batch *batch, uint32_t offset, uint64_t value);
void mi_store_register64(struct batch *batch, uint32_t offset, uint64_t gma);
void mi_jump(struct batch *batch, uint64_t gma);          /* no way back */
void mi_call(struct batch *batch, uint64_t gma);          /* comes back at the called batch's end */
void mi_jump_if(struct batch *batch, uint64_t gma);       /* RCS: if bit 0 of PREDICATE_RESULT is set */
#define PREDICATE_RESULT 0x241cu
enum { COND_COMPARE = 1 << 21, COND_MASK = 1 << 19 };
/* Ends the batch unless the dword in memory is above the value; COND_MASK: unless the qword's halves, anded, are. */
void mi_end_unless_above(struct batch *batch, uint32_t flags, uint64_t gma, uint32_t value);
enum comparison { ABOVE, ABOVE_OR_EQUAL, BELOW, BELOW_OR_EQUAL, EQUAL, UNEQUAL, COMPARISONS };
void mi_wait(struct batch *batch, enum comparison comparison, uint64_t gma, uint32_t value); /* memory … value */
/* Waits for the writes of the commands before, so that the ones after see them. */
void settle(struct batch *batch, enum engine engine);
void post_sync_qword(struct batch *batch, enum engine engine, uint64_t gma, uint64_t value);

enum alu_opcode {
    ALU_LOAD = 0x080, ALU_LOADINV = 0x480, ALU_LOAD0 = 0x081, ALU_LOAD1 = 0x481,
    ALU_ADD = 0x100, ALU_SUB, ALU_AND, ALU_OR, ALU_XOR,
    ALU_STORE = 0x180, ALU_STOREINV = 0x580,
};
enum alu_operand { ALU_SRCA = 0x20, ALU_SRCB, ALU_ACCU = 0x31, ALU_ZF, ALU_CF };
#define ALU(opcode, to, from) ((uint32_t)(opcode) << 20 | (uint32_t)(to) << 10 | (uint32_t)(from))
void mi_math(struct batch *batch, const uint32_t *instructions, unsigned count);

enum atomic_opcode {
    ATOMIC_AND = 1, ATOMIC_OR, ATOMIC_XOR, ATOMIC_MOVE, ATOMIC_INC, ATOMIC_DEC, ATOMIC_ADD, ATOMIC_SUB, ATOMIC_RSUB,
    ATOMIC_IMAX, ATOMIC_IMIN, ATOMIC_UMAX, ATOMIC_UMIN, ATOMIC_CMPWR, ATOMIC_END,
};
enum {
    ATOMIC_RETURN = 1 << 16,    /* the old value goes to general purpose register 4 */
    ATOMIC_REGISTERS = 1,       /* the operands come from registers 0 and 2 */
};
void mi_atomic(struct batch *batch, enum atomic_opcode opcode, int is_qword, uint32_t flags, uint64_t gma,
               uint64_t first, uint64_t second);

/* A rectangle of pixels of 1, 2 or 4 bytes on a linear surface; x2 and y2 are the first ones outside. */
struct box { int x1, y1, x2, y2; };
enum { CHANNEL_RGB = 1, CHANNEL_ALPHA = 2 };
void blt_fill(struct batch *batch, unsigned bytes, unsigned channels, uint64_t gma, int pitch, struct box box,
              uint32_t colour);
void blt_copy(struct batch *batch, unsigned bytes, unsigned channels, uint64_t to, int to_pitch, struct box box,
              uint64_t from, int from_pitch, int from_x, int from_y);
void blt_fast_copy(struct batch *batch, unsigned bytes, uint64_t to, int to_pitch, struct box box, uint64_t from,
                   int from_pitch, int from_x, int from_y);

/* operations.c: places are counted in dwords. */
void do_store(struct batch *batch, struct buffer *to, unsigned place, uint32_t value);
void do_store_qword(struct batch *batch, struct buffer *to, unsigned place, uint64_t value);
void do_store_many(struct batch *batch, struct buffer *to, unsigned place, unsigned dwords, int as_qwords);
void do_post_sync(struct batch *batch, enum engine engine, struct buffer *to, unsigned place, uint64_t value);
void do_copy(struct batch *batch, struct buffer *to, unsigned place, const struct buffer *from, unsigned from_place);
void do_copy_through(struct batch *batch, enum engine engine, struct buffer *to, unsigned place,
                     const struct buffer *from, unsigned from_place); /* a register */
uint64_t do_atomic(struct batch *batch, enum atomic_opcode opcode, int is_qword, uint32_t flags, struct buffer *to,
                   unsigned place, uint64_t first, uint64_t second); /* answers the old value */
struct surface { struct buffer *buffer; uint64_t offset; int pitch; };
void do_fill(struct batch *batch, unsigned bytes, unsigned channels, struct surface to, struct box box,
             uint32_t colour);
enum copy { COPY, FAST_COPY };
void do_blit(struct batch *batch, enum copy kind, unsigned bytes, unsigned channels, struct surface to, struct box box,
             struct surface from, int from_x, int from_y);

/* spin.c: a batch that runs until it is told to stop. */
struct spinner { struct batch batch; volatile uint32_t *stop; };
void spinner_start(struct spinner *spinner, uint32_t context, enum engine engine, uint64_t gma); /* is running then */
void spinner_stop(struct spinner *spinner);
void spinner_free(struct spinner *spinner);

/* smoke.c: one store by an engine in a context, checked; the quickest proof that work is done. */
void check_engine(uint32_t context, enum engine engine);
void check_engines(uint32_t context);

/* The tests; each gets the words after its name, ended by NULL. */
void test_params(char **word), test_smoke(char **word), test_stores(char **word), test_blits(char **word),
    test_rebind(char **word), test_contexts(char **word), test_math(char **word), test_atomics(char **word),
    test_predicate(char **word), test_semaphores(char **word), test_spin(char **word), test_hang(char **word),
    test_soak(char **word);
unsigned word_number(char *const *word, unsigned otherwise); /* a decimal number, if the word is there */

#endif
