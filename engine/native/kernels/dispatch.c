/* Says which variants this library has and this processor runs. */
#include <string.h>
#include "kernels.h"

extern const struct functions hficma_portable;
#ifdef X86
extern const struct functions hficma_avx2, hficma_avx512, hficma_avx512bf16;
#endif

#define OFFERED __attribute__((visibility("default")))

OFFERED int64_t hficma_interface(void) { return INTERFACE; }

OFFERED const struct functions *hficma_functions(const char *kind)
{
    if (!strcmp(kind, "portable")) return &hficma_portable;
#ifdef X86
    __builtin_cpu_init();
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
        && __builtin_cpu_supports("f16c");
    int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (!strcmp(kind, "avx2")) return avx2 ? &hficma_avx2 : 0;
    if (!strcmp(kind, "avx512")) return avx512 ? &hficma_avx512 : 0;
    if (!strcmp(kind, "avx512bf16"))
        return avx512 && __builtin_cpu_supports("avx512bf16") ? &hficma_avx512bf16 : 0;
#endif
    return 0;
}
