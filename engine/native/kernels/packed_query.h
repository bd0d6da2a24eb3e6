/* A query as products read it: packed once, read with every item.

       panels[p]    H matrices (D/H, L_q): one of the query's arrays, a head at a time, transposed
       table        (H L_q, D): row h L_q + i is the query's token i under head h
       fuse         (L_q, D) in panels: the L_q rows of a panel's columns together */
#ifndef HFICMA_PACKED_QUERY_H
#define HFICMA_PACKED_QUERY_H
#include "block.h"
#include "kernels.h"

enum { PRODUCTS = 4 };

struct packed_query {
    int64_t length; /* L_q */
    int64_t lanes; /* L_q padded to whole panels */
    int64_t head_cells; /* of one head's matrix */
    const cell *panels[PRODUCTS];
    const cell *table;
    const float *fuse; /* (panels, L_q, PANEL) */
    const float *gate_bias; /* (lanes,) */
    const float *mean; /* (D padded to whole panels,) */
};

/* Memory is cut up front to back; each piece starts on a line of its own. */
struct arena {
    char *next;
};

INLINE void *take(struct arena *arena, int64_t bytes)
{
    void *at = arena->next;
    arena->next += (bytes + 63) / 64 * 64;
    return at;
}

/* Lay out a packed query in memory; with an arena from 0, its end is the size. */
static struct packed_query lay_out_query(const struct weights *weights, int64_t length,
                                         struct arena *arena)
{
    int64_t width = weights->width, heads = weights->heads;
    struct packed_query packed = {.length = length, .lanes = panels_of(length) * PANEL};
    packed.head_cells = packed_cells(width / heads, length);
    for (int product = 0; product < PRODUCTS; product++)
        packed.panels[product] = take(arena, heads * packed.head_cells * 4);
    packed.table = take(arena, packed_cells(heads * length, width) * 4);
    packed.fuse = take(arena, panels_of(width) * length * PANEL * 4);
    packed.gate_bias = take(arena, packed.lanes * 4);
    packed.mean = take(arena, panels_of(width) * PANEL * 4);
    return packed;
}

static int64_t query_bytes(const struct weights *weights, int64_t length)
{
    struct arena arena = {0};
    lay_out_query(weights, length, &arena);
    return (int64_t)(intptr_t)arena.next;
}

static void pack_query(const struct weights *weights, const struct query *query, void *memory)
{
    struct arena arena = {memory};
    int64_t width = weights->width, heads = weights->heads, length = query->length;
    struct packed_query packed = lay_out_query(weights, length, &arena);
    /* In the order of the rows that they meet: key, value, query, gate of the items. */
    const float *arrays[PRODUCTS] = {query->query, query->gate, query->key, query->value};
    for (int product = 0; product < PRODUCTS; product++)
        for (int64_t head = 0; head < heads; head++)
            pack(arrays[product] + head * (width / heads), width / heads, length, 1, width,
                 (cell *)packed.panels[product] + head * packed.head_cells);
    pack(query->table, heads * length, width, width, 1, (void *)packed.table);
    float *fuse = (float *)packed.fuse, *mean = (float *)packed.mean;
    for (int64_t column = 0; column < width; column += PANEL) {
        for (int64_t row = 0; row < length; row++, fuse += PANEL)
            for (int64_t n = 0; n < PANEL; n++)
                fuse[n] = column + n < width ? query->fuse[row * width + column + n] : 0.0f;
        for (int64_t n = column; n < column + PANEL; n++)
            mean[n] = n < width ? query->mean[n] : 0.0f;
    }
    memset((void *)packed.gate_bias, 0, (size_t)packed.lanes * 4);
    memcpy((void *)packed.gate_bias, query->gate_bias, (size_t)length * 4);
}
#endif
