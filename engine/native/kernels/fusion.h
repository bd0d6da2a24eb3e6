/* Gated fusion: c_1 and c_2 of (6) by steps (b) to (d), without writing what a mean is taken of.

   The query reads an item: the item's table is what each panel is cut from, its L_q rows are the
   query's shares. An item reads the query: panels are the query's own, and the rows of all items of
   the tile stand below each other.

       query reads      shares (L_q, H L)      x  table of the item (H L, D)     a panel at a time
       items read       shares (tokens, H L_q) x  table of the query (H L_q, D)

   A block's sums go through gate, fuse, bias and ReLU into a running mean at once. */
#ifndef HFICMA_FUSION_H
#define HFICMA_FUSION_H
#include "attention.h"

/* Panels that are cut from a stored table at once. A row of it is a page from the next: of one panel
   alone each read is a line or two of a page. All panels together would not leave room for the next
   item's table in the core's second cache. */
enum { STORED_PANELS = 8 };

/* Memory of the fusion of a tile. */
struct fusion {
    float *table; /* (H tokens, PANEL): columns of all items' tables, where they are computed */
    cell *panel; /* (STORED_PANELS, H L, PANEL): columns of one item's table */
    cell *query_shares; /* an item's (H L, lanes) after the other's, cells along H L */
    cell *item_shares; /* (tokens, row_stride(H L_q)) */
};

struct mean {
    vector sum[2];
};

/* Add ReLU(g (a + x) + f) of one token: x a row of a block, a its `fuse`, f the kind's bias. */
INLINE void add_token(struct mean *mean, const float *x, vector left, vector right, float gate,
                      const vector bias[2])
{
    vector g = all(gate), zero = {0};
    mean->sum[0] = mean->sum[0] + larger(zero, g * (load(x) + left) + bias[0]);
    mean->sum[1] = mean->sum[1] + larger(zero, g * (load(x + LANES) + right) + bias[1]);
}

INLINE void load_bias(const float *bias, int64_t n, vector out[2])
{
    out[0] = load_part(bias, n);
    out[1] = load_part(bias + LANES, n - LANES);
}

/* Copy columns [from, to) of an item's stored table into panels, row after row: as they lie. */
static void stored_panels(const struct weights *weights, const struct items *items, int64_t item,
                          int64_t from, int64_t to, cell *out)
{
    int64_t depth = weights->heads * items->lengths[item], width = weights->width;
    int64_t row = items->first[item] * weights->heads, panel = cells_of(depth) * PANEL;
    for (int64_t k = 0; k < depth; k += DEPTH_PER_CELL, out += PANEL)
        for (int64_t column = from, p = 0; column < to; column += PANEL, p += panel)
            for (int half = 0; half < 2; half++) {
                int64_t at = column + half * LANES, there = width - at;
                vector low = load_stored(&items->table, width, row + k, at, there);
#ifdef BF16
                vector high = k + 1 == depth
                    ? (vector){0} : load_stored(&items->table, width, row + k + 1, at, there);
                store_pairs(out + p + half * LANES, low, high);
#else
                store(out + p + half * LANES, low);
#endif
            }
}

/* Compute PANEL columns of all items' tables from their values: step (c). */
static void computed_panels(const struct weights *weights, const struct items *items,
                            const struct tile *tile, int64_t panel, float *out)
{
    int64_t heads = weights->heads, head_width = weights->width / heads;
    int64_t depth = cells_of(head_width), stride = row_stride(weights->width);
    int64_t matrix = packed_cells(head_width, weights->width);
    for (int64_t head = 0; head < heads; head++) {
        const cell *columns =
            (const cell *)weights->table + head * matrix + panel * depth * PANEL;
        int64_t item = 0, in_item = 0, start = 0;
        for (int64_t b = 0; b < blocks_of(tile->tokens); b++) {
            float sums[ROWS * PANEL];
            int64_t row = block_start(tile->tokens, b), stop = block_start(tile->tokens, b + 1);
            const cell *at = tile->rows[1] + row * stride + head * depth;
            block((int)(stop - row), depth, (struct left){at, stride, 0}, columns,
                  (struct ahead){(const char *)at, 0}, sums, PANEL);
            for (int64_t i = 0; i < stop - row; i++) {
                int64_t length = items->lengths[item];
                memcpy(out + (heads * start + head * length + in_item) * PANEL, sums + i * PANEL,
                       PANEL * 4);
                if (++in_item == length) start += length, in_item = 0, item++;
            }
        }
    }
}

