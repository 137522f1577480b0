# Compiles cpp/kernels/generic/ once per instruction set: the only place with -m flags.
# Each compilation sees FASTCNN_ISA (the namespace it fills) and picks its header in kernels/simd/.
# No link-time optimisation here: inlined kernel code must not leak into code that runs on every CPU.

function(fastcnn_add_isa name)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cpp/kernels/generic/*.cpp)
  add_library(kernels_${name} OBJECT ${sources} ${CMAKE_CURRENT_SOURCE_DIR}/cpp/kernels/isa/${name}.cpp)
  string(TOUPPER ${name} upper)
  target_include_directories(kernels_${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/cpp)
  target_compile_definitions(kernels_${name} PRIVATE FASTCNN_ISA=${name} FASTCNN_ISA_${upper})
  target_compile_options(kernels_${name} PRIVATE -Wall -Wextra -Wno-unused-parameter -Wno-psabi
    -ffp-contract=fast -fno-math-errno -fno-trapping-math -fno-exceptions -fno-rtti
    # GCC takes its own intrinsics' undefined vectors for uninitialised variables.
    "$<$<CXX_COMPILER_ID:GNU>:-fno-version-loops-for-strides;-Wno-maybe-uninitialized;-Wno-uninitialized>" ${ARGN})
  set_target_properties(kernels_${name} PROPERTIES INTERPROCEDURAL_OPTIMIZATION OFF)
endfunction()

function(fastcnn_add_isa_kernels target)
  set(names scalar)
  fastcnn_add_isa(scalar)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    fastcnn_add_isa(avx2 -mavx2 -mfma)
    fastcnn_add_isa(avx512 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx2 -mfma
      -mprefer-vector-width=512)
    list(APPEND names avx2 avx512)
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
    # GCC's scheduler before register allocation hoists a tile's loads and spills its sums; elsewhere it is off.
    fastcnn_add_isa(neon $<$<CXX_COMPILER_ID:GNU>:-fno-schedule-insns>)
    list(APPEND names neon)
  endif()
  foreach(name ${names})
    string(TOUPPER ${name} upper)
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:kernels_${name}>)
    target_compile_definitions(${target} PRIVATE FASTCNN_HAVE_${upper})
  endforeach()
endfunction()
