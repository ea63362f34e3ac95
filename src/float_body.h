/* What float_types.h includes for each floating type; it forgets the type's names again. */
#include "simd.h"
#include "products.h"
#include "_rows.h"
#include "fisher.h"

#undef real
#undef bits
#undef NAME
#undef MANTISSA_BITS
#undef EXPONENT_BIAS
#undef SUBNORMAL_SHIFT
#undef TWO_TO_MINUS_SHIFT
#undef EXP_LOWEST
#undef EXP_ZERO
#undef ROUND_MAGIC
#undef LN2_HIGH
#undef LN2_LOW
#undef SQRT_HALF_BITS
#undef SIMD_MAX
#undef SIMD_SCALE
#undef SIMD_LOW
#undef SIMD_HIGH
#undef PANEL
#undef vec
#undef ivec
#undef L
#undef MASK