#ifdef BF16
/* Narrow (depth, columns) floats to cells along the depth. */
static void narrow(const float *values, int64_t depth, int64_t columns, cell *out)
{
    for (int64_t k = 0; k < depth; k += 2, out += columns)
        for (int64_t n = 0; n < columns; n += LANES) {
            const float *at = values + k * columns + n;
            store_pairs(out + n, load(at), k + 1 == depth ? (vector){0} : load(at + columns));
        }
}
#endif

/* What memory is asked for while blocks run: the stored table of the item that comes next, in the
   order in which it lies, spread over all steps of all blocks until then. When its panels are cut,
   a line out of every row, it is in the core's second cache; read that way from memory, a row of
   the table being a page from the next, it would take longer than the products. */
static struct ahead whole_table(const struct weights *weights, const struct items *items,
                                int64_t item, int64_t steps, const void *none)
{
    if (!items->table.values || item >= items->count) return (struct ahead){none, 0};
    int64_t numbers = weights->heads * items->lengths[item] * weights->width;
    int64_t size = stored_bytes(&items->table, numbers);
    int64_t row = items->first[item] * weights->heads;
    return (struct ahead){stored_address(&items->table, weights->width, row, 0),
                          (size + steps - 1) / steps};
}

/* PANEL columns of c of the query that reads one item. */
static void query_columns(const struct weights *weights, const struct packed_query *query,
                          const struct items *items, const struct tile *tile, int64_t item,
                          int64_t column, const cell *shares, const cell *panel,
                          struct ahead *ahead, float *means)
{
    int64_t depth = cells_of(weights->heads * items->lengths[item]);
    int64_t length = query->length, n = weights->width - column;
    const float *fuse = query->fuse + column * length;
    const float *gates = tile->query_gates + item * tile->lanes;
    struct mean mean = {0};
    vector bias[2];
    load_bias(weights->query_bias + column, n, bias);
    for (int64_t b = 0; b < blocks_of(length); b++) {
        float sums[ROWS * PANEL];
        int64_t row = block_start(length, b), stop = block_start(length, b + 1);
        block((int)(stop - row), depth, (struct left){shares + row, 0, tile->lanes}, panel, *ahead,
              sums, PANEL);
        ahead->at += depth * ahead->step;
        for (int64_t i = 0; i < stop - row; i++) {
            const float *own = fuse + (row + i) * PANEL;
            add_token(&mean, sums + i * PANEL, load(own), load(own + LANES), gates[row + i], bias);
        }
    }
    vector share = all(1.0f / (float)length);
    for (int half = 0; half < 2; half++)
        store_part(means + column + half * LANES,
                   mean.sum[half] * share + load(query->mean + column + half * LANES),
                   n - half * LANES);
}

/* PANEL columns of c of every item that reads the query. */
static void item_columns(const struct weights *weights, const struct packed_query *query,
                         const struct items *items, const struct tile *tile, int64_t column,
                         const cell *shares, int64_t share_step, struct ahead *ahead,
                         float *means, int64_t means_step)
{
    int64_t width = weights->width, depth = cells_of(weights->heads * query->length);
    int64_t n = width - column, item = 0, in_item = 0;
    const cell *panel = query->table + column * depth;
    struct mean mean = {0};
    vector bias[2];
    load_bias(weights->item_bias + column, n, bias);
    for (int64_t b = 0; b < blocks_of(tile->tokens); b++) {
        float sums[ROWS * PANEL];
        int64_t row = block_start(tile->tokens, b), stop = block_start(tile->tokens, b + 1);
        block((int)(stop - row), depth, (struct left){shares + row * share_step, share_step, 0},
              panel, *ahead, sums, PANEL);
        ahead->at += depth * ahead->step;
        for (int64_t i = 0; i < stop - row; i++) {
            int64_t own = items->first[item] + in_item, length = items->lengths[item];
            __builtin_prefetch(stored_address(&items->fuse, width, own, column + PANEL));
            add_token(&mean, sums + i * PANEL,
                      load_stored(&items->fuse, width, own, column, n),
                      load_stored(&items->fuse, width, own, column + LANES, n - LANES),
                      tile->item_gates[(row + i) * LANES], bias);
            if (++in_item < length) continue;
            vector share = all(1.0f / (float)length);
            const float *own_mean = items->mean + items->places[item] * width + column;
            for (int half = 0; half < 2; half++)
                store_part(means + item * means_step + column + half * LANES,
                           mean.sum[half] * share
                               + load_part(own_mean + half * LANES, n - half * LANES),
                           n - half * LANES);
            mean = (struct mean){0};
            in_item = 0, item++;
        }
    }
}

