# Turns the usual build failures into one sentence that says what to install.

if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 9)
  message(FATAL_ERROR "fastcnn needs GCC 9 or newer, found ${CMAKE_CXX_COMPILER_VERSION}. "
    "Install a newer one (Debian/Ubuntu: 'apt install g++') or set CXX to it.")
elseif(CMAKE_CXX_COMPILER_ID MATCHES "Clang" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 11)
  message(FATAL_ERROR "fastcnn needs Clang 11 or newer, found ${CMAKE_CXX_COMPILER_VERSION}. "
    "Install a newer one or set CXX to a GCC.")
elseif(MSVC)
  message(FATAL_ERROR "fastcnn needs GCC or Clang: its kernels use their vector extensions. "
    "On Windows, build under WSL.")
endif()

function(fastcnn_find_openmp)
  if(APPLE AND NOT DEFINED OpenMP_ROOT)
    # Apple's clang ships no OpenMP runtime; Homebrew's lives outside the default search path.
    execute_process(COMMAND brew --prefix libomp OUTPUT_VARIABLE prefix
      OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
    if(NOT failed)
      set(OpenMP_ROOT "${prefix}" PARENT_SCOPE)
      set(OpenMP_ROOT "${prefix}")
    endif()
  endif()
  find_package(OpenMP COMPONENTS CXX)
  if(NOT OpenMP_CXX_FOUND)
    message(FATAL_ERROR "fastcnn needs OpenMP and ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION} has none. "
      "Install it: Debian/Ubuntu with Clang: 'apt install libomp-dev'; GCC brings its own (package g++); "
      "macOS: 'brew install libomp'.")
  endif()
endfunction()
