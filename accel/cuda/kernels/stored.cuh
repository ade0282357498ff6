/* Scale i as it is stored: codes of 8 bits under a table of their values, or float32 (table null). */
#include "base.h"

LPREF_FN float stored(const void *scales, const float *table, lp_i64 i) { return table ? table[((const lp_u8 *)scales)[i]] : ((const float *)scales)[i]; }
