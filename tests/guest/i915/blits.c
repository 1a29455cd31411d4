/* blits: random rectangles are filled and copied; the whole destination is compared with a model, byte for byte. */
#include "i915test.h"

#define SIZE (128u * 1024)
#define BLITS_IN_A_BATCH 8
#define MAX_SIDE 48
#define LINE_BYTES 64 /* the blitter wants linear surfaces to begin at a cache line */

enum kind { FILL, SOURCE_COPY, FAST, KINDS };

static struct buffer to, from;

static unsigned random_between(unsigned low, unsigned high)
{
    return low + random_below(high - low + 1);
}

/*
 * A surface whose first x2 pixels of the first y2 lines are inside the buffer. Pitches are whole dwords, but seldom
 * round; those of a fast copy whole 16 bytes. A negative one makes the lines go towards lower addresses.
 */
static struct surface random_surface(struct buffer *buffer, unsigned bytes, unsigned x2, unsigned y2, int is_fast)
{
    unsigned unit = is_fast ? 16 : 4;
    int pitch = (x2 * bytes + unit - 1) / unit * unit + random_below(24) * unit;
    unsigned length = pitch * (y2 - 1) + x2 * bytes, lines = (SIZE - length) / LINE_BYTES;
    uint64_t offset = random_below(lines) * LINE_BYTES;
    if (is_fast || random_below(6) != 0) return (struct surface){ buffer, offset, pitch };
    offset += (pitch * (y2 - 1) + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
    return (struct surface){ buffer, offset, -pitch };
}

static void random_blit(struct batch *batch, enum kind kind)
{
    unsigned bytes = 1u << random_below(3);
    unsigned channels = bytes < 4 ? 0 : random_below(4) == 0 ? random_between(CHANNEL_RGB, CHANNEL_ALPHA) : 3;
    int width = random_between(1, MAX_SIDE), height = random_between(1, MAX_SIDE);
    struct box box = { .x1 = random_below(20), .y1 = random_below(20) };
    int from_x = random_below(20), from_y = random_below(20);
    box.x2 = box.x1 + width;
    box.y2 = box.y1 + height;
    struct surface at = random_surface(&to, bytes, box.x2, box.y2, kind == FAST);
    struct surface source = random_surface(&from, bytes, from_x + width, from_y + height, kind == FAST);
    if (kind != FAST && random_below(10) == 0) { /* an empty rectangle changes nothing */
        if (random_below(2)) box.x2 = box.x1 - random_below(2) * (box.x1 > 0);
        else box.y2 = box.y1 - random_below(2) * (box.y1 > 0);
    }
    if (kind == FILL) do_fill(batch, bytes, channels, at, box, random64());
    else do_blit(batch, kind == FAST ? FAST_COPY : COPY, bytes, channels, at, box, source, from_x, from_y);
}

/* blits [COUNT] */
void test_blits(char **word)
{
    unsigned count = word_number(word, 800), done[KINDS] = { 0 };
    uint32_t context = context_create();
    struct buffer *const buffers[] = { &to, &from };
    struct batch batch;
    buffer_create(&to, SIZE, 0x0000ffff0000);
    buffer_create(&from, SIZE, 0xffff12340000);
    buffer_fill(&to);
    buffer_fill(&from);
    batch_create(&batch, PAGE, 0x10000000);
    for (unsigned i = 0; i < count; ) {
        batch_start(&batch);
        for (unsigned n = 0; n < BLITS_IN_A_BATCH && i < count; n++, i++) {
            enum kind kind = random_below(generation >= 9 ? KINDS : FAST);
            random_blit(&batch, kind);
            settle(&batch, BCS);
            done[kind]++;
        }
        mi_end(&batch);
        submit(context, BCS, &batch, buffers, 2, ORDERED);
        buffer_check(&to, VIEW_WB, "the destination of blits");
    }
    buffer_check(&from, VIEW_WB, "the source of blits");
    passed("blits: %u fills, %u copies, %u fast copies", done[FILL], done[SOURCE_COPY], done[FAST]);
}
