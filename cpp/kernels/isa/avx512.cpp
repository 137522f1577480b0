// Exports the avx512 table: the kernels of generic/, compiled for this instruction set.
#include "kernels/isa/export.h"
