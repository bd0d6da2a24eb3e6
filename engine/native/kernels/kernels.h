/* What the library offers: one table of functions for each kind of processor.

   A pair's S_local, as hficma/model/similarity.py defines it, between one query (a photo or a
   recipe) and many items of the other kind. Numbers in brackets are that file's equations; axis
   letters are those of hficma/types.py, with L_q the query's tokens and L an item's.

   Every output number is one chain of additions over one axis in one order, whatever else is in the
   tile. So an item scores the same bits in any company, which certificates count on. */
#ifndef HFICMA_KERNELS_H
#define HFICMA_KERNELS_H
#include <stdint.h>

/* Counts the changes of what stands here: a library of another number is not called. */
enum { INTERFACE = 2 };

/* How rows are stored. */
enum { FLOAT32 = 0, FLOAT16 = 1, INT8 = 2 };

/* An array of rows of D numbers, read where it lies: in memory, or in a mapped file. */
struct rows {
    const void *values; /* NULL: the array is not there */
    const float *scales; /* (rows,), of INT8 only: a row is scale x values */
    int64_t type;
};

/* The weights that pairs meet. Matrices are packed by `pack`. */
struct weights {
    int64_t width; /* D */
    int64_t heads; /* H */
    int64_t query_first; /* 1 where the query is the photo: (7) reads [photo ; recipe] */
    const float *query_bias; /* (D,): f of the query's kind */
    const float *item_bias; /* (D,): f of the items' kind */
    const void *hidden; /* (2 D, D) packed: first layer of (7) */
    const float *hidden_bias; /* (D,) */
    const float *output; /* (D,): second layer */
    float output_bias;
    const void *table; /* H matrices (D/H, D) packed one after the other: step (c) of the items;
                          NULL where their tables are stored */
    const void *projection; /* (D, 5 D) packed; NULL where their projections are stored */
    const float *projection_bias; /* (5 D,) */
    const float *gate_bias; /* (D,): what gives s of step (a) */
};

/* One query at the level `tables`, float32, each array contiguous. */
struct query {
    int64_t length; /* L_q */
    const float *query, *key, *value, *gate, *fuse; /* (L_q, D) */
    const float *gate_bias; /* (L_q,) */
    const float *mean; /* (D,) */
    const float *table; /* (H, L_q, D) */
};

/* The items of a tile: ragged, in the arrays of a shard or of a batch in memory. */
struct items {
    int64_t count;
    const int64_t *lengths; /* (count,) L of each */
    const int64_t *first; /* (count,) the row of its first token */
    const int64_t *places; /* (count,) its row in `mean` */
    struct rows tokens; /* (rows, D), or the arrays below */
    struct rows query, key, value, gate, fuse; /* (rows, D) */
    const float *gate_bias; /* (rows,) */
    const float *mean; /* (items, D) */
    struct rows table; /* (H rows, D), an item's H runs of L rows together; or computed */
};

/* Memory of items at the level `tables`, float32, one item after the other. */
struct tables {
    float *query, *key, *value, *gate, *fuse; /* (tokens, D) */
    float *gate_bias; /* (tokens,) */
    float *mean; /* (count, D) */
    float *table; /* (H tokens, D) */
};

struct functions {
    /* Bytes that a (depth, columns) matrix takes when it is packed. */
    int64_t (*packed_bytes)(int64_t depth, int64_t columns);
    /* Pack a matrix whose element (k, n) is values[k * depth_step + n * column_step]. */
    void (*pack)(const float *values, int64_t depth, int64_t columns, int64_t depth_step,
                 int64_t column_step, void *packed);
    /* Bytes of a packed query. */
    int64_t (*query_bytes)(const struct weights *weights, int64_t length);
    void (*pack_query)(const struct weights *weights, const struct query *query, void *packed);
    /* Bytes that `fuse` needs for items of `tokens` tokens together, the longest of `longest`. */
    int64_t (*scratch_bytes)(const struct weights *weights, int64_t query_length, int64_t count,
                             int64_t tokens, int64_t longest);
    /* Compute [c_1/|c_1| ; c_2/|c_2|] of (7) for each item: means (count, means_stride). */
    void (*fuse)(const struct weights *weights, const void *query, const struct items *items,
                 float *means, void *scratch);
    /* Floats from one row of means to the next. */
    int64_t (*means_stride)(int64_t width);
    /* Parts into which the hidden layer of (7) is cut; any thread may compute any of them. */
    int64_t (*match_parts)(int64_t width);
    /* Add up what the hidden features of parts [from, to) say: logits (count, match_parts). */
    void (*match)(const struct weights *weights, const float *means, int64_t count, int64_t from,
                  int64_t to, float *logits, void *scratch);
    int64_t (*match_scratch_bytes)(int64_t width, int64_t count);
    /* S_local (count,) of the logits of all parts. */
    void (*finish)(const struct weights *weights, const float *logits, int64_t count,
                   float *scores);
    /* Bring items that are stored as tokens or projections to `tables`. */
    void (*tabulate)(const struct weights *weights, const struct items *items,
                     const struct tables *out, void *scratch);
    int64_t (*tabulate_scratch_bytes)(const struct weights *weights, int64_t count,
                                      int64_t tokens);
};

/* Return the functions of a kind of processor; NULL where this one or this library lacks it.
   Kinds: "portable", "avx2", "avx512", and "avx512bf16", which rounds what products read to
   bfloat16. */
const struct functions *hficma_functions(const char *kind);
int64_t hficma_interface(void);
#endif