/* Divide a vector of D numbers by its length, as (7) reads it; a vector of zeros stays. */
static void to_unit(float *values, int64_t width)
{
    vector squares = {0};
    for (int64_t n = 0; n < width; n += LANES) {
        vector v = load_part(values + n, width - n);
        squares = squares + v * v;
    }
    float length = __builtin_sqrtf(sum_lanes(squares));
    vector scale = all(1.0f / (length > 1e-12f ? length : 1e-12f));
    for (int64_t n = 0; n < width; n += LANES)
        store_part(values + n, load_part(values + n, width - n) * scale, width - n);
}

/* Fill the means of a tile, whose shares and gates are there. */
static void fuse_tile(const struct weights *weights, const struct packed_query *query,
                      const struct items *items, const struct tile *tile, struct fusion *fusion,
                      float *means, int64_t means_step)
{
    int64_t width = weights->width, heads = weights->heads;
    float *query_means = means + (weights->query_first ? 0 : width);
    float *item_means = means + (weights->query_first ? width : 0);

    int64_t depth = heads * query->length, share_step = share_stride(heads, query->length);
    const cell *item_shares = (const cell *)tile->item_shares;
#ifdef BF16
    int64_t cell_step = row_stride(depth);
    for (int64_t row = 0; row < tile->tokens; row++)
        for (int64_t k = 0; k < depth; k += LANES)
            store_row(fusion->item_shares + row * cell_step + k / 2,
                      load(tile->item_shares + row * share_step + k));
    item_shares = fusion->item_shares, share_step = cell_step;
#endif
    int64_t steps = panels_of(width) * blocks_of(tile->tokens) * cells_of(depth);
    struct ahead ahead = whole_table(weights, items, 0, steps, item_shares);
    for (int64_t column = 0; column < width; column += PANEL)
        item_columns(weights, query, items, tile, column, item_shares, share_step, &ahead,
                     item_means, means_step);

    const cell *query_shares = (const cell *)tile->query_shares;
#ifdef BF16
    const float *wide = tile->query_shares;
    cell *narrowed = fusion->query_shares;
    for (int64_t item = 0; item < items->count; item++) {
        int64_t rows = heads * items->lengths[item];
        narrow(wide, rows, tile->lanes, narrowed);
        wide += rows * tile->lanes, narrowed += cells_of(rows) * tile->lanes;
    }
    query_shares = fusion->query_shares;
#endif

    /* Stored tables are read item by item, as they lie; weights that compute them are read once
       for all items, so columns come first there. */
    int stored = items->table.values != NULL;
    for (int64_t outer = 0; outer < (stored ? 1 : panels_of(width)); outer++) {
        if (!stored) computed_panels(weights, items, tile, outer, fusion->table);
        const cell *shares = query_shares;
        const float *table = fusion->table;
        for (int64_t item = 0; item < items->count; item++) {
            int64_t rows = heads * items->lengths[item];
            const cell *panel = fusion->panel;
            steps = panels_of(width) * blocks_of(query->length) * cells_of(rows);
            ahead = whole_table(weights, items, item + 1, steps, shares);
            int64_t first = stored ? 0 : outer, last = stored ? panels_of(width) : outer + 1;
            for (int64_t p = first; p < last; p++) {
                int64_t place = p % STORED_PANELS, stop = (p + STORED_PANELS) * PANEL;
                if (stored && place == 0)
                    stored_panels(weights, items, item, p * PANEL, stop < width ? stop : width,
                                  fusion->panel);
                if (stored) panel = fusion->panel + place * cells_of(rows) * PANEL;
#ifdef BF16
                else narrow(table, rows, PANEL, fusion->panel);
#else
                else panel = (const cell *)table;
#endif
                query_columns(weights, query, items, tile, item, p * PANEL, shares, panel,
                              &ahead, query_means + item * means_step);
            }
            shares += cells_of(rows) * tile->lanes;
            table += rows * PANEL;
        }
    }
    for (int64_t item = 0; item < items->count; item++) {
        to_unit(query_means + item * means_step, width);
        to_unit(item_means + item * means_step, width);
    }
}
#endif
